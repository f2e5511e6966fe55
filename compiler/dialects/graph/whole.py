"""Ops that no tiling cuts: an engine with caches reads their operands in place and writes the result in memory.

To add one: a class here with `shapes`, its kernel in the interpreter, and the frontend's lowering. `work` prices it.
"""

from __future__ import annotations

from typing import ClassVar

from .base import GraphOp


class WholeOp(GraphOp):
    """Base of ops over whole tensors, with one result. `work` holds (rate class, passes) for each element of the larger
    of the first operand and the result."""

    __slots__ = ()
    work: ClassVar[tuple[tuple[str, int], ...]] = (("move", 1),)
