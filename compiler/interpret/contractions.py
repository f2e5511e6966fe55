"""Matmul, convolution and attention on arrays: f32 BLAS over strided windows, in pieces of bounded memory."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import as_strided

from .numerics import Array, wide
from .rows import softmax

_PIECE_BYTES = 64 << 20  # the largest temporary: im2col columns, attention scores


def matmul(a: Array, b: Array, transpose_b: bool) -> Array:
    """a[..., m, k] @ b[..., k, n] (b[..., n, k] with transpose_b), batch axes broadcast; in f32 (f64 for f64)."""
    a, b = wide(a), wide(b)
    if transpose_b:
        b = b.swapaxes(-1, -2)
    if b.ndim == 2 and a.ndim > 2 and a.flags.c_contiguous and a.size:  # one product, not one a batch
        return np.matmul(a.reshape(-1, a.shape[-1]), b).reshape(*a.shape[:-1], b.shape[-1])
    return np.matmul(a, b)


def grouped_matmul(x: Array, w: Array, ends: Array) -> Array:
    """See graph.grouped_matmul; in f32 (f64 for f64)."""
    x = wide(x)
    y = np.zeros((len(x), w.shape[2]), x.dtype)
    start = 0
    for group, end in enumerate(np.clip(ends, 0, len(x)).tolist()):
        if end > start:
            y[start:end] = x[start:end] @ wide(w[group])
            start = end
    return y


def pad_array(x: Array, padding: Sequence[int], value: float) -> Array:
    """Adds `padding` (low, high for each axis, flattened) elements of `value`; negative padding crops."""
    if not any(padding):
        return x
    low, high = padding[::2], padding[1::2]
    shape = [n + a + b for n, a, b in zip(x.shape, low, high, strict=True)]
    out = np.full(shape, value, x.dtype)
    target = tuple(slice(max(a, 0), n - max(b, 0)) for n, a, b in zip(shape, low, high, strict=True))
    source = tuple(slice(max(-a, 0), n - max(-b, 0)) for n, a, b in zip(x.shape, low, high, strict=True))
    out[target] = x[source]
    return out


def windows(x: Array, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Array:
    """x[..., *space] seen as [..., *kernel, *positions], without a copy."""
    lead, r = x.ndim - len(kernel), len(kernel)
    space, steps = x.shape[lead:], x.strides[lead:]
    positions = [(n - (k - 1) * d - 1) // s + 1 for n, k, s, d in zip(space, kernel, strides, dilations, strict=True)]
    shape = (*x.shape[:lead], *kernel, *positions)
    tap = [steps[i] * dilations[i] for i in range(r)]
    move = [steps[i] * strides[i] for i in range(r)]
    return as_strided(x, shape, (*x.strides[:lead], *tap, *move), writeable=False)


def conv(
    x: Array,
    w: Array,
    strides: Sequence[int],
    padding: Sequence[int],
    dilations: Sequence[int],
    groups: int,
    pad_value: float = 0.0,
) -> Array:
    """x[b, c, *space] with w[o, c / groups, *kernel]: y[b, o, *positions], in f32 (f64 for f64)."""
    x, w = wide(x), wide(w)
    x = pad_array(x, (0, 0, 0, 0, *padding), pad_value)
    (b, c), (o, per_group), kernel = x.shape[:2], w.shape[:2], w.shape[2:]
    seen = windows(x, kernel, strides, dilations)
    positions = seen.shape[2 + len(kernel) :]
    y = np.empty((b, groups, o // groups, *positions), x.dtype)
    weights = w.reshape(groups, o // groups, -1)
    if per_group == 1 and c == groups:
        _depthwise(seen, weights, y)
    else:
        seen = seen.reshape(b, groups, per_group, *seen.shape[2:]) if groups == 1 else _grouped(seen, groups)
        for image in range(b):
            _im2col(seen[image], weights, y[image])
    return y.reshape(b, o, *positions)


def _grouped(seen: Array, groups: int) -> Array:
    """[b, c, ...] as [b, groups, c / groups, ...], without a copy."""
    b, c = seen.shape[:2]
    step = seen.strides[1]
    shape = (b, groups, c // groups, *seen.shape[2:])
    return as_strided(seen, shape, (seen.strides[0], step * (c // groups), *seen.strides[1:]), writeable=False)


def _depthwise(seen: Array, weights: Array, y: Array) -> None:
    """seen[b, g, *kernel, *positions], weights[g, m, taps]: y[b, g, m, *positions], a tap at a time."""
    rank = (seen.ndim - 2) // 2
    kernel, positions = seen.shape[2 : 2 + rank], seen.shape[2 + rank :]
    taps = list(np.ndindex(*kernel))
    channels = max(1, (1 << 16) // max(1, math.prod(positions) * weights.shape[1]))  # a piece that stays in cache
    for image in range(seen.shape[0]):
        for first in range(0, seen.shape[1], channels):
            piece = slice(first, first + channels)
            scale = weights[piece].reshape(-1, weights.shape[1], len(taps), *(1,) * rank)
            target, source = y[image, piece], seen[image, piece]
            for i, tap in enumerate(taps):
                product = source[(slice(None), *tap)][:, None] * scale[:, :, i]
                if i == 0:
                    target[...] = product
                else:
                    target += product


def _im2col(seen: Array, weights: Array, y: Array) -> None:
    """seen[g, c, *kernel, *positions], weights[g, o, c * taps]: y[g, o, *positions], in slabs of the first position."""
    rank = y.ndim - 2
    groups, depth = weights.shape[0], weights.shape[2]
    rows = y.shape[2]
    row = math.prod(y.shape[3:])
    slab = max(1, _PIECE_BYTES // max(1, groups * depth * row * seen.itemsize))
    lead = (slice(None),) * (2 + rank)
    for first in range(0, rows, slab):
        columns = seen[(*lead, slice(first, first + slab))]
        part = np.matmul(weights, columns.reshape(groups, depth, -1))
        y[:, :, first : first + slab] = part.reshape(*y.shape[:2], -1, *y.shape[3:])


def attention(q: Array, k: Array, v: Array, mask: Array | None, scale: float, causal: bool) -> Array:
    """softmax(q k^T * scale + mask) v in f32 (f64 for f64). A row in which nothing counts gives 0, as torch does."""
    q, k, v = wide(q), wide(k), wide(v)
    keys, rows = k.swapaxes(-1, -2), q.shape[-2]
    batch = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    out = np.empty((*batch, rows, v.shape[-1]), q.dtype)
    piece = max(1, _PIECE_BYTES // max(1, math.prod(batch) * k.shape[-2] * q.itemsize))
    for first in range(0, rows, piece):
        part = slice(first, first + piece)
        scores = np.matmul(q[..., part, :], keys)
        scores *= q.dtype.type(scale)
        if mask is not None:
            scores = scores + wide(mask[..., part, :] if mask.ndim > 1 and mask.shape[-2] > 1 else mask)
        if causal:
            row = np.arange(first, first + scores.shape[-2])[:, None]
            scores = np.where(np.arange(scores.shape[-1]) > row, scores.dtype.type(-np.inf), scores)
        weights = softmax(scores, -1)
        if mask is not None:
            weights = np.where(np.max(scores, -1, keepdims=True) == -np.inf, weights.dtype.type(0), weights)
        out[..., part, :] = np.matmul(weights, v)
    return out
