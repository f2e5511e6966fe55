"""Resampling of images: nearest neighbour and bilinear whole, antialiased as a product with a matrix for each axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Value

from ..emitter import Emitter
from .contraction import along_axis
from .registry import aten, lowers


@lowers(aten.upsample_nearest2d.vec, aten.upsample_nearest2d.default)
def upsample_nearest(e: Emitter, x: Value, size: Sequence[int] | None, *factors: Any) -> Value:
    return _resize(e, x, "nearest", False, factors)


@lowers(aten.upsample_bilinear2d.vec, aten.upsample_bilinear2d.default)
def upsample_bilinear(e: Emitter, x: Value, size: Sequence[int] | None, align_corners: bool, *factors: Any) -> Value:
    return _resize(e, x, "bilinear", align_corners, factors)


@lowers(aten.upsample_nearest1d.vec, aten.upsample_nearest1d.default)
def upsample_nearest_1d(e: Emitter, x: Value, size: Sequence[int] | None, *factors: Any) -> Value:
    return _resize_row(e, x, "nearest", False, factors)


@lowers(aten.upsample_linear1d.vec, aten.upsample_linear1d.default)
def upsample_linear(e: Emitter, x: Value, size: Sequence[int] | None, align_corners: bool, *factors: Any) -> Value:
    return _resize_row(e, x, "bilinear", align_corners, factors)


def _resize_row(e: Emitter, x: Value, mode: str, align_corners: bool, factors: Sequence[Any]) -> Value:
    """Of x[batch, channels, width], as an image of one row."""
    batch, channels, width = x.type.shape
    scales = _scales(factors)
    image = e.reshape(x, (batch, channels, 1, width))
    options: dict[str, Any] = {"scales": (1.0, scales[-1])} if scales else {}
    if align_corners:
        options["align_corners"] = True
    resized = e.add(graph.Resize(image, size=(1, e.expected.shape[-1]), mode=mode, **options))
    return e.reshape(resized, tuple(e.expected.shape))


def _resize(e: Emitter, x: Value, mode: str, align_corners: bool, factors: Sequence[Any]) -> Value:
    options: dict[str, Any] = {"scales": scales} if (scales := _scales(factors)) else {}
    if align_corners:
        options["align_corners"] = True
    return e.add(graph.Resize(x, size=tuple(e.expected.shape[-2:]), mode=mode, **options))


def _scales(factors: Sequence[Any]) -> tuple[float, ...]:
    """`factors` holds one list of scales, or one scale an axis, or nothing but None."""
    given = [f for f in factors if f is not None]
    return tuple(float(f) for f in (given[0] if given and isinstance(given[0], Sequence) else given))


# ---------------------------------------------------------------- antialiased


def _triangle(x: float) -> float:
    return max(1 - abs(x), 0.0)


def _cubic(x: float) -> float:
    """The kernel of Keys (1981) with a = -0.5, as Pillow and torch have it here; without antialiasing a is -0.75."""
    x, a = abs(x), -0.5
    if x < 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * a if x < 2 else 0.0


@lowers(aten._upsample_bilinear2d_aa.default, aten._upsample_bilinear2d_aa.vec)
def upsample_bilinear_aa(e: Emitter, x: Value, size: Sequence[int] | None, align_corners: bool, *factors: Any) -> Value:
    return _antialiased(e, x, align_corners, _scales(factors), _triangle, 1)


@lowers(aten._upsample_bicubic2d_aa.default, aten._upsample_bicubic2d_aa.vec)
def upsample_bicubic_aa(e: Emitter, x: Value, size: Sequence[int] | None, align_corners: bool, *factors: Any) -> Value:
    return _antialiased(e, x, align_corners, _scales(factors), _cubic, 2)


def _antialiased(
    e: Emitter, x: Value, align_corners: bool, scales: Sequence[float], kernel: Callable[[float], float], reach: int
) -> Value:
    sizes = e.expected.shape[-2:]
    for i, size in enumerate(sizes):
        axis = x.type.rank - 2 + i
        n = x.type.shape[axis]
        step = 1 / scales[i] if scales else n / size
        if align_corners:
            step = (n - 1) / (size - 1) if size > 1 else 0.0
        if n != size or step != 1:
            weights = [w for row in _window_weights(n, size, step, kernel, reach) for w in row]
            x = along_axis(e, x, axis, e.table(weights, x.type.dtype, (size, n)))
    return x


def _window_weights(n: int, size: int, step: float, kernel: Callable[[float], float], reach: int) -> list[list[float]]:
    """What each of `n` elements adds to each of `size`: where `step` > 1 shrinks, the kernel is as much wider."""
    width = max(step, 1.0)
    rows = []
    for i in range(size):
        center = step * (i + 0.5)
        first, end = max(int(center - reach * width + 0.5), 0), min(int(center + reach * width + 0.5), n)
        weights = [kernel((j - center + 0.5) / width) if first <= j < end else 0.0 for j in range(n)]
        total = math.fsum(weights)
        rows.append([w / total if total else 0.0 for w in weights])
    return rows
