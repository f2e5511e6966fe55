"""Reading and writing by index. All of it becomes gather and scatter of rows along one axis."""

from __future__ import annotations

from collections.abc import Sequence

from tilewright.compiler.dialects import graph
from tilewright.compiler.dialects.elementwise import broadcast
from tilewright.compiler.ir import Value

from ..dtypes import ir_dtype
from ..emitter import Emitter, Number, Shape, axis_of, product
from .normalisation import p_norm
from .registry import aten, lowers

Indices = Sequence[Value | None]


def gather_rows(e: Emitter, x: Value, indices: Value, axis: int) -> Value:
    """The rows of x along `axis`; the axes of `indices` stand where it was. An index below zero counts from the end."""
    return e.add(graph.Gather(x, indices, axis=axis))


def from_start(e: Emitter, index: Value, size: int) -> Value:
    """Indices below zero made to count from the start. Those of an iota need nothing."""
    source = index.op
    while isinstance(source, graph.Reshape):
        source = source.x.op
    if isinstance(source, graph.Iota) and source.start >= 0 and source.step >= 0:
        return index
    return e.where(e.apply("lt", index, 0), e.apply("add", index, size), index)


def linear_index(e: Emitter, indices: Sequence[Value], sizes: Shape) -> Value:
    """One index into axes of `sizes` taken as one, from an index into each; broadcast."""
    if len(indices) == 1:
        return indices[0]
    total: Value | None = None
    for i, index in enumerate(indices):
        step = product(sizes[i + 1 :])
        term = from_start(e, e.cast(index, "i64"), sizes[i])
        term = term if step == 1 else e.apply("mul", term, step)
        total = term if total is None else e.apply("add", total, term)
    assert total is not None
    return total


# ---------------------------------------------------------------- reading


@lowers(aten.embedding.default)
def embedding(
    e: Emitter,
    weight: Value,
    indices: Value,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Value:
    return gather_rows(e, weight, indices, 0)


@lowers(aten.embedding_renorm.default)
def embedding_renorm(e: Emitter, table: Value, indices: Value, max_norm: float, norm_type: float) -> Value:
    """The rows that are read, made as short as `max_norm` where they are longer; torch's own epsilon."""
    where = e.reshape(indices, (indices.type.elements,))
    rows = gather_rows(e, table, where, 0)
    size = e.reshape(p_norm(e, rows, float(norm_type)), (where.type.elements, 1))
    factor = e.apply("div", max_norm, e.apply("add", size, 1e-7))
    short = e.where(e.apply("gt", size, max_norm), factor, 1.0, table.type.dtype)
    return scatter_rows(e, table, where, e.apply("mul", rows, short), 0)


@lowers(aten.index_select.default)
def index_select(e: Emitter, x: Value, dim: int, index: Value) -> Value:
    rows = x if x.type.rank else e.reshape(x, (1,))
    y = gather_rows(e, rows, e.reshape(index, (index.type.elements,)), axis_of(dim, rows.type.rank))
    return y if x.type.rank else e.reshape(y, tuple(e.expected.shape))


@lowers(aten.index.Tensor)
def index(e: Emitter, x: Value, indices: Indices) -> Value:
    """x[i, j, ...]: the indexed axes become one, and one linear index picks rows of it."""
    for i in indices:
        if i is not None and i.type.dtype in ("i1", "ui8"):
            e.unsupported("indexing by a mask, whose result has no fixed shape")
    axes = [a for a, i in enumerate(indices) if i is not None]
    given = [i for i in indices if i is not None]
    order, first = _bring_together(axes, x.type.rank)
    sizes = tuple(x.type.shape[a] for a in axes)
    x = e.transpose(x, order)
    shape = x.type.shape
    rows = e.reshape(x, (*shape[:first], product(sizes), *shape[first + len(axes) :]))
    return gather_rows(e, rows, linear_index(e, given, sizes), first)


def _bring_together(axes: Sequence[int], rank: int) -> tuple[tuple[int, ...], int]:
    """A permutation that puts `axes` side by side, and where: in place if they are so already, else first, as numpy."""
    first = axes[0] if list(axes) == list(range(axes[0], axes[0] + len(axes))) else 0
    rest = [a for a in range(rank) if a not in axes]
    return (*rest[:first], *axes, *rest[first:]), first


@lowers(aten.gather.default)
def gather(e: Emitter, x: Value, dim: int, index: Value, sparse_grad: bool = False) -> Value:
    """y[i, j] = x[i, index[i, j]] for dim 1: rows of one element by a linear index."""
    if not x.type.rank:
        return e.expand(x, index.type.shape)
    axis = axis_of(dim, x.type.rank)
    flat = e.reshape(x, (x.type.elements,))
    return gather_rows(e, flat, _element_index(e, x.type.shape, axis, index), 0)


def _element_index(e: Emitter, shape: Shape, axis: int, index: Value) -> Value:
    """Linear positions in a tensor of `shape` of the elements that `index` names along `axis`."""
    others = [a for a, n in enumerate(shape) if a == axis or n > 1]
    parts = [index if a == axis else e.index_along(index.type.shape, a) for a in others]
    y = linear_index(e, parts, tuple(shape[a] for a in others))
    return e.expand(y, index.type.shape)


@lowers(aten.take.default)
def take(e: Emitter, x: Value, index: Value) -> Value:
    return gather_rows(e, e.reshape(x, (x.type.elements,)), index, 0)


@lowers(aten.flip.default)
def flip(e: Emitter, x: Value, dims: Sequence[int]) -> Value:
    for dim in dims:
        axis = axis_of(dim, x.type.rank)
        n = x.type.shape[axis]
        x = gather_rows(e, x, e.iota(n, start=n - 1, step=-1), axis)
    return x


# ---------------------------------------------------------------- writing


REDUCTIONS = {  # torch's names, old and new
    "add": "sum",
    "sum": "sum",
    "multiply": "prod",
    "prod": "prod",
    "amax": "max",
    "amin": "min",
    "mean": "mean",
}


def scatter_rows(
    e: Emitter,
    base: Value,
    indices: Value,
    value: Value,
    axis: int,
    kind: str | None = None,
    include_self: bool = True,
) -> Value:
    """`base` with rows along `axis` replaced, or combined where `kind` names a reduction; `value` is broadcast."""
    count = indices.type.elements
    shape = tuple(count if a == axis else n for a, n in enumerate(base.type.shape))
    value = e.expand(e.cast(value, base.type.dtype), shape)
    indices = e.reshape(indices, (count,))
    if kind is None:
        return e.add(graph.Scatter(base, indices, value, axis=axis))
    return e.add(graph.ScatterReduce(base, indices, value, axis=axis, kind=kind, include_self=include_self))


@lowers(aten.index_copy.default)
def index_copy(e: Emitter, x: Value, dim: int, index: Value, source: Value) -> Value:
    base = x if x.type.rank else e.reshape(x, (1,))
    source = source if source.type.rank or not x.type.rank else e.reshape(source, (1,) * x.type.rank)
    return e.reshape(scatter_rows(e, base, index, source, axis_of(dim, base.type.rank)), x.type.shape)


@lowers(aten.index_fill.int_Scalar, aten.index_fill.int_Tensor)
def index_fill(e: Emitter, x: Value, dim: int, index: Value, value: Value | Number) -> Value:
    base = x if x.type.rank else e.reshape(x, (1,))
    y = scatter_rows(e, base, index, e.value(value, x.type.dtype), axis_of(dim, base.type.rank))
    return e.reshape(y, x.type.shape)


@lowers(aten.index_put.default)
def index_put(e: Emitter, x: Value, indices: Indices, values: Value, accumulate: bool = False) -> Value:
    """x[i, j, ...] = values. A mask that covers the leading axes selects between old and new."""
    axes = [a for a, i in enumerate(indices) if i is not None]
    given = [i for i in indices if i is not None]
    if given[0].type.dtype in ("i1", "ui8"):
        if len(given) > 1:
            e.unsupported("writing through a mask and another index")
        return _put_through_mask(e, x, axes[0], given[0], e.cast(values, x.type.dtype), accumulate)
    order, first = _bring_together(axes, x.type.rank)
    sizes = tuple(x.type.shape[a] for a in axes)
    turned = e.transpose(x, order)
    shape = turned.type.shape
    tail = shape[first + len(axes) :]
    points = broadcast(*(i.type.shape for i in given))
    rows = e.reshape(turned, (*shape[:first], product(sizes), *tail))
    where = e.expand(linear_index(e, given, sizes), points)
    new = e.expand(e.cast(values, x.type.dtype), (*shape[:first], *points, *tail))
    new = e.reshape(new, (*shape[:first], product(points), *tail))
    kind = "sum" if accumulate else None
    y = e.reshape(scatter_rows(e, rows, where, new, first, kind), shape)
    return e.transpose(y, tuple(order.index(a) for a in range(len(order))))


def _put_through_mask(e: Emitter, x: Value, axis: int, mask: Value, values: Value, accumulate: bool) -> Value:
    """Of the axes from `axis` that the mask covers one is made; `values` has a row for each place where it holds, or
    one row for all of them."""
    shape, covered = x.type.shape, mask.type.rank
    head, tail = shape[:axis], shape[axis + covered :]
    rows = e.reshape(x, (*head, mask.type.elements, *tail))
    hit = e.reshape(e.cast(mask, "i1"), (mask.type.elements, *(1,) * len(tail)))
    new = values
    if values.type.rank > len(tail) and values.type.shape[-len(tail) - 1] != 1:
        at = values.type.rank - len(tail) - 1
        count = e.add(graph.Cumsum(e.cast(e.reshape(hit, (mask.type.elements,)), "i64"), axis=0))
        place = e.apply("maximum", e.apply("sub", count, 1), 0)
        new = gather_rows(e, values, e.apply("minimum", place, values.type.shape[at] - 1), at)
    new = e.where(hit, e.apply("add", rows, new) if accumulate else new, rows, x.type.dtype)
    return e.reshape(new, shape)


@lowers(aten.scatter)
def scatter(
    e: Emitter,
    x: Value,
    dim: int,
    index: Value,
    source: Value | Number,
    reduce: str | None = None,
    include_self: bool = True,
) -> Value:
    """x[i, index[i, j]] = source[i, j] for dim 1: single elements by a linear index."""
    value = e.value(source, x.type.dtype)
    kind = None if reduce is None else REDUCTIONS[reduce]
    if not x.type.rank:
        x, index = e.reshape(x, (1,)), e.reshape(index, (index.type.elements,))
        value = e.reshape(value, (1,)) if isinstance(source, Value) else value
        return e.reshape(scatter(e, x, 0, index, value, reduce, include_self), ())
    axis = axis_of(dim, x.type.rank)
    if not index.type.rank:
        index = e.reshape(index, (1,))
    if value.type.rank:
        value = e.slice(value, (0,) * value.type.rank, index.type.shape)
        value = e.reshape(value, (index.type.elements,))
    flat = e.reshape(x, (x.type.elements,))
    where = _element_index(e, x.type.shape, axis, index)
    return e.reshape(scatter_rows(e, flat, where, value, 0, kind, include_self), x.type.shape)


@lowers(aten.scatter_add.default)
def scatter_add(e: Emitter, x: Value, dim: int, index: Value, source: Value) -> Value:
    return scatter(e, x, dim, index, source, "sum")


@lowers(aten.scatter_reduce.two)
def scatter_reduce(
    e: Emitter, x: Value, dim: int, index: Value, source: Value, reduce: str, include_self: bool = True
) -> Value:
    return scatter(e, x, dim, index, source, reduce, include_self)


@lowers(aten.index_add.default)
def index_add(e: Emitter, x: Value, dim: int, index: Value, source: Value, alpha: Number = 1) -> Value:
    source = source if alpha == 1 else e.apply("mul", source, alpha, dtype=x.type.dtype)
    return index_reduce(e, x, dim, index, source, "sum")


@lowers(aten.index_reduce.default)
def index_reduce(
    e: Emitter, x: Value, dim: int, index: Value, source: Value, reduce: str, include_self: bool = True
) -> Value:
    base = x if x.type.rank else e.reshape(x, (1,))
    source = source if source.type.rank else e.reshape(source, (1,))
    axis = axis_of(dim, base.type.rank)
    y = scatter_rows(e, base, index, source, axis, REDUCTIONS[reduce], include_self)
    return e.reshape(y, x.type.shape)


@lowers(aten.masked_scatter.default)
def masked_scatter(e: Emitter, x: Value, mask: Value, source: Value) -> Value:
    """The elements of `source`, in order, where the mask holds."""
    shape = tuple(e.expected.shape)
    hit = e.expand(mask, shape)
    flat = e.reshape(hit, (product(shape),))
    place = e.apply("sub", e.add(graph.Cumsum(e.cast(flat, "i64"), axis=0)), 1)
    place = e.apply("minimum", e.apply("maximum", place, 0), source.type.elements - 1)
    picked = gather_rows(e, e.reshape(source, (source.type.elements,)), place, 0)
    return e.where(hit, e.reshape(picked, shape), e.expand(x, shape), x.type.dtype)


@lowers(aten._embedding_bag_forward_only.default, aten._embedding_bag.default)
def embedding_bag(
    e: Emitter,
    weight: Value,
    indices: Value,
    offsets: Value,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Value | None = None,
    include_last_offset: bool = False,
    padding_idx: int = -1,
) -> list[Value]:
    """Rows of the table, each bag of them by sum, mean or maximum; what a backward pass would need is not made."""
    n, bags = indices.type.elements, offsets.type.elements - include_last_offset
    starts = e.slice_axis(e.cast(offsets, "i64"), 0, 0, bags)
    bag = e.apply("sub", e.add(graph.SearchSorted(starts, e.iota(n), right=True)), 1)
    if padding_idx >= 0:  # to a row that is cut off
        bag = e.where(e.apply("eq", e.cast(indices, "i64"), padding_idx), bags, bag, "i64")
    rows = gather_rows(e, weight, indices, 0)
    if per_sample_weights is not None:
        rows = e.apply("mul", rows, e.reshape(per_sample_weights, (n, 1)))
    kind = ("sum", "mean", "max")[mode]
    base = e.constant(0, weight.type.dtype, (bags + 1, weight.type.shape[1]))
    y = scatter_rows(e, base, bag, rows, 0, kind, include_self=False)
    unused = [e.constant(0, ir_dtype(t.dtype), tuple(t.shape)) for t in e.expected[1:]]
    return [e.slice_axis(y, 0, 0, bags), *unused]


@lowers(aten.put.default)
def put(e: Emitter, x: Value, index: Value, source: Value, accumulate: bool = False) -> Value:
    flat = e.reshape(x, (x.type.elements,))
    value = e.reshape(source, (source.type.elements,))
    return e.reshape(scatter_rows(e, flat, index, value, 0, "sum" if accumulate else None), x.type.shape)


@lowers(aten.nonzero_static.default)
def nonzero_static(e: Emitter, x: Value, *, size: int, fill_value: int = -1) -> Value:
    """The first `size` places where x is not zero: each counts those before it, and goes there; the rest to a row
    behind the table, which is cut off."""
    shape = x.type.shape if x.type.rank else (1,)
    hit = e.reshape(e.cast(x, "i1"), (x.type.elements,))
    count = e.add(graph.Cumsum(e.cast(hit, "i64"), axis=0))
    place = e.where(hit, e.apply("minimum", e.apply("sub", count, 1), size), size, "i64")
    columns = [e.reshape(e.expand(e.index_along(shape, a), shape), (x.type.elements, 1)) for a in range(x.type.rank)]
    if not columns:
        return e.constant(0, "i64", (size, 0))
    table = e.constant(fill_value, "i64", (size + 1, len(columns)))
    return e.slice_axis(scatter_rows(e, table, place, e.concat(columns, 1), 0), 0, 0, size)
