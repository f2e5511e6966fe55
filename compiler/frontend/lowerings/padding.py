"""Padding: with a number, or with elements of the tensor itself."""

from __future__ import annotations

from collections.abc import Sequence

from tilewright.compiler.ir import Value

from ..emitter import Emitter
from .registry import aten, lowers

FEW = 4  # reflected elements that are joined one by one, as views; more are gathered


@lowers(aten.constant_pad_nd.default)
def constant_pad(e: Emitter, x: Value, pad: Sequence[int], value: float = 0) -> Value:
    """torch lists (low, high) from the last axis to the first."""
    sides = [(0, 0)] * (x.type.rank - len(pad) // 2) + list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    return e.pad(x, [p for side in sides for p in side], float(value))


@lowers(aten.pad.default)
def pad(e: Emitter, x: Value, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Value:
    if mode == "constant":
        return constant_pad(e, x, pad, value or 0.0)
    for i, (low, high) in enumerate(zip(pad[::2], pad[1::2], strict=True)):
        x = _pad_axis(e, x, x.type.rank - 1 - i, low, high, mode)
    return x


@lowers(aten.reflection_pad1d.default, aten.reflection_pad2d.default, aten.reflection_pad3d.default)
def reflection_pad(e: Emitter, x: Value, padding: Sequence[int]) -> Value:
    return pad(e, x, padding, "reflect")


@lowers(aten.replication_pad1d.default, aten.replication_pad2d.default, aten.replication_pad3d.default)
def replication_pad(e: Emitter, x: Value, padding: Sequence[int]) -> Value:
    return pad(e, x, padding, "replicate")


def _pad_axis(e: Emitter, x: Value, axis: int, low: int, high: int, mode: str) -> Value:
    """Pads one axis by elements of the tensor itself; a negative number crops."""
    n = x.type.shape[axis]
    first, last = max(-low, 0), n - max(-high, 0)  # what is left of the tensor
    if not n or (last <= first and mode != "replicate"):
        e.unsupported(f"padding of nothing in mode '{mode}'")
    parts = [e.slice_axis(x, axis, first, last - first)] if last > first else []
    if mode == "replicate":
        before, after = (_repeated(e, x, axis, *edge) for edge in ((0, low), (n - 1, high)))
    elif mode == "circular":
        before = [e.slice_axis(x, axis, last - low, low)] if low > 0 else []
        after = [e.slice_axis(x, axis, first, high)] if high > 0 else []
    else:  # reflect, without repeating the edge
        before = _reversed(e, x, axis, first + 1, low)
        after = _reversed(e, x, axis, last - 1 - high, high)
    parts = [*before, *parts, *after]
    size = n + low + high
    return e.slice_axis(e.concat(parts, axis), axis, 0, size)


def _repeated(e: Emitter, x: Value, axis: int, at: int, count: int) -> list[Value]:
    shape = x.type.shape
    edge = e.slice_axis(x, axis, at, 1)
    return [e.expand(edge, (*shape[:axis], count, *shape[axis + 1 :]))] if count > 0 else []


def _reversed(e: Emitter, x: Value, axis: int, start: int, count: int) -> list[Value]:
    """`count` elements from `start`, the last one first."""
    if count <= FEW:
        return [e.slice_axis(x, axis, i, 1) for i in range(start + count - 1, start - 1, -1)]
    return [e.gather(x, e.iota(count, start=start + count - 1, step=-1), axis)]
