"""Movement: views, joins, repetition, and what only changes how elements are seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tilewright.compiler.ir import Value

from ..aliasing import Expanded, Permuted, Reshaped, Same, Sliced, Strided, View, Windows
from ..dtypes import ir_dtype, result_type
from ..emitter import Emitter, axis_of, product
from .registry import aten, lowers

# ---------------------------------------------------------------- no change


@lowers(aten.dropout.default, aten.feature_dropout.default, aten.alpha_dropout.default)
def dropout(e: Emitter, x: Value, p: float, train: bool) -> View:
    """In eval torch hands back the very tensor it was given."""
    return Same(always=True) if not train or p == 0 else e.unsupported("dropout in training; call model.eval()")


@lowers(aten.alias.default, aten.detach.default, aten.lift_fresh_copy.default, aten.lift.default)
@lowers(
    aten.contiguous.default,
    aten.clone.default,
    aten.positive.default,
    aten.resolve_conj.default,
    aten.conj_physical.default,
    aten._conj_physical.default,
    aten.resolve_neg.default,
)
def same(e: Emitter, x: Value, **_: Any) -> View:
    return Same()


# ---------------------------------------------------------------- views of all elements


@lowers(aten.view.default, aten.reshape.default, aten._unsafe_view.default, aten.flatten.using_ints, aten.unflatten.int)
@lowers(aten.squeeze, aten.unsqueeze.default, aten.view_as.default, aten.reshape_as.default)
def reshaped(e: Emitter, x: Value, *_: Any) -> View:
    """To whatever shape torch's own result has."""
    return Reshaped(tuple(e.expected.shape))


@lowers(aten.permute.default)
def permute(e: Emitter, x: Value, dims: Sequence[int]) -> View:
    return Permuted(tuple(axis_of(d, x.type.rank) for d in dims))


@lowers(aten.transpose.int, aten.swapaxes.default, aten.swapdims.default)
def transpose(e: Emitter, x: Value, a: int, b: int) -> View:
    if not x.type.rank:
        return Same()
    order = list(range(x.type.rank))
    a, b = axis_of(a, x.type.rank), axis_of(b, x.type.rank)
    order[a], order[b] = b, a
    return Permuted(tuple(order))


@lowers(aten.t.default, aten.numpy_T.default, aten.mT.default)
def matrix_transpose(e: Emitter, x: Value) -> View:
    return transpose(e, x, -1, -2) if x.type.rank > 1 else Same()


@lowers(aten.movedim)
def movedim(e: Emitter, x: Value, source: int | Sequence[int], destination: int | Sequence[int]) -> View:
    rank = x.type.rank
    sources = [axis_of(d, rank) for d in ([source] if isinstance(source, int) else source)]
    targets = [axis_of(d, rank) for d in ([destination] if isinstance(destination, int) else destination)]
    placed = dict(zip(targets, sources, strict=True))
    rest = iter([i for i in range(rank) if i not in sources])
    return Permuted(tuple(placed[i] if i in placed else next(rest) for i in range(rank)))


@lowers(aten.expand.default, aten.expand_as.default, aten.broadcast_to.default)
def expand(e: Emitter, x: Value, *_: Any, **__: Any) -> View:
    return Expanded(tuple(e.expected.shape))


# ---------------------------------------------------------------- views of some elements


@lowers(aten.slice.Tensor)
def slice_(e: Emitter, x: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> View:
    axis = axis_of(dim, x.type.rank)
    picked = range(x.type.shape[axis])[slice(start, end, step)]
    return Sliced(axis, picked.start, len(picked), step)


@lowers(aten.narrow.default)
def narrow(e: Emitter, x: Value, dim: int, start: int, length: int) -> View:
    axis = axis_of(dim, x.type.rank)
    return Sliced(axis, start % max(x.type.shape[axis], 1) if start < 0 else start, length)


@lowers(aten.select.int)
def select(e: Emitter, x: Value, dim: int, index: int) -> View:
    axis = axis_of(dim, x.type.rank)
    return Sliced(axis, index % x.type.shape[axis], 1, drop=True)


def _row_major(shape: Sequence[int]) -> list[int]:
    return [product(shape[i + 1 :]) for i in range(len(shape))]


@lowers(aten.as_strided.default, aten.as_strided_copy.default)
def as_strided(e: Emitter, x: Value, size: Sequence[int], stride: Sequence[int], offset: int | None = None) -> View:
    """Into the storage of x, which must be all of its storage, in row-major order."""
    if not e.first.is_contiguous() or e.first.storage_offset() or e.first._is_view():
        e.unsupported("as_strided of a tensor that is a view of another")
    return Strided(tuple(size), tuple(stride), offset or 0)


@lowers(aten.as_strided_scatter.default)
def as_strided_scatter(
    e: Emitter, x: Value, source: Value, size: Sequence[int], stride: Sequence[int], offset: int | None = None
) -> Value:
    return as_strided(e, x, size, stride, offset).write(e, x, source)


@lowers(aten.linalg_diagonal.default)
def linalg_diagonal(e: Emitter, x: Value, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> View:
    return diagonal(e, x, offset, dim1, dim2)


@lowers(aten.diagonal.default, aten.diagonal_copy.default)
def diagonal(e: Emitter, x: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> View:
    rank, strides = x.type.rank, _row_major(x.type.shape)
    a, b = axis_of(dim1, rank), axis_of(dim2, rank)
    rest = [i for i in range(rank) if i not in (a, b)]
    start = offset * strides[b] if offset >= 0 else -offset * strides[a]
    length = max(min(x.type.shape[a] + min(offset, 0), x.type.shape[b] - max(offset, 0)), 0)
    shape = (*(x.type.shape[i] for i in rest), length)
    return Strided(shape, (*(strides[i] for i in rest), strides[a] + strides[b]), start if length else 0)


@lowers(aten.diagonal_scatter.default)
def diagonal_scatter(e: Emitter, x: Value, source: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    return diagonal(e, x, offset, dim1, dim2).write(e, x, source)


@lowers(aten.unfold.default, aten.unfold_copy.default)
def unfold(e: Emitter, x: Value, dim: int, size: int, step: int) -> View:
    """Windows along an axis, each in a new last axis."""
    if not x.type.rank:
        return Reshaped((size,)) if size else e.unsupported("unfold of a scalar into nothing")
    return Windows(axis_of(dim, x.type.rank), size, step)


@lowers(aten.trace.default)
def trace(e: Emitter, x: Value) -> Value:
    y = diagonal(e, x).read(e, x)
    return e.reduce("sum", e.cast(y, ir_dtype(e.expected.dtype)), (0,))


@lowers(aten.diag.default)
def diag(e: Emitter, x: Value, offset: int = 0) -> Value:
    """Of a matrix its diagonal, of a vector the matrix that has it."""
    if x.type.rank == 2:
        return diagonal(e, x, offset).read(e, x)
    return diag_embed(e, x, offset)


@lowers(aten.diag_embed.default)
def diag_embed(e: Emitter, x: Value, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Value:
    """Matrices of zeros but for a diagonal, over two new axes."""
    rank, n = x.type.rank + 1, x.type.shape[-1] + abs(offset)
    zeros = e.constant(0, x.type.dtype, (*x.type.shape[:-1], n, n))
    y = diagonal(e, zeros, offset, rank - 2, rank - 1).write(e, zeros, x)
    a, b = axis_of(dim1, rank), axis_of(dim2, rank)
    rest = iter(range(rank - 2))
    return e.transpose(y, [rank - 2 if i == a else rank - 1 if i == b else next(rest) for i in range(rank)])


@lowers(aten.unbind.int)
def unbind(e: Emitter, x: Value, dim: int = 0) -> list[View]:
    return [select(e, x, dim, i) for i in range(x.type.shape[dim])]


@lowers(aten.split, aten.chunk.default, aten.split_with_sizes.default, aten.tensor_split)
def split(e: Emitter, x: Value, _: Any, dim: int = 0) -> list[View]:
    """Parts of the sizes that torch's own results have."""
    axis = axis_of(dim, x.type.rank)
    parts, start = [], 0
    for part in e.expected:
        size = part.shape[axis]
        parts.append(Sliced(axis, start, size))
        start += size
    return parts


@lowers(aten.slice_scatter.default)
def slice_scatter(
    e: Emitter, x: Value, source: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Value:
    return slice_(e, x, dim, start, end, step).write(e, x, source)


@lowers(aten.select_scatter.default)
def select_scatter(e: Emitter, x: Value, source: Value, dim: int, index: int) -> Value:
    return select(e, x, dim, index).write(e, x, source)


# ---------------------------------------------------------------- joins and repetition


@lowers(aten.cat.default, aten.concat.default)
def cat(e: Emitter, tensors: Sequence[Value], dim: int = 0) -> Value:
    """Tensors of one dtype by promotion; torch skips vectors without elements."""
    dtype = result_type(*tensors)
    parts = [e.cast(t, dtype) for t in tensors if t.type.shape != (0,)] or [e.cast(tensors[0], dtype)]
    return e.concat(parts, axis_of(dim, parts[0].type.rank))


@lowers(aten.stack.default)
def stack(e: Emitter, tensors: Sequence[Value], dim: int = 0) -> Value:
    axis = axis_of(dim, tensors[0].type.rank + 1)
    shape = tensors[0].type.shape
    return cat(e, [e.reshape(t, (*shape[:axis], 1, *shape[axis:])) for t in tensors], axis)


@lowers(aten.hstack.default)
def hstack(e: Emitter, tensors: Sequence[Value]) -> Value:
    return cat(e, tensors, min(1, tensors[0].type.rank - 1))


@lowers(aten.repeat.default, aten.tile.default)
def repeat(e: Emitter, x: Value, repeats: Sequence[int]) -> Value:
    rank = max(x.type.rank, len(repeats))
    shape = (*(1,) * (rank - x.type.rank), *x.type.shape)
    counts = (*(1,) * (rank - len(repeats)), *repeats)
    split = e.reshape(x, [n for s in shape for n in (1, s)])
    wide = e.expand(split, [n for c, s in zip(counts, shape, strict=True) for n in (c, s)])
    return e.reshape(wide, [c * s for c, s in zip(counts, shape, strict=True)])


@lowers(aten.repeat_interleave.self_int)
def repeat_interleave(
    e: Emitter, x: Value, repeats: int, dim: int | None = None, output_size: int | None = None
) -> Value:
    if dim is None:
        x, dim = e.reshape(x, (product(x.type.shape),)), 0
    axis, shape = axis_of(dim, x.type.rank), x.type.shape
    split = e.reshape(x, (*shape[: axis + 1], 1, *shape[axis + 1 :]))
    wide = e.expand(split, (*shape[: axis + 1], repeats, *shape[axis + 1 :]))
    return e.reshape(wide, (*shape[:axis], shape[axis] * repeats, *shape[axis + 1 :]))


@lowers(aten.meshgrid.default, aten.meshgrid.indexing)
def meshgrid(e: Emitter, tensors: Sequence[Value], indexing: str = "ij") -> list[Value]:
    shape = tuple(e.expected[0].shape)
    axes = list(range(len(tensors)))
    if indexing == "xy" and len(axes) > 1:
        axes[0], axes[1] = 1, 0
    placed = [
        tuple(t.type.elements if i == a else 1 for i in range(len(shape))) for t, a in zip(tensors, axes, strict=True)
    ]
    return [e.expand(e.reshape(t, p), shape) for t, p in zip(tensors, placed, strict=True)]


# ---------------------------------------------------------------- rearrangement


@lowers(aten.roll.default)
def roll(e: Emitter, x: Value, shifts: Sequence[int], dims: Sequence[int] = ()) -> Value:
    shape = x.type.shape
    if not dims:
        return e.reshape(roll(e, e.reshape(x, (product(shape),)), shifts, (0,)), shape)
    for shift, dim in zip(shifts, dims, strict=True):
        axis = axis_of(dim, len(shape))
        n = shape[axis]
        if n and shift % n:
            head, tail = e.slice_axis(x, axis, 0, n - shift % n), e.slice_axis(x, axis, n - shift % n, shift % n)
            x = e.concat([tail, head], axis)
    return x


@lowers(aten.pixel_shuffle.default)
def pixel_shuffle(e: Emitter, x: Value, factor: int) -> Value:
    *batch, channels, height, width = x.type.shape
    outputs, n = channels // factor**2, len(batch)
    y = e.reshape(x, (*batch, outputs, factor, factor, height, width))
    y = e.transpose(y, (*range(n), n, n + 3, n + 1, n + 4, n + 2))
    return e.reshape(y, (*batch, outputs, height * factor, width * factor))


@lowers(aten.pixel_unshuffle.default)
def pixel_unshuffle(e: Emitter, x: Value, factor: int) -> Value:
    *batch, channels, height, width = x.type.shape
    n = len(batch)
    y = e.reshape(x, (*batch, channels, height // factor, factor, width // factor, factor))
    y = e.transpose(y, (*range(n), n, n + 2, n + 4, n + 1, n + 3))
    return e.reshape(y, (*batch, channels * factor**2, height // factor, width // factor))


@lowers(aten.channel_shuffle.default)
def channel_shuffle(e: Emitter, x: Value, groups: int) -> Value:
    batch, channels, *space = x.type.shape
    y = e.reshape(x, (batch, groups, channels // groups, *space))
    y = e.transpose(y, (0, 2, 1, *range(3, 3 + len(space))))
    return e.reshape(y, x.type.shape)


@lowers(aten.diff.default)
def diff(
    e: Emitter, x: Value, n: int = 1, dim: int = -1, prepend: Value | None = None, append: Value | None = None
) -> Value:
    if not n:
        return x
    axis = axis_of(dim, x.type.rank)
    x = cat(e, [t for t in (prepend, x, append) if t is not None], axis)
    for _ in range(n):
        size = max(x.type.shape[axis] - 1, 0)
        high, low = e.slice_axis(x, axis, min(1, size), size), e.slice_axis(x, axis, 0, size)
        x = e.apply("ne" if x.type.dtype == "i1" else "sub", high, low)
    return x
