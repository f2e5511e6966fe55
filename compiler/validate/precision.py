"""Precisions of the tables: the IR's float type, and what is done to the model before it is exported."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from .packages import MissingDefinition


@dataclass(frozen=True, slots=True)
class Precision:
    """`dtype` is what floats become; `compress` changes the model in its eval form, and may return another."""

    dtype: str
    compress: Callable[[nn.Module], nn.Module] | None = None


PRECISIONS: dict[str, Precision] = {
    "fp16": Precision("f16"),
    "fp32": Precision("f32"),
    "bf16": Precision("bf16"),
    "F16": Precision("f16"),
    "fp16/fp32": Precision("f32"),  # whisper.cpp on a CPU: weights in half, sums and activations in single
}

# What each further precision needs, by the form of its name.
_NEEDED = (
    (r"pal[\d./]+.*", "palettised weights"),
    (r"w8a8", "weights and activations in 8 bits"),
    (r"w\d", "weights in few bits"),
    (r"sparse\d+", "sparse weights"),
    (r"Q\d.*|q\d.*|GGUF.*", "weights in blocks of few bits"),
)


def find_precision(name: str) -> Precision:
    """Raises MissingDefinition for one that is not compiled, with what it needs."""
    if name in PRECISIONS:
        return PRECISIONS[name]
    needed = next((what for form, what in _NEEDED if re.fullmatch(form, name)), "a precision that is not known")
    raise MissingDefinition(f"needs {needed} ('{name}')")
