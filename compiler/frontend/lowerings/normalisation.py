"""Norms and softmax, kept whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Value

from ..dtypes import TORCH_DTYPES, ir_dtype
from ..emitter import Emitter, axis_of, product
from .registry import Updated, aten, lowers


def _affine(e: Emitter, weight: Value | None, bias: Value | None, shape: Sequence[int], dtype: str) -> list[Value]:
    """The operands that scale and shift, as few as there are; a bias alone gets a weight of ones."""
    if weight is None and bias is not None:
        weight = e.constant(1, dtype, shape)
    return [e.reshape(e.cast(v, dtype), shape) for v in (weight, bias) if v is not None]


@lowers(aten.layer_norm.default)
def layer_norm(
    e: Emitter,
    x: Value,
    shape: Sequence[int],
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Value:
    return e.add(graph.LayerNorm(x, *_affine(e, weight, bias, shape, x.type.dtype), rank=len(shape), eps=eps))


@lowers(aten.rms_norm.default)
def rms_norm(
    e: Emitter, x: Value, shape: Sequence[int], weight: Value | None = None, eps: float | None = None
) -> Value:
    eps = torch.finfo(TORCH_DTYPES[x.type.dtype]).eps if eps is None else eps
    return e.add(graph.RmsNorm(x, *_affine(e, weight, None, shape, x.type.dtype), rank=len(shape), eps=eps))


@lowers(aten.group_norm.default)
def group_norm(
    e: Emitter,
    x: Value,
    groups: int,
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Value:
    batch, channels, *space = x.type.shape
    inner = channels // groups
    split = e.reshape(x, (batch, groups, inner, *space))
    affine = _affine(e, weight, bias, (groups, inner, *(1,) * len(space)), x.type.dtype)
    return e.reshape(e.add(graph.GroupNorm(split, *affine, eps=eps)), x.type.shape)


@lowers(aten.instance_norm.default)
def instance_norm(
    e: Emitter,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    running_mean: Value | None,
    running_var: Value | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Value | Updated:
    if not use_input_stats:
        return batch_norm(e, x, weight, bias, running_mean, running_var, False, momentum, eps, cudnn_enabled)
    y = group_norm(e, x, x.type.shape[1], weight, bias, eps)
    if running_mean is None or running_var is None:
        return y
    mean, var = (e.reduce("mean", m, (0,)) for m in _statistics(e, x, range(2, x.type.rank)))
    moved_var = _running(e, running_var, var, momentum, points=product(x.type.shape[2:]))
    return Updated(y, {3: _running(e, running_mean, mean, momentum), 4: moved_var})


@lowers(aten.batch_norm.default)
def batch_norm(
    e: Emitter,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value | None,
    var: Value | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Value | Updated:
    """In training by the statistics of the batch, towards which the running ones move."""
    if not x.type.elements:
        return x
    if not training and mean is not None and var is not None:
        return _normalised(e, x, weight, bias, mean, var, eps)
    batch_mean, batch_var = _statistics(e, x, [a for a in range(x.type.rank) if a != 1])
    y = _normalised(e, x, weight, bias, batch_mean, batch_var, eps)
    if not training or mean is None or var is None:
        return y
    points = x.type.elements // x.type.shape[1]
    return Updated(y, {3: _running(e, mean, batch_mean, momentum), 4: _running(e, var, batch_var, momentum, points)})


def _normalised(
    e: Emitter, x: Value, weight: Value | None, bias: Value | None, mean: Value, var: Value, eps: float
) -> Value:
    channels = (x.type.shape[1] if x.type.rank > 1 else x.type.shape[0],)
    weight = e.constant(1, x.type.dtype, channels) if weight is None else weight
    bias = e.constant(0, x.type.dtype, channels) if bias is None else bias
    return e.add(graph.BatchNorm(x, weight, bias, mean, var, eps=eps))


def _statistics(e: Emitter, x: Value, axes: Sequence[int]) -> tuple[Value, Value]:
    """Mean and variance over `axes`, without them."""
    mean = e.reduce("mean", x, axes, keepdims=True)
    centred = e.apply("sub", x, mean)
    kept = [n for a, n in enumerate(x.type.shape) if a not in axes]
    return e.reshape(mean, kept), e.reduce("mean", e.apply("mul", centred, centred), axes)


def _running(e: Emitter, old: Value, new: Value, momentum: float, points: int = 0) -> Value:
    """The running mean, or the running variance, which torch moves to the unbiased one of `points` elements."""
    share = momentum * points / (points - 1) if points > 1 else momentum
    return e.apply("add", e.apply("mul", old, 1 - momentum), e.cast(e.apply("mul", new, share), old.type.dtype))


@lowers(aten._native_batch_norm_legit.default, aten._batch_norm_with_update.default, aten.native_batch_norm.default)
def batch_norm_with_statistics(
    e: Emitter,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value | None,
    var: Value | None,
    *options: Any,
) -> Updated | list[Value]:
    """`options`: whether in training, where the op may be out of it; momentum; eps."""
    training, momentum, eps = options if len(options) == 3 else (True, *options)
    if not training:
        assert mean is not None and var is not None
        return native_batch_norm(e, x, weight, bias, mean, var, momentum, eps)
    y = batch_norm(e, x, weight, bias, mean, var, True, momentum, eps, True)
    axes = [a for a in range(x.type.rank) if a != 1]
    moments = [e.reshape(m, (x.type.shape[1],)) for m in _moments(e, x, axes, eps)]
    spare = [e.constant(0, ir_dtype(t.dtype), tuple(t.shape)) for t in e.expected[3:]]  # for a backward pass
    if isinstance(y, Updated):
        return Updated([y.results, *moments, *spare], y.contents)
    return [y, *moments, *spare]


@lowers(aten._native_batch_norm_legit.no_stats)
def batch_norm_without_statistics(
    e: Emitter, x: Value, weight: Value | None, bias: Value | None, training: bool, momentum: float, eps: float
) -> list[Value]:
    axes = [a for a in range(x.type.rank) if a != 1]
    moments = (e.reshape(m, (x.type.shape[1],)) for m in _moments(e, x, axes, eps))
    return [_normalised(e, x, weight, bias, *_statistics(e, x, axes), eps), *moments]


@lowers(aten._native_batch_norm_legit_no_training.default)
def native_batch_norm(
    e: Emitter,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value,
    var: Value,
    momentum: float,
    eps: float,
) -> list[Value]:
    """The statistics that it also returns are for training: on a CPU, empty."""
    empty = e.constant(0, x.type.dtype, (0,))
    return [_normalised(e, x, weight, bias, mean, var, eps), empty, empty]


@lowers(aten.native_layer_norm.default)
def native_layer_norm(
    e: Emitter, x: Value, shape: Sequence[int], weight: Value | None, bias: Value | None, eps: float
) -> list[Value]:
    axes = range(x.type.rank - len(shape), x.type.rank)
    return [layer_norm(e, x, shape, weight, bias, eps), *_moments(e, x, axes, eps)]


def _moments(e: Emitter, x: Value, axes: Sequence[int], eps: float) -> tuple[Value, Value]:
    """The mean over `axes`, kept, and one over the deviation."""
    mean = e.reduce("mean", x, axes, keepdims=True)
    centred = e.apply("sub", x, mean)
    var = e.reduce("mean", e.apply("mul", centred, centred), axes, keepdims=True)
    return mean, e.apply("rsqrt", e.apply("add", var, eps))


@lowers(aten.native_group_norm.default)
def native_group_norm(
    e: Emitter, x: Value, weight: Value | None, bias: Value | None, n: int, c: int, size: int, groups: int, eps: float
) -> list[Value]:
    rows = e.reshape(x, (n, groups, x.type.elements // max(n * groups, 1)))
    moments = (e.reshape(m, (n, groups)) for m in _moments(e, rows, (2,), eps))
    return [group_norm(e, x, groups, weight, bias, eps), *moments]


@lowers(aten.softmax.int, aten._softmax.default)
def softmax(e: Emitter, x: Value, dim: int, dtype: torch.dtype | bool | None = None, *, log: bool = False) -> Value:
    """torch converts to `dtype` first where one is given (a bool there is the half-to-float flag of the inner op)."""
    to = ir_dtype(dtype) if isinstance(dtype, torch.dtype) else ir_dtype(e.expected.dtype)
    x = e.cast(x, to)
    if not x.type.rank:
        return e.constant(0 if log else 1, to)
    axis = axis_of(dim, x.type.rank)
    return e.add(graph.Softmax(x, axis=axis, log=True) if log else graph.Softmax(x, axis=axis))


@lowers(aten.log_softmax.int, aten._log_softmax.default)
def log_softmax(e: Emitter, x: Value, dim: int, dtype: torch.dtype | bool | None = None) -> Value:
    return softmax(e, x, dim, dtype, log=True)


@lowers(aten.linalg_vector_norm.default, aten.norm)
def vector_norm(
    e: Emitter,
    x: Value,
    order: float | None = 2,
    dim: int | Sequence[int] | None = None,
    keepdim: bool = False,
    dtype: torch.dtype | None = None,
) -> Value:
    from .reduction import reduce_axes

    x = e.cast(x, ir_dtype(e.expected.dtype))
    size = e.apply("abs", x)
    if order in (float("inf"), float("-inf")):
        return reduce_axes(e, "max" if order > 0 else "min", size, dim, keepdim)
    if order == 1:
        return reduce_axes(e, "sum", size, dim, keepdim)
    if order == 0:
        return reduce_axes(e, "sum", e.cast(e.apply("ne", x, 0), x.type.dtype), dim, keepdim)
    if order not in (2, None):  # high powers leave the range of 16 bits
        size = e.cast(size, "f64" if x.type.dtype == "f64" else "f32")
        total = reduce_axes(e, "sum", e.apply("pow", size, float(order)), dim, keepdim)
        return e.cast(e.apply("pow", total, 1 / float(order)), x.type.dtype)
    total = reduce_axes(e, "sum", e.apply("mul", x, x), dim, keepdim)
    return e.apply("sqrt", total)


def p_norm(e: Emitter, difference: Value, p: float) -> Value:
    """The p-norm over the last axis."""
    last = (difference.type.rank - 1,)
    size = e.apply("abs", difference)
    if p == 0:
        return e.reduce("sum", e.cast(e.apply("ne", size, 0), size.type.dtype), last)
    if p == float("inf"):
        return e.reduce("max", size, last)
    if p == 1:
        return e.reduce("sum", size, last)
    if p == 2:
        return e.apply("sqrt", e.reduce("sum", e.apply("mul", size, size), last))
    return e.apply("pow", e.reduce("sum", e.apply("pow", size, p), last), 1 / p)


@lowers(aten._cdist_forward.default)
def cdist(e: Emitter, a: Value, b: Value, p: float, mode: int | None) -> Value:
    """Distances between all rows of a[.., m, d] and b[.., n, d], by their differences."""
    if not e.expected.numel() or not a.type.shape[-1]:
        return e.constant(0, a.type.dtype, tuple(e.expected.shape))
    *batch, m, d = a.type.shape
    *other, n, _ = b.type.shape
    difference = e.apply("sub", e.reshape(a, (*batch, m, 1, d)), e.reshape(b, (*other, 1, n, d)))
    return p_norm(e, difference, float(p))


@lowers(aten._pdist_forward.default)
def pdist(e: Emitter, x: Value, p: float = 2) -> Value:
    """Distances between all pairs of rows."""
    n = x.type.shape[0]
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    if not pairs or not x.type.shape[1]:
        return e.constant(0, x.type.dtype, (len(pairs),))
    first, second = (e.gather(x, e.table([q[k] for q in pairs], "i64", (len(pairs),))) for k in (0, 1))
    return p_norm(e, e.apply("sub", first, second), float(p))
