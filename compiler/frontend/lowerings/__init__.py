"""One file for each family of ATen ops; importing them fills the table."""

from . import (
    attention,
    contraction,
    convolution,
    creation,
    elementwise,
    indexing,
    movement,
    normalisation,
    pooling,
    reduction,
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
    "lowers",
    "movement",
    "normalisation",
    "pooling",
    "reduction",
    "without_write",
    "writes",
]
