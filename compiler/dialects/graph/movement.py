"""Views, and ops that move elements without computing."""

from __future__ import annotations

import math

from tilewright.compiler.ir import attribute, operand, result

from ..access import Access, Axis, identity, whole
from ..elementwise import broadcast
from .base import Dim, GraphOp, Shape, Structure, dim_names


class Reshape(GraphOp, name="graph.reshape"):
    """The same elements in row-major order under another shape.

    `%y = graph.reshape %x {to = [2, 16]} : tensor<2x16xf16>`
    with `%x: tensor<4x8xf16>`
    """

    __slots__ = ()
    view = True
    takes_sparse = True
    x = operand()
    y = result()
    to = attribute(tuple)

    def shapes(self) -> list[tuple[Shape, str]]:
        if math.prod(self.to) != math.prod(self.shape(0)):
            raise ValueError(f"cannot reshape {self.shape(0)} to {self.to}")
        return [(self.to, self.dtype())]


class Transpose(GraphOp, name="graph.transpose"):
    """Axis i of the result is axis permutation[i] of x.

    `%y = graph.transpose %x {permutation = [1, 0]} : tensor<8x4xf16>`
    with `%x: tensor<4x8xf16>`
    """

    __slots__ = ()
    view = True
    takes_sparse = True
    x = operand()
    y = result()
    permutation = attribute(tuple)

    def shapes(self) -> list[tuple[Shape, str]]:
        if sorted(self.permutation) != list(range(len(self.shape(0)))):
            raise ValueError(f"{self.permutation} is no permutation of {len(self.shape(0))} axes")
        return [(tuple(self.shape(0)[a] for a in self.permutation), self.dtype())]


class Slice(GraphOp, name="graph.slice"):
    """`size` elements of each axis, from `start`, every `step`.

    `%y = graph.slice %x {starts = [0, 2], sizes = [4, 3], steps = [1, 2]} : tensor<4x3xf16>`
    with `%x: tensor<4x8xf16>`
    """

    __slots__ = ()
    view = True
    x = operand()
    y = result()
    starts = attribute(tuple)
    sizes = attribute(tuple)
    steps = attribute(tuple)

    def shapes(self) -> list[tuple[Shape, str]]:
        for n, start, size, step in zip(self.shape(0), self.starts, self.sizes, self.steps, strict=True):
            if start < 0 or step < 1 or (size and start + (size - 1) * step >= n):
                raise ValueError(f"start {start}, size {size}, step {step} leaves an axis of {n}")
        return [(self.sizes, self.dtype())]


class Expand(GraphOp, name="graph.expand"):
    """Repeats axes of size 1, and adds leading axes, to reach the shape `to`.

    `%y = graph.expand %x {to = [4, 8]} : tensor<4x8xf16>`
    with `%x: tensor<1x8xf16>`
    """

    __slots__ = ()
    view = True
    x = operand()
    y = result()
    to = attribute(tuple)

    def shapes(self) -> list[tuple[Shape, str]]:
        if broadcast(self.shape(0), self.to) != self.to:
            raise ValueError(f"cannot expand {self.shape(0)} to {self.to}")
        return [(self.to, self.dtype())]


class Concat(GraphOp, name="graph.concat"):
    """Joins tensors along one axis.

    `%y = graph.concat %a, %b {axis = 0} : tensor<8x8xf16>`
    with `%a: tensor<4x8xf16>, %b: tensor<4x8xf16>`
    """

    __slots__ = ()
    parts = operand(variadic=True)
    y = result()
    axis = attribute(int)

    def shapes(self) -> list[tuple[Shape, str]]:
        first = list(self.shape(0))
        first[self.axis] = sum(v.type.shape[self.axis] for v in self.operands)
        for v in self.operands:
            rest = [n for i, n in enumerate(v.type.shape) if i != self.axis]
            if rest != [n for i, n in enumerate(first) if i != self.axis] or v.type.dtype != self.dtype():
                raise ValueError(f"cannot join {[str(o.type) for o in self.operands]} along axis {self.axis}")
        return [(tuple(first), self.dtype())]


class Copy(GraphOp, name="graph.copy"):
    """The same tensor, dense in its type's layout: what a view needs where no strides can express it.

    `%y = graph.copy %x : tensor<4x8xf16>`
    with `%x: tensor<4x8xf16>`
    """

    __slots__ = ()
    x = operand()
    y = result()

    def shapes(self) -> list[tuple[Shape, str]]:
        return [(self.shape(0), self.dtype())]

    def structure(self) -> Structure:
        names = dim_names(len(self.shape(0)))
        dims = tuple(Dim(n, s) for n, s in zip(names, self.shape(0), strict=True))
        return Structure(dims, (identity(names),), (identity(names),))


class Pad(GraphOp, name="graph.pad"):
    """Adds `padding` (low, high for each axis, flattened) elements of `value`; negative padding crops.

    `%y = graph.pad %x {padding = [0, 0, 1, 1], value = 0.0} : tensor<4x10xf16>`
    with `%x: tensor<4x8xf16>`
    """

    __slots__ = ()
    x = operand()
    y = result()
    padding = attribute(tuple)
    value = attribute(float, 0.0)

    def shapes(self) -> list[tuple[Shape, str]]:
        p = self.padding
        return [(tuple(n + p[2 * i] + p[2 * i + 1] for i, n in enumerate(self.shape(0))), self.dtype())]

    def structure(self) -> Structure:
        out = self.result.type.shape
        names = dim_names(len(out))
        axes = tuple(Axis(((n, 1),), -self.padding[2 * i]) for i, n in enumerate(names))
        dims = tuple(Dim(n, s) for n, s in zip(names, out, strict=True))
        return Structure(dims, (Access(axes),), (identity(names),), (self.value,))


class Gather(GraphOp, name="graph.gather"):
    """Rows by index: the axis `axis` of x is replaced by the axes of `indices` (an embedding, index_select).

    `%y = graph.gather %x, %i {axis = 0} : tensor<3x8xf16>`
    with `%x: tensor<16x8xf16>, %i: tensor<3xi64>`
    """

    __slots__ = ()
    x = operand()
    indices = operand()
    y = result()
    axis = attribute(int, 0)

    def shapes(self) -> list[tuple[Shape, str]]:
        x, i = self.shape(0), self.shape(1)
        return [((*x[: self.axis], *i, *x[self.axis + 1 :]), self.dtype())]

    def structure(self) -> Structure:
        out = self.result.type.shape
        names = dim_names(len(out))
        rank = len(self.shape(1))
        dims = tuple(Dim(n, s) for n, s in zip(names, out, strict=True))
        index = names[self.axis : self.axis + rank]
        return Structure(dims, (whole(self.shape(0)), identity(index)), (identity(names),))


class Update(GraphOp, name="graph.update"):
    """`base` with the block at `starts` (every `steps`) replaced by `value`.

    `%y = graph.update %base, %value {starts = [0, 2], steps = [1, 1]} : tensor<4x8xf16>`
    with `%base: tensor<4x8xf16>, %value: tensor<4x3xf16>`
    """

    __slots__ = ()
    base = operand()
    value = operand()
    y = result()
    starts = attribute(tuple)
    steps = attribute(tuple)

    def shapes(self) -> list[tuple[Shape, str]]:
        for n, s, start, step in zip(self.shape(0), self.shape(1), self.starts, self.steps, strict=True):
            if start < 0 or (s and start + (s - 1) * step >= n):
                raise ValueError(f"the block {self.shape(1)} at {self.starts} leaves {self.shape(0)}")
        return [(self.shape(0), self.dtype())]


class Scatter(GraphOp, name="graph.scatter"):
    """`base` with rows along `axis` replaced: `y[.., indices[j], ..] = value[.., j, ..]`; indices is a vector.

    `%y = graph.scatter %base, %i, %value {axis = 0} : tensor<16x8xf16>`
    with `%base: tensor<16x8xf16>, %i: tensor<3xi64>, %value: tensor<3x8xf16>`
    """

    __slots__ = ()
    base = operand()
    indices = operand()
    value = operand()
    y = result()
    axis = attribute(int)

    def shapes(self) -> list[tuple[Shape, str]]:
        expected = tuple(self.shape(1)[0] if i == self.axis else n for i, n in enumerate(self.shape(0)))
        if self.shape(2) != expected:
            raise ValueError(f"value is {self.shape(2)}, expected {expected}")
        return [(self.shape(0), self.dtype())]
