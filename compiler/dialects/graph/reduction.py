"""Reductions, pools, norms, softmax, and other ops over whole axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from tilewright.compiler.ir import attribute, operand, result

from ..access import Access, Axis, identity
from .base import PAR, RED, Dim, GraphOp, Shape, Structure, dim_names, rowwise, window_axes, window_sizes


class Reduce(GraphOp, name="graph.reduce"):
    """Reduces `axes` by sum, mean, max, min or prod; accumulates floats in f32.

    `%y = graph.reduce %x {kind = "sum", axes = [1], keepdims = true} : tensor<4x1xf16>`
    with `%x: tensor<4x8xf16>`
    """

    __slots__ = ()
    KINDS: ClassVar[dict[str, float]] = {"sum": 0.0, "mean": 0.0, "max": -math.inf, "min": math.inf, "prod": 1.0}
    x = operand()
    y = result()
    kind = attribute(str)
    axes = attribute(tuple)
    keepdims = attribute(bool, False)

    def shapes(self) -> list[tuple[Shape, str]]:
        x = self.shape(0)
        if self.kind not in self.KINDS:
            raise ValueError(f"knows the kinds {', '.join(self.KINDS)}, not '{self.kind}'")
        if any(not 0 <= a < len(x) for a in self.axes):
            raise ValueError(f"axes {self.axes} do not fit the shape {x}")
        keep = [1 if i in self.axes else n for i, n in enumerate(x)]
        return [(tuple(n for i, n in enumerate(keep) if self.keepdims or i not in self.axes), self.dtype())]

    def structure(self) -> Structure:
        x = self.shape(0)
        names = dim_names(len(x))
        dims = tuple(Dim(names[i], n, RED if i in self.axes else PAR) for i, n in enumerate(x))
        axes = identity(names).axes
        out = tuple(Axis() if i in self.axes else axes[i] for i in range(len(x)) if self.keepdims or i not in self.axes)
        return Structure(dims, (Access(axes),), (Access(out),))


class Pool(GraphOp, name="graph.pool"):
    """Sliding max or sum over the trailing spatial axes of x[b, c, *space]; padding reads -inf or 0.

    `%y = graph.pool %x {kind = "max", kernel = [3, 3], strides = [2, 2], padding = [1, 1, 1, 1]} : tensor<1x8x4x4xf16>`
    with `%x: tensor<1x8x8x8xf16>`
    """

    __slots__ = ()
    x = operand()
    y = result()
    kind = attribute(str)
    kernel = attribute(tuple)
    strides = attribute(tuple)
    padding = attribute(tuple)
    dilations = attribute(tuple, None)

    @property
    def dilation(self) -> tuple[int, ...]:
        return self.dilations or (1,) * len(self.kernel)

    def shapes(self) -> list[tuple[Shape, str]]:
        x = self.shape(0)
        if self.kind not in ("max", "sum"):
            raise ValueError(f"knows the kinds max and sum, not '{self.kind}'")
        r = len(self.kernel)
        return [
            ((*x[:-r], *window_sizes(x[-r:], self.kernel, self.strides, self.padding, self.dilation)), self.dtype())
        ]

    def structure(self) -> Structure:
        y = self.result.type.shape
        names = dim_names(len(y))
        r = len(self.kernel)
        windows = window_axes(names[-r:], self.kernel, self.strides, self.padding, self.dilation)
        dims = tuple(Dim(n, s) for n, s in zip(names, y, strict=True))
        pad = -math.inf if self.kind == "max" else 0.0
        return Structure(dims, (Access((*identity(names[:-r]).axes, *windows)),), (identity(names),), (pad,))


class RowOp(GraphOp):
    """An op that needs one or more whole axes of its first operand and treats the others independently."""

    __slots__ = ()
    x = operand()

    def full(self) -> Sequence[int]:
        raise NotImplementedError

    def shapes(self) -> list[tuple[Shape, str]]:
        return [(self.shape(0), self.dtype())]

    def structure(self) -> Structure:
        return rowwise(self, self.full())


class Softmax(RowOp, name="graph.softmax"):
    """Softmax over one axis, computed in f32.

    `%y = graph.softmax %x {axis = 1} : tensor<4x8xf16>`
    with `%x: tensor<4x8xf16>`
    """

    __slots__ = ()
    y = result()
    axis = attribute(int)
    log = attribute(bool, False)

    def full(self) -> Sequence[int]:
        return (self.axis,)


class LayerNorm(RowOp, name="graph.layer_norm"):
    """`(x - mean) / sqrt(var + eps) * weight + bias` over the trailing `rank` axes, computed in f32.

    `%y = graph.layer_norm %x, %w, %b {rank = 1, eps = 1e-05} : tensor<4x8xf16>`
    with `%x: tensor<4x8xf16>, %w: tensor<8xf16>, %b: tensor<8xf16>`
    """

    __slots__ = ()
    weight = operand(optional=True)
    bias = operand(optional=True)
    y = result()
    rank = attribute(int, 1)
    eps = attribute(float)

    def full(self) -> Sequence[int]:
        n = len(self.shape(0))
        return range(n - self.rank, n)


class RmsNorm(RowOp, name="graph.rms_norm"):
    """`x / sqrt(mean(x^2) + eps) * weight` over the trailing `rank` axes, computed in f32.

    `%y = graph.rms_norm %x, %w {rank = 1, eps = 1e-05} : tensor<4x8xf16>`
    with `%x: tensor<4x8xf16>, %w: tensor<8xf16>`
    """

    __slots__ = ()
    weight = operand(optional=True)
    y = result()
    rank = attribute(int, 1)
    eps = attribute(float)

    def full(self) -> Sequence[int]:
        n = len(self.shape(0))
        return range(n - self.rank, n)


class GroupNorm(RowOp, name="graph.group_norm"):
    """Normalises x[b, groups, channels / groups, *space] over all axes from 2 on; weight and bias are [groups, channels
    / groups, 1, ...]; computed in f32. The frontend splits the channel axis.

    `%y = graph.group_norm %x, %w, %b {eps = 1e-05} : tensor<1x4x2x8x8xf16>`
    with `%x: tensor<1x4x2x8x8xf16>, %w: tensor<4x2x1x1xf16>, %b: tensor<4x2x1x1xf16>`
    """

    __slots__ = ()
    weight = operand(optional=True)
    bias = operand(optional=True)
    y = result()
    eps = attribute(float)

    def full(self) -> Sequence[int]:
        return range(2, len(self.shape(0)))


class BatchNorm(GraphOp, name="graph.batch_norm"):
    """Inference batch norm over axis 1: `(x - mean) * weight / sqrt(var + eps) + bias`; a pass folds it away.

    `%y = graph.batch_norm %x, %w, %b, %mean, %var {eps = 1e-05} : tensor<1x8x4x4xf16>`
    with `%x: tensor<1x8x4x4xf16>, %w: tensor<8xf16>, %b: tensor<8xf16>, %mean: tensor<8xf16>, %var: tensor<8xf16>`
    """

    __slots__ = ()
    x = operand()
    weight = operand()
    bias = operand()
    mean = operand()
    var = operand()
    y = result()
    eps = attribute(float)

    def shapes(self) -> list[tuple[Shape, str]]:
        return [(self.shape(0), self.dtype())]


class Cumsum(RowOp, name="graph.cumsum"):
    """Running sum along one axis.

    `%y = graph.cumsum %x {axis = 1} : tensor<4x8xi64>`
    with `%x: tensor<4x8xi64>`
    """

    __slots__ = ()
    y = result()
    axis = attribute(int)

    def full(self) -> Sequence[int]:
        return (self.axis,)


class Scan(RowOp, name="graph.scan"):
    """Running product, maximum, minimum or log of the sum of exponentials along one axis.

    `argmax` and `argmin` give the index of the running extreme, the last one where several are equal.

    `%y = graph.scan %x {axis = 1, kind = "max"} : tensor<4x8xf32>`
    with `%x: tensor<4x8xf32>`
    """

    __slots__ = ()
    KINDS: ClassVar[tuple[str, ...]] = ("prod", "max", "min", "logsumexp", "argmax", "argmin")
    y = result()
    axis = attribute(int)
    kind = attribute(str)

    def full(self) -> Sequence[int]:
        return (self.axis,)

    def shapes(self) -> list[tuple[Shape, str]]:
        if self.kind not in self.KINDS:
            raise ValueError(f"knows the kinds {', '.join(self.KINDS)}, not '{self.kind}'")
        return [(self.shape(0), "i64" if self.kind.startswith("arg") else self.dtype())]


class Argsort(RowOp, name="graph.argsort"):
    """The order of elements along one axis; equal ones keep theirs. NaN counts as the largest.

    `%y = graph.argsort %x {axis = 1, descending = false} : tensor<4x8xi64>`
    with `%x: tensor<4x8xf32>`
    """

    __slots__ = ()
    y = result()
    axis = attribute(int)
    descending = attribute(bool, False)

    def full(self) -> Sequence[int]:
        return (self.axis,)

    def shapes(self) -> list[tuple[Shape, str]]:
        return [(self.shape(0), "i64")]


class PoolIndex(RowOp, name="graph.pool_index"):
    """Where the maximum of each window of a max pool lies: its index in the plane of the trailing spatial axes.

    `%y = graph.pool_index %x {kernel = [2, 2], strides = [2, 2], padding = [0, 0, 0, 0], dilations = [1, 1]}
    : tensor<1x8x4x4xi64>`
    with `%x: tensor<1x8x8x8xf16>`
    """

    __slots__ = ()
    y = result()
    kernel = attribute(tuple)
    strides = attribute(tuple)
    padding = attribute(tuple)
    dilations = attribute(tuple)

    def full(self) -> Sequence[int]:
        n = len(self.shape(0))
        return range(n - len(self.kernel), n)

    def shapes(self) -> list[tuple[Shape, str]]:
        x, r = self.shape(0), len(self.kernel)
        space = window_sizes(x[-r:], self.kernel, self.strides, self.padding, self.dilations)
        return [((*x[:-r], *space), "i64")]


class Argmax(RowOp, name="graph.argmax"):
    """Index of the largest element along one axis, kept with size 1.

    `%y = graph.argmax %x {axis = 1} : tensor<4x1xi64>`
    with `%x: tensor<4x8xf16>`
    """

    __slots__ = ()
    y = result()
    axis = attribute(int)

    def full(self) -> Sequence[int]:
        return (self.axis,)

    def shapes(self) -> list[tuple[Shape, str]]:
        return [(tuple(1 if i == self.axis else n for i, n in enumerate(self.shape(0))), "i64")]


class Resize(RowOp, name="graph.resize"):
    """Resamples the trailing two axes by nearest neighbour or bilinear interpolation to `size`.

    `%y = graph.resize %x {size = [8, 8], mode = "nearest", align_corners = false} : tensor<1x4x8x8xf16>`
    with `%x: tensor<1x4x4x4xf16>`
    """

    __slots__ = ()
    y = result()
    size = attribute(tuple)
    mode = attribute(str, "nearest")
    align_corners = attribute(bool, False)
    scales = attribute(tuple, None)  # output over input, where the model gave a factor and not a size

    def full(self) -> Sequence[int]:
        n = len(self.shape(0))
        return (n - 2, n - 1)

    def shapes(self) -> list[tuple[Shape, str]]:
        return [((*self.shape(0)[:-2], *self.size), self.dtype())]
