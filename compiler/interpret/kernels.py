"""What each op means, in numpy: `evaluate` serves graph ops on tensors and tile ops of the same name on blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tilewright.compiler.dialects import tile
from tilewright.compiler.dialects.elementwise import SCALARS
from tilewright.compiler.ir import Operation
from tilewright.compiler.ir.types import PACKED_BITS

from . import contractions, linalg, quantization, rows, scalars, whole
from .numerics import Arith, Array, error, numpy_dtype, packed, to_dtype, wide

Kernel = Callable[[Any, Sequence[Array], Mapping[str, int]], Any]


def evaluate(
    op: Operation, arrays: Sequence[Array], arith: Arith = "native", at: Mapping[str, int] | None = None
) -> list[Array]:
    """The results of one graph or tile op on `arrays`, its operands.

    Blocks may be smaller than the op's types say (edge tiles); `at` gives each loop dim's first point, for ops that
    depend on where their block lies (tile.causal); a dim that it does not name starts at 0. Floats are computed in f32
    and rounded once. tile.scatter writes into its first array. Raises InterpretError for an op without a meaning or
    an index out of bounds.
    """
    base = op.name.partition(".")[2]
    kernel = KERNELS.get(base)
    if kernel is None:
        raise error(op, "has no meaning on arrays")
    dtype = numpy_dtype(op.results[0].type.dtype, arith)
    with np.errstate(all="ignore"):
        try:
            return [to_dtype(kernel(op, arrays, at or {}), dtype)]
        except (IndexError, ValueError) as problem:
            raise error(op, f"{problem} (operands {', '.join(str(a.shape) for a in arrays)})") from problem


# ---------------------------------------------------------------- sources


def _constant(op: Any, arrays: Sequence[Array], at: Mapping[str, int]) -> Array:
    kind = op.result.type
    if isinstance(op.value, tuple):
        return np.array(op.value).reshape(kind.shape)
    return np.full(kind.shape, op.value)


def _iota(op: Any, arrays: Sequence[Array], at: Mapping[str, int]) -> Array:
    return iota(op.start, op.step, op.result.type.elements)


def iota(start: float, step: float, count: int) -> Array:
    """start, start + step, ...; exact for integers."""
    whole = float(start).is_integer() and float(step).is_integer()
    return int(start) + int(step) * np.arange(count) if whole else start + step * np.arange(count)


# ---------------------------------------------------------------- elementwise


def _scalar(function: Callable[..., Any]) -> Kernel:
    return lambda op, arrays, at: function(*map(wide, arrays))


def _cast(op: Any, arrays: Sequence[Array], at: Mapping[str, int]) -> Array:
    if op.to not in PACKED_BITS:
        return arrays[0]
    return packed(to_dtype(arrays[0], np.dtype(np.int64)), op.to)


def _clamp(op: Any, arrays: Sequence[Array], at: Mapping[str, int]) -> Array:
    return scalars.clamp(wide(arrays[0]), op.low, op.high)


def _leaky_relu(op: Any, arrays: Sequence[Array], at: Mapping[str, int]) -> Array:
    return scalars.leaky_relu(wide(arrays[0]), op.slope)


def _elu(op: Any, arrays: Sequence[Array], at: Mapping[str, int]) -> Array:
    return scalars.elu(wide(arrays[0]), op.alpha)


# ---------------------------------------------------------------- contractions


def _matmul(op: Any, arrays: Sequence[Array], at: Mapping[str, int]) -> Array:
    """The third operand is a bias (graph) or an accumulator (tile): added either way."""
    y = contractions.matmul(_factor(arrays[0]), _factor(arrays[1]), op.transpose_b)
    return y + wide(arrays[2]) if len(arrays) > 2 else y


def _factor(x: Array) -> Array:
    """Integers as f64, whose sums of products of up to 16 bits are exact and fast; the result is cast back."""
    return x.astype(np.float64) if x.dtype.kind in "iu" and x.dtype.itemsize <= 2 else x


def _conv(op: Any, arrays: Sequence[Array], at: Mapping[str, int]) -> Array:
    x, w = _factor(arrays[0]), _factor(arrays[1])
    none = (0,) * (2 * len(op.strides))
    if isinstance(op, tile.Conv):
        groups = x.shape[1] // w.shape[1] if op.grouped else 1
        y = contractions.conv(x, w, op.strides, none, op.dilations, groups)
        return y + wide(arrays[2]) if len(arrays) > 2 else y
    y = contractions.conv(x, w, op.strides, op.padding, op.dilation, op.groups, op.pad_value)
    return y + wide(arrays[2]).reshape(-1, *(1,) * len(op.strides)) if len(arrays) > 2 else y


def _attention(op: Any, arrays: Sequence[Array], at: Mapping[str, int]) -> Array:
    mask = arrays[3] if len(arrays) > 3 else None
    return contractions.attention(arrays[0], arrays[1], arrays[2], mask, op.scale, op.causal)


def _causal(op: Any, arrays: Sequence[Array], at: Mapping[str, int]) -> Array:
    scores = wide(arrays[0])
    row = at.get(op.row, 0) + np.arange(scores.shape[-2])[:, None]
    column = at.get(op.column, 0) + np.arange(scores.shape[-1])
    return np.where(column > row, scores.dtype.type(-np.inf), scores)


# ---------------------------------------------------------------- quantisation


def _dequantize(op: Any, arrays: Sequence[Array], at: Mapping[str, int]) -> Array:
    zero = arrays[2] if len(arrays) > 2 else None
    return quantization.dequantize(arrays[0], arrays[1], zero, op.block, numpy_dtype(op.to, "f32"))


def _quantize(op: Any, arrays: Sequence[Array], at: Mapping[str, int]) -> Array:
    zero = arrays[2] if len(arrays) > 2 else None
    low, high = op.limits
    return quantization.quantize(arrays[0], arrays[1], zero, op.block, low, high, op.inverse)


# ---------------------------------------------------------------- reductions and norms


def _reduce(op: Any, arrays: Sequence[Array], at: Mapping[str, int]) -> Array:
    y = rows.reduce(wide(arrays[0]), op.kind, op.axes)
    if isinstance(op, tile.Reduce):
        return y if len(arrays) == 1 else rows.combine(op.kind, wide(arrays[1]), y)
    return y if op.keepdims else np.squeeze(y, tuple(op.axes))


def _pool(op: Any, arrays: Sequence[Array], at: Mapping[str, int]) -> Array:
    x = wide(arrays[0])
    if isinstance(op, tile.Pool):
        return rows.pool(x, op.kind, op.kernel, op.strides, op.dilations)
    value = rows.lowest(x.dtype) if op.kind == "max" else 0
    x = contractions.pad_array(x, (0, 0) * (x.ndim - len(op.kernel)) + tuple(op.padding), value)
    return rows.pool(x, op.kind, op.kernel, op.strides, op.dilation)


def _softmax(op: Any, arrays: Sequence[Array], at: Mapping[str, int]) -> Array:
    return rows.softmax(wide(arrays[0]), op.axis, op.log)


def _norm(op: Any, arrays: Sequence[Array], at: Mapping[str, int]) -> Array:
    """Layer, RMS and group norm: the further operands are a weight and a bias, which broadcast."""
    x = wide(arrays[0])
    base = op.name.partition(".")[2]
    axes = range(2, x.ndim) if base == "group_norm" else range(x.ndim - op.rank, x.ndim)
    y = rows.normalise(x, axes, op.eps, centre=base != "rms_norm")
    if len(arrays) > 1:
        y = y * wide(arrays[1])
    return y + wide(arrays[2]) if len(arrays) > 2 else y


def _batch_norm(op: Any, arrays: Sequence[Array], at: Mapping[str, int]) -> Array:
    x, *statistics = map(wide, arrays)
    weight, bias, mean, var = (s.reshape(-1, *(1,) * (x.ndim - 2)) for s in statistics)
    return (x - mean) * (weight / np.sqrt(var + var.dtype.type(op.eps))) + bias


def _cumsum(op: Any, arrays: Sequence[Array], at: Mapping[str, int]) -> Array:
    x = wide(arrays[0])
    return np.logical_or.accumulate(x, op.axis) if x.dtype.kind == "b" else np.cumsum(x, op.axis, dtype=x.dtype)


def _scan(op: Any, arrays: Sequence[Array], at: Mapping[str, int]) -> Array:
    return rows.scan(wide(arrays[0]), op.kind, op.axis)


def _argsort(op: Any, arrays: Sequence[Array], at: Mapping[str, int]) -> Array:
    return rows.argsort(arrays[0], op.axis, op.descending)


def _pool_index(op: Any, arrays: Sequence[Array], at: Mapping[str, int]) -> Array:
    return rows.pool_index(wide(arrays[0]), op.kernel, op.strides, op.padding, op.dilations)


def _argmax(op: Any, arrays: Sequence[Array], at: Mapping[str, int]) -> Array:
    return np.argmax(wide(arrays[0]), op.axis, keepdims=True)


def _resize(op: Any, arrays: Sequence[Array], at: Mapping[str, int]) -> Array:
    if op.mode not in ("nearest", "bilinear"):
        raise error(op, f"knows the modes nearest and bilinear, not '{op.mode}'")
    return rows.resize(wide(arrays[0]), op.size, op.mode, op.align_corners, op.scales)


# ---------------------------------------------------------------- data movement


def _reshape(op: Any, arrays: Sequence[Array], at: Mapping[str, int]) -> Array:
    x, largest = arrays[0], op.operands[0].type.shape
    return x.reshape(op.to if x.shape == largest else edge_shape(largest, op.to, x.shape))


def edge_shape(largest: Sequence[int], to: Sequence[int], actual: Sequence[int]) -> tuple[int, ...]:
    """The shape of an edge tile `actual` after the reshape that takes `largest` to `to`.

    Axes are matched in groups of equal product; in a group only the outermost axis that is not 1 may be shorter.
    Raises ValueError where the elements of the edge tile are no such block.
    """
    out: list[int] = []
    i = j = 0
    while i < len(largest) or j < len(to):
        a, b, left, right = 1, 1, i, j
        if i < len(largest):
            a, i = largest[i], i + 1
        if j < len(to):
            b, j = to[j], j + 1
        while a != b:
            if a < b:
                a, i = a * largest[i], i + 1
            else:
                b, j = b * to[j], j + 1
        group, full, count = list(to[right:j]), largest[left:i], math.prod(actual[left:i])
        outer = next((k for k, n in enumerate(full) if n > 1), len(full))
        if tuple(full[outer + 1 :]) != tuple(actual[left + outer + 1 : i]):
            raise ValueError(f"an edge tile {tuple(actual)} of {tuple(largest)} cannot be reshaped to {tuple(to)}")
        head = next((k for k, n in enumerate(group) if n > 1), None)
        if head is not None:
            rest = math.prod(group[head + 1 :])
            if count % rest:
                raise ValueError(f"an edge tile {tuple(actual)} of {tuple(largest)} cannot be reshaped to {tuple(to)}")
            group[head] = count // rest
        out += group
    return tuple(out)


def _slice(op: Any, arrays: Sequence[Array], at: Mapping[str, int]) -> Array:
    return arrays[0][_block(op.starts, op.sizes, op.steps)]


def _block(starts: Sequence[int], sizes: Sequence[int], steps: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(a, a + (n - 1) * s + 1 if n else a, s) for a, n, s in zip(starts, sizes, steps, strict=True))


def _update(op: Any, arrays: Sequence[Array], at: Mapping[str, int]) -> Array:
    y = arrays[0].copy()
    y[_block(op.starts, arrays[1].shape, op.steps)] = arrays[1]
    return y


def _pad(op: Any, arrays: Sequence[Array], at: Mapping[str, int]) -> Array:
    return contractions.pad_array(arrays[0], op.padding, op.value)


def _gather(op: Any, arrays: Sequence[Array], at: Mapping[str, int]) -> Array:
    return np.take(arrays[0], arrays[1].astype(np.int64, copy=False), op.axis)


def _scatter(op: Any, arrays: Sequence[Array], at: Mapping[str, int]) -> Array:
    """On a block the base is written in place; on a tensor it is copied first."""
    base, indices, value = arrays
    y = base if isinstance(op, tile.ScatterRows) else base.copy()
    if value.shape != (*base.shape[: op.axis], len(indices), *base.shape[op.axis + 1 :]):
        raise ValueError("the value's rows do not fit the base")
    y[(slice(None),) * op.axis + (indices,)] = value
    return y


def _scatter_reduce(op: Any, arrays: Sequence[Array], at: Mapping[str, int]) -> Array:
    base, indices, value = arrays
    return whole.scatter_reduce(wide(base), indices, wide(value), op.axis, op.kind, op.include_self)


def _search_sorted(op: Any, arrays: Sequence[Array], at: Mapping[str, int]) -> Array:
    return whole.search_sorted(arrays[0], arrays[1], op.right)


def _grouped_matmul(op: Any, arrays: Sequence[Array], at: Mapping[str, int]) -> Array:
    return contractions.grouped_matmul(*arrays)


def _linalg(op: Any, arrays: Sequence[Array], at: Mapping[str, int]) -> Array:
    return linalg.evaluate(op.kind, [wide(a) for a in arrays], op.flags).reshape(op.of)


KERNELS: dict[str, Kernel] = {
    **{name: _scalar(scalars.FUNCTIONS[name]) for name in SCALARS},
    "constant": _constant,
    "iota": _iota,
    "cast": _cast,
    "clamp": _clamp,
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "where": lambda op, arrays, at: np.where(*arrays),
    "matmul": _matmul,
    "conv": _conv,
    "attention": _attention,
    "dequantize": _dequantize,
    "quantize": _quantize,
    "to_dense": lambda op, arrays, at: arrays[0],  # whoever holds it holds its zeros too
    "lookup": lambda op, arrays, at: quantization.lookup(arrays[0], arrays[1], op.block),
    "grouped_matmul": _grouped_matmul,
    "causal": _causal,
    "reduce": _reduce,
    "pool": _pool,
    "softmax": _softmax,
    "layer_norm": _norm,
    "rms_norm": _norm,
    "group_norm": _norm,
    "batch_norm": _batch_norm,
    "cumsum": _cumsum,
    "argmax": _argmax,
    "scan": _scan,
    "argsort": _argsort,
    "pool_index": _pool_index,
    "scatter_reduce": _scatter_reduce,
    "search_sorted": _search_sorted,
    "linalg": _linalg,
    "resize": _resize,
    "reshape": _reshape,
    "transpose": lambda op, arrays, at: arrays[0].transpose(op.permutation),
    "slice": _slice,
    "expand": lambda op, arrays, at: np.broadcast_to(arrays[0], op.to),
    "copy": lambda op, arrays, at: arrays[0],
    "squeeze": lambda op, arrays, at: np.squeeze(arrays[0], tuple(op.axes)),
    "unsqueeze": lambda op, arrays, at: np.expand_dims(arrays[0], tuple(op.axes)),
    "concat": lambda op, arrays, at: np.concatenate(arrays, op.axis),
    "pad": _pad,
    "gather": _gather,
    "update": _update,
    "scatter": _scatter,
}
