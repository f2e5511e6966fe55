"""The graph level: what to compute. Named tensor ops at the height that engines and fusion reason about.

Each op says its result shape (`shapes`), its multiply-accumulates (`macs`) and, for compute, its structure: the
iteration dims, parallel or reduction, and which block of each operand an iteration touches. Fusion and tiling read only
the structure. An op that accumulates over reduction dims names the value its accumulator starts from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tilewright.compiler.ir import Operation, TensorType, Value, attribute, operand, result

from .access import Access, Axis, identity, whole
from .elementwise import SCALARS, Scalar, broadcast

PAR, RED = "par", "red"


@dataclass(frozen=True, slots=True)
class Dim:
    """An iteration dim: its name, its size in points, and whether it is parallel or a reduction."""

    name: str
    size: int
    kind: str = PAR


@dataclass(frozen=True, slots=True)
class Structure:
    """The structured view of an op. `pads[i]` is what operand i reads outside its bounds."""

    dims: tuple[Dim, ...]
    operands: tuple[Access, ...]
    results: tuple[Access, ...]
    pads: tuple[float | None, ...] = ()

    @property
    def reductions(self) -> tuple[Dim, ...]:
        return tuple(d for d in self.dims if d.kind == RED)


Shape = tuple[int, ...]


class GraphOp(Operation):
    """Base of graph ops. `self.shape(i)` is the shape of operand i."""

    __slots__ = ()
    view: ClassVar[bool] = False  # only changes how the same elements are seen

    def shape(self, index: int) -> Shape:
        return self._operands[index].type.shape

    def dtype(self, index: int = 0) -> str:
        return self._operands[index].type.dtype

    def shapes(self) -> list[tuple[Shape, str]]:
        """(shape, dtype) of each result."""
        raise NotImplementedError

    def infer(self) -> Sequence[TensorType]:
        try:
            return [TensorType(s, d) for s, d in self.shapes()]
        except (ValueError, IndexError) as error:
            self.fail(str(error))
            raise

    def verify(self) -> None:
        for r, expected in zip(self.results, self.infer(), strict=True):
            if (r.type.shape, r.type.dtype) != (expected.shape, expected.dtype):
                self.fail(f"result is {r.type}, but the operands give {expected}")

    def structure(self) -> Structure | None:
        """The structured view, or None for an op that is a view or makes data from nothing."""
        return None

    def macs(self) -> int:
        """Multiply-accumulates of the whole op."""
        return 0


def dim_names(rank: int) -> tuple[str, ...]:
    return tuple(f"d{i}" for i in range(rank))


def broadcast_access(shape: Shape, out: Shape, names: Sequence[str]) -> Access:
    """How an operand of `shape` is read when it is broadcast to `out`, whose axes are the dims `names`."""
    skip = len(out) - len(shape)
    return Access(tuple(Axis() if n == 1 else Axis(((names[i + skip], 1),)) for i, n in enumerate(shape)))


def rowwise(op: GraphOp, full: Sequence[int], names: Sequence[str] = ()) -> Structure:
    """The structure of an op that needs whole axes `full` of operand 0 and treats the others independently.

    Further operands must be vectors over the full axes, or broadcast against operand 0.
    """
    shape = op.shape(0)
    names = names or dim_names(len(shape))
    full = [a % len(shape) for a in full]

    def access(s: Shape) -> Access:
        skip = len(shape) - len(s)
        return Access(
            tuple(
                Axis(extent=n) if (i + skip) in full or n == 1 else Axis(((names[i + skip], 1),))
                for i, n in enumerate(s)
            )
        )

    dims = tuple(Dim(names[i], n) for i, n in enumerate(shape) if i not in full)
    return Structure(
        dims, tuple(access(v.type.shape) for v in op.operands), tuple(access(r.type.shape) for r in op.results)
    )


# ---------------------------------------------------------------- sources


class Parameter(GraphOp, name="graph.parameter"):
    """A weight, by reference: its data is looked up by name when the program runs.

    `%w = graph.parameter {key = "fc.weight"} : tensor<10x64xf16>`
    """

    __slots__ = ()
    y = result()
    key = attribute(str)

    def verify(self) -> None:
        """Any shape will do."""


class Constant(GraphOp, name="graph.constant"):
    """A splat (one number) or a small dense tensor (a flat tuple, row-major).

    `%c = graph.constant {value = 0.125} : tensor<f16>`
    """

    __slots__ = ()
    y = result()
    value = attribute(object)

    def verify(self) -> None:
        if isinstance(self.value, tuple) and len(self.value) != self.result.type.elements:
            self.fail(f"holds {len(self.value)} numbers for {self.result.type}")


class Iota(GraphOp, name="graph.iota"):
    """Numbers `start, start + step, ...` along one axis.

    `%i = graph.iota {start = 0, step = 1} : tensor<128xi64>`
    """

    __slots__ = ()
    y = result()
    start = attribute(float, 0)
    step = attribute(float, 1)

    def verify(self) -> None:
        if self.result.type.rank != 1:
            self.fail(f"makes a vector, not {self.result.type}")


# ---------------------------------------------------------------- elementwise


class Elementwise(GraphOp):
    """Applies one scalar function to each element, with broadcasting."""

    __slots__ = ()
    y = result()
    scalar: ClassVar[Scalar]

    def shapes(self) -> list[tuple[Shape, str]]:
        dtypes = {v.type.dtype for v in self.operands}
        if len(dtypes) > 1:
            raise ValueError(f"operands have different dtypes {sorted(dtypes)}; insert graph.cast")
        shape = broadcast(*(v.type.shape for v in self.operands))
        return [(shape, self.dtype() if self.scalar.result == "same" else self.scalar.result)]

    def structure(self) -> Structure:
        out = self.result.type.shape
        names = dim_names(len(out))
        return Structure(
            tuple(Dim(n, s) for n, s in zip(names, out, strict=True)),
            tuple(broadcast_access(v.type.shape, out, names) for v in self.operands),
            (identity(names),),
        )


class _Unary(Elementwise):
    __slots__ = ()
    x = operand()


class _Binary(Elementwise):
    __slots__ = ()
    a = operand()
    b = operand()


def _define(name: str, scalar: Scalar) -> type[Elementwise]:
    base = _Unary if scalar.arity == 1 else _Binary
    dtype = "i32" if name.startswith("bitwise") else "i1" if name.startswith("logical") else "f16"
    args = ["%x"] if scalar.arity == 1 else ["%a", "%b"]
    types = ", ".join(f"{a}: tensor<4x8x{dtype}>" for a in args)
    kind = dtype if scalar.result == "same" else scalar.result
    example = f"`%y = graph.{name} {', '.join(args)} : tensor<4x8x{kind}>`\n    with `{types}`"
    title = "".join(part.title() for part in name.split("_"))
    members = {"__slots__": (), "scalar": scalar, "__doc__": f"Elementwise {name}.\n\n    {example}\n    "}
    return type(base)(title, (base,), members, name=f"graph.{name}")  # type: ignore[call-overload]


ELEMENTWISE: dict[str, type[Elementwise]] = {name: _define(name, s) for name, s in SCALARS.items()}


class Cast(Elementwise, name="graph.cast"):
    """Converts to another dtype; float to integer truncates.

    `%y = graph.cast %x {to = "f32"} : tensor<4x8xf32>`
    with `%x: tensor<4x8xf16>`
    """

    __slots__ = ()
    x = operand()
    scalar = Scalar(1, (("move", 1),))
    to = attribute(str)

    def shapes(self) -> list[tuple[Shape, str]]:
        return [(self.shape(0), self.to)]


class Clamp(Elementwise, name="graph.clamp"):
    """Limits each element to [low, high]; either may be absent.

    `%y = graph.clamp %x {low = 0.0, high = 6.0} : tensor<4x8xf16>`
    with `%x: tensor<4x8xf16>`
    """

    __slots__ = ()
    x = operand()
    scalar = Scalar(1, (("compare", 1),))
    low = attribute(float, None)
    high = attribute(float, None)


class LeakyRelu(Elementwise, name="graph.leaky_relu"):
    """`x if x > 0 else slope * x`.

    `%y = graph.leaky_relu %x {slope = 0.1} : tensor<4x8xf16>`
    with `%x: tensor<4x8xf16>`
    """

    __slots__ = ()
    x = operand()
    scalar = Scalar(1, (("compare", 1), ("mul", 1)))
    slope = attribute(float, 0.01)


class Elu(Elementwise, name="graph.elu"):
    """`x if x > 0 else alpha * (exp(x) - 1)`.

    `%y = graph.elu %x {alpha = 1.0} : tensor<4x8xf16>`
    with `%x: tensor<4x8xf16>`
    """

    __slots__ = ()
    x = operand()
    scalar = Scalar(1, (("compare", 1), ("exp", 1), ("fma", 1)))
    alpha = attribute(float, 1.0)


class Where(Elementwise, name="graph.where"):
    """`a` where the condition holds, else `b`.

    `%y = graph.where %c, %a, %b : tensor<4x8xf16>`
    with `%c: tensor<4x8xi1>, %a: tensor<4x8xf16>, %b: tensor<4x8xf16>`
    """

    __slots__ = ()
    condition = operand()
    a = operand()
    b = operand()
    scalar = Scalar(3, (("compare", 1),))

    def shapes(self) -> list[tuple[Shape, str]]:
        if self.dtype(0) != "i1" or self.dtype(1) != self.dtype(2):
            raise ValueError(f"takes (i1, T, T), not {[v.type.dtype for v in self.operands]}")
        return [(broadcast(*(v.type.shape for v in self.operands)), self.dtype(1))]


# ---------------------------------------------------------------- contractions


class Matmul(GraphOp, name="graph.matmul"):
    """`y[..., m, n] = sum_k a[..., m, k] * b[..., k, n]`; batch axes broadcast; accumulates in f32.

    With `transpose_b`, b is [..., n, k], as a linear layer stores its weight. `bias` is broadcast over y.

    `%y = graph.matmul %a, %b {transpose_b = true} : tensor<4x8xf16>`
    with `%a: tensor<4x16xf16>, %b: tensor<8x16xf16>`
    """

    __slots__ = ()
    a = operand()
    b = operand()
    bias = operand(optional=True)
    y = result()
    transpose_b = attribute(bool, False)

    def shapes(self) -> list[tuple[Shape, str]]:
        a, b = self.shape(0), self.shape(1)
        if len(a) < 2 or len(b) < 2:
            raise ValueError(f"takes matrices, not shapes {a} and {b}")
        k, n = (b[-1], b[-2]) if self.transpose_b else (b[-2], b[-1])
        if a[-1] != k:
            raise ValueError(f"inner sizes differ: {a[-1]} and {k}")
        if self.dtype(0) != self.dtype(1):
            raise ValueError(f"operands are {self.dtype(0)} and {self.dtype(1)}")
        return [((*broadcast(a[:-2], b[:-2]), a[-2], n), self.dtype())]

    def structure(self) -> Structure:
        out = self.result.type.shape
        names = (*(f"b{i}" for i in range(len(out) - 2)), "m", "n")
        dims = (*(Dim(n, s) for n, s in zip(names, out, strict=True)), Dim("k", self.shape(0)[-1], RED))
        batch = names[:-2]
        last = ("n", "k") if self.transpose_b else ("k", "n")

        def access(shape: Shape, tail: tuple[str, str]) -> Access:
            head = broadcast_access(shape[:-2], out[:-2], batch)
            return Access((*head.axes, *identity(tail).axes))

        operands = [access(self.shape(0), ("m", "k")), access(self.shape(1), last)]
        if self.bias is not None:
            operands.append(broadcast_access(self.shape(2), out, names))
        return Structure(dims, tuple(operands), (identity(names),))

    def macs(self) -> int:
        return self.result.type.elements * self.shape(0)[-1]


class Conv(GraphOp, name="graph.conv"):
    """Convolution over 1 to 3 spatial axes: x[b, c, *space], w[o, c / groups, *kernel], bias[o]; accumulates in f32.

    `padding` holds (low, high) for each spatial axis, flattened.

    `%y = graph.conv %x, %w {strides = [2, 2], padding = [1, 1, 1, 1]} : tensor<1x8x4x4xf16>`
    with `%x: tensor<1x4x8x8xf16>, %w: tensor<8x4x3x3xf16>`
    """

    __slots__ = ()
    x = operand()
    w = operand()
    bias = operand(optional=True)
    y = result()
    strides = attribute(tuple)
    padding = attribute(tuple)
    dilations = attribute(tuple, None)
    groups = attribute(int, 1)

    @property
    def dilation(self) -> tuple[int, ...]:
        return self.dilations or (1,) * len(self.strides)

    def shapes(self) -> list[tuple[Shape, str]]:
        x, w = self.shape(0), self.shape(1)
        rank = len(x) - 2
        if len(w) != len(x) or len(self.strides) != rank or len(self.padding) != 2 * rank:
            raise ValueError(f"x {x}, w {w}, strides {self.strides} and padding {self.padding} do not fit together")
        if x[1] != w[1] * self.groups or w[0] % self.groups:
            raise ValueError(f"{x[1]} channels in {self.groups} groups do not fit the weight {w}")
        space = window_sizes(x[2:], w[2:], self.strides, self.padding, self.dilation)
        return [((x[0], w[0], *space), self.dtype())]

    def structure(self) -> Structure:
        x, w, y = self.shape(0), self.shape(1), self.result.type.shape
        space = tuple(f"s{i}" for i in range(len(x) - 2))
        windows = window_axes(space, w[2:], self.strides, self.padding, self.dilation)
        kernel = whole(w[2:]).axes
        outer = w[0] // self.groups
        red = Dim("c", w[1], RED)
        o, c = Axis((("o", 1),)), Axis((("c", 1),))
        dims: tuple[Dim, ...] = (Dim("b", x[0]), Dim("o", outer))
        o_axis, c_axis = o, c
        if self.groups > 1:
            dims = (Dim("b", x[0]), Dim("g", self.groups), Dim("o", outer))
            o_axis = Axis((("g", outer), ("o", 1))) if outer > 1 else Axis((("g", 1),))
            c_axis = Axis((("g", w[1]), ("c", 1))) if w[1] > 1 else Axis((("g", 1),))
            dims = tuple(d for d in dims if d.name != "o" or outer > 1)
            red = Dim("c", w[1], RED)
        b = Axis((("b", 1),))
        dims = (*dims, *(Dim(n, s) for n, s in zip(space, y[2:], strict=True)), red)
        operands = [
            Access((b, c_axis, *windows)),
            Access((o_axis, c, *kernel)),
        ]
        if self.bias is not None:
            operands.append(Access((o_axis,)))
        out = Access((b, o_axis, *identity(space).axes))
        return Structure(dims, tuple(operands), (out,), (0.0, None, None)[: len(operands)])

    def macs(self) -> int:
        return self.result.type.elements * math.prod(self.shape(1)[1:])


def window_sizes(space: Shape, kernel: Shape, strides: Shape, padding: Shape, dilations: Shape) -> Shape:
    """Output sizes of a sliding window. Raises ValueError where the window does not fit."""
    out = []
    for i, n in enumerate(space):
        reach = (kernel[i] - 1) * dilations[i] + 1
        size = (n + padding[2 * i] + padding[2 * i + 1] - reach) // strides[i] + 1
        if size < 1:
            raise ValueError(f"a window of {reach} does not fit an axis of {n}")
        out.append(size)
    return tuple(out)


def window_axes(
    names: Sequence[str], kernel: Shape, strides: Shape, padding: Shape, dilations: Shape
) -> tuple[Axis, ...]:
    return tuple(
        Axis(((n, strides[i]),), -padding[2 * i], (kernel[i] - 1) * dilations[i] + 1) for i, n in enumerate(names)
    )


class Attention(GraphOp, name="graph.attention"):
    """Scaled dot-product attention: `softmax(q k^T * scale + mask) v` over q[*B, m, d], k[*B, n, d], v[*B, n, e].

    Batch axes broadcast, so grouped queries are q[b, kv, g, m, d] with k[b, kv, 1, n, d]. `mask` is added and
    broadcasts to [*B, m, n]. With `causal`, position (i, j) counts only where j <= i (torch's is_causal: aligned at
    the top left).

    `%y = graph.attention %q, %k, %v {scale = 0.125, causal = true} : tensor<1x2x16x8xf16>`
    with `%q: tensor<1x2x16x8xf16>, %k: tensor<1x2x16x8xf16>, %v: tensor<1x2x16x8xf16>`
    """

    __slots__ = ()
    q = operand()
    k = operand()
    v = operand()
    mask = operand(optional=True)
    y = result()
    scale = attribute(float)
    causal = attribute(bool, False)

    def shapes(self) -> list[tuple[Shape, str]]:
        q, k, v = self.shape(0), self.shape(1), self.shape(2)
        if q[-1] != k[-1] or k[-2] != v[-2]:
            raise ValueError(f"q {q}, k {k} and v {v} do not fit together")
        return [((*broadcast(q[:-2], k[:-2], v[:-2]), q[-2], v[-1]), self.dtype())]

    def structure(self) -> Structure:
        out = self.result.type.shape
        batch = tuple(f"b{i}" for i in range(len(out) - 2))
        dims = (
            *(Dim(b, s) for b, s in zip(batch, out, strict=False)),
            Dim("m", out[-2]),
            Dim("n", self.shape(1)[-2], RED),
        )

        def access(shape: Shape, row: str) -> Access:
            head = broadcast_access(shape[:-2], out[:-2], batch)
            return Access((*head.axes, Axis(((row, 1),)), Axis(extent=shape[-1])))

        operands = [access(self.shape(0), "m"), access(self.shape(1), "n"), access(self.shape(2), "n")]
        if self.mask is not None:
            full = (*out[:-1], self.shape(1)[-2])
            operands.append(broadcast_access(self.shape(3), full, (*batch, "m", "n")))
        return Structure(dims, tuple(operands), (access(out, "m"),))

    def macs(self) -> int:
        rows = math.prod(self.result.type.shape[:-1])
        return rows * self.shape(1)[-2] * (self.shape(0)[-1] + self.shape(2)[-1])


# ---------------------------------------------------------------- reductions and norms


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


# ---------------------------------------------------------------- data movement


class Reshape(GraphOp, name="graph.reshape"):
    """The same elements in row-major order under another shape.

    `%y = graph.reshape %x {to = [2, 16]} : tensor<2x16xf16>`
    with `%x: tensor<4x8xf16>`
    """

    __slots__ = ()
    view = True
    x = operand()
    y = result()
    to = attribute(tuple)

    def shapes(self) -> list[tuple[Shape, str]]:
        if math.prod(self.to) != math.prod(self.shape(0)):
            raise ValueError(f"cannot reshape {self.shape(0)} to {self.to}")
        return [(self.to, self.dtype())]


class Transpose(GraphOp, name="graph.transpose"):
    """Axis i of the result is axis permutation[i] of x.

    `%y = graph.transpose %x {permutation = [1, 0]} : tensor<8x4xf16>`
    with `%x: tensor<4x8xf16>`
    """

    __slots__ = ()
    view = True
    x = operand()
    y = result()
    permutation = attribute(tuple)

    def shapes(self) -> list[tuple[Shape, str]]:
        if sorted(self.permutation) != list(range(len(self.shape(0)))):
            raise ValueError(f"{self.permutation} is no permutation of {len(self.shape(0))} axes")
        return [(tuple(self.shape(0)[a] for a in self.permutation), self.dtype())]


class Slice(GraphOp, name="graph.slice"):
    """`size` elements of each axis, from `start`, every `step`.

    `%y = graph.slice %x {starts = [0, 2], sizes = [4, 3], steps = [1, 2]} : tensor<4x3xf16>`
    with `%x: tensor<4x8xf16>`
    """

    __slots__ = ()
    view = True
    x = operand()
    y = result()
    starts = attribute(tuple)
    sizes = attribute(tuple)
    steps = attribute(tuple)

    def shapes(self) -> list[tuple[Shape, str]]:
        for n, start, size, step in zip(self.shape(0), self.starts, self.sizes, self.steps, strict=True):
            if start < 0 or step < 1 or (size and start + (size - 1) * step >= n):
                raise ValueError(f"start {start}, size {size}, step {step} leaves an axis of {n}")
        return [(self.sizes, self.dtype())]


class Expand(GraphOp, name="graph.expand"):
    """Repeats axes of size 1, and adds leading axes, to reach the shape `to`.

    `%y = graph.expand %x {to = [4, 8]} : tensor<4x8xf16>`
    with `%x: tensor<1x8xf16>`
    """

    __slots__ = ()
    view = True
    x = operand()
    y = result()
    to = attribute(tuple)

    def shapes(self) -> list[tuple[Shape, str]]:
        if broadcast(self.shape(0), self.to) != self.to:
            raise ValueError(f"cannot expand {self.shape(0)} to {self.to}")
        return [(self.to, self.dtype())]


class Concat(GraphOp, name="graph.concat"):
    """Joins tensors along one axis.

    `%y = graph.concat %a, %b {axis = 0} : tensor<8x8xf16>`
    with `%a: tensor<4x8xf16>, %b: tensor<4x8xf16>`
    """

    __slots__ = ()
    parts = operand(variadic=True)
    y = result()
    axis = attribute(int)

    def shapes(self) -> list[tuple[Shape, str]]:
        first = list(self.shape(0))
        first[self.axis] = sum(v.type.shape[self.axis] for v in self.operands)
        for v in self.operands:
            rest = [n for i, n in enumerate(v.type.shape) if i != self.axis]
            if rest != [n for i, n in enumerate(first) if i != self.axis] or v.type.dtype != self.dtype():
                raise ValueError(f"cannot join {[str(o.type) for o in self.operands]} along axis {self.axis}")
        return [(tuple(first), self.dtype())]


class Copy(GraphOp, name="graph.copy"):
    """The same tensor, dense in its type's layout: what a view needs where no strides can express it.

    `%y = graph.copy %x : tensor<4x8xf16>`
    with `%x: tensor<4x8xf16>`
    """

    __slots__ = ()
    x = operand()
    y = result()

    def shapes(self) -> list[tuple[Shape, str]]:
        return [(self.shape(0), self.dtype())]

    def structure(self) -> Structure:
        names = dim_names(len(self.shape(0)))
        dims = tuple(Dim(n, s) for n, s in zip(names, self.shape(0), strict=True))
        return Structure(dims, (identity(names),), (identity(names),))


class Pad(GraphOp, name="graph.pad"):
    """Adds `padding` (low, high for each axis, flattened) elements of `value`; negative padding crops.

    `%y = graph.pad %x {padding = [0, 0, 1, 1], value = 0.0} : tensor<4x10xf16>`
    with `%x: tensor<4x8xf16>`
    """

    __slots__ = ()
    x = operand()
    y = result()
    padding = attribute(tuple)
    value = attribute(float, 0.0)

    def shapes(self) -> list[tuple[Shape, str]]:
        p = self.padding
        return [(tuple(n + p[2 * i] + p[2 * i + 1] for i, n in enumerate(self.shape(0))), self.dtype())]

    def structure(self) -> Structure:
        out = self.result.type.shape
        names = dim_names(len(out))
        axes = tuple(Axis(((n, 1),), -self.padding[2 * i]) for i, n in enumerate(names))
        dims = tuple(Dim(n, s) for n, s in zip(names, out, strict=True))
        return Structure(dims, (Access(axes),), (identity(names),), (self.value,))


class Gather(GraphOp, name="graph.gather"):
    """Rows by index: the axis `axis` of x is replaced by the axes of `indices` (an embedding, index_select).

    `%y = graph.gather %x, %i {axis = 0} : tensor<3x8xf16>`
    with `%x: tensor<16x8xf16>, %i: tensor<3xi64>`
    """

    __slots__ = ()
    x = operand()
    indices = operand()
    y = result()
    axis = attribute(int, 0)

    def shapes(self) -> list[tuple[Shape, str]]:
        x, i = self.shape(0), self.shape(1)
        return [((*x[: self.axis], *i, *x[self.axis + 1 :]), self.dtype())]

    def structure(self) -> Structure:
        out = self.result.type.shape
        names = dim_names(len(out))
        rank = len(self.shape(1))
        dims = tuple(Dim(n, s) for n, s in zip(names, out, strict=True))
        index = names[self.axis : self.axis + rank]
        return Structure(dims, (whole(self.shape(0)), identity(index)), (identity(names),))


class Update(GraphOp, name="graph.update"):
    """`base` with the block at `starts` (every `steps`) replaced by `value`.

    `%y = graph.update %base, %value {starts = [0, 2], steps = [1, 1]} : tensor<4x8xf16>`
    with `%base: tensor<4x8xf16>, %value: tensor<4x3xf16>`
    """

    __slots__ = ()
    base = operand()
    value = operand()
    y = result()
    starts = attribute(tuple)
    steps = attribute(tuple)

    def shapes(self) -> list[tuple[Shape, str]]:
        for n, s, start, step in zip(self.shape(0), self.shape(1), self.starts, self.steps, strict=True):
            if start < 0 or (s and start + (s - 1) * step >= n):
                raise ValueError(f"the block {self.shape(1)} at {self.starts} leaves {self.shape(0)}")
        return [(self.shape(0), self.dtype())]


class Scatter(GraphOp, name="graph.scatter"):
    """`base` with rows along `axis` replaced: `y[.., indices[j], ..] = value[.., j, ..]`; indices is a vector.

    `%y = graph.scatter %base, %i, %value {axis = 0} : tensor<16x8xf16>`
    with `%base: tensor<16x8xf16>, %i: tensor<3xi64>, %value: tensor<3x8xf16>`
    """

    __slots__ = ()
    base = operand()
    indices = operand()
    value = operand()
    y = result()
    axis = attribute(int)

    def shapes(self) -> list[tuple[Shape, str]]:
        expected = tuple(self.shape(1)[0] if i == self.axis else n for i, n in enumerate(self.shape(0)))
        if self.shape(2) != expected:
            raise ValueError(f"value is {self.shape(2)}, expected {expected}")
        return [(self.shape(0), self.dtype())]


# ---------------------------------------------------------------- grouping


class Fuse(GraphOp, name="graph.fuse"):
    """A group of ops that one engine runs as one loop: intermediate tensors never reach memory.

    The region's arguments are the operands; it ends in graph.yield of the results.

        func.func @main(%x: tensor<4x16xf16>, %w: tensor<8x16xf16>, %b: tensor<8xf16>) -> tensor<4x8xf16> {
          %y = graph.fuse(%xi = %x, %wi = %w, %bi = %b) {engine = @ane} {
            %0 = graph.matmul %xi, %wi {transpose_b = true} : tensor<4x8xf16>
            %1 = graph.add %0, %bi : tensor<4x8xf16>
            %2 = graph.relu %1 : tensor<4x8xf16>
            graph.yield %2
          } : tensor<4x8xf16>
          func.return %y
        }
    """

    __slots__ = ()
    region_count = 1
    inputs = operand(variadic=True)
    outputs = result(variadic=True)

    def infer(self) -> Sequence[TensorType]:
        return [v.type for v in self.body.terminator.operands]

    def macs(self) -> int:
        return sum(op.macs() for op in self.body if isinstance(op, GraphOp))

    def verify(self) -> None:
        for a, v in zip(self.body.args, self.operands, strict=True):
            if a.type != v.type:
                self.fail(f"region argument {a.type} does not match operand {v.type}")
        if not isinstance(self.body.last, Yield):
            self.fail("the body must end in graph.yield")
        super().verify()


class Yield(GraphOp, name="graph.yield"):
    """Ends a graph.fuse and names its results: `graph.yield %2`."""

    __slots__ = ()
    values = operand(variadic=True)
    terminator = True

    def infer(self) -> Sequence[TensorType]:
        return ()

    def verify(self) -> None:
        if not isinstance(self.parent and self.parent.parent, Fuse):
            self.fail("stands only at the end of graph.fuse")


def __getattr__(name: str) -> Any:
    """Elementwise ops by class name: `graph.Relu`, `graph.Add`."""
    for cls in ELEMENTWISE.values():
        if cls.__name__ == name:
            return cls
    raise AttributeError(f"module 'graph' has no op '{name}'")


def is_parameter(value: Value) -> bool:
    return isinstance(value.owner, Parameter)
