"""Products: matmul, convolution, attention."""

from __future__ import annotations

import math

from tilewright.compiler.ir import DTYPE_BITS, attribute, is_float, is_integer, operand, result

from ..access import Access, Axis, identity, whole
from ..elementwise import broadcast
from .base import RED, Dim, GraphOp, Shape, Structure, broadcast_access, window_axes, window_sizes


def accumulate_dtype(dtype: str, to: str | None = None) -> str:
    """What sums of products of `dtype` are kept in: f32 for smaller floats; `to` or else i32 for smaller integers."""
    if is_float(dtype):
        return "f32" if DTYPE_BITS[dtype] < 32 else dtype
    return to or ("i32" if DTYPE_BITS[dtype] < 32 else dtype)


def _product_dtype(a: str, b: str, to: str | None) -> str:
    """The result's dtype. Raises ValueError for operands that do not go together."""
    if to is not None:
        if not (is_integer(a) and is_integer(b) and is_integer(to) and DTYPE_BITS[to] >= 32):
            raise ValueError(f"sums integers into i32 or i64, not {a} times {b} into {to}")
        return to
    if a != b:
        raise ValueError(f"operands are {a} and {b}")
    return a


class Matmul(GraphOp, name="graph.matmul"):
    """`y[..., m, n] = sum_k a[..., m, k] * b[..., k, n]`; batch axes broadcast; accumulates in f32, integers in i32.

    With `transpose_b`, b is [..., n, k], as a linear layer stores its weight. `bias` is broadcast over y. The result
    has the operands' dtype. With `to`, i32 or i64, operands are integers, of any dtypes, and so is the result: the sums
    as they are, to which the bias (of that dtype too) is added.

    `%y = graph.matmul %a, %b {transpose_b = true} : tensor<4x8xf16>`
    with `%a: tensor<4x16xf16>, %b: tensor<8x16xf16>`
    """

    __slots__ = ()
    a = operand()
    b = operand()
    bias = operand(optional=True)
    y = result()
    transpose_b = attribute(bool, False)
    to = attribute(str, None)

    def shapes(self) -> list[tuple[Shape, str]]:
        a, b = self.shape(0), self.shape(1)
        if len(a) < 2 or len(b) < 2:
            raise ValueError(f"takes matrices, not shapes {a} and {b}")
        k, n = (b[-1], b[-2]) if self.transpose_b else (b[-2], b[-1])
        if a[-1] != k:
            raise ValueError(f"inner sizes differ: {a[-1]} and {k}")
        dtype = _product_dtype(self.dtype(0), self.dtype(1), self.to)
        return [((*broadcast(a[:-2], b[:-2]), a[-2], n), dtype)]

    def structure(self) -> Structure:
        out = self.result.type.shape
        names = (*(f"b{i}" for i in range(len(out) - 2)), "m", "n")
        dims = (*(Dim(n, s) for n, s in zip(names, out, strict=True)), Dim("k", self.shape(0)[-1], RED))
        batch = names[:-2]
        last = ("n", "k") if self.transpose_b else ("k", "n")

        def access(shape: Shape, tail: tuple[str, str]) -> Access:
            head = broadcast_access(shape[:-2], out[:-2], batch)
            return Access((*head.axes, *identity(tail).axes))

        operands = [access(self.shape(0), ("m", "k")), access(self.shape(1), last)]
        if self.bias is not None:
            operands.append(broadcast_access(self.shape(2), out, names))
        return Structure(dims, tuple(operands), (identity(names),))

    def macs(self) -> int:
        return self.result.type.elements * self.shape(0)[-1]


class Conv(GraphOp, name="graph.conv"):
    """Convolution over 1 to 3 spatial axes: x[b, c, *space], w[o, c / groups, *kernel], bias[o]; accumulates in f32.

    `padding` holds (low, high) for each spatial axis, flattened. Integers accumulate in i32, and `to` is as in
    graph.matmul. Padding reads `pad_value`, the zero point of a quantised x.

    `%y = graph.conv %x, %w {strides = [2, 2], padding = [1, 1, 1, 1]} : tensor<1x8x4x4xf16>`
    with `%x: tensor<1x4x8x8xf16>, %w: tensor<8x4x3x3xf16>`
    """

    __slots__ = ()
    x = operand()
    w = operand()
    bias = operand(optional=True)
    y = result()
    strides = attribute(tuple)
    padding = attribute(tuple)
    dilations = attribute(tuple, None)
    groups = attribute(int, 1)
    pad_value = attribute(float, 0.0)
    to = attribute(str, None)

    @property
    def dilation(self) -> tuple[int, ...]:
        return self.dilations or (1,) * len(self.strides)

    def shapes(self) -> list[tuple[Shape, str]]:
        x, w = self.shape(0), self.shape(1)
        rank = len(x) - 2
        if len(w) != len(x) or len(self.strides) != rank or len(self.padding) != 2 * rank:
            raise ValueError(f"x {x}, w {w}, strides {self.strides} and padding {self.padding} do not fit together")
        if x[1] != w[1] * self.groups or w[0] % self.groups:
            raise ValueError(f"{x[1]} channels in {self.groups} groups do not fit the weight {w}")
        space = window_sizes(x[2:], w[2:], self.strides, self.padding, self.dilation)
        return [((x[0], w[0], *space), _product_dtype(self.dtype(0), self.dtype(1), self.to))]

    def structure(self) -> Structure:
        x, w, y = self.shape(0), self.shape(1), self.result.type.shape
        space = tuple(f"s{i}" for i in range(len(x) - 2))
        windows = window_axes(space, w[2:], self.strides, self.padding, self.dilation)
        kernel = whole(w[2:]).axes
        outer = w[0] // self.groups
        red = Dim("c", w[1], RED)
        o, c = Axis((("o", 1),)), Axis((("c", 1),))
        dims: tuple[Dim, ...] = (Dim("b", x[0]), Dim("o", outer))
        o_axis, c_axis = o, c
        if self.groups > 1:
            dims = (Dim("b", x[0]), Dim("g", self.groups), Dim("o", outer))
            o_axis = Axis((("g", outer), ("o", 1))) if outer > 1 else Axis((("g", 1),))
            c_axis = Axis((("g", w[1]), ("c", 1))) if w[1] > 1 else Axis((("g", 1),))
            dims = tuple(d for d in dims if d.name != "o" or outer > 1)
            red = Dim("c", w[1], RED)
        b = Axis((("b", 1),))
        dims = (*dims, *(Dim(n, s) for n, s in zip(space, y[2:], strict=True)), red)
        operands = [
            Access((b, c_axis, *windows)),
            Access((o_axis, c, *kernel)),
        ]
        if self.bias is not None:
            operands.append(Access((o_axis,)))
        out = Access((b, o_axis, *identity(space).axes))
        return Structure(dims, tuple(operands), (out,), (self.pad_value, None, None)[: len(operands)])

    def macs(self) -> int:
        return self.result.type.elements * math.prod(self.shape(1)[1:])


class Attention(GraphOp, name="graph.attention"):
    """Scaled dot-product attention: `softmax(q k^T * scale + mask) v` over q[*B, m, d], k[*B, n, d], v[*B, n, e].

    Batch axes broadcast, so grouped queries are q[b, kv, g, m, d] with k[b, kv, 1, n, d]. `mask` is added and
    broadcasts to [*B, m, n]. With `causal`, position (i, j) counts only where j <= i (torch's is_causal: aligned at
    the top left).

    `%y = graph.attention %q, %k, %v {scale = 0.125, causal = true} : tensor<1x2x16x8xf16>`
    with `%q: tensor<1x2x16x8xf16>, %k: tensor<1x2x16x8xf16>, %v: tensor<1x2x16x8xf16>`
    """

    __slots__ = ()
    q = operand()
    k = operand()
    v = operand()
    mask = operand(optional=True)
    y = result()
    scale = attribute(float)
    causal = attribute(bool, False)

    def shapes(self) -> list[tuple[Shape, str]]:
        q, k, v = self.shape(0), self.shape(1), self.shape(2)
        if q[-1] != k[-1] or k[-2] != v[-2]:
            raise ValueError(f"q {q}, k {k} and v {v} do not fit together")
        return [((*broadcast(q[:-2], k[:-2], v[:-2]), q[-2], v[-1]), self.dtype())]

    def structure(self) -> Structure:
        out = self.result.type.shape
        batch = tuple(f"b{i}" for i in range(len(out) - 2))
        dims = (
            *(Dim(b, s) for b, s in zip(batch, out, strict=False)),
            Dim("m", out[-2]),
            Dim("n", self.shape(1)[-2], RED),
        )

        def access(shape: Shape, row: str) -> Access:
            head = broadcast_access(shape[:-2], out[:-2], batch)
            return Access((*head.axes, Axis(((row, 1),)), Axis(extent=shape[-1])))

        operands = [access(self.shape(0), "m"), access(self.shape(1), "n"), access(self.shape(2), "n")]
        if self.mask is not None:
            full = (*out[:-1], self.shape(1)[-2])
            operands.append(broadcast_access(self.shape(3), full, (*batch, "m", "n")))
        return Structure(dims, tuple(operands), (access(out, "m"),))

    def macs(self) -> int:
        rows = math.prod(self.result.type.shape[:-1])
        return rows * self.shape(1)[-2] * (self.shape(0)[-1] + self.shape(2)[-1])
