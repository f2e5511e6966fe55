"""Quantisation on arrays: what belongs to a block is repeated over it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .numerics import Array, wide


def spread(entries: Array, block: Sequence[int], shape: Sequence[int]) -> Array:
    """`entries[ceil(n / b), ...]` over the elements of `shape`; broadcasts where there is one entry for an axis."""
    for axis, (b, n) in enumerate(zip(block, shape, strict=True)):
        if b > 1 and entries.shape[axis] > 1:
            entries = np.repeat(entries, b, axis)[(slice(None),) * axis + (slice(n),)]
    return entries


def dequantize(q: Array, scale: Array, zero: Array | None, block: Sequence[int], dtype: np.dtype) -> Array:
    """(q - zero) * scale, in f32, or in f64 for a result or a scale of f64."""
    work = np.result_type(np.float32, scale, np.float64 if dtype == np.float64 else np.float32)
    if zero is not None and zero.dtype.kind in "iu":  # exactly, however large the sums are
        q, zero = q.astype(np.int64) - spread(zero, block, q.shape), None
    y = q.astype(work)
    if zero is not None:
        y = y - spread(zero, block, q.shape).astype(work)
    return y * spread(scale, block, q.shape).astype(work)


def quantize(
    x: Array, scale: Array, zero: Array | None, block: Sequence[int], low: int, high: int, inverse: bool
) -> Array:
    """clamp(round(x / scale) + zero, low, high), halves to even; with `inverse`, round(x * scale)."""
    x = wide(x)
    scale = spread(wide(scale), block, x.shape).astype(x.dtype, copy=False)
    y = np.rint(x * scale if inverse else x / scale)
    if zero is not None:
        y = y + spread(zero, block, x.shape).astype(x.dtype)
    return np.clip(y, low, high)


def lookup(index: Array, table: Array, block: Sequence[int]) -> Array:
    """table[block of the element, index]. Raises IndexError for an index without an entry."""
    if index.size and int(index.max()) >= table.shape[-1]:
        raise IndexError(f"index {int(index.max())} is outside a palette of {table.shape[-1]} entries")
    of_block = np.ix_(*(np.arange(n) // b for n, b in zip(index.shape, block, strict=True)))
    return table[(*of_block, index)]
