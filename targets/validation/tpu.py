"""Google's TPUs, measured by the authors of PyTorchSim (MIT licence)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .case import DEVICE, HALF, Case, Harness, is_half
from .reading import Row
from .table import SPLIT, VALIDATE, Table
from .workloads import Attention, Conv, EncoderBlock, FeedForward, Gemm, LayerNorm, Network, Softmax, Workload

CLOCK_V3_HZ = 940e6
CLOCK_V6E_HZ = 3502e6
LANES = 128  # XLA pads the last axis to this many elements
PYTORCHSIM = "PSAL-POSTECH/PyTorchSim, MIT"

# The decoders' attention is vLLM's ragged paged attention (jax.experimental.pallas.ops.tpu.ragged_paged_attention). A
# step has many pages of keys, few queries and all heads; pages stay in HBM until the kernel asks for them, a block
# ahead of their use. Blocks are fitted: the kernel has a table of them, by model and number of tokens.
PAGED_BLOCKS = (
    ("tpu.vmem.keys", "2048"),
    ("tpu.vmem.queries", "128"),
    ("tpu.vmem.buffers", "2"),
    ("tpu.vmem.windows", "64MiB"),
    ("memory.slc.size", "1KiB"),
)


def _paged(heads: int, own: int) -> tuple[tuple[str, str], ...]:
    """How that kernel runs heads of queries of which `own` have keys of their own.

    It multiplies probabilities in f32, and queries too where the heads that share keys are odd in number (they do not
    fill the pairs in which bf16 is kept): three products in bf16 instead of one, fitted to 24 heads over 8 of keys.
    """
    shared = heads // own
    passes = 3 if shared % 2 else (1 + 3) / 2
    in_sequence = min(own, 8)  # the models measured have eight; more are those of several sequences
    return (*PAGED_BLOCKS, ("tpu.vmem.heads", str(in_sequence * shared)), ("tpu.array.passes.bf16", str(passes)))


PAGED = Harness(
    "ragged-paged",
    "what the kernel does before its first block (page tables, lengths): the fitted rows with one query",
    call_s=2.8e-6,
)


def _half(*content: object) -> str:
    return HALF if is_half(*content) else ""


# ---------------------------------------------------------------- TPUv3: single ops and networks, f32 (not recorded)


def _numbers(name: str, count: int) -> list[int] | None:
    sizes = name.rpartition("_")[2].split("x")
    return [int(n) for n in sizes] if len(sizes) == count and all(n.isdecimal() for n in sizes) else None


def _v3_workload(name: str) -> Workload | None:
    """The names are those of the artifact's run_cycle.sh; sizes in the order in which its scripts take them."""
    kind = re.match(r"[a-z]+", name)
    match kind and kind.group():
        case "gemm" if n := _numbers(name, 3):
            return Gemm(n[0], n[1], n[2], "f32", weight=False)
        case "conv" if n := _numbers(name, 8):
            return Conv(n[0], n[3], n[4], n[1], n[2], n[5], n[6], n[7], "f32")
        case "layernorm" if n := _numbers(name, 2):
            return LayerNorm(n[0], n[1], "f32")
        case "softmax" if n := _numbers(name, 2):
            return Softmax(n[0], n[1], "f32")
        case "attention" if n := _numbers(name, 3):
            return Attention(1, n[0], n[0], n[1], n[1], n[2], "f32")
        case "resnet":
            return Network(name, "fp32")
        case "bert" if name in BERT:  # BERT.py runs one layer of it, over 512 tokens
            return EncoderBlock(512, *BERT[name], "f32")
    return None


BERT = {"bert_base": (768, 12), "bert_large": (1024, 16), "bert_xlarge": (2048, 32)}  # hidden size, heads


# Rows from which targets/socs/tpu_v3.toml takes what is not published.
_V3_FITTED = {
    "gemm_256x256x256": "gives the launch",
    "softmax_512x512": "gives the vector unit's rate",
    "attention_12x512x64": "shows that products hide behind the softmax",
    "conv_64x56x56x64x64x3x1x1": "shows that arrays share a convolution's output channels alone",
}


def _v3(row: Row) -> Iterator[Case]:
    name = row["Workload"]
    workload = _v3_workload(name)
    part = name.partition("_")[0].rstrip("0123456789")
    yield Case(
        "tpu_v3",
        workload,
        row["TPUv3"] / CLOCK_V3_HZ,
        part=part,
        label=name,
        fitted=_V3_FITTED.get(name, ""),
        unpriced="" if workload else f"'{name}' is no workload that this table is known to hold",
    )


# ---------------------------------------------------------------- TPU v6e, bf16


def _v6e_gemm(row: Row) -> Iterator[Case]:
    m, k, n, dtype = (row[c] for c in ("M", "K", "N", "dtype"))
    yield Case(
        "tpu_v6e",
        Gemm(m, k, n, dtype),
        row["latency_ns"] * 1e-9,
        fitted=_half("gemm", m, k, n, dtype),
        label=f"{m}x{k}x{n}",
    )


def _v6e_ffn_attn(row: Row) -> Iterator[Case]:
    op, size, dtype = row["op"], row["size"], row["dtype"]
    counts = {"ffn_gated": 3, "ffn_erf": 3, "attn_enc": 3, "attn_dec": 5}
    if op not in counts:
        raise row.fail("op", f"is '{op}'; expected one of {', '.join(counts)}")
    n = _numbers(size, counts[op])
    if n is None:
        raise row.fail("size", f"is '{size}'; {op} has {counts[op]} sizes, with x between them")
    workload: Workload
    if op.startswith("ffn"):  # tokens, hidden, inner
        workload = FeedForward(n[0], n[1], n[2], op == "ffn_gated", dtype)
    elif op == "attn_enc":  # heads, tokens, dim
        keys = -(-n[1] // LANES) * LANES  # as the rows of scores lie in memory
        workload = Attention(1, n[0], n[0], n[1], keys, n[2], dtype, materialised=True)  # XLA fuses no attention
    else:  # heads, kv heads, queries, keys, dim: the last queries of a causal window
        workload = Attention(1, n[0], n[1], n[2], n[3], n[4], dtype, causal=n[2] == n[3])
    paged = op == "attn_dec"
    yield Case(
        "tpu_v6e",
        workload,
        row["latency_ns"] * 1e-9,
        part=op,
        settings=_paged(n[0], n[1]) if paged else (),
        harness=PAGED if paged else DEVICE,
        fitted=_half(op, size, dtype),
        label=f"{op} {size}",
    )


def _v6e_sdpa(row: Row) -> Iterator[Case]:
    mode = row["mode"]
    if mode not in ("prefill", "decode"):
        raise row.fail("mode", f"is '{mode}'; expected prefill or decode")
    b, hq, hkv, s, d = sizes = [row[c] for c in ("B", "Hq", "Hkv", "S", "D")]
    yield Case(
        "tpu_v6e",
        Attention(b, hq, hkv, s if mode == "prefill" else 1, s, d, "bf16"),
        row["device_us"] * 1e-6,
        part=mode,
        fitted=_half("sdpa", mode, *sizes),
        label=f"{mode} {'x'.join(map(str, sizes))}",
    )


TABLES = (
    Table(
        "tpu/v3_cycles",
        "TPUv3, single ops, ResNet-18 and a layer of BERT, f32",
        f"{PYTORCHSIM}, cycles at 940 MHz",
        VALIDATE,
        {"Workload": str, "TPUv3": int},
        _v3,
        ("TPUv3",),
    ),
    Table(
        "tpu/v6e_gemm",
        "TPU v6e, linear layers, bf16",
        f"{PYTORCHSIM}, timing_mode_validation/ref_v6e.csv",
        SPLIT,
        {"M": int, "K": int, "N": int, "dtype": str, "latency_ns": int},
        _v6e_gemm,
        ("M", "K", "N", "latency_ns"),
    ),
    Table(
        "tpu/v6e_ffn_attn",
        "TPU v6e, feed-forward blocks and attention of served models, bf16",
        f"{PYTORCHSIM}, timing_mode_validation/ref_v6e.csv",
        SPLIT,
        {"op": str, "size": str, "dtype": str, "latency_ns": int},
        _v6e_ffn_attn,
        ("latency_ns",),
    ),
    Table(
        "tpu/v6e_sdpa",
        "TPU v6e, scaled dot-product attention, not causal, bf16",
        f"{PYTORCHSIM}, sdpa_results/v6e_tpu_measure.csv",
        SPLIT,
        {"mode": str, "B": int, "Hq": int, "Hkv": int, "S": int, "D": int, "device_us": float},
        _v6e_sdpa,
        ("B", "Hq", "Hkv", "S", "D", "device_us"),
    ),
)
