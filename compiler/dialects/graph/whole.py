"""Ops that no tiling cuts: an engine with caches reads their operands in place and writes the result in memory.

To add one: a class here with `shapes`, its kernel in the interpreter, and the frontend's lowering. `work` prices it.
"""

from __future__ import annotations

from typing import ClassVar

from tilewright.compiler.ir import attribute, operand, result

from .base import GraphOp, Shape


class WholeOp(GraphOp):
    """Base of ops over whole tensors, with one result. `work` holds (rate class, passes) for each element of the larger
    of the first operand and the result."""

    __slots__ = ()
    work: ClassVar[tuple[tuple[str, int], ...]] = (("move", 1),)


class SearchSorted(WholeOp, name="graph.search_sorted"):
    """How many elements of a row of `sorted[*rows, n]` come before each element of `values[*rows, m]`.

    With `right`, elements equal to the value come before it too. One row of `sorted` alone, [n], serves all values.

    `%y = graph.search_sorted %s, %v {right = false, to = "i64"} : tensor<4x3xi64>`
    with `%s: tensor<4x8xf32>, %v: tensor<4x3xf32>`
    """

    __slots__ = ()
    work = (("compare", 16), ("move", 16))  # a binary search
    sorted = operand()
    values = operand()
    y = result()
    right = attribute(bool, False)
    to = attribute(str, "i64")

    def shapes(self) -> list[tuple[Shape, str]]:
        s, v = self.shape(0), self.shape(1)
        if len(s) != 1 and s[:-1] != v[:-1]:
            raise ValueError(f"rows of {s} do not fit values {v}")
        return [(v, self.to)]


class ScatterReduce(WholeOp, name="graph.scatter_reduce"):
    """`base` with rows along `axis` combined with those of `value` by sum, prod, max, min or mean.

    Row `indices[j]` takes row j of `value`; several may meet. Without `include_self`, a row of `base` that any meets
    does not count itself; a mean divides by how many count.

    `%y = graph.scatter_reduce %base, %i, %value {axis = 0, kind = "sum"} : tensor<16x8xf16>`
    with `%base: tensor<16x8xf16>, %i: tensor<3xi64>, %value: tensor<3x8xf16>`
    """

    __slots__ = ()
    work = (("move", 2), ("add", 1))
    KINDS: ClassVar[tuple[str, ...]] = ("sum", "prod", "max", "min", "mean")
    base = operand()
    indices = operand()
    value = operand()
    y = result()
    axis = attribute(int)
    kind = attribute(str)
    include_self = attribute(bool, True)

    def shapes(self) -> list[tuple[Shape, str]]:
        if self.kind not in self.KINDS:
            raise ValueError(f"knows the kinds {', '.join(self.KINDS)}, not '{self.kind}'")
        expected = tuple(self.shape(1)[0] if i == self.axis else n for i, n in enumerate(self.shape(0)))
        if self.shape(2) != expected:
            raise ValueError(f"value is {self.shape(2)}, expected {expected}")
        return [(self.shape(0), self.dtype())]


class Linalg(WholeOp, name="graph.linalg"):
    """One result of a matrix factorisation or solution, for each matrix of a batch; `kind` names both.

    `of` is the shape of the result and `to` its dtype. The kinds are those of the interpreter's table: `cholesky`,
    `inv`, `det`, `solve` (a, b), `qr.q`, `svd.s`, ... `upper`, `unit`, `full` and the like stand in `flags`.

    `%y = graph.linalg %a {kind = "cholesky", of = [4, 4], to = "f32"} : tensor<4x4xf32>`
    with `%a: tensor<4x4xf32>`
    """

    __slots__ = ()
    matrices = operand(variadic=True)
    y = result()
    kind = attribute(str)
    of = attribute(tuple)
    to = attribute(str)
    flags = attribute(tuple, ())

    def shapes(self) -> list[tuple[Shape, str]]:
        return [(self.of, self.to)]
