"""Scatter with a reduction, and binary search, on whole arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from .numerics import Array
from .rows import lowest

_COMBINE: dict[str, Any] = {
    "sum": np.add,
    "mean": np.add,
    "prod": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
}


def scatter_reduce(base: Array, indices: Array, value: Array, axis: int, kind: str, include_self: bool) -> Array:
    """See graph.scatter_reduce; a mean of integers rounds down."""
    y = np.moveaxis(base, axis, 0).copy()
    rows = np.moveaxis(value, axis, 0)
    combine = _COMBINE[kind]
    if not include_self:
        y[indices] = _start(kind, y.dtype)
    if y.dtype.kind == "b":
        combine = {"sum": np.logical_or, "prod": np.logical_and}.get(kind, combine)
    combine.at(y, indices, rows)
    if kind == "mean":
        counts = np.full(len(y), int(include_self), np.int64)
        np.add.at(counts, indices, 1)
        counts = np.maximum(counts, 1).reshape(-1, *(1,) * (y.ndim - 1))
        y = (y / counts).astype(y.dtype) if y.dtype.kind == "f" else y // counts
    return np.moveaxis(y, 0, axis)


def _start(kind: str, dtype: np.dtype[Any]) -> Any:
    """What a reduction of nothing is."""
    if kind == "max":
        return lowest(dtype)
    if kind == "min":
        return np.inf if dtype.kind == "f" else True if dtype.kind == "b" else np.iinfo(dtype).max
    return 1 if kind == "prod" else 0


def search_sorted(ordered: Array, values: Array, right: bool) -> Array:
    side = "right" if right else "left"
    if ordered.ndim == 1:
        return np.searchsorted(ordered, values, side)
    if not values.size:
        return np.zeros(values.shape, np.int64)
    rows, wanted = ordered.reshape(len(values.reshape(-1, values.shape[-1])), -1), values.reshape(-1, values.shape[-1])
    found = [np.searchsorted(r, v, side) for r, v in zip(rows, wanted, strict=True)]
    return np.array(found, np.int64).reshape(values.shape)
