"""Ratios of times that follow from the hardware and not from fitting: what any scale of the model cannot hide."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.targets.validation.workloads import Generation, Network

from .price import Job

_ANE = ("ane",)


@dataclass(frozen=True, slots=True)
class Ratio:
    """`slow` over `fast` lies between `least` and `most`. `tables` are those with which it is reported."""

    name: str
    slow: Job
    fast: Job
    least: float
    most: float
    source: str
    table: str


def _unet(target: str) -> Job:
    return Job(target, _ANE, (), Network("SD2.1-base UNet step", "pal6", 2, "split_einsum_v2"))


def _resnet(precision: str) -> Job:
    return Job("a16", _ANE, (), Network("ResNet50", precision))


def _opt(weights: str) -> Job:
    """The next token of a prompt of 64 on an iPhone 15 Pro; the tutorial loads the model without a cache."""
    return Job("a17pro", _ANE, (), Generation("OPT-1.3B", weights, "prefill", 64))


_UNET = "apple/ml-stable-diffusion, iterations a second on iPhone 12, 13 and 14 Pro Max; within 10 %"
_NETWORKS, _MODELS = "apple/e2e_latency", "apple/llm_throughput"

RATIOS = (
    Ratio("SD UNet, A14 / A15", _unet("a14"), _unet("a15"), 1.76 * 0.9, 1.76 * 1.1, _UNET, _NETWORKS),
    Ratio("SD UNet, A14 / A16", _unet("a14"), _unet("a16"), 1.86 * 0.9, 1.86 * 1.1, _UNET, _NETWORKS),
    *(
        Ratio(
            f"ResNet-50 on A16, fp16 / {bits}-bit palettes: saves at most 10 %",
            _resnet("fp16"),
            _resnet(f"pal{bits}"),
            1.0,
            1 / 0.9,
            "Core ML Tools, palettisation performance: 1.43 and 1.41 of 1.52 ms",
            _NETWORKS,
        )
        for bits in (2, 4)
    ),
    *(
        Ratio(
            f"OPT-1.3B's next token on A17 Pro, fp16 / {bits}-bit palettes: at least 5",
            _opt("fp16"),
            _opt(f"pal{bits}"),
            5.0,
            float("inf"),
            "Core ML Tools, Optimizing OPT Model: 92.15 and, with 4 bits a tensor, 14.76 ms (6.24 times)",
            _MODELS,
        )
        for bits in (2, 4)
    ),
)
