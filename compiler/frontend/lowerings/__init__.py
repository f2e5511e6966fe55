"""One file for each family of ATen ops; importing them fills the table."""

from . import (
    attention,
    contraction,
    convolution,
    creation,
    elementwise,
    indexing,
    linalg,
    movement,
    normalisation,
    pooling,
    recurrence,
    reduction,
    sampling,
    sorting,
)
from .registry import LOWERINGS, NOTHING, find, lowers, without_write, writes

__all__ = [
    "LOWERINGS",
    "NOTHING",
    "attention",
    "contraction",
    "convolution",
    "creation",
    "elementwise",
    "find",
    "indexing",
    "linalg",
    "lowers",
    "movement",
    "normalisation",
    "pooling",
    "recurrence",
    "reduction",
    "sampling",
    "sorting",
    "without_write",
    "writes",
]
