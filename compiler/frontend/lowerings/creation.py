"""Tensors from nothing: constants, ranges, triangles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tilewright.compiler.ir import Value

from ..dtypes import ir_dtype
from ..emitter import Emitter, Number
from .registry import aten, lowers


def _splat(e: Emitter, value: Number) -> Value:
    """`value` in the shape and dtype that torch's own result has."""
    return e.constant(value, ir_dtype(e.expected.dtype), tuple(e.expected.shape))


@lowers(aten.zeros.default, aten.zeros_like.default, aten.new_zeros.default)
@lowers(aten.empty.memory_format, aten.empty_like.default, aten.new_empty.default)
def zeros(e: Emitter, *_: Any, **__: Any) -> Value:
    """Memory that nobody wrote may hold anything, so also zeros."""
    return _splat(e, 0)


@lowers(aten.ones.default, aten.ones_like.default, aten.new_ones.default)
def ones(e: Emitter, *_: Any, **__: Any) -> Value:
    return _splat(e, 1)


@lowers(aten.full.default, aten.full_like.default)
def full(e: Emitter, _: Any, value: Number, **__: Any) -> Value:
    return _splat(e, value)


@lowers(aten.new_full.default)
def new_full(e: Emitter, x: Value, size: Sequence[int], value: Number, **_: Any) -> Value:
    return _splat(e, value)


@lowers(aten.scalar_tensor.default)
def scalar_tensor(e: Emitter, value: Number, **_: Any) -> Value:
    return _splat(e, value)


@lowers(aten.arange)
def arange(e: Emitter, *bounds: Number, **_: Any) -> Value:
    """(end), (start, end) or (start, end, step)."""
    start = bounds[0] if len(bounds) > 1 else 0
    step = bounds[2] if len(bounds) > 2 else 1
    return e.iota(e.expected.shape[0], ir_dtype(e.expected.dtype), start, step)


@lowers(aten.linspace.default)
def linspace(e: Emitter, start: float, end: float, steps: int, **_: Any) -> Value:
    step = (end - start) / (steps - 1) if steps > 1 else 0
    return e.iota(steps, ir_dtype(e.expected.dtype), start, step)


@lowers(aten.tril.default)
def tril(e: Emitter, x: Value, diagonal: int = 0) -> Value:
    """Zero where the column is past the row by more than `diagonal`."""
    return _triangle(e, x, "le", diagonal)


@lowers(aten.triu.default)
def triu(e: Emitter, x: Value, diagonal: int = 0) -> Value:
    return _triangle(e, x, "ge", diagonal)


def _triangle(e: Emitter, x: Value, relation: str, diagonal: int) -> Value:
    shape = x.type.shape[-2:]
    row, column = e.index_along(shape, 0), e.index_along(shape, 1)
    edge = row if not diagonal else e.apply("add", row, diagonal)
    return e.where(e.apply(relation, column, edge), x, 0, x.type.dtype)


@lowers(aten.eye.default, aten.eye.m)
def eye(e: Emitter, *_: int, **__: Any) -> Value:
    shape = tuple(e.expected.shape)
    return e.cast(e.apply("eq", e.index_along(shape, 0), e.index_along(shape, 1)), ir_dtype(e.expected.dtype))


@lowers(aten.one_hot.default)
def one_hot(e: Emitter, x: Value, classes: int = -1) -> Value:
    if classes < 0:
        e.unsupported("one_hot without a number of classes")
    return e.cast(e.apply("eq", e.reshape(x, (*x.type.shape, 1)), e.iota(classes)), "i64")
