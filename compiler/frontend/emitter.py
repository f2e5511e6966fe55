"""Appends graph ops under the location of the FX node at hand. Every lowering gets one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NoReturn

from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import UNKNOWN, Block, Location, Operation, TensorType, Value, is_float

from .dtypes import result_type
from .errors import Unsupported

Number = bool | int | float
Shape = tuple[int, ...]


class Emitter:
    """Helpers leave out ops that would do nothing: a cast to the same dtype, a reshape to the same shape."""

    def __init__(self, block: Block, parameters: dict[str, Any] | None = None):
        self.block = block
        self.parameters: dict[str, Any] = {} if parameters is None else parameters  # of the module, by key
        self.location: Location = UNKNOWN
        self.expected: Any = None  # torch's fake result of the node: a tensor, or a list of them
        self.first: Any = None  # torch's fake value of the node's first argument, where that is a tensor

    def add(self, op: Operation) -> Value:
        op.location = self.location
        return self.block.append(op).results[0]

    def unsupported(self, why: str) -> NoReturn:
        """Ends the lowering: this form of the op cannot be compiled."""
        raise Unsupported(why)

    # ------------------------------------------------------------ sources

    def constant(self, value: Number, dtype: str, shape: Sequence[int] = ()) -> Value:
        """A splat of `value` as `dtype` holds it."""
        converted: Number = float(value) if is_float(dtype) else bool(value) if dtype == "i1" else int(value)
        return self.add(graph.Constant(value=converted, result_types=[TensorType(tuple(shape), dtype)]))

    def table(self, values: Sequence[Number], dtype: str, shape: Sequence[int]) -> Value:
        """A small dense tensor, row-major."""
        return self.add(graph.Constant(value=tuple(values), result_types=[TensorType(tuple(shape), dtype)]))

    def iota(self, count: int, dtype: str = "i64", start: float = 0, step: float = 1) -> Value:
        return self.add(graph.Iota(start=start, step=step, result_types=[TensorType((count,), dtype)]))

    def index_along(self, shape: Shape, axis: int, dtype: str = "i64") -> Value:
        """Each element's index along `axis`; the other axes have size 1, to be broadcast."""
        return self.reshape(self.iota(shape[axis], dtype), tuple(n if i == axis else 1 for i, n in enumerate(shape)))

    # ------------------------------------------------------------ elementwise

    def cast(self, x: Value, dtype: str) -> Value:
        if x.type.dtype == dtype:
            return x
        if dtype == "i1":
            return self.apply("ne", x, 0)
        if isinstance(x.op, graph.Dequantize) and is_float(dtype):  # rounded once, to the dtype that is read
            return self.add(graph.Dequantize(*x.op.operands, block=x.op.block, to=dtype))
        return self.add(graph.Cast(x, to=dtype))

    def value(self, x: Value | Number, dtype: str) -> Value:
        """An operand of an elementwise op: a tensor cast to `dtype`, or a number as a scalar of it."""
        return self.cast(x, dtype) if isinstance(x, Value) else self.constant(x, dtype)

    def apply(self, name: str, *operands: Value | Number, dtype: str | None = None) -> Value:
        """One scalar function over broadcast operands, computed in `dtype` or in the one torch promotes to."""
        dtype = dtype or result_type(*operands)
        return self.add(graph.ELEMENTWISE[name](*(self.value(x, dtype) for x in operands)))

    def where(self, condition: Value, a: Value | Number, b: Value | Number, dtype: str | None = None) -> Value:
        dtype = dtype or result_type(a, b)
        return self.add(graph.Where(self.cast(condition, "i1"), self.value(a, dtype), self.value(b, dtype)))

    # ------------------------------------------------------------ movement

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        shape = tuple(shape)
        return x if x.type.shape == shape else self.add(graph.Reshape(x, to=shape))

    def transpose(self, x: Value, permutation: Sequence[int]) -> Value:
        permutation = tuple(permutation)
        return (
            x
            if permutation == tuple(range(len(permutation)))
            else self.add(graph.Transpose(x, permutation=permutation))
        )

    def expand(self, x: Value, shape: Sequence[int]) -> Value:
        shape = tuple(shape)
        return x if x.type.shape == shape else self.add(graph.Expand(x, to=shape))

    def slice(self, x: Value, starts: Sequence[int], sizes: Sequence[int], steps: Sequence[int] | None = None) -> Value:
        sizes = tuple(sizes)
        if x.type.shape == sizes:
            return x
        return self.add(graph.Slice(x, starts=tuple(starts), sizes=sizes, steps=tuple(steps or (1,) * len(sizes))))

    def slice_axis(self, x: Value, axis: int, start: int, size: int, step: int = 1) -> Value:
        shape = x.type.shape
        starts = [start if i == axis else 0 for i in range(len(shape))]
        sizes = [size if i == axis else n for i, n in enumerate(shape)]
        return self.slice(x, starts, sizes, [step if i == axis else 1 for i in range(len(shape))])

    def concat(self, parts: Sequence[Value], axis: int) -> Value:
        return parts[0] if len(parts) == 1 else self.add(graph.Concat(*parts, axis=axis))

    def pad(self, x: Value, padding: Sequence[int], value: float = 0.0) -> Value:
        return self.add(graph.Pad(x, padding=tuple(padding), value=value)) if any(padding) else x

    def swap_last(self, x: Value) -> Value:
        """A matrix transposed: the last two axes change places."""
        rank = len(x.type.shape)
        return self.transpose(x, (*range(rank - 2), rank - 1, rank - 2))

    def gather(self, x: Value, indices: Value, axis: int = 0) -> Value:
        """Rows of x along `axis`; an index below zero counts from the end."""
        return self.add(graph.Gather(x, indices, axis=axis))

    # ------------------------------------------------------------ reductions

    def reduce(self, kind: str, x: Value, axes: Sequence[int], keepdims: bool = False) -> Value:
        """Over `axes`; over none is the tensor itself."""
        return self.add(graph.Reduce(x, kind=kind, axes=tuple(sorted(axes)), keepdims=keepdims)) if axes else x


def axis_of(axis: int, rank: int) -> int:
    """A non-negative axis; rank 0 counts as 1, as in torch."""
    return axis % max(rank, 1)


def axes_of(axes: int | Sequence[int] | None, rank: int) -> tuple[int, ...]:
    """Non-negative axes in order; None or none given is all of them."""
    if axes is None or (not isinstance(axes, int) and not axes):
        return tuple(range(rank))
    listed = [axes] if isinstance(axes, int) else axes
    return tuple(sorted(axis_of(a, rank) for a in listed)) if rank else ()


def pair(values: int | Sequence[int], rank: int) -> Shape:
    """One number for each of `rank` spatial axes; torch lets a single one stand for all."""
    listed = (values,) if isinstance(values, int) else tuple(values)
    return listed * rank if len(listed) == 1 else listed


def both_sides(padding: Sequence[int]) -> Shape:
    """(low, high) for each axis, flattened."""
    return tuple(p for n in padding for p in (n, n))


def product(values: Sequence[int]) -> int:
    return math.prod(values)
