"""Precisions of the tables: the float type of a program, and how its weights are stored."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .packages import MissingDefinition
from .storage import Integers, Palettes, Storage


@dataclass(frozen=True, slots=True)
class Precision:
    """`dtype` is what floats become, of those that the IR has; `weights` how they are stored, None for as they are."""

    dtype: str
    weights: Storage | None = None


PRECISIONS: dict[str, Precision] = {
    "fp16": Precision("f16"),
    "fp32": Precision("f32"),
    "bf16": Precision("bf16"),
    "F16": Precision("f16"),
    "fp16/fp32": Precision("f32"),  # whisper.cpp on a CPU: weights in half, sums and activations in single
    **{f"pal{bits}": Precision("f16", Palettes(bits)) for bits in (1, 2, 3, 4, 6, 8)},
    "pal4.04 mixed": Precision("f16", Palettes(4)),  # 1 to 8 bits, 4.04 on average
    "w8": Precision("f16", Integers(8)),
    "w8a8": Precision("f16", Integers(8, activations=True)),
    "Q8_0": Precision("f16", Integers(8, group=32)),  # llama.cpp: blocks of 32 with a scale in half precision
    "Q4_0": Precision("f16", Integers(4, group=32)),
}

# What each further precision needs, by the form of its name.
_NEEDED = (
    (r"pal.*", "palettes of different widths"),
    (r"sparse\d+", "sparse weights"),
    (r"Q\d.*|q\d.*|GGUF.*", "weights in blocks of this form"),
)


def find_precision(name: str) -> Precision:
    """Raises MissingDefinition for one that is not compiled, with what it needs."""
    if name in PRECISIONS:
        return PRECISIONS[name]
    needed = next((what for form, what in _NEEDED if re.fullmatch(form, name)), "a precision that is not known")
    raise MissingDefinition(f"needs {needed} ('{name}')")
