"""Precisions of the tables: the float type of a program, and how its weights are stored."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .packages import MissingDefinition
from .storage import Floats, Integers, Palettes, Sparse, Storage


@dataclass(frozen=True, slots=True)
class Precision:
    """`dtype` is what floats become, of those that the IR has; `weights` how they are stored, None for as they are."""

    dtype: str
    weights: Storage | None = None


PRECISIONS: dict[str, Precision] = {
    "fp16": Precision("f16"),
    "fp32": Precision("f32"),
    "bf16": Precision("bf16"),
    "fp16/fp32": Precision("f32"),  # whisper.cpp on a CPU: weights in half, sums and activations in single
    **{f"pal{bits}": Precision("f16", Palettes(bits)) for bits in (1, 2, 3, 4, 6, 8)},
    "pal4.04 mixed": Precision("f16", Palettes(4)),  # 1 to 8 bits, 4.04 on average
    **{f"sparse{zeros}": Precision("f16", Sparse(zeros)) for zeros in (50, 75)},
    "w8": Precision("f16", Integers(8)),
    "w8a8": Precision("f16", Integers(8, activations=True)),
    # llama.cpp: activations in single precision; weights in half, or in blocks of 32 with a scale in half
    "F16": Precision("f32", Floats("f16")),
    "Q8_0": Precision("f32", Integers(8, group=32, scale="f16")),
    "Q4_0": Precision("f32", Integers(4, group=32, scale="f16")),
    # MLX: groups of 64 or 32 with a scale and a bias; what it computes in is bfloat16
    **{f"q{bits}": Precision("bf16", Integers(bits, group=64, offset=True)) for bits in (4, 5, 6, 8)},
    **{f"q{bits} g32": Precision("bf16", Integers(bits, group=32, offset=True)) for bits in (4, 5, 6, 8)},
}

# What each further precision needs, by the form of its name.
_NEEDED = (
    (r"pal.*", "palettes of different widths"),
    (r"sparse\d+", "sparse weights of this density"),
    (r"Q\d.*|q\d.*|GGUF.*", "weights in blocks of this form"),
)


def find_precision(name: str) -> Precision:
    """Raises MissingDefinition for one that is not compiled, with what it needs."""
    if name in PRECISIONS:
        return PRECISIONS[name]
    needed = next((what for form, what in _NEEDED if re.fullmatch(form, name)), "a precision that is not known")
    raise MissingDefinition(f"needs {needed} ('{name}')")
