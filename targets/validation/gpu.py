"""NVIDIA's GPUs: kernels in fp16 (LLMCompass), PyTorch ops in fp32 (NeuSight), the ops of a Llama layer (Vidur)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .case import Case, Harness
from .neusight import grace_s
from .reading import Columns, Row
from .table import VALIDATE, Table
from .workloads import Elementwise, Embedding, GatedActivation, Gemm, LayerNorm, Rotary, Softmax, Workload

LLMCOMPASS = "PrincetonUniversity/LLMCompass, BSD-3-Clause; A100 80 GB, fp16"
NEUSIGHT = "sitar-lab/NeuSight, MIT; PyTorch 2.1, fp32"
VIDUR = "microsoft/vidur, MIT; A100 80 GB, fp16; durations of kernels, as the profiler has them (record_function)"

DEVICES = {"NVIDIA A100 80GB PCIe": "a100", "NVIDIA L4": "l4", "Tesla V100-PCIE-32GB": "v100"}

# The PCIe board of the A100 80 GB, where the target is the SXM4 one (NVIDIA's datasheet of both).
A100_PCIE = (("memory.bandwidth", "1935 GB/s"), ("gpu.power.limit", "300 W"))

# Calls on the same tensors, as NeuSight's are. The A100's L2 has two halves: see gpu.rows.cache of its target.
WARM = {
    "a100": (("memory.slc.warm", "0.667"),),
    "v100": (("memory.slc.warm", "1"),),
    "l4": (("memory.slc.warm", "1"),),
}

# ---------------------------------------------------------------- harnesses


def _calls(op: str, hidden_s: float = 0.0) -> Harness:
    source = "the host's clock round a call and the wait for it (LLMCompass, software_model); its shortest row gives it"
    return Harness(f"llmcompass-{op}", source, call_s=None, hidden_s=hidden_s)


# Calls of compiled functions: what Python still does between the launch and the wait. Not measured: of the order of
# the host's side of one launch in PyTorch, 5-10 us.
AFTER_LAUNCH_S = 10e-6

NEUSIGHT_CALLS = Harness(
    "neusight",
    "events round a call, the fastest five of 25 (Dataset/collect.py): with what the host needs to launch it; the "
    "shortest row gives it",
    call_s=None,
)

# ---------------------------------------------------------------- LLMCompass


def _matmul(row: Row) -> Iterator[Case]:
    text = row["latency"]
    try:
        ms = float(text.removesuffix("ms"))
    except ValueError:
        ms = 0.0
    if ms <= 0 or not text.endswith("ms"):
        raise row.fail("latency", f"is '{text}'; expected milliseconds such as 0.1900ms")
    m, n, k = row["M"], row["N"], row["K"]
    work = Gemm(m, k, n, "f16", weight=False)
    yield Case("a100", work, ms * 1e-3, harness=_calls("matmul"), label=f"{m}x{k}x{n}")


def _rows(make: Callable[[int, int, str], Workload], harness: Harness) -> Callable[[Row], Iterator[Case]]:
    def cases(row: Row) -> Iterator[Case]:
        m, n = row["M"], row["N"]
        seconds = m * n / row["gelements_per_s"] * 1e-9
        yield Case("a100", make(m, n, "f16"), seconds, harness=harness, label=f"{m}x{n}")

    return cases


def _gelu(row: Row) -> Iterator[Case]:
    m = row["M"]
    seconds, harness = m / row["gelements_per_s"] * 1e-9, _calls("gelu", AFTER_LAUNCH_S)
    yield Case("a100", Elementwise("gelu", (m,), "f16"), seconds, harness=harness, label=str(m))


def _llmcompass(op: str, columns: Columns, make: Callable[[Row], Iterator[Case]]) -> Table:
    sizes = tuple(c for c, kind in columns.items() if kind is not str)
    return Table(f"gpu/llmcompass_{op}_A100", f"A100, {op}, fp16", LLMCOMPASS, VALIDATE, columns, make, sizes)


# ---------------------------------------------------------------- NeuSight

# The names that end in u take a number as the second operand: they move two tensors where the others move three.
_ELEMENTWISE: dict[str, tuple[str, int, bool]] = {
    **{op: (op, 2, False) for op in ("add", "mul", "div", "pow")},
    **{f"{op}u": (op, 2, True) for op in ("add", "mul", "div", "pow")},
    **{op: (op, 1, False) for op in ("relu", "tanh", "gelu")},
}


def _neusight_workload(row: Row) -> Workload:
    """Products are [B, M, N] by [N, K]: N is the depth. The kernels' tiles fit the times in no other reading."""
    op = row["OPName"]
    if op == "linear":
        return Gemm(row["B"] * row["M"], row["N"], row["K"], "f32", transposed=True, bias=True)
    if op == "bmm":
        return Gemm(row["M"], row["N"], row["K"], "f32", batch=row["B"], weight=False)
    if op == "ln":
        return LayerNorm(row["B"], row["H"], "f32")
    if op == "softmax":
        return Softmax(row["B"], row["H"], "f32")
    if op in _ELEMENTWISE:
        name, operands, scalar = _ELEMENTWISE[op]
        return Elementwise(name, (row["B"], row["H"]), "f32", operands, scalar)
    known = ("linear", "bmm", "ln", "softmax", *_ELEMENTWISE)
    raise row.fail("OPName", f"is '{op}'; expected one of {', '.join(known)}")


def _settings(row: Row) -> tuple[tuple[str, str], ...]:
    """In what the device differs from its target: the board, and on an L4 whether products came after a rest."""
    target = DEVICES.get(row["Device"])
    settings = WARM.get(target or "", ())
    if target == "a100":
        settings += A100_PCIE
    if target == "l4" and row["OPName"] == "bmm":
        grace_ms = int(grace_s((row["B"], row["M"], row["N"], row["K"])) * 1e3)
        settings += (("gpu.power.grace", f"{grace_ms} ms"),) if grace_ms else ()
    return settings


def _neusight(row: Row) -> Iterator[Case]:
    device = row["Device"]
    sizes = "x".join(str(row[c]) for c in ("B", "M", "N", "K", "H") if c in row.cells)
    yield Case(
        DEVICES.get(device, slug(device)),
        _neusight_workload(row),
        row["Latency"] * 1e-3,
        settings=_settings(row),
        harness=NEUSIGHT_CALLS,
        part=row["OPName"] if row["OPName"] in _ELEMENTWISE else "",
        label=f"{row['OPName']} {sizes}",
    )


def slug(name: str) -> str:
    """A device's name as a target's: `M1 Max` as `m1max`."""
    return "".join(c for c in name.lower() if c.isalnum())


def _neusight_table(op: str, title: str, *sizes: str) -> Table:
    columns: Columns = {"OPName": str, "Latency": float, "Device": str, **dict.fromkeys(sizes, int)}
    return Table(f"gpu/neusight_{op}", title, NEUSIGHT, VALIDATE, columns, _neusight, ("Latency", *sizes))


# ---------------------------------------------------------------- Vidur

_VIDUR_SIZES = ("n_head", "n_kv_head", "n_embd", "n_expanded_embd", "vocab_size", "num_tokens")
_WORKERS = "num_tensor_parallel_workers"


def _vidur_parts(row: Row) -> dict[str, Workload]:
    """One layer's ops on one of the workers that share it; silu and its product are one kernel."""
    heads, kv, hidden, inner, vocabulary, tokens = (row[c] for c in _VIDUR_SIZES)
    workers, dim = row[_WORKERS], hidden // heads
    heads, kv, inner, vocabulary = heads // workers, kv // workers, inner // workers, vocabulary // workers
    norm = LayerNorm(tokens, hidden, "f16", rms=True)
    gated = row["use_gated_mlp"] == "True"
    return {
        "emb": Embedding(tokens, vocabulary, hidden, "f16"),
        "input_layernorm": norm,
        "attn_pre_proj": Gemm(tokens, hidden, (heads + 2 * kv) * dim, "f16", transposed=True),
        "attn_rope": Rotary(tokens, heads, kv, dim, "f16"),
        "attn_post_proj": Gemm(tokens, heads * dim, hidden, "f16", transposed=True),
        "post_attention_layernorm": norm,
        "mlp_up_proj": Gemm(tokens, hidden, 2 * inner if gated else inner, "f16", transposed=True),
        "mlp_act": GatedActivation(tokens, inner, "f16") if gated else Elementwise("gelu", (tokens, inner), "f16"),
        "mlp_down_proj": Gemm(tokens, inner, hidden, "f16", transposed=True),
        "add": Elementwise("add", (tokens, hidden), "f16", 2),
    }


VIDUR_PARTS = (
    "emb", "input_layernorm", "attn_pre_proj", "attn_rope", "attn_post_proj", "post_attention_layernorm",
    "mlp_up_proj", "mlp_act", "mlp_down_proj", "add",
)  # fmt: skip


def _vidur(row: Row) -> Iterator[Case]:
    for part, workload in _vidur_parts(row).items():
        ms = row[f"time_stats.{part}.median"]
        label = f"{part}, {row['num_tokens']} tokens"
        yield Case("a100", workload, ms * 1e-3, row=part, part=part, settings=A100_PCIE, label=label)


_VIDUR_MEDIANS = tuple(f"time_stats.{part}.median" for part in VIDUR_PARTS)
_MATRIX: Columns = {"M": int, "N": int, "gelements_per_s": float}

TABLES = (
    _llmcompass("matmul", {"M": int, "N": int, "K": int, "latency": str}, _matmul),
    _llmcompass("softmax", _MATRIX, _rows(Softmax, _calls("softmax"))),
    _llmcompass("layernorm", _MATRIX, _rows(LayerNorm, _calls("layernorm", AFTER_LAUNCH_S))),
    _llmcompass("gelu", {"M": int, "gelements_per_s": float}, _gelu),
    _neusight_table("linear", "linear layers, fp32", "B", "M", "N", "K"),
    _neusight_table("bmm", "batched products, fp32", "B", "M", "N", "K"),
    _neusight_table("elem", "elementwise ops, fp32", "B", "H"),
    _neusight_table("ln", "layer norm, fp32", "B", "H"),
    _neusight_table("softmax", "softmax, fp32", "B", "H"),
    Table(
        "gpu/vidur_llama2_7b_mlp_a100",
        "A100, the ops of a Llama-2-7B layer, fp16, medians",
        VIDUR,
        VALIDATE,
        {
            **dict.fromkeys(_VIDUR_MEDIANS, float),
            **dict.fromkeys((*_VIDUR_SIZES, _WORKERS), int),
            "use_gated_mlp": str,
        },
        _vidur,
        (*_VIDUR_MEDIANS, *_VIDUR_SIZES, _WORKERS),
    ),
)
