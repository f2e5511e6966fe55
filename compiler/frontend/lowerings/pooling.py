"""Pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Value, is_float

from ..emitter import Emitter, Shape, pair, product
from .contraction import along_axis
from .registry import aten, lowers

Sizes = int | Sequence[int]


def _padding(x: Shape, y: Shape, kernel: Shape, strides: Shape, padding: Shape, dilations: Shape) -> Shape:
    """(low, high) for each axis, so that windows make the output `y`; with ceil_mode the last one may hang over."""
    sides = []
    for i, n in enumerate(x):
        reach = (kernel[i] - 1) * dilations[i] + 1
        sides += [padding[i], max(padding[i], (y[i] - 1) * strides[i] + reach - n - padding[i])]
    return tuple(sides)


def _pool(
    e: Emitter, kind: str, x: Value, kernel: Shape, strides: Shape, padding: Shape, dilations: Shape, sizes: Shape
) -> Value:
    rank = len(kernel)
    for i, n in enumerate(x.type.shape[-rank:]):  # a lone window reaches no further than the tensor
        if sizes[i] == dilations[i] == 1 and kernel[i] > n - padding[i]:
            kernel, strides, padding = (
                _put(kernel, i, min(kernel[i] - padding[i], n)),
                _put(strides, i, n),
                _put(padding, i, 0),
            )
    sides = _padding(x.type.shape[-rank:], sizes, kernel, strides, padding, dilations)
    options: dict[str, Any] = {"dilations": dilations} if any(d != 1 for d in dilations) else {}
    y = e.add(graph.Pool(x, kind=kind, kernel=kernel, strides=strides, padding=sides, **options))
    starts = (0,) * y.type.rank  # a window that fits past the last one torch takes is dropped
    return e.slice(y, starts, (*y.type.shape[:-rank], *sizes))


def _put(sizes: Shape, index: int, size: int) -> Shape:
    return (*sizes[:index], size, *sizes[index + 1 :])


@lowers(aten.max_pool1d.default, aten.max_pool2d.default, aten.max_pool3d.default)
def max_pool(
    e: Emitter,
    x: Value,
    kernel: Sizes,
    stride: Sizes = (),
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
) -> Value:
    rank = len(kernel) if not isinstance(kernel, int) else x.type.rank - 2
    window = pair(kernel, rank)
    sizes = tuple(e.expected.shape[-rank:])
    return _pool(e, "max", x, window, pair(stride, rank) or window, pair(padding, rank), pair(dilation, rank), sizes)


@lowers(aten.avg_pool1d.default, aten.avg_pool2d.default, aten.avg_pool3d.default)
def avg_pool(
    e: Emitter,
    x: Value,
    kernel: Sizes,
    stride: Sizes = (),
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    """A sum pool times one over the count, which differs at the edges where padding does not count."""
    rank = len(kernel) if not isinstance(kernel, int) else x.type.rank - 2
    window, around = pair(kernel, rank), pair(padding, rank)
    strides = pair(stride, rank) or window
    sizes = tuple(e.expected.shape[-rank:])
    total = _pool(e, "sum", x, window, strides, around, (1,) * rank, sizes)
    if divisor_override:
        return _divided(e, total, [divisor_override], ())
    counts = [
        _counts(n, y, k, s, p, count_include_pad)
        for n, y, k, s, p in zip(x.type.shape[-rank:], sizes, window, strides, around, strict=True)
    ]
    for i, axis_counts in enumerate(counts):
        if len(set(axis_counts)) == 1:
            total = _divided(e, total, axis_counts[:1], ())
        else:
            total = _divided(e, total, axis_counts, (len(axis_counts), *(1,) * (rank - 1 - i)))
    return total


def _divided(e: Emitter, x: Value, counts: Sequence[int], shape: Shape) -> Value:
    """Divided by counts of that shape; integers towards zero."""
    if list(counts) == [1]:
        return x
    if not is_float(x.type.dtype):
        quotient = e.apply("trunc", e.apply("div", x, e.table(counts, "f64", shape), dtype="f64"))
        return e.cast(quotient, x.type.dtype)
    if not shape:
        return e.apply("mul", x, 1 / counts[0])
    return e.apply("mul", x, e.table([1 / c for c in counts], x.type.dtype, shape))


def _counts(n: int, y: int, kernel: int, stride: int, padding: int, include_pad: bool) -> list[int]:
    """How many elements each window along one axis averages; those past the padded end never count."""
    low, high = (-padding, n + padding) if include_pad else (0, n)
    starts = [i * stride - padding for i in range(y)]
    return [min(s + kernel, high) - max(s, low) for s in starts]


@lowers(aten.adaptive_avg_pool1d.default, aten.adaptive_avg_pool2d.default, aten.adaptive_avg_pool3d.default)
@lowers(aten._adaptive_avg_pool2d.default, aten._adaptive_avg_pool3d.default)
def adaptive_avg_pool(e: Emitter, x: Value, size: Sequence[int]) -> Value:
    """To one element a mean, in whole windows a pool, otherwise a product with a matrix of averages for each axis."""
    rank = len(size)
    space, sizes = x.type.shape[-rank:], tuple(e.expected.shape[-rank:])
    axes = range(x.type.rank - rank, x.type.rank)
    if product(sizes) == 1:
        return e.reduce("mean", x, axes, keepdims=True)
    if all(n % s == 0 for n, s in zip(space, sizes, strict=True)):
        kernel = tuple(n // s for n, s in zip(space, sizes, strict=True))
        total = _pool(e, "sum", x, kernel, kernel, (0,) * rank, (1,) * rank, sizes)
        return e.apply("mul", total, 1 / product(kernel))
    for axis in axes:
        x = _average_axis(e, x, axis, e.expected.shape[axis])
    return x


def _average_axis(e: Emitter, x: Value, axis: int, size: int) -> Value:
    """Windows from floor(i * n / size) to ceil((i + 1) * n / size) along one axis, averaged."""
    n = x.type.shape[axis]
    if n == size:
        return x
    windows = [(i * n // size, -(-(i + 1) * n // size)) for i in range(size)]
    weights = [1 / (high - low) if low <= j < high else 0.0 for low, high in windows for j in range(n)]
    return along_axis(e, x, axis, e.table(weights, x.type.dtype, (size, n)))


@lowers(aten.adaptive_max_pool1d.default, aten.adaptive_max_pool2d.default, aten.adaptive_max_pool3d.default)
def adaptive_max_pool(e: Emitter, x: Value, size: Sequence[int]) -> list[Value]:
    """In whole windows a pool; otherwise a gather of the elements of each window, padded with its first one."""
    sizes = tuple(e.expected[0].shape[-len(size) :])
    space, rank = x.type.shape[-len(size) :], len(size)
    if all(s and n and n % s == 0 for n, s in zip(space, sizes, strict=True)):
        kernel = tuple(n // s for n, s in zip(space, sizes, strict=True))
        none, ones = (0,) * rank, (1,) * rank
        options = {"strides": kernel, "padding": none * 2, "dilations": ones}
        return [
            _pool(e, "max", x, kernel, kernel, none, ones, sizes),
            e.add(graph.PoolIndex(x, kernel=kernel, **options)),
        ]
    lead = x.type.shape[:-rank]
    places = [0]
    for n, s in zip(space, sizes, strict=True):
        windows = [range(i * n // s, -(-(i + 1) * n // s)) for i in range(s)]
        places = [(p, w) for p in places for w in windows]  # type: ignore[misc]
    picked = [_flat(p, space, rank) for p in places]
    longest = max((len(p) for p in picked), default=1)
    table = [i for p in picked for i in (*p, *p[:1] * (longest - len(p)))]
    index = e.table(table, "i64", (len(picked), longest))
    rows = e.gather(e.reshape(x, (*lead, product(space))), index, len(lead))
    best = e.add(graph.Argmax(rows, axis=len(lead) + 1))
    hit = e.apply("eq", e.index_along(rows.type.shape, len(lead) + 1), best)
    where = e.reduce("sum", e.where(hit, index, 0, "i64"), (len(lead) + 1,))
    shape = (*lead, *sizes)
    return [e.reshape(e.reduce("max", rows, (len(lead) + 1,)), shape), e.reshape(where, shape)]


def _flat(place: Any, space: Shape, rank: int) -> tuple[int, ...]:
    """The plane's indices of one window, which is given as nested pairs (outer axes, range of the last axis)."""
    ranges: list[range] = []
    while rank:
        place, last = place
        ranges.insert(0, last)
        rank -= 1
    indices = [0]
    for n, r in zip(space, ranges, strict=True):
        indices = [i * n + j for i in indices for j in r]
    return tuple(indices)


@lowers(
    aten.max_pool1d_with_indices.default, aten.max_pool2d_with_indices.default, aten.max_pool3d_with_indices.default
)
def max_pool_with_indices(
    e: Emitter,
    x: Value,
    kernel: Sizes,
    stride: Sizes = (),
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
) -> list[Value]:
    """The maxima, and where each lies in its plane; what nobody reads goes away."""
    e.expected = e.expected[0]
    rank = len(kernel) if not isinstance(kernel, int) else x.type.rank - 2
    window = pair(kernel, rank)
    strides, dilations = pair(stride, rank) or window, pair(dilation, rank)
    sizes = tuple(e.expected.shape[-rank:])
    sides = _padding(x.type.shape[-rank:], sizes, window, strides, pair(padding, rank), dilations)
    index = e.add(graph.PoolIndex(x, kernel=window, strides=strides, padding=sides, dilations=dilations))
    starts = (0,) * index.type.rank
    index = e.slice(index, starts, (*index.type.shape[:-rank], *sizes))
    return [max_pool(e, x, kernel, stride, padding, dilation, ceil_mode), index]
