"""Convolutions, also transposed where windows do not overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Value

from ..emitter import Emitter, both_sides, pair
from .contraction import matrix_product
from .registry import aten, lowers


def convolve(
    e: Emitter,
    x: Value,
    w: Value,
    bias: Value | None,
    stride: int | Sequence[int],
    padding: Sequence[int],
    dilation: int | Sequence[int],
    groups: int,
) -> Value:
    """graph.conv with `padding` as (low, high) for each spatial axis; an input without a batch gains one of size 1."""
    rank = w.type.rank - 2
    batched = x if x.type.rank == rank + 2 else e.reshape(x, (1, *x.type.shape))
    dilations = pair(dilation, rank)
    options: dict[str, Any] = {"dilations": dilations} if any(d != 1 for d in dilations) else {}
    if groups != 1:
        options["groups"] = groups
    operands = [batched, w] if bias is None else [batched, w, bias]
    y = e.add(graph.Conv(*operands, strides=pair(stride, rank), padding=tuple(padding), **options))
    return y if batched is x else e.reshape(y, y.type.shape[1:])


@lowers(aten.conv1d.default, aten.conv2d.default, aten.conv3d.default)
def conv(
    e: Emitter,
    x: Value,
    w: Value,
    bias: Value | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Value:
    return convolve(e, x, w, bias, stride, both_sides(pair(padding, w.type.rank - 2)), dilation, groups)


@lowers(aten.conv1d.padding, aten.conv2d.padding, aten.conv3d.padding)
def conv_named_padding(
    e: Emitter,
    x: Value,
    w: Value,
    bias: Value | None = None,
    stride: int | Sequence[int] = 1,
    padding: str = "valid",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Value:
    """ "same" pads by the reach of the kernel; an odd element goes to the high side."""
    rank = w.type.rank - 2
    reach = (
        [0] * rank
        if padding == "valid"
        else [d * (k - 1) for d, k in zip(pair(dilation, rank), w.type.shape[2:], strict=True)]
    )
    sides = [p for r in reach for p in (r // 2, r - r // 2)]
    return convolve(e, x, w, bias, stride, sides, dilation, groups)


@lowers(aten.convolution.default)
def convolution(
    e: Emitter,
    x: Value,
    w: Value,
    bias: Value | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Value:
    if transposed:
        return conv_transpose(e, x, w, bias, stride, padding, output_padding, groups, dilation)
    return conv(e, x, w, bias, stride, padding, dilation, groups)


@lowers(aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input)
def conv_transpose(
    e: Emitter,
    x: Value,
    w: Value,
    bias: Value | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
    groups: int = 1,
    dilation: int | Sequence[int] = 1,
) -> Value:
    """Where windows touch and do not overlap, one matmul; otherwise a convolution of the input with zeros between its
    elements by the kernel turned around."""
    rank = w.type.rank - 2
    kernel, strides = w.type.shape[2:], pair(stride, rank)
    around, extra, dilations = pair(padding, rank), pair(output_padding, rank), pair(dilation, rank)
    if x.type.rank != rank + 2:
        y = conv_transpose(
            e, e.reshape(x, (1, *x.type.shape)), w, bias, stride, padding, output_padding, groups, dilation
        )
        return e.reshape(y, y.type.shape[1:])
    plain = not any((*around, *extra)) and all(d == 1 for d in dilations) and groups == 1
    if kernel == strides and plain and x.type.elements:
        return _touching_windows(e, x, w, bias)
    sides: list[int] = []
    for i, n in enumerate(x.type.shape[2:]):
        x = _spread(e, x, 2 + i, strides[i])
        reach = dilations[i] * (kernel[i] - 1)
        high = reach - around[i] + extra[i]
        sides += [reach - around[i], high]
        assert x.type.shape[2 + i] == max((n - 1) * strides[i] + 1, 0)
    if min(sides, default=0) < 0:  # more padding than the kernel reaches crops the input
        x = e.pad(x, (0, 0, 0, 0, *(min(s, 0) for s in sides)))
        sides = [max(s, 0) for s in sides]
    for axis in range(2, 2 + rank):
        n = w.type.shape[axis]
        w = e.gather(w, e.iota(n, start=n - 1, step=-1), axis) if n > 1 else w
    channels, outputs = w.type.shape[:2]
    split = e.reshape(w, (groups, channels // groups, outputs, *kernel))
    turned = e.transpose(split, (0, 2, 1, *range(3, 3 + rank)))
    weight = e.reshape(turned, (groups * outputs, channels // groups, *kernel))
    return convolve(e, x, weight, bias, 1, sides, dilation, groups)


def _spread(e: Emitter, x: Value, axis: int, step: int) -> Value:
    """`step - 1` zeros between the elements of an axis."""
    n, shape = x.type.shape[axis], x.type.shape
    if step == 1 or n < 2:
        return x
    x = e.reshape(x, (*shape[: axis + 1], 1, *shape[axis + 1 :]))
    x = e.pad(x, [step - 1 if i == 2 * axis + 3 else 0 for i in range(2 * x.type.rank)])
    return e.slice_axis(e.reshape(x, (*shape[:axis], n * step, *shape[axis + 1 :])), axis, 0, (n - 1) * step + 1)


def _touching_windows(e: Emitter, x: Value, w: Value, bias: Value | None) -> Value:
    """Each input element makes a window of its own: y[b, o, s*k + i] = sum_c x[b, c, s] w[c, o, i], one matmul."""
    rank, kernel = w.type.rank - 2, w.type.shape[2:]
    batch, channels, *space = x.type.shape
    outputs = w.type.shape[1]
    points = e.reshape(x, (batch, channels, x.type.elements // (batch * channels)))
    weight = e.reshape(w, (channels, w.type.elements // channels))
    y = matrix_product(e, e.swap_last(points), weight)
    y = e.reshape(y, (batch, *space, outputs, *kernel))
    inner = [a for i in range(rank) for a in (1 + i, 2 + rank + i)]
    y = e.transpose(y, (0, 1 + rank, *inner))
    y = e.reshape(y, (batch, outputs, *(s * k for s, k in zip(space, kernel, strict=True))))
    return y if bias is None else e.apply("add", y, e.reshape(bias, (outputs, *(1,) * rank)))
