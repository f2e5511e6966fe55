"""Order: sorting, the k largest, medians, and where values fall among ordered ones."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence

from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Value, is_float

from ..dtypes import result_type
from ..emitter import Emitter, Number, axis_of
from .indexing import gather, scatter_rows
from .registry import aten, lowers


def _order(e: Emitter, x: Value, axis: int, descending: bool) -> Value:
    return e.add(graph.Argsort(x, axis=axis, descending=descending))


def _sorted(e: Emitter, x: Value, dim: int, descending: bool) -> list[Value]:
    """The elements in order, and their indices."""
    if not x.type.rank:
        return [x, e.constant(0, "i64")]
    axis = axis_of(dim, x.type.rank)
    order = _order(e, x, axis, descending)
    return [gather(e, x, axis, order), order]


@lowers(aten.sort.default)
def sort(e: Emitter, x: Value, dim: int = -1, descending: bool = False) -> list[Value]:
    return _sorted(e, x, dim, descending)


@lowers(aten.sort.stable)
def sort_stable(
    e: Emitter, x: Value, *, stable: bool | None = None, dim: int = -1, descending: bool = False
) -> list[Value]:
    return _sorted(e, x, dim, descending)


@lowers(aten.argsort.default)
def argsort(e: Emitter, x: Value, dim: int = -1, descending: bool = False) -> Value:
    return _sorted(e, x, dim, descending)[1]


@lowers(aten.argsort.stable)
def argsort_stable(e: Emitter, x: Value, *, stable: bool, dim: int = -1, descending: bool = False) -> Value:
    return _sorted(e, x, dim, descending)[1]


@lowers(aten.msort.default)
def msort(e: Emitter, x: Value) -> Value:
    return _sorted(e, x, 0, False)[0]


@lowers(aten.topk.default)
def topk(e: Emitter, x: Value, k: int, dim: int = -1, largest: bool = True, ordered: bool = True) -> list[Value]:
    """The head of the order; an order that torch leaves open is this one too."""
    if not x.type.rank:
        return [x, e.constant(0, "i64")]
    axis = axis_of(dim, x.type.rank)
    index = e.slice_axis(_order(e, x, axis, largest), axis, 0, k)
    return [gather(e, x, axis, index), index]


def _at_rank(e: Emitter, x: Value, index: Value, axis: int, keepdim: bool) -> list[Value]:
    """The elements at an index along an axis, which has size 1 there."""
    shape = index.type.shape if keepdim else tuple(n for i, n in enumerate(x.type.shape) if i != axis)
    return [e.reshape(gather(e, x, axis, index), shape), e.reshape(index, shape)]


@lowers(aten.kthvalue.default)
def kthvalue(e: Emitter, x: Value, k: int, dim: int = -1, keepdim: bool = False) -> list[Value]:
    if not x.type.rank:
        return [x, e.constant(0, "i64")]
    axis = axis_of(dim, x.type.rank)
    return _at_rank(e, x, e.slice_axis(_order(e, x, axis, False), axis, k - 1, 1), axis, keepdim)


@lowers(aten.median.dim)
def median_dim(e: Emitter, x: Value, dim: int, keepdim: bool = False) -> list[Value]:
    """The lower of two medians; the first NaN where there is one."""
    if not x.type.rank:
        return [x, e.constant(0, "i64")]
    axis = axis_of(dim, x.type.rank)
    index = e.slice_axis(_order(e, x, axis, False), axis, (x.type.shape[axis] - 1) // 2, 1)
    if is_float(x.type.dtype):
        missing = e.cast(e.apply("isnan", x), "i32")
        first = e.add(graph.Argmax(missing, axis=axis))
        index = e.where(e.reduce("max", missing, (axis,), keepdims=True), first, index, "i64")
    return _at_rank(e, x, index, axis, keepdim)


@lowers(aten.nanmedian.dim)
def nanmedian_dim(e: Emitter, x: Value, dim: int, keepdim: bool = False) -> list[Value]:
    """The lower median of what is not NaN, which stands at the end of the order."""
    if not x.type.rank:
        return [x, e.constant(0, "i64")]
    if not is_float(x.type.dtype):
        return median_dim(e, x, dim, keepdim)
    axis = axis_of(dim, x.type.rank)
    count = e.reduce("sum", e.cast(e.apply("eq", x, x), "i64"), (axis,), keepdims=True)
    rank = e.apply("maximum", e.apply("floordiv", e.apply("sub", count, 1), 2), 0)
    index = gather(e, _order(e, x, axis, False), axis, rank)
    return _at_rank(e, x, index, axis, keepdim)


def _flat(e: Emitter, x: Value) -> Value:
    return e.reshape(x, (x.type.elements,))


@lowers(aten.median.default)
def median(e: Emitter, x: Value) -> Value:
    return median_dim(e, _flat(e, x), 0)[0]


@lowers(aten.nanmedian.default)
def nanmedian(e: Emitter, x: Value) -> Value:
    return nanmedian_dim(e, _flat(e, x), 0)[0]


@lowers(aten.mode.default)
def mode(e: Emitter, x: Value, dim: int = -1, keepdim: bool = False) -> list[Value]:
    """The most frequent element, the least of several; its last index. By comparing all pairs along the axis."""
    if not x.type.rank:
        return [x, e.constant(0, "i64")]
    axis, shape = axis_of(dim, x.type.rank), x.type.shape
    across = e.reshape(x, (*shape[:axis], 1, *shape[axis:]))
    along = e.reshape(x, (*shape[: axis + 1], 1, *shape[axis + 1 :]))
    count = e.reduce("sum", e.cast(e.apply("eq", along, across), "i64"), (axis + 1,))
    most = e.apply("eq", count, e.reduce("max", count, (axis,), keepdims=True))
    top = float("inf") if is_float(x.type.dtype) else 2**62
    value = e.reduce("min", e.where(most, x, top, x.type.dtype), (axis,), keepdims=True)
    place = e.where(e.apply("eq", x, value), e.index_along(shape, axis), -1, "i64")
    index = e.reduce("max", place, (axis,), keepdims=True)
    out = value.type.shape if keepdim else tuple(n for i, n in enumerate(shape) if i != axis)
    return [e.reshape(value, out), e.reshape(index, out)]


# ---------------------------------------------------------------- among ordered values


def _search(e: Emitter, ordered: Value, values: Value, right: bool, out_int32: bool) -> Value:
    dtype = result_type(ordered, values)
    to = "i32" if out_int32 else "i64"
    return e.add(graph.SearchSorted(e.cast(ordered, dtype), e.cast(values, dtype), right=right, to=to))


@lowers(aten.searchsorted.Tensor, aten.searchsorted.Scalar)
def searchsorted(
    e: Emitter,
    ordered: Value,
    values: Value | Number,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Value | None = None,
) -> Value:
    if sorter is not None:
        ordered = gather(e, ordered, -1, sorter) if ordered.type.elements else ordered
    wanted = values if isinstance(values, Value) else e.constant(values, ordered.type.dtype)
    if ordered.type.rank > 1 and wanted.type.rank == 0:
        e.unsupported("searchsorted of one value in many rows")
    return _search(e, ordered, wanted, right or side == "right", out_int32)


@lowers(aten.bucketize.Tensor, aten.bucketize.Scalar)
def bucketize(
    e: Emitter, values: Value | Number, ordered: Value, *, out_int32: bool = False, right: bool = False
) -> Value:
    wanted = values if isinstance(values, Value) else e.constant(values, ordered.type.dtype)
    return _search(e, ordered, wanted, right, out_int32)


def _count(e: Emitter, bins: int, place: Value, inside: Value, weight: Value | None, dtype: str) -> Value:
    """How many, or how much weight, of what is inside falls into each bin."""
    amount = e.constant(1, dtype) if weight is None else e.cast(weight, dtype)
    amount = e.where(inside, amount, 0, dtype)
    place = e.apply("minimum", e.apply("maximum", place, 0), bins - 1)
    amount = e.expand(amount, place.type.shape)
    return scatter_rows(e, e.constant(0, dtype, (bins,)), place, amount, 0, "sum")


@lowers(aten.histc.default)
def histc(e: Emitter, x: Value, bins: int = 100, min: Number = 0, max: Number = 0) -> Value:
    """In equal bins from min to max; where they are equal, from the least element to the greatest."""
    x = _flat(e, x)
    dtype = x.type.dtype
    if not x.type.elements:
        return e.constant(0, dtype, (bins,))
    low: Value | Number = float(min)
    high: Value | Number = float(max)
    if min == max:
        low, high = e.reduce("min", x, (0,)), e.reduce("max", x, (0,))
        same = e.apply("eq", low, high)
        low, high = e.where(same, e.apply("sub", low, 1), low), e.where(same, e.apply("add", high, 1), high)
    width = e.apply("sub", high, low) if isinstance(high, Value) else float(max) - float(min)
    place = e.apply("div", e.apply("mul", e.apply("sub", x, low), bins), width)
    inside = e.apply("logical_and", e.apply("ge", x, low), e.apply("le", x, high))
    place = e.cast(e.apply("floor", e.where(inside, place, 0, dtype)), "i64")
    return _count(e, bins, place, inside, None, dtype)


def _bin(e: Emitter, x: Value, edges: Value) -> tuple[Value, Value]:
    """The bin of each element, and whether it has one; the last bin holds its upper edge too."""
    bins = edges.type.elements - 1
    first, last = e.slice_axis(edges, 0, 0, 1), e.slice_axis(edges, 0, bins, 1)
    inside = e.apply("logical_and", e.apply("ge", x, first), e.apply("le", x, last))
    return e.apply("sub", _search(e, edges, x, True, False), 1), inside


def _widths(e: Emitter, edges: Value) -> Value:
    bins = edges.type.elements - 1
    return e.apply("sub", e.slice_axis(edges, 0, 1, bins), e.slice_axis(edges, 0, 0, bins))


def _in_edges(e: Emitter, x: Value, edges: Value, weight: Value | None, density: bool) -> Value:
    """A histogram over the bins between `edges`."""
    x = _flat(e, x)
    place, inside = _bin(e, x, edges)
    weight = None if weight is None else _flat(e, weight)
    y = _count(e, edges.type.elements - 1, place, inside, weight, x.type.dtype)
    if density:
        y = e.apply("div", e.apply("div", y, e.reduce("sum", y, (0,), keepdims=True)), _widths(e, edges))
    return y


def _equal_edges(e: Emitter, x: Value, bins: int, range: Sequence[float] | None) -> Value:
    """Edges of equal bins over a range, or from the least element to the greatest."""
    dtype = x.type.dtype
    if range or not x.type.elements:
        low, high = map(float, range or (0, 0 if x.type.elements else 1))
        low, high = (low - 0.5, high + 0.5) if low == high else (low, high)
        return e.iota(bins + 1, dtype, low, (high - low) / bins)
    least, most = e.reduce("min", x, (0,)), e.reduce("max", x, (0,))
    same = e.apply("eq", least, most)
    first = e.where(same, e.apply("sub", least, 0.5), least)
    last = e.where(same, e.apply("add", most, 0.5), most)
    step = e.apply("div", e.apply("sub", last, first), bins)
    edges = e.apply("add", e.apply("mul", e.iota(bins + 1, dtype), step), first)
    return e.where(e.apply("eq", e.iota(bins + 1), bins), last, edges)


@lowers(aten.histogram.bin_ct)
def histogram(
    e: Emitter,
    x: Value,
    bins: int = 100,
    *,
    range: Sequence[float] | None = None,
    weight: Value | None = None,
    density: bool = False,
) -> list[Value]:
    flat = _flat(e, x)
    edges = _equal_edges(e, flat, bins, range)
    return [_in_edges(e, flat, edges, weight, density), edges]


@lowers(aten._histogramdd_bin_edges.default)
def histogram_grid_edges(
    e: Emitter,
    x: Value,
    bins: Sequence[int],
    *,
    range: Sequence[float] | None = None,
    weight: Value | None = None,
    density: bool = False,
) -> list[Value]:
    points = e.reshape(x, (math.prod(x.type.shape[:-1]), x.type.shape[-1]))
    return [
        _equal_edges(e, _flat(e, e.slice_axis(points, 1, i, 1)), n, range and range[2 * i : 2 * i + 2])
        for i, n in enumerate(bins)
    ]


@lowers(aten._histogramdd_from_bin_cts.default)
def histogram_grid(
    e: Emitter,
    x: Value,
    bins: Sequence[int],
    *,
    range: Sequence[float] | None = None,
    weight: Value | None = None,
    density: bool = False,
) -> Value:
    edges = histogram_grid_edges(e, x, bins, range=range)
    return histogram_grid_of_edges(e, x, edges, weight=weight, density=density)


@lowers(aten._histogramdd_from_bin_tensors.default)
def histogram_grid_of_edges(
    e: Emitter, x: Value, edges: Sequence[Value], *, weight: Value | None = None, density: bool = False
) -> Value:
    """Counts over a grid of bins: each point's bin along each axis, as one index."""
    points = e.reshape(x, (math.prod(x.type.shape[:-1]), x.type.shape[-1]))
    bins = [v.type.elements - 1 for v in edges]
    place, inside = e.constant(0, "i64"), e.constant(True, "i1")
    for i, axis_edges in enumerate(edges):
        along, within = _bin(e, _flat(e, e.slice_axis(points, 1, i, 1)), axis_edges)
        along = e.apply("minimum", e.apply("maximum", along, 0), bins[i] - 1)
        place = e.apply("add", e.apply("mul", place, bins[i]), along)
        inside = e.apply("logical_and", inside, within)
    weight = None if weight is None else _flat(e, weight)
    y = e.reshape(_count(e, math.prod(bins), place, inside, weight, x.type.dtype), bins)
    if density:
        y = e.apply("div", y, e.reduce("sum", y, list(builtins.range(len(bins)))))
        for i, axis_edges in enumerate(edges):
            y = e.apply("div", y, e.reshape(_widths(e, axis_edges), [n if a == i else 1 for a, n in enumerate(bins)]))
    return y


@lowers(aten.histogram.bins_tensor)
def histogram_edges(
    e: Emitter, x: Value, edges: Value, *, weight: Value | None = None, density: bool = False
) -> list[Value]:
    return [_in_edges(e, x, edges, weight, density), edges]


@lowers(aten.segment_reduce.default)
def segment_reduce(
    e: Emitter,
    x: Value,
    reduce: str,
    *,
    lengths: Value | None = None,
    indices: Value | None = None,
    offsets: Value | None = None,
    axis: int = 0,
    unsafe: bool = False,
    initial: Number | None = None,
) -> Value:
    """Runs along axis 0 become one row each: every row looks up its run among the ends of all runs."""
    given = lengths if lengths is not None else offsets
    if given is None or axis_of(axis, x.type.rank) != given.type.rank - 1:
        e.unsupported("segments by index, or along an axis that is not the last of their lengths")
    last = given.type.rank - 1
    if lengths is not None:
        ends = e.add(graph.Cumsum(e.cast(given, "i64"), axis=last))
    else:
        ends = e.slice_axis(e.cast(given, "i64"), last, 1, given.type.shape[-1] - 1)
    *batch, segments = ends.type.shape
    rows, n, tail = math.prod(batch), x.type.shape[last], x.type.shape[last + 1 :]
    start = {"sum": 0, "mean": 0, "max": -math.inf, "min": math.inf, "prod": 1}[reduce]
    place = _search(e, e.reshape(ends, (rows, segments)), e.expand(e.iota(n), (rows, n)), True, False)
    place = e.apply("add", place, e.reshape(e.iota(rows, step=segments + 1), (rows, 1)))  # past the last: to be cut off
    base = e.constant(start if initial is None else initial, x.type.dtype, (rows * (segments + 1), *tail))
    flat = e.reshape(x, (rows * n, *tail))
    y = scatter_rows(e, base, place, flat, 0, "sum" if reduce == "mean" else reduce, include_self=True)
    if reduce == "mean":
        none = e.constant(0, "i64", (rows * (segments + 1),))
        sizes = scatter_rows(e, none, place, e.constant(1, "i64"), 0, "sum")
        sizes = e.reshape(sizes, (sizes.type.elements, *(1,) * len(tail)))
        mean = e.apply("div", y, e.cast(sizes, x.type.dtype))
        y = e.where(e.apply("eq", sizes, 0), math.nan if initial is None else initial, mean, x.type.dtype)
    y = e.slice_axis(e.reshape(y, (rows, segments + 1, *tail)), 1, 0, segments)
    return e.reshape(y, (*batch, segments, *tail))
