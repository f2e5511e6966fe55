"""Arithmetic on complex tensors, by their real and imaginary parts."""

from __future__ import annotations

import cmath
from collections.abc import Callable, Sequence
from typing import Any

import torch
from tilewright.compiler.ir import Value

from ..complex_tensors import Parts
from ..dtypes import COMPLEX_PARTS, ir_dtype
from ..emitter import Emitter, Number
from . import contraction, movement, padding
from .registry import BY_PARTS, aten, lowers_complex, overloads

Part = Value | Number
Operand = Parts | Value | Number | complex
Product = Callable[[Value, Value], Value]

_SAME_FOR_EACH_PART = (
    # views
    aten.view, aten.reshape, aten._unsafe_view, aten.flatten, aten.unflatten, aten.squeeze, aten.unsqueeze,
    aten.view_as, aten.reshape_as, aten.permute, aten.transpose, aten.swapaxes, aten.swapdims, aten.t, aten.numpy_T,
    aten.mT, aten.movedim, aten.expand, aten.expand_as, aten.broadcast_to, aten.slice, aten.narrow, aten.select,
    aten.as_strided, aten.diagonal, aten.linalg_diagonal, aten.unfold, aten.unbind, aten.split, aten.chunk,
    aten.split_with_sizes, aten.tensor_split, aten.alias, aten.detach,
    # moves
    aten.clone, aten.contiguous, aten.lift_fresh_copy, aten.lift, aten.resolve_conj, aten.resolve_neg, aten.positive,
    aten.dropout, aten.repeat, aten.tile, aten.repeat_interleave, aten.roll, aten.flip, aten.tril, aten.triu,
    aten.diag, aten.diag_embed, aten.index, aten.index_select, aten.gather, aten.take, aten.index_put, aten.index_copy,
    aten.slice_scatter, aten.select_scatter, aten.diff, aten.trace, aten.constant_pad_nd, aten.zero,
    # sums
    aten.neg, aten.sum, aten.mean, aten.cumsum,
)  # fmt: skip
BY_PARTS.update(o for packet in _SAME_FOR_EACH_PART for o in overloads(packet))


def parts(x: Operand) -> Parts:
    """Of a real operand the imaginary part is 0."""
    if isinstance(x, Parts):
        return x
    if isinstance(x, complex):
        return Parts(x.real, x.imag)
    return Parts(x, 0)


def part_dtype(e: Emitter) -> str:
    """The dtype of the parts of the result, or of the result if that is real."""
    dtype: torch.dtype = e.expected.dtype
    return ir_dtype(COMPLEX_PARTS.get(dtype, dtype))


def filled(e: Emitter, x: Operand) -> Parts:
    """Both parts in the shape and dtype of torch's own result."""
    p, dtype, shape = parts(x), part_dtype(e), tuple(e.expected.shape)
    return Parts(*(e.expand(e.value(v, dtype), shape) for v in (p.re, p.im)))


# ---------------------------------------------------------------- parts, of which numbers cost nothing


def _plus(e: Emitter, a: Part, b: Part) -> Part:
    if not isinstance(a, Value) and not isinstance(b, Value):
        return a + b
    if not isinstance(a, Value) and a == 0:
        return b
    if not isinstance(b, Value) and b == 0:
        return a
    return e.apply("add", a, b)


def _minus(e: Emitter, a: Part, b: Part) -> Part:
    if not isinstance(b, Value):
        return _plus(e, a, -b)
    return e.apply("neg", b) if not isinstance(a, Value) and a == 0 else e.apply("sub", a, b)


def _times(e: Emitter, a: Part, b: Part) -> Part:
    if not isinstance(a, Value) and not isinstance(b, Value):
        return a * b
    for number, other in ((a, b), (b, a)):
        if not isinstance(number, Value) and number in (0, 1):
            return other if number else 0
    return e.apply("mul", a, b)


def _product(e: Emitter, a: Parts, b: Parts, times: Callable[[Part, Part], Part]) -> Parts:
    """(a + bi)(c + di) = (ac - bd) + (ad + bc)i"""
    re = _minus(e, times(a.re, b.re), times(a.im, b.im))
    return Parts(re, _plus(e, times(a.re, b.im), times(a.im, b.re)))


def multiply(e: Emitter, a: Parts, b: Parts) -> Parts:
    return _product(e, a, b, lambda x, y: _times(e, x, y))


def _squared(e: Emitter, z: Parts) -> Part:
    return _plus(e, _times(e, z.re, z.re), _times(e, z.im, z.im))


def _real(e: Emitter, x: Part) -> Value:
    return e.value(x, part_dtype(e))


# ---------------------------------------------------------------- between real and complex


@lowers_complex(aten.complex.default)
def complex_(e: Emitter, re: Value, im: Value) -> Parts:
    return filled(e, Parts(re, im))


@lowers_complex(aten.polar.default)
def polar(e: Emitter, size: Value, angle: Value) -> Parts:
    return filled(e, Parts(*(e.apply("mul", size, e.apply(f, angle)) for f in ("cos", "sin"))))


@lowers_complex(aten.abs.default)
def absolute(e: Emitter, z: Parts) -> Value:
    return e.apply("sqrt", _real(e, _squared(e, z)))


@lowers_complex(aten.angle.default)
def angle(e: Emitter, z: Parts) -> Value:
    return e.apply("atan2", z.im, z.re)


@lowers_complex(aten.conj_physical.default, aten._conj_physical.default)
def conjugate(e: Emitter, z: Parts) -> Parts:
    return filled(e, Parts(z.re, _minus(e, 0, z.im)))


@lowers_complex(aten.to, aten._to_copy, aten.type_as)
def convert(e: Emitter, x: Operand, *_: Any, **__: Any) -> Parts | Value:
    """To a complex dtype the imaginary part becomes 0; to a real one it is dropped, as torch does."""
    y = filled(e, x)
    return y if e.expected.dtype in COMPLEX_PARTS else _real(e, y.re)


@lowers_complex(aten.copy.default)
def copy(e: Emitter, x: Parts, source: Operand, non_blocking: bool = False) -> Parts:
    return filled(e, source)


@lowers_complex(aten.fill.Scalar, aten.fill.Tensor)
def fill(e: Emitter, x: Parts, value: Operand) -> Parts:
    return filled(e, value)


@lowers_complex(aten.zeros, aten.zeros_like, aten.new_zeros, aten.empty, aten.empty_like, aten.new_empty)
def zeros(e: Emitter, *_: Any, **__: Any) -> Parts:
    return filled(e, 0)


@lowers_complex(aten.ones, aten.ones_like, aten.new_ones)
def ones(e: Emitter, *_: Any, **__: Any) -> Parts:
    return filled(e, 1)


@lowers_complex(aten.full.default, aten.full_like.default)
def full(e: Emitter, _: Any, value: Operand, **__: Any) -> Parts:
    return filled(e, value)


@lowers_complex(aten.scalar_tensor.default)
def scalar_tensor(e: Emitter, value: Operand, **_: Any) -> Parts:
    return filled(e, value)


# ---------------------------------------------------------------- arithmetic


@lowers_complex(aten.add)
def add(e: Emitter, a: Operand, b: Operand, alpha: Number | complex = 1) -> Parts:
    x, y = parts(a), multiply(e, parts(alpha), parts(b))
    return filled(e, Parts(_plus(e, x.re, y.re), _plus(e, x.im, y.im)))


@lowers_complex(aten.sub)
def sub(e: Emitter, a: Operand, b: Operand, alpha: Number | complex = 1) -> Parts:
    x, y = parts(a), multiply(e, parts(alpha), parts(b))
    return filled(e, Parts(_minus(e, x.re, y.re), _minus(e, x.im, y.im)))


@lowers_complex(aten.rsub)
def rsub(e: Emitter, a: Operand, b: Operand, alpha: Number | complex = 1) -> Parts:
    return sub(e, b, a, alpha)


@lowers_complex(aten.mul)
def mul(e: Emitter, a: Operand, b: Operand) -> Parts:
    return filled(e, multiply(e, parts(a), parts(b)))


@lowers_complex(aten.square.default)
def square(e: Emitter, z: Parts) -> Parts:
    return mul(e, z, z)


@lowers_complex(aten.reciprocal.default)
def reciprocal(e: Emitter, z: Parts) -> Parts:
    return div(e, 1, z)


@lowers_complex(aten.div.Tensor, aten.div.Scalar, aten.true_divide)
def div(e: Emitter, a: Operand, b: Operand) -> Parts:
    """By a real number each part; by a complex one a product with its conjugate over the square of its size."""
    x, y = parts(a), parts(b)
    if isinstance(b, complex):
        inverse = 1 / b
        return mul(e, a, inverse)
    if not isinstance(y.im, Value) and y.im == 0:
        return filled(e, Parts(*(e.apply("div", _real(e, v), y.re) for v in (x.re, x.im))))
    top, size = multiply(e, x, Parts(y.re, _minus(e, 0, y.im))), _squared(e, y)
    return filled(e, Parts(*(e.apply("div", _real(e, v), size) for v in (top.re, top.im))))


@lowers_complex(aten.exp.default)
def exp(e: Emitter, z: Parts) -> Parts:
    size, turn = e.apply("exp", _real(e, z.re)), _real(e, z.im)
    return filled(e, Parts(*(e.apply("mul", size, e.apply(f, turn)) for f in ("cos", "sin"))))


@lowers_complex(aten.log.default)
def log(e: Emitter, z: Parts) -> Parts:
    half = e.apply("mul", e.apply("log", _real(e, _squared(e, z))), 0.5)
    return filled(e, Parts(half, angle(e, z)))


@lowers_complex(aten.pow)
def power(e: Emitter, a: Operand, b: Operand) -> Parts:
    """Small whole powers are products; others go through the logarithm."""
    if isinstance(b, (int, float)) and b in (1, 2, 3, -1):
        z = parts(a)
        if b == -1:
            return reciprocal(e, z)
        y = z
        for _ in range(int(b) - 1):
            y = multiply(e, y, z)
        return filled(e, y)
    if isinstance(a, (int, float, complex)):
        base = cmath.log(a) if a else e.unsupported("a complex power of zero")
        return exp(e, multiply(e, parts(base), parts(b)))
    return exp(e, multiply(e, log(e, parts(a)), parts(b)))


@lowers_complex(aten.sgn.default)
def sign(e: Emitter, z: Parts) -> Parts:
    """z / |z|, and 0 at 0."""
    size = absolute(e, z)
    at_zero = e.apply("eq", size, 0)
    safe = e.where(at_zero, 1.0, size, size.type.dtype)
    return filled(e, Parts(*(e.apply("div", v, safe) for v in (z.re, z.im))))


@lowers_complex(aten.eq)
def equal(e: Emitter, a: Operand, b: Operand) -> Value:
    x, y = parts(a), parts(b)
    return e.apply("logical_and", *(_compared(e, "eq", p, q) for p, q in ((x.re, y.re), (x.im, y.im))))


@lowers_complex(aten.ne)
def unequal(e: Emitter, a: Operand, b: Operand) -> Value:
    x, y = parts(a), parts(b)
    return e.apply("logical_or", *(_compared(e, "ne", p, q) for p, q in ((x.re, y.re), (x.im, y.im))))


def _compared(e: Emitter, relation: str, a: Part, b: Part) -> Value:
    if isinstance(a, Value) or isinstance(b, Value):
        return e.apply(relation, a, b)
    return e.constant((a == b) == (relation == "eq"), "i1")


# ---------------------------------------------------------------- products


def _bilinear(e: Emitter, a: Operand, b: Operand, times: Product) -> Parts:
    """A product of matrices; a real factor costs two real products, a complex one four."""

    def product(x: Part, y: Part) -> Part:
        return times(_real(e, x), _real(e, y)) if isinstance(x, Value) and isinstance(y, Value) else 0

    return filled(e, _product(e, parts(a), parts(b), product))


@lowers_complex(aten.matmul, aten.mm, aten.bmm, aten.mv, aten.dot)
def matmul(e: Emitter, a: Operand, b: Operand) -> Parts:
    return _bilinear(e, a, b, lambda x, y: contraction.matmul(e, x, y))


@lowers_complex(aten.outer.default)
def outer(e: Emitter, a: Operand, b: Operand) -> Parts:
    return _bilinear(e, a, b, lambda x, y: contraction.outer(e, x, y))


@lowers_complex(aten.addmm.default, aten.baddbmm.default)
def addmm(e: Emitter, x: Operand, a: Operand, b: Operand, beta: Number = 1, alpha: Number = 1) -> Parts:
    y = multiply(e, parts(alpha), matmul(e, a, b))
    return add(e, y, multiply(e, parts(beta), parts(x)))


@lowers_complex(aten.einsum.default)
def einsum(e: Emitter, equation: str, operands: Sequence[Operand], path: Sequence[int] | None = None) -> Parts:
    if len(operands) == 1:
        (z,) = map(parts, operands)
        return filled(e, Parts(*(contraction.einsum(e, equation, [_real(e, v)]) for v in (z.re, z.im))))
    if len(operands) != 2:
        e.unsupported(f"an einsum of {len(operands)} complex tensors")
    a, b = operands
    return _bilinear(e, a, b, lambda x, y: contraction.einsum(e, equation, [x, y]))


# ---------------------------------------------------------------- joins and selection


@lowers_complex(aten.cat.default, aten.concat.default)
def cat(e: Emitter, tensors: Sequence[Operand], dim: int = 0) -> Parts:
    return _joined(e, tensors, dim, movement.cat)


@lowers_complex(aten.stack.default)
def stack(e: Emitter, tensors: Sequence[Operand], dim: int = 0) -> Parts:
    return _joined(e, tensors, dim, movement.stack)


def _joined(e: Emitter, tensors: Sequence[Operand], dim: int, join: Callable[..., Value]) -> Parts:
    each = [parts(t) for t in tensors]
    zeros = [e.constant(0, part_dtype(e), p.re.type.shape) for p in each if isinstance(p.re, Value)]
    re = join(e, [p.re for p in each], dim)
    return filled(
        e, Parts(re, join(e, [p.im if isinstance(p.im, Value) else z for p, z in zip(each, zeros, strict=True)], dim))
    )


@lowers_complex(aten.where.self, aten.where.ScalarSelf, aten.where.ScalarOther, aten.where.Scalar)
def where(e: Emitter, condition: Value, a: Operand, b: Operand) -> Parts:
    x, y = parts(a), parts(b)
    return filled(e, Parts(*(e.where(condition, p, q, part_dtype(e)) for p, q in ((x.re, y.re), (x.im, y.im)))))


@lowers_complex(aten.masked_fill)
def masked_fill(e: Emitter, x: Parts, mask: Value, value: Operand) -> Parts:
    return where(e, mask, value, x)


@lowers_complex(aten.pad.default)
def pad(e: Emitter, z: Parts, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Parts:
    """Only the real part is padded with `value`."""
    return filled(e, Parts(padding.pad(e, _real(e, z.re), pad, mode, value), padding.pad(e, _real(e, z.im), pad, mode)))
