"""Views as strides: what a chain of view ops makes of the storage behind a tensor."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Operation, TensorType, contiguous_strides

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Strided:
    """Shape, strides and offset, in elements of some storage."""

    shape: Shape
    strides: Shape
    offset: int = 0

    @classmethod
    def of(cls, type: TensorType, order: tuple[int, ...] | None = None) -> Strided:
        """The whole of a dense tensor, in its layout or in `order`."""
        return cls(type.shape, contiguous_strides(type.shape, order or type.order))

    def through(self, op: Operation) -> Strided | None:
        """What the view op makes of this; None where its result would need a copy."""
        if isinstance(op, graph.Transpose):
            return Strided(
                tuple(self.shape[a] for a in op.permutation),
                tuple(self.strides[a] for a in op.permutation),
                self.offset,
            )
        if isinstance(op, graph.Slice):
            offset = self.offset + sum(s * t for s, t in zip(op.starts, self.strides, strict=True))
            return Strided(op.sizes, tuple(t * s for t, s in zip(self.strides, op.steps, strict=True)), offset)
        if isinstance(op, graph.Expand):
            skip = len(op.to) - len(self.shape)
            kept = tuple(t if n == to else 0 for n, t, to in zip(self.shape, self.strides, op.to[skip:], strict=True))
            return Strided(op.to, (0,) * skip + kept, self.offset)
        assert isinstance(op, graph.Reshape), op.name
        strides = reshaped(self.shape, self.strides, op.to)
        return None if strides is None else Strided(op.to, strides, self.offset)

    def is_dense(self, type: TensorType) -> bool:
        """Whether this is exactly the dense tensor `type`."""
        return self == Strided.of(type)

    def packed_axis(self) -> bool:
        """Whether the innermost axis of more than one element is contiguous."""
        last = [t for n, t in zip(self.shape, self.strides, strict=True) if n > 1]
        return not last or last[-1] == 1


def reshaped(shape: Shape, strides: Shape, to: Shape) -> Shape | None:
    """Strides of the same elements, in row-major order, under the shape `to`; None where no strides can say it."""
    if math.prod(to) == 0:
        return contiguous_strides(to)
    runs: list[tuple[int, int]] = []  # (elements, stride of the last), slowest first
    for n, t in zip(shape, strides, strict=True):
        if n == 1:
            continue
        if runs and runs[-1][1] == n * t:
            runs[-1] = (runs[-1][0] * n, t)
        else:
            runs.append((n, t))
    out = [0] * len(to)
    axis = len(to) - 1
    for elements, stride in reversed(runs):
        left = elements
        while left > 1:
            while axis >= 0 and to[axis] == 1:
                axis -= 1
            if axis < 0 or left % to[axis]:
                return None
            out[axis] = stride
            stride *= to[axis]
            left //= to[axis]
            axis -= 1
    step = 1
    for i in reversed(range(len(to))):  # an axis of one element may have any stride: take the dense one
        if to[i] == 1:
            out[i] = step
        else:
            step = out[i] * to[i]
    return tuple(out)
