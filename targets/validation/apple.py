"""Apple's chips: whole networks, language models, and single ops through Python.

What the tables for calibration hold is in their own columns; their rows are never counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .case import DEVICE, Case, Harness
from .gpu import slug
from .reading import Columns, Optional, Row
from .table import CALIBRATE, VALIDATE, Table
from .workloads import Call, Conv, Elementwise, Gemm, Generation, Network, Programs, SelfAttention, Workload

_TEXT = Optional(str)

# ---------------------------------------------------------------- harnesses

XCODE = Harness("xcode", "Xcode's performance report, median of calls inside Core ML: adds little (Core ML Tools docs)")
MODEL_BENCH = Harness(
    "modelbench", "an app on the phone that times calls of Core ML (FastViT, MobileOne, MobileCLIP)", call_s=None
)
CORE_ML_CALLS = Harness(
    "coreml-a14", "Xcode 14's and coreml-performance's calls on an iPhone 12 (EfficientFormer, RepViT)", call_s=None
)
SWIFT = Harness(
    "swift",
    "iterations a second of Hugging Face's Diffusers app (its branch benchmark), whose Swift code adds up to 10 %: "
    "apple/ml-stable-diffusion README, which has two tables from the app and says so of the first; on iPhones and "
    "iPads there is no other pipeline",
    factor=1.1,
)
# Of a call on M6, 30 us are submitting and 130 completing, which its launch holds; completing takes up to 325 us where
# the processor that waits has slept for 350 us or more.
WAKING = "a Mac that waits for a call of 350 us and more sees its end up to 195 us later (dispatch_overheads, M6)"
WAKE_S, ASLEEP_S = (325 - 130) * 1e-6, 350e-6
CORE_ML_MAC = Harness("coreml-mac", WAKING, wake_s=WAKE_S, asleep_s=ASLEEP_S)
# train_large.m of maderix/ANE: t_ane runs over the calls alone; conversions to and from half precision (t_io) and the
# sums between them (t_elem) are timed apart. Part 3, which these rows are from, counts 160 us for a call.
XPC = Harness(
    "xpc",
    f"the sum of the calls' own times, each through XPC (train_large.m); {WAKING}",
    wake_s=WAKE_S,
    asleep_s=ASLEEP_S,
)
XPC_LAUNCH = ("ane.launch", "160 us")
# 33.5 M elements through the Neural Engine, in and out, take 25.66 ms on M1 (apple/streaming_bandwidth).
PYTHON_ANE = Harness(
    "python-ane",
    "host copies to f16 surfaces and back at 5.23 GB/s: apple/streaming_bandwidth, M1, whose rows are not counted",
    copy_bytes_per_s=5.23e9,
)
# ggml's graph of Llama 2 in build 8e672ef has 25 kernels a layer (two norms and their scales, seven products, two
# rotations, two cache writes, six of attention, two sums, silu and a product) and four more.
LLAMA_CPP = Harness(
    "llama.cpp",
    "a token takes 0.54 ms on the host and in waiting (antonellof/ferrox PR 202, M2 Pro: 1.71 less 1.17 ms), of which "
    "the launch is 0.18; 804 kernels (ggml's graph of Llama 2, build 8e672ef)",
    call_s=0.36e-3,
    kernels=804,
)
# mlx_lm 0.29: of a layer, one after the other, norm, q k v, their norms, rotations, cache writes, attention in two
# passes, out, sum, norm; gate and up, their product, down, sum; with experts also router, softmax, choice (two), shares
# (three), their product and the sum over experts.
MLX = "kernels run side by side where none waits for another (MLX's encoders are concurrent, with barriers)"
MLX_DENSE = Harness("MLX dense", f"508 of 36 layers wait for each other; {MLX}", kernels=14 * 36 + 4)
MLX_EXPERTS = Harness("MLX experts", f"1108 of 48 layers wait for each other; {MLX}", kernels=23 * 48 + 4)
PYTHON = Harness("python", "one synchronous call; its cost is the launch of the target's engine")

# ---------------------------------------------------------------- whole networks

FAMILIES = (
    "MobileCLIP", "MobileOne", "MobileNet", "FastViT", "EfficientFormer", "RepViT", "ResNet", "SDXL", "SD2.1",
    "Whisper", "GPT-2", "Transformer", "EasyOCR",
)  # fmt: skip


def engines_of(text: str) -> tuple[str, ...]:
    """The engines that a column such as "CoreML CPU_AND_NE SPLIT_EINSUM" names."""
    if "CPU_AND_GPU" in text:
        return ("gpu",)
    if "GPU" in text and "ALL" not in text:
        return ("gpu",)
    if text.startswith("CPU ") or text == "CPU":
        return ("cpu",)
    return ("ane",)  # Core ML, or called directly; the CPU takes what it refuses


def _network_harness(row: Row) -> Harness:
    source = row["source"]
    if source.startswith("apple/coremltools"):
        return XCODE
    if source.startswith("apple/ml-stable-diffusion"):
        swift = "Swift" in (row["note"] or "") or (row["device_os"] or "").startswith(("iPhone", "iPad"))
        return SWIFT if swift else DEVICE
    if "maderix Part 3" in source:
        return XPC
    if source.startswith("751K/"):
        return CORE_ML_MAC
    if source.startswith(("snap-research/EfficientFormer", "THU-MIG/RepViT")):
        return CORE_ML_CALLS
    if source.startswith("apple/"):
        return MODEL_BENCH
    return DEVICE


def _separate_calls(row: Row) -> int:
    """In how many calls a network ran, where not in one: two a layer."""
    calls = re.search(r"(\d+) separate calls", row["engine"])
    return int(calls.group(1)) if calls else 0


def _network(row: Row) -> Iterator[Case]:
    name = row["model"]
    family = next((f for f in FAMILIES if name.startswith(f)), "others")
    engines, harness = engines_of(row["engine"]), _network_harness(row)
    yield Case(
        slug(row["chip"]),
        _network_workload(row),
        row["latency_ms"] * 1e-3,
        part=family,
        engines=engines,
        settings=(XPC_LAUNCH,) if harness is XPC else (),
        harness=harness,
        label=f"{name} {row['precision']}{', layer by layer' if _separate_calls(row) else ''}",
        eager=_is_whisper_cpp(row) and engines == ("gpu",),  # ggml fuses no sums with products
        source=_short_source(row["source"]),
    )


def _network_workload(row: Row) -> Workload:
    name, precision, batch = row["model"], row["precision"], row["batch"]
    if name.startswith("GPT-2") and row["engine"] == "ANE direct":
        return _gpt2_step(name, precision)
    if _is_whisper_cpp(row):
        return _whisper_encode(row)
    form = re.search(r"\bSPLIT_EINSUM(_V2)?\b", row["engine"])
    if form is not None:
        return Network(name, precision, batch, form.group().lower())
    calls = _separate_calls(row)
    if not calls:
        return Network(name, precision, batch)
    layers, halves = calls // 2, ("attention", "feed-forward")
    return Programs(tuple(Call(Network(f"{name}, {half} of a layer", precision, batch), layers) for half in halves))


def _gpt2_step(name: str, precision: str) -> Programs:
    """Orion's kernels/inference/decode_ane.m: two programs a layer on the Neural Engine, over 16 tokens of which one is
    there; attention over the cache, its projection and the logits on the CPU, in single precision."""
    return Programs(
        (
            Call(Network(f"{name}, projections", precision), 12),
            Call(Network(f"{name}, attention", "fp32"), 12, "cpu"),
            Call(Network(f"{name}, feed-forward", precision), 12),
            Call(Network(f"{name}, logits", "fp32"), 1, "cpu"),
        )
    )


def _is_whisper_cpp(row: Row) -> bool:
    return row["model"].startswith("Whisper") and "whisper.cpp" in f"{row['engine']} {row['source']}"


def _whisper_encode(row: Row) -> Programs:
    """What whisper.cpp times as encoding (whisper_encode_internal): the encoder, through Core ML or ggml, and then the
    keys and values that each layer of the decoder takes from it, through ggml: on the GPU since that has Metal (v1.5),
    before, as where no GPU is used, on the CPU. ggml keeps weights in half and activations in single precision."""
    name, (engine,) = row["model"], engines_of(row["engine"])
    encoder = Network(name, "F16" if engine == "gpu" else row["precision"], row["batch"])
    ggml = "cpu" if engine == "cpu" or "whisper.cpp PR #566" in row["source"] else "gpu"
    return Programs((Call(encoder, 1), Call(Network(f"{name}, keys and values of its decoder", "F16"), 1, ggml)))


def _short_source(text: str) -> str:
    """The repository or the study: what stands before the first blank or version."""
    return re.split(r"[ @]", text, maxsplit=1)[0]


# ---------------------------------------------------------------- language models


MLX_PROMPT = 2048  # tokens, in mlx_lm's BENCHMARKS.md


def _generation(row: Row) -> Iterator[Case]:
    phases = {"pp": "prefill", "tg": "decode", "tg-python-logits": "decode"}
    if row["phase"] not in phases:
        raise row.fail("phase", f"is '{row['phase']}'; expected one of {', '.join(phases)}")
    phase, tokens, engine = phases[row["phase"]], row["tokens"], row["engine"]
    cores = row["gpu_cores"]
    # Generating n tokens from an empty context, llama.cpp's tg n, sees n / 2 earlier ones on average; mlx_lm.benchmark
    # generates what follows its prompt.
    seen = tokens if phase == "prefill" else tokens // 2 + (MLX_PROMPT if "MLX" in engine else 0)
    workload = Generation(row["model"].split(" (")[0], row["quant"], phase, seen)
    yield Case(
        slug(row["chip"]),
        workload,
        (tokens if phase == "prefill" else 1) / row["tok_s"],
        part=f"{'llama.cpp' if 'llama.cpp' in engine else 'MLX' if 'MLX' in engine else 'ANE'} {phase}",
        engines=engines_of(engine),
        settings=(("gpu.cores", str(cores)),) if cores and "GPU" in engine else (),
        harness=_generation_harness(engine, workload.model),
        label=f"{workload.model} {workload.weights} {row['phase']}{tokens}",
        unpriced="logits in Python" if row["phase"] == "tg-python-logits" else "",
        source=_short_source(row["source"]),
    )


def _generation_harness(engine: str, model: str) -> Harness:
    if "llama.cpp" in engine:
        return LLAMA_CPP
    if "MLX" in engine:
        return MLX_EXPERTS if model.startswith("Qwen3-30B-A3B") else MLX_DENSE
    return DEVICE


# ---------------------------------------------------------------- single ops through Python


def _sweep_workload(op: str, shape: str, dtype: str) -> Workload | None:
    n = [int(t) for t in re.findall(r"\d+", shape)]
    if op == "gemm" and shape.startswith("N="):
        return Gemm(n[0], n[0], n[0], dtype, weight=False)
    if op == "gemm" and len(n) == 3:  # M, K, N
        return Gemm(n[0], n[1], n[2], dtype, weight=False)
    if op == "conv3x3 same" and len(n) == 5:  # B, C -> C, height x width
        return Conv(n[0], n[1], n[2], n[3], n[4], 3, 1, 1, dtype)
    if op.startswith("conv3x3") and len(n) == 4:  # C, height x width, depth
        return Conv(1, n[0], n[0], n[1], n[2], 3, 1, 1, dtype, depth=n[3])
    if op == "mha" and len(n) == 3:  # S, D, H
        return SelfAttention(n[0], n[1], n[2], dtype)
    return None


_DTYPES = {"fp16": "f16", "fp32": "f32"}


def _sweep(row: Row) -> Iterator[Case]:
    if row["dtype"] not in _DTYPES:
        raise row.fail("dtype", f"is '{row['dtype']}'; expected fp16 or fp32")
    workload = _sweep_workload(row["op"], row["shape"], _DTYPES[row["dtype"]])
    chip, engine = row["chip"].split(" (")[0], row["engine"]
    cores = re.search(r"(\d+)-core GPU", row["device"])
    yield Case(
        slug(chip),
        workload,
        row["lat_ms"] * 1e-3,
        part=f"{engine} {row['op'].split()[0]}",
        engines=engines_of(engine),
        settings=(("gpu.cores", cores.group(1)),) if cores and engine == "GPU" else (),
        harness=PYTHON_ANE if engine == "ANE" else PYTHON,
        label=f"{engine} {row['op']} {row['shape']}",
        unpriced="" if workload else f"'{row['op']}' of '{row['shape']}' is no op that this table is known to hold",
    )


def _stream(row: Row) -> Iterator[Case]:
    engine = row["engine"].split()[0]
    dtype = "f32" if engine == "CPU" else "f16"
    limit = "host copies bound it: it gives the rate of the harness python-ane"
    yield Case(
        slug(row["chip"]),
        Elementwise("relu", (row["nelem"],), dtype),
        row["lat_ms"] * 1e-3,
        part=engine,
        engines=engines_of(row["engine"]),
        harness=PYTHON_ANE if engine == "ANE" else PYTHON,
        fitted=limit if engine == "ANE" else "",
        label=f"{engine} relu {row['nelem']}",
    )


# ---------------------------------------------------------------- for calibration


def _never_counted(row: Row) -> Iterator[Case]:
    yield Case("", None, 0.0)


def _calibration(name: str, title: str, *columns: str) -> Table:
    declared: Columns = dict.fromkeys(columns, _TEXT)
    return Table(f"apple/{name}", title, "see the column source", CALIBRATE, declared, _never_counted)


TABLES = (
    Table(
        "apple/e2e_latency",
        "whole networks on Apple chips",
        "see the column source",
        VALIDATE,
        {
            "model": str, "batch": int, "precision": str, "engine": str, "chip": str, "device_os": _TEXT,
            "latency_ms": float, "source": str, "note": _TEXT,
        },
        _network,
        ("batch", "latency_ms"),
    ),
    Table(
        "apple/llm_throughput",
        "language models on Apple chips",
        "see the column source",
        VALIDATE,
        {
            "model": str, "quant": str, "phase": str, "tokens": int, "engine": str, "chip": str,
            "gpu_cores": Optional(int), "tok_s": float, "source": str,
        },
        _generation,
        ("tokens", "tok_s"),
    ),
    Table(
        "apple/gemm_conv_sweep",
        "products, convolutions and attention through Python, M1 and M1 Max",
        "sbryngelson/ANEForge, see the column source",
        VALIDATE,
        {
            "op": str, "shape": str, "engine": str, "dtype": str, "chip": str, "device": str, "lat_ms": float,
        },
        _sweep,
        ("lat_ms",),
    ),
    Table(
        "apple/streaming_bandwidth",
        "elementwise ops through Python, M1",
        "sbryngelson/ANEForge, see the column source",
        VALIDATE,
        {"chip": str, "op": str, "nelem": int, "engine": str, "lat_ms": float},
        _stream,
        ("nelem", "lat_ms"),
    ),
    _calibration("ane_microbench", "Neural Engine, micro-measurements", "experiment", "value"),
    _calibration("ane_weight_bandwidth", "Neural Engine, rate at which weights stream", "chip", "ane_bw_gbs"),
    _calibration("ane_generations", "Neural Engine, cores, clocks and peaks", "chip"),
    _calibration("ane_limits", "Neural Engine, limits of shapes and buffers", "limit", "value"),
    _calibration("coreml_segmenter_estimates", "what Core ML's segmenter estimates; not measured", "op", "ane_us"),
    _calibration("dispatch_overheads", "what a call costs", "what", "value_us"),
    _calibration("amx_sme", "CPU matrix units", "unit", "gflops"),
    _calibration("gpu_params", "GPU parameters", "item", "value"),
    _calibration("energy", "energy and power", "quantity", "value"),
    _calibration("soc_memory", "memory of the chips", "chip"),
)  # fmt: skip
