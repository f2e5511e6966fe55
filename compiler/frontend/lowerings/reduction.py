"""Reductions, running sums, and the index of the largest element."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Value, is_float

from ..dtypes import ir_dtype
from ..emitter import Emitter, axes_of, axis_of, product
from .registry import aten, lowers

Dims = int | Sequence[int] | None


def reduce_axes(e: Emitter, kind: str, x: Value, dim: Dims, keepdim: bool = False) -> Value:
    return e.reduce(kind, x, axes_of(dim, x.type.rank), keepdim)


@lowers(aten.sum)
def sum_(e: Emitter, x: Value, dim: Dims = None, keepdim: bool = False, dtype: torch.dtype | None = None) -> Value:
    return reduce_axes(e, "sum", e.cast(x, ir_dtype(e.expected.dtype)), dim, keepdim)


@lowers(aten.mean)
def mean(e: Emitter, x: Value, dim: Dims = None, keepdim: bool = False, dtype: torch.dtype | None = None) -> Value:
    return reduce_axes(e, "mean", e.cast(x, ir_dtype(e.expected.dtype)), dim, keepdim)


@lowers(aten.prod.default)
def prod(e: Emitter, x: Value, dtype: torch.dtype | None = None) -> Value:
    return reduce_axes(e, "prod", e.cast(x, ir_dtype(e.expected.dtype)), None)


@lowers(aten.prod.dim_int)
def prod_dim(e: Emitter, x: Value, dim: int, keepdim: bool = False, dtype: torch.dtype | None = None) -> Value:
    return reduce_axes(e, "prod", e.cast(x, ir_dtype(e.expected.dtype)), dim, keepdim)


@lowers(aten.amax, aten.max.default)
def amax(e: Emitter, x: Value, dim: Dims = None, keepdim: bool = False) -> Value:
    return reduce_axes(e, "max", x, dim, keepdim)


@lowers(aten.amin, aten.min.default)
def amin(e: Emitter, x: Value, dim: Dims = None, keepdim: bool = False) -> Value:
    return reduce_axes(e, "min", x, dim, keepdim)


@lowers(aten.any)
def any_(e: Emitter, x: Value, dim: Dims = None, keepdim: bool = False) -> Value:
    return _truth(e, "max", x, dim, keepdim)


@lowers(aten.all)
def all_(e: Emitter, x: Value, dim: Dims = None, keepdim: bool = False) -> Value:
    return _truth(e, "min", x, dim, keepdim)


def _truth(e: Emitter, kind: str, x: Value, dim: Dims, keepdim: bool) -> Value:
    if not x.type.elements:
        return e.constant(kind == "min", "i1", tuple(e.expected.shape))
    truth = e.cast(e.cast(x, "i1"), "i32")
    return e.cast(reduce_axes(e, kind, truth, dim, keepdim), "i1")


@lowers(aten.var)
def var(
    e: Emitter,
    x: Value,
    dim: Dims | bool = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Value:
    """The mean square distance from the mean; torch divides by count - 1 unless told otherwise."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    axes = axes_of(dim, x.type.rank)
    lost = (1 if unbiased else 0) if correction is None else correction
    centred = e.apply("sub", x, e.reduce("mean", x, axes, keepdims=True))
    y = e.reduce("mean", e.apply("mul", centred, centred), axes, keepdim)
    count = product([x.type.shape[a] for a in axes])
    return y if not lost else e.apply("mul", y, count / (count - lost))


@lowers(aten.std)
def std(
    e: Emitter,
    x: Value,
    dim: Dims | bool = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Value:
    return e.apply("sqrt", var(e, x, dim, unbiased, keepdim, correction=correction))


@lowers(aten.var_mean.dim, aten.var_mean.correction)
def var_mean(
    e: Emitter,
    x: Value,
    dim: Dims = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> list[Value]:
    return [var(e, x, dim, unbiased, keepdim, correction=correction), reduce_axes(e, "mean", x, dim, keepdim)]


@lowers(aten.logsumexp.default)
def logsumexp(e: Emitter, x: Value, dim: Dims, keepdim: bool = False) -> Value:
    axes = axes_of(dim, x.type.rank)
    x = e.cast(x, ir_dtype(e.expected.dtype))
    if not x.type.elements:
        return e.apply("log", e.reduce("sum", x, axes, keepdim))
    top = e.reduce("max", x, axes, keepdims=True)
    top = e.where(e.apply("eq", e.apply("abs", top), math.inf), 0, top, top.type.dtype)
    total = e.reduce("sum", e.apply("exp", e.apply("sub", x, top)), axes, keepdim)
    return e.apply("add", e.apply("log", total), e.reshape(top, total.type.shape))


@lowers(aten.cumsum.default)
def cumsum(e: Emitter, x: Value, dim: int, dtype: torch.dtype | None = None) -> Value:
    x = e.cast(x, ir_dtype(e.expected.dtype))
    return e.add(graph.Cumsum(x, axis=axis_of(dim, x.type.rank))) if x.type.rank else x


@lowers(aten.cumprod.default)
def cumprod(e: Emitter, x: Value, dim: int, dtype: torch.dtype | None = None) -> Value:
    return _scan(e, e.cast(x, ir_dtype(e.expected.dtype)), dim, "prod")


@lowers(aten.logcumsumexp.default)
def logcumsumexp(e: Emitter, x: Value, dim: int) -> Value:
    return _scan(e, x, dim, "logsumexp")


@lowers(aten.cummax.default)
def cummax(e: Emitter, x: Value, dim: int) -> list[Value]:
    return [_scan(e, x, dim, "max"), _scan(e, x, dim, "argmax")]


@lowers(aten.cummin.default)
def cummin(e: Emitter, x: Value, dim: int) -> list[Value]:
    return [_scan(e, x, dim, "min"), _scan(e, x, dim, "argmin")]


def _scan(e: Emitter, x: Value, dim: int, kind: str) -> Value:
    if not x.type.rank:
        return e.constant(0, "i64") if kind.startswith("arg") else x
    return e.add(graph.Scan(x, axis=axis_of(dim, x.type.rank), kind=kind))


@lowers(aten.argmax.default)
def argmax(e: Emitter, x: Value, dim: int | None = None, keepdim: bool = False) -> Value:
    shape = x.type.shape
    if dim is None or not shape:
        flat = e.reshape(x, (product(shape),))
        return e.reshape(e.add(graph.Argmax(flat, axis=0)), (1,) * len(shape) if keepdim else ())
    axis = axis_of(dim, len(shape))
    y = e.add(graph.Argmax(x, axis=axis))
    return y if keepdim else e.reshape(y, (*shape[:axis], *shape[axis + 1 :]))


@lowers(aten.argmin.default)
def argmin(e: Emitter, x: Value, dim: int | None = None, keepdim: bool = False) -> Value:
    return argmax(e, _negated(e, x), dim, keepdim)


def _negated(e: Emitter, x: Value) -> Value:
    """In reverse order; integers by complement, which cannot overflow."""
    return e.apply("neg" if is_float(x.type.dtype) else "bitwise_not", x)


@lowers(aten.max.dim)
def max_dim(e: Emitter, x: Value, dim: int, keepdim: bool = False) -> list[Value]:
    return [reduce_axes(e, "max", x, dim, keepdim), argmax(e, x, dim, keepdim)]


@lowers(aten.min.dim)
def min_dim(e: Emitter, x: Value, dim: int, keepdim: bool = False) -> list[Value]:
    return [reduce_axes(e, "min", x, dim, keepdim), argmin(e, x, dim, keepdim)]
