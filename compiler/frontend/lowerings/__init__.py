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
from .registry import LOWERINGS, lowers

__all__ = [
    "LOWERINGS",
    "attention",
    "contraction",
    "convolution",
    "creation",
    "elementwise",
    "indexing",
    "lowers",
    "movement",
    "normalisation",
    "pooling",
    "reduction",
]
