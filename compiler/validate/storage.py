"""Weights as they are stored: a float program whose weights become palettes, integers with scales, or sparse.

It is the form that is costed, so no data is made: a weight that is replaced is a parameter without any.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import torch
from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Module, Operation, TensorType, Value, is_float
from tilewright.compiler.pipeline import run_passes
from tilewright.passes import PassContext, parse_pipeline

SMALL = 2048  # elements up to which a weight alone stays as it is: Core ML Tools' weight_threshold
FOLD = "canonicalize,fold-batch-norm,fold-constants"  # a batch norm goes into the weights before these are stored


@dataclass(frozen=True, slots=True)
class Palettes:
    """Indices of `bits` bits into one table a weight."""

    bits: int


@dataclass(frozen=True, slots=True)
class Integers:
    """Integers of `bits` bits with a scale for each output channel, or for `group` numbers along the depth.

    Scales are of the dtype `scale`, without one of the program's. With `offset` integers are unsigned, and each scale
    has a number beside it that is added. With `activations`, what a product takes beside the weight is rounded to 8
    bits, with one scale, for all that reads it: an addition round a block takes the numbers that the product takes (as
    quantisers of whole models, such as torch.ao's and Core ML Tools', place their observers).
    """

    bits: int
    group: int | None = None
    activations: bool = False
    scale: str | None = None
    offset: bool = False


@dataclass(frozen=True, slots=True)
class Floats:
    """Floats of another dtype than the program computes in."""

    dtype: str


@dataclass(frozen=True, slots=True)
class Sparse:
    """Of `zeros` percent of the weights nothing but the bit that says so."""

    zeros: int


Storage = Palettes | Integers | Floats | Sparse


def store(module: Module, form: Storage) -> None:
    """Changes the weights of every product of the graph-level program, in place; those of SMALL elements stay, unless
    activations are rounded too: that is done in training, by quantisers that know no threshold."""
    run_passes(module, parse_pipeline(FOLD), PassContext())
    stored: dict[Value, Value] = {}
    rounded: dict[Value, Value] = {}
    least = 0 if isinstance(form, Integers) and form.activations else SMALL
    for op in list(_products(module, least)):
        weight = op.operands[1]
        if weight not in stored:
            stored[weight] = _stored(module, weight, op, form)
        op.set_operand(1, stored[weight])
        if isinstance(form, Integers) and form.activations:
            x = op.operands[0]
            if x not in rounded:
                rounded[x] = _rounded(module, x)
    for x, numbers in rounded.items():
        _read_rounded(x, numbers)


def _products(module: Module, least: int) -> Iterator[Operation]:
    for op in module.main.body:
        if isinstance(op, (graph.Matmul, graph.Conv)):
            w = op.operands[1]
            if graph.is_parameter(w) and is_float(w.type.dtype) and w.type.elements > least:
                yield op


def _before(anchor: Operation, op: Operation) -> Value:
    assert anchor.parent is not None
    op.location = anchor.location
    return anchor.parent.insert_before(anchor, op).result


def _parameter(
    module: Module, anchor: Operation, key: str, shape: tuple[int, ...], dtype: str, density: Fraction | None = None
) -> Value:
    module.parameters[key] = torch.empty(shape, device="meta")
    return _before(anchor, graph.Parameter(key=key, result_types=[TensorType(shape, dtype, density=density)]))


def _stored(module: Module, weight: Value, anchor: Operation, form: Storage) -> Value:
    """The weight computed from what is stored, just before the op that needs it."""
    shape, dtype = weight.type.shape, weight.type.dtype
    assert isinstance(weight.op, graph.Parameter)
    key = weight.op.key
    if isinstance(form, Palettes):
        index = _parameter(module, anchor, f"{key}.index", shape, f"ui{form.bits}")
        table = _parameter(module, anchor, f"{key}.table", ((1,) * len(shape)) + (1 << form.bits,), dtype)
        return _before(anchor, graph.Lookup(index, table, block=shape))
    if isinstance(form, Sparse):
        count = math.prod(shape)
        density = Fraction(count - count * form.zeros // 100, count)
        return _before(anchor, graph.ToDense(_parameter(module, anchor, f"{key}.sparse", shape, dtype, density)))
    if isinstance(form, Floats):
        narrow = _parameter(module, anchor, f"{key}.{form.dtype}", shape, form.dtype)
        return _before(anchor, graph.Cast(narrow, to=dtype))
    channel = _channel_axis(anchor) % len(shape)
    block = tuple(1 if i == channel else n for i, n in enumerate(shape))
    if form.group is not None:
        depth = len(shape) - 1 if channel != len(shape) - 1 else len(shape) - 2
        block = tuple(form.group if i == depth else 1 for i in range(len(shape)))
    numbers = _parameter(module, anchor, f"{key}.integers", shape, f"{'u' if form.offset else ''}i{form.bits}")
    counts = tuple(-(-n // b) for n, b in zip(shape, block, strict=True))
    settings = ("scale", "zero") if form.offset else ("scale",)
    settled = (_parameter(module, anchor, f"{key}.{name}", counts, form.scale or dtype) for name in settings)
    return _before(anchor, graph.Dequantize(numbers, *settled, block=block, to=dtype))


def _channel_axis(product: Operation) -> int:
    """The axis of a product's weight that its result keeps."""
    if isinstance(product, graph.Matmul):
        return -2 if product.transpose_b else -1
    return 0


def _rounded(module: Module, x: Value) -> Value:
    """x in 8 bits with one scale, made before the first op that reads it."""
    shape = x.type.shape
    readers = set(x.users)
    first = next(op for op in module.main.body if op in readers)
    key = f"scale{sum(k.startswith('scale') for k in module.parameters)}"
    scale = _parameter(module, first, key, (1,) * len(shape), "f32")
    return _before(first, graph.Quantize(x, scale, block=shape, to="i8"))


def _read_rounded(x: Value, numbers: Value) -> None:
    """Whatever reads x reads its rounded numbers, each reader expanding them by itself."""
    quantize = numbers.op
    assert isinstance(quantize, graph.Quantize)
    for op, index in list(x.uses):
        if op is not quantize and isinstance(op, graph.GraphOp):
            scale, dtype = quantize.operands[1], x.type.dtype
            op.set_operand(index, _before(op, graph.Dequantize(numbers, scale, block=x.type.shape, to=dtype)))
