"""What one body op asks of the hardware, whatever the engine: a matrix product, or passes over elements.

Engines price demands; nothing here knows a rate. An op that is not listed has no price (`UnpricedError`), never zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

from tilewright.compiler.dialects import tile
from tilewright.compiler.dialects.graph import Blocked, Elementwise, WholeOp
from tilewright.compiler.ir import Operation, bytes_of
from tilewright.compiler.ir.types import PACKED_BITS

from .base import Work

Shape = tuple[int, ...]


class UnpricedError(ValueError):
    """An op, a dtype or a unit that the engine's model cannot price."""


class Gemm(NamedTuple):
    """`batch` independent products of rows x depth by depth x cols.

    A convolution has its output pixels as rows, its output channels as columns, and the products of an output as depth.
    """

    batch: int
    rows: int
    cols: int
    depth: int
    a_elements: int  # what is read, once: the block of activations
    b_elements: int  # and the block that is multiplied with it
    taps: int = 1  # kernel positions
    regular: bool = True  # a square kernel without dilation, or no kernel at all
    grouped: bool = False  # each group of columns has its own inputs
    conv: bool = False
    dense: bool = True  # windows one element apart: no strides
    density: Fraction | None = None  # of the weight, if it is sparse

    @property
    def macs(self) -> int:
        return self.batch * self.rows * self.cols * self.depth


class Vector(NamedTuple):
    """Passes over elements. `steps` counts the element operations of each rate class of the whole block."""

    steps: tuple[tuple[str, int], ...]
    elements: int  # that flow by in one sweep
    sweeps: int = 1  # times the block is gone over: 1 for elementwise, 3 for softmax
    trees: int = 0  # reductions across lanes: one a row and sweep that reduces
    widened: bool = False  # half precision is computed in f32
    wide_inputs: int = 1  # inputs as large as the result; the others are vectors or scalars
    elementwise: bool = False  # one result element from one element of each input
    row: int = 0  # elements of a row, of an op that goes over rows
    name: str = ""  # of the op


FREE = Vector((), 0)


def product(shape: Shape) -> int:
    return math.prod(shape)


def _matmul(w: Work) -> Gemm:
    a, b = w.inputs[0], w.inputs[1]
    *batch, rows, cols = w.output
    count = product(tuple(batch))
    if product(b[:-2]) == 1:  # one matrix for the whole batch: its rows are one long product
        count, rows = 1, count * rows
    return Gemm(count, rows, cols, a[-1], product(a), product(b), density=weight_density(w.op))


def _grouped_matmul(w: Work) -> Gemm:
    """Rows spread evenly over as many groups as they can reach."""
    (rows, depth), (groups, _, cols) = w.inputs[0], w.inputs[1]
    used = min(groups, rows)
    return Gemm(used, -(-rows // used), cols, depth, rows * depth, used * depth * cols)


def _conv(w: Work) -> Gemm:
    x, k = w.inputs[0], w.inputs[1]
    kernel = k[2:]
    dilated = any(d != 1 for d, n in zip(w.op.attributes.get("dilations") or (), kernel, strict=False) if n > 1)
    pixels = w.output[0] * product(w.output[2:])
    regular = not dilated and len(set(kernel)) <= 1
    taps = product(kernel)
    dense = all(s == 1 for s in w.op.attributes.get("strides") or ())
    size = pixels, w.output[1], k[1] * taps, product(x), product(k)
    return Gemm(1, *size, taps, regular, x[1] != k[1], True, dense, weight_density(w.op))


def _elementwise(w: Work) -> Vector:
    rates = w.op.rates if isinstance(w.op, Blocked) else type(w.op).scalar.rates  # type: ignore[attr-defined]
    n = product(w.output)
    numbers = [isinstance(v.op, tile.Constant) for v in w.op.operands]
    wide = sum(product(s) == n and not number for s, number in zip(w.inputs, numbers, strict=True))
    steps = tuple((name, passes * n) for name, passes in rates)
    return Vector(steps, n, wide_inputs=wide, elementwise=True)


def _causal(w: Work) -> Vector:
    n = product(w.output)
    return Vector((("compare", n),), n, elementwise=True)


def _rows(w: Work, axes: int, ops: dict[str, int], per_row: dict[str, int], reductions: int, sweeps: int) -> Vector:
    """Ops over whole rows of operand 0, a row being its `axes` trailing elements; `reductions` of them cross lanes."""
    n = product(w.inputs[0])
    rows = max(n // max(axes, 1), 1)
    steps = [(name, passes * n) for name, passes in ops.items()]
    steps += [(name, passes * rows) for name, passes in per_row.items()]
    return Vector(tuple(steps), n, sweeps, reductions * rows, widened=True, row=max(axes, 1))


def _softmax(w: Work) -> Vector:
    length = w.inputs[0][w.op.attributes["axis"]]
    # maximum; subtract, exp and sum; scale (log: subtract again)
    return _rows(w, length, {"compare": 1, "add": 2, "exp": 1, "mul": 1}, {"divide": 1}, reductions=2, sweeps=3)


def _norm(w: Work, mean: bool, rank: int) -> Vector:
    shape = w.inputs[0]
    ops = {"fma": 1, "mul": 1}  # sum of squares; scale
    if mean:
        ops["add"] = 2  # sum; subtract the mean
    if len(w.inputs) > 1:
        ops["fma"] += 1  # weight and bias
    length = product(shape[len(shape) - rank :])
    return _rows(w, length, ops, {"sqrt": 1, "divide": 1}, reductions=2 if mean else 1, sweeps=3 if mean else 2)


def _layer_norm(w: Work) -> Vector:
    return _norm(w, True, w.op.attributes.get("rank", 1))


def _rms_norm(w: Work) -> Vector:
    return _norm(w, False, w.op.attributes.get("rank", 1))


def _group_norm(w: Work) -> Vector:
    return _norm(w, True, len(w.inputs[0]) - 2)


def _cumsum(w: Work) -> Vector:
    # a work-efficient scan: up and down a tree
    return _rows(w, w.inputs[0][w.op.attributes["axis"]], {"add": 2}, {}, reductions=1, sweeps=2)


def _scan(w: Work) -> Vector:
    kind = w.op.attributes["kind"]
    ops = {"prod": {"mul": 2}, "logsumexp": {"exp": 4, "add": 4}}.get(kind, {"compare": 2})
    return _rows(w, w.inputs[0][w.op.attributes["axis"]], ops, {}, reductions=1, sweeps=2)


def _argsort(w: Work) -> Vector:
    length = w.inputs[0][w.op.attributes["axis"]]
    merges = max(length - 1, 1).bit_length()  # each goes over the row once
    return _rows(w, length, {"compare": merges, "move": merges}, {}, reductions=0, sweeps=merges)


def _argmax(w: Work) -> Vector:
    return _rows(w, w.inputs[0][w.op.attributes["axis"]], {"compare": 2}, {}, reductions=1, sweeps=1)


def _reduce(w: Work) -> Vector:
    kind, axes = w.op.attributes["kind"], w.op.attributes["axes"]
    x = w.inputs[0]
    n, out = product(x), product(w.output)
    name = {"max": "compare", "min": "compare", "prod": "mul"}.get(kind, "add")
    steps = [(name, n)]
    if len(w.inputs) > 1:
        steps.append((name, out))  # into the accumulator
    if kind == "mean":
        steps.append(("mul", out))
    across = len(x) - 1 in axes  # the axis that lies along the lanes
    return Vector(tuple(steps), n, 1, out if across else 0, widened=True)


def _pool(w: Work) -> Vector:
    n = product(w.output)
    name = "compare" if w.op.attributes["kind"] == "max" else "add"
    window = product(w.op.attributes["kernel"])
    return Vector(((name, window * n),), n)


def _pool_index(w: Work) -> Vector:
    n = product(w.output)
    return Vector((("compare", 2 * product(w.op.attributes["kernel"]) * n),), n)


def _resize(w: Work) -> Vector:
    n = product(w.output)
    if w.op.attributes.get("mode", "nearest") == "nearest":
        return Vector((("move", n),), n)
    return Vector((("move", 4 * n), ("fma", 3 * n)), n)  # four neighbours, three interpolations


def _move(w: Work) -> Vector:
    n = product(w.output)
    return Vector((("move", n),), n)


def _transpose(w: Work) -> Vector:
    n = product(w.output)
    return Vector((("permute", n),), n)


def _scatter(w: Work) -> Vector:
    n = product(w.inputs[2])  # only the rows that are written
    return Vector((("move", n),), n)


def _whole(w: Work) -> Vector:
    """Ops over whole tensors say what they do with each element of the largest one."""
    n = max(map(product, (*w.inputs, w.output)))
    return Vector(tuple((name, passes * n) for name, passes in type(w.op).work), n)  # type: ignore[attr-defined]


def _linalg(w: Work) -> Vector:
    """Multiply-adds of dense factorisations, to a factor of two or so (Golub and Van Loan, Matrix Computations):
    rows x columns x rank once for triangular ones and solutions, some twelve times for iterations to eigenvalues."""
    *batch, rows, cols = (1, 1, *w.inputs[0])
    factor = 12 if w.op.attributes["kind"].startswith(("svd", "eigh")) else 1
    n = max(map(product, (*w.inputs, w.output)))
    return Vector((("fma", factor * product(tuple(batch)) * rows * cols * min(rows, cols)), ("move", n)), n)


def _free(w: Work) -> Vector:
    """A constant is part of the command; under another shape a block has the same bytes in the same places."""
    return FREE


_DEMANDS: dict[str, Callable[[Work], Gemm | Vector]] = {
    "matmul": _matmul,
    "grouped_matmul": _grouped_matmul,
    "conv": _conv,
    "causal": _causal,
    "softmax": _softmax,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "cumsum": _cumsum,
    "scan": _scan,
    "argmax": _argmax,
    "argsort": _argsort,
    "pool_index": _pool_index,
    "linalg": _linalg,
    "reduce": _reduce,
    "pool": _pool,
    "resize": _resize,
    "transpose": _transpose,
    "gather": _move,
    "scatter": _scatter,
    "reshape": _free,
    "squeeze": _free,
    "unsqueeze": _free,
    "constant": _free,
}

# The attributes that a demand reads, so that equal blocks are priced once.
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "quantize": ("to", "low", "high"),
    "conv": ("dilations",),
    "softmax": ("axis",),
    "layer_norm": ("rank",),
    "rms_norm": ("rank",),
    "cumsum": ("axis",),
    "scan": ("axis", "kind"),
    "argmax": ("axis",),
    "argsort": ("axis",),
    "pool_index": ("kernel",),
    "linalg": ("kind",),
    "reduce": ("kind", "axes"),
    "pool": ("kind", "kernel"),
    "resize": ("mode",),
}

# Ops whose first operand is read or written only where the indices say.
INDEXED = ("gather", "scatter")


def base_name(op: Operation) -> str:
    """`matmul` for tile.matmul and graph.matmul."""
    return op.name.rpartition(".")[2]


def extent(work: Work) -> int:
    """How much of a kernel's work this is: products, or elements that flow by."""
    asked = demand(work)
    if isinstance(asked, Vector) and base_name(work.op) in INDEXED:
        return asked.elements  # each of its works has all of the indexed tensor at hand
    return asked.macs if isinstance(asked, Gemm) else max(map(product, (*work.inputs, work.output)))


def is_factor(op: Operation) -> bool:
    """Whether products multiply by the op's result, as their second operand, and nothing else reads it."""
    uses = op.results[0].uses
    return bool(uses) and all(i == 1 and base_name(user) in ("matmul", "conv") for user, i in uses)


def weight_density(op: Operation) -> Fraction | None:
    """The part of a product's second operand that may be other than zero; None if it is stored dense."""
    maker = op.operands[1].op
    return maker.operands[0].type.density if maker is not None and base_name(maker) == "to_dense" else None


def densities(op: Operation) -> tuple[Fraction | None, ...]:
    """What a price may depend on beside shapes: the density of each operand, and of the weight of a product."""
    own = tuple(v.type.density for v in op.operands)
    return (*own, weight_density(op)) if base_name(op) in ("matmul", "conv") else own


def priced_dtype(op: Operation, dtype: str) -> str:
    """What the op computes in, where its first operand is `dtype`: compressed numbers in what they become, and packed
    integers one a byte."""
    if base_name(op) in ("dequantize", "lookup"):
        return op.results[0].type.dtype
    return "i8" if dtype in PACKED_BITS else dtype


def demand(work: Work) -> Gemm | Vector:
    """What the op asks for on blocks of these sizes. Raises UnpricedError for an op that is not known here."""
    if not all(map(product, (*work.inputs, work.output))):
        return FREE  # no element, no work
    name = base_name(work.op)
    if isinstance(work.op, (Elementwise, Blocked)):
        asked: Gemm | Vector = _elementwise(work)
    elif name in _DEMANDS:
        asked = _DEMANDS[name](work)
    elif isinstance(work.op, WholeOp):
        asked = _whole(work)
    else:
        raise UnpricedError(f"'{work.op.name}' ({work.op.location}) has no price; add it to engines/demand.py")
    return asked._replace(name=name) if isinstance(asked, Vector) else asked


def moved_bytes(work: Work, reads: set[int], writes: bool) -> tuple[int, int]:
    """(read, written) bytes of local memory: the operands in `reads`, and the result if it leaves the command."""
    name = base_name(work.op)
    types = [v.type for v in work.op.operands]
    written = bytes_of(product(work.output), work.op.results[0].type.dtype) if writes else 0
    read = sum(types[i].bytes_for(product(work.inputs[i])) for i in reads if not (i == 0 and name in INDEXED))
    if name == "gather":
        return read + types[0].bytes_for(product(work.output)), written
    if name == "scatter":
        return read, types[2].bytes_for(product(work.inputs[2]))
    return read, written
