"""Sampling of volumes at given points."""

from __future__ import annotations

import itertools

from tilewright.compiler.ir import Value

from ..emitter import Emitter, product
from .registry import aten, lowers

BILINEAR, NEAREST = 0, 1
ZEROS, BORDER, REFLECTION = 0, 1, 2


@lowers(aten.grid_sampler_3d.default)
def grid_sampler(e: Emitter, x: Value, grid: Value, mode: int, padding: int, align_corners: bool) -> Value:
    """x[n, c, *space] at grid[n, *out, axes], whose last axis names the last axis of space first, from -1 to 1.

    Each point is a weighted sum of the elements around it, which are gathered one corner at a time.
    """
    batch, channels, *space = x.type.shape
    points = grid.type.shape[1:-1]
    rows = e.reshape(e.transpose(x, (0, *range(2, x.type.rank), 1)), (batch * product(space), channels))
    first = e.reshape(e.iota(batch, step=product(space)), (batch, *(1,) * len(points)))
    places = []
    for axis, n in enumerate(space):
        raw = e.slice_axis(grid, grid.type.rank - 1, len(space) - 1 - axis, 1)
        places.append(_place(e, e.reshape(raw, (batch, *points)), n, padding, align_corners))
    if mode == NEAREST:
        corners = [tuple((e.apply("round", p), None) for p in places)]
    elif mode == BILINEAR:
        corners = list(itertools.product(*(_neighbours(e, p) for p in places)))
    else:
        e.unsupported("bicubic sampling of a volume")
    total: Value | None = None
    for corner in corners:
        index = e.constant(0, "i64")
        weight: Value | None = None
        inside = e.constant(True, "i1")
        for (at, share), n in zip(corner, space, strict=True):
            within = e.apply("logical_and", e.apply("ge", at, 0), e.apply("le", at, n - 1))
            inside = e.apply("logical_and", inside, within)
            at = e.cast(e.apply("minimum", e.apply("maximum", at, 0), n - 1), "i64")
            index = e.apply("add", e.apply("mul", index, n), at)
            if share is not None:
                weight = share if weight is None else e.apply("mul", weight, share)
        part = e.gather(rows, e.apply("add", index, first))
        if weight is not None:
            part = e.apply("mul", part, e.reshape(weight, (*weight.type.shape, 1)))
        part = e.where(e.reshape(inside, (*inside.type.shape, 1)), part, 0, x.type.dtype)
        total = part if total is None else e.apply("add", total, part)
    assert total is not None
    return e.transpose(total, (0, total.type.rank - 1, *range(1, total.type.rank - 1)))


def _place(e: Emitter, c: Value, n: int, padding: int, align_corners: bool) -> Value:
    """Positions among n elements, from 0, of coordinates from -1 to 1."""
    scaled = e.apply("mul", e.apply("add", c, 1), (n - 1) / 2 if align_corners else n / 2)
    place = scaled if align_corners else e.apply("sub", scaled, 0.5)
    if padding == REFLECTION:
        low, span = (0.0, float(n - 1)) if align_corners else (-0.5, float(n))
        if not span:
            return e.apply("mul", place, 0)
        away = e.apply("abs", e.apply("sub", place, low))
        over = e.apply("fmod", away, span)
        odd = e.apply("ne", e.apply("fmod", e.apply("floor", e.apply("div", away, span)), 2), 0)
        place = e.apply("add", e.where(odd, e.apply("sub", span, over), over), low)
    if padding in (BORDER, REFLECTION):
        place = e.apply("minimum", e.apply("maximum", place, 0), n - 1)
    return place


def _neighbours(e: Emitter, place: Value) -> list[tuple[Value, Value]]:
    """The element below with its share, and the one above with the rest."""
    low = e.apply("floor", place)
    share = e.apply("sub", place, low)
    return [(low, e.apply("sub", 1, share)), (e.apply("add", low, 1), share)]
