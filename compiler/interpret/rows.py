"""Reductions, softmax, norms, pooling and resampling on arrays that are already wide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .numerics import Array

_REDUCE: dict[str, Any] = {"sum": np.add, "mean": np.add, "max": np.maximum, "min": np.minimum, "prod": np.multiply}


def reduce(x: Array, kind: str, axes: Sequence[int]) -> Array:
    """Reduces `axes`, keeping them with size 1. Integers wrap; a sum of bools is `or`, a product `and`."""
    if x.dtype.kind == "b":
        y = np.any(x, tuple(axes), keepdims=True) if kind in ("sum", "max") else np.all(x, tuple(axes), keepdims=True)
        return np.asarray(y)
    if kind in ("sum", "mean", "prod"):
        y = _REDUCE[kind].reduce(x, tuple(axes), dtype=x.dtype, keepdims=True)
    else:
        y = _REDUCE[kind].reduce(x, tuple(axes), keepdims=True)
    return np.asarray(y / x.dtype.type(x.size // max(y.size, 1)) if kind == "mean" else y)


def combine(kind: str, a: Array, b: Array) -> Array:
    """What a reduction of kind sum, max, min or prod does with two partial results."""
    return np.asarray(_REDUCE[kind](a, b))


def scan(x: Array, kind: str, axis: int) -> Array:
    """Running prod, max, min, logsumexp, or the index of the running extreme (the last of equal ones; NaN wins)."""
    if kind in ("argmax", "argmin"):
        best = scan(x, kind[3:], axis)
        hit = (x == best) | np.isnan(x) if x.dtype.kind == "f" else x == best
        along = [1] * x.ndim
        along[axis] = -1
        return np.maximum.accumulate(np.where(hit, np.arange(x.shape[axis]).reshape(along), 0), axis)
    functions: dict[str, Any] = {"prod": np.multiply, "max": np.maximum, "min": np.minimum, "logsumexp": np.logaddexp}
    return np.asarray(functions[kind].accumulate(x, axis))


def argsort(x: Array, axis: int, descending: bool) -> Array:
    """Stable in both directions; NaN counts as the largest."""
    if not descending:
        return np.argsort(x, axis, kind="stable")
    backwards = np.flip(np.argsort(np.flip(x, axis), axis, kind="stable"), axis)
    return x.shape[axis] - 1 - backwards


def softmax(x: Array, axis: int, log: bool = False) -> Array:
    if not x.size:
        return x
    shifted = x - np.max(x, axis, keepdims=True)
    e = np.exp(shifted)
    total = np.sum(e, axis, keepdims=True)
    if log:
        return shifted - np.log(total)
    e /= total
    return e


def normalise(x: Array, axes: Sequence[int], eps: float, centre: bool) -> Array:
    """(x - mean) / sqrt(var + eps) over `axes`, or x / sqrt(mean(x^2) + eps) where the mean is not taken out."""
    axes = tuple(axes)
    if centre:
        x = x - np.mean(x, axes, keepdims=True)
    return x / np.sqrt(np.mean(x * x, axes, keepdims=True) + x.dtype.type(eps))


def lowest(dtype: np.dtype[Any]) -> Any:
    """What a maximum starts from."""
    if dtype.kind == "f":
        return -np.inf
    return False if dtype.kind == "b" else np.iinfo(dtype).min


def pool(x: Array, kind: str, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Array:
    """Sliding max or sum over the trailing axes, an axis at a time. `x` is padded already."""
    combine = np.maximum if kind == "max" else np.add
    for i, (k, s, d) in enumerate(zip(kernel, strides, dilations, strict=True)):
        axis = x.ndim - len(kernel) + i
        count = (x.shape[axis] - (k - 1) * d - 1) // s + 1
        lead = (slice(None),) * axis
        taps = [x[(*lead, slice(j * d, j * d + (count - 1) * s + 1, s))] for j in range(k)]
        y = taps[0] if k == 1 else combine(taps[0], taps[1])
        for tap in taps[2:]:
            combine(y, tap, out=y)
        x = y
    return x


def pool_index(
    x: Array, kernel: Sequence[int], strides: Sequence[int], padding: Sequence[int], dilations: Sequence[int]
) -> Array:
    """The index in the plane of each window's maximum: the first of equal ones, or the last NaN."""
    from .contractions import pad_array, windows

    r = len(kernel)
    space = x.shape[x.ndim - r :]
    around = (0, 0) * (x.ndim - r) + tuple(padding)
    seen = windows(pad_array(x, around, lowest(x.dtype)), kernel, strides, dilations)
    plane = np.arange(int(np.prod(space))).reshape(space)
    places = windows(pad_array(plane, tuple(padding), -1), kernel, strides, dilations)
    lead, out = x.shape[: x.ndim - r], seen.shape[x.ndim :]
    values = seen.reshape(*lead, -1, *out)
    where = places.reshape(-1, *out)
    top = np.max(values, len(lead), keepdims=True)
    hit = (values == top) & (where >= 0)
    first = np.argmax(hit, len(lead))
    if x.dtype.kind == "f" and np.isnan(top).any():
        missing = np.isnan(values)
        last = values.shape[len(lead)] - 1 - np.argmax(np.flip(missing, len(lead)), len(lead))
        first = np.where(missing.any(len(lead)), last, first)
    rows = np.broadcast_to(where, values.shape)
    return np.take_along_axis(rows, np.expand_dims(first, len(lead)), len(lead)).squeeze(len(lead))


def resize(
    x: Array, size: Sequence[int], mode: str, align_corners: bool, scales: Sequence[float | None] | None
) -> Array:
    """Resamples the trailing two axes, with torch's choice of source points (indices in f32, in f64 for f64)."""
    for i, out in enumerate(size):
        axis = x.ndim - 2 + i
        n, scale = x.shape[axis], scales[i] if scales else None
        if n == out and scale in (None, 1):
            continue
        kind = np.float64 if x.dtype == np.float64 and mode == "bilinear" else np.float32
        step = kind(1 / scale) if scale else kind(n) / kind(out)
        points = np.arange(out, dtype=kind)
        if mode == "nearest":
            source = points.astype(np.int64) if n == out else np.floor(points * step).astype(np.int64)
            x = np.take(x, np.minimum(source, n - 1), axis)
            continue
        if align_corners:
            position = points * (kind(n - 1) / kind(out - 1) if out > 1 else kind(0))
        else:
            position = np.maximum(step * (points + kind(0.5)) - kind(0.5), kind(0))
        low = np.minimum(position.astype(np.int64), n - 1)
        high = np.minimum(low + 1, n - 1)
        along = [1] * x.ndim
        along[axis] = out
        share = np.clip(position - low, 0, 1).reshape(along).astype(x.dtype)
        x = np.take(x, low, axis) * (1 - share) + np.take(x, high, axis) * share
    return x
