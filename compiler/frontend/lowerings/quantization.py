"""Quantised tensors as PyTorch spells them: PT2E's quantized_decomposed ops, torchao's affine ones, fake quantisation.

All of them say q = clamp(round(x * (1 / scale)) + zero) and x = (q - zero) * scale, with a scale and a zero for each
block of the tensor; they differ in how the blocks are told. A weight that is dequantised is stored at the width that
its range needs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
import torch.ao.quantization.fx._decomposed  # registers torch.ops.quantized_decomposed
from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Value, int_range

from ..dtypes import ir_dtype
from ..emitter import Emitter, Number, Shape, axis_of
from ..weights import known, narrowed, sparse
from .registry import aten, lowers

decomposed: Any = torch.ops.quantized_decomposed
F32_EPSILON = torch.finfo(torch.float32).eps
_INTEGER = re.compile(r"torch\.(u?)int(\d+)")

# ---------------------------------------------------------------- blocks


def counts_of(shape: Shape, block: Shape) -> Shape:
    return tuple(-(-n // b) for n, b in zip(shape, block, strict=True))


def whole_tensor(x: Value) -> Shape:
    return tuple(max(n, 1) for n in x.type.shape)


def channel(x: Value, axis: int) -> Shape:
    axis = axis_of(axis, x.type.rank)
    return tuple(1 if i == axis else max(n, 1) for i, n in enumerate(x.type.shape))


def groups(x: Value, size: int) -> Shape:
    """Blocks of `size` along the last axis."""
    return (*((1,) * (x.type.rank - 1)), max(min(size, x.type.shape[-1]), 1))


def given_block(x: Value, block: Sequence[int]) -> Shape:
    """torchao's block_size, where -1 is the whole axis."""
    return tuple(max(n, 1) if b == -1 else b for b, n in zip(block, x.type.shape, strict=True))


def range_of(dtype: torch.dtype, low: Number | None, high: Number | None) -> tuple[int, int]:
    """The least and the greatest number: those given, or the ends of the dtype."""
    match = _INTEGER.fullmatch(str(dtype))
    assert match is not None, dtype
    bits = int(match[2])
    least, most = (0, (1 << bits) - 1) if match[1] else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    return least if low is None else int(low), most if high is None else int(high)


def integer_for(low: int, high: int) -> str:
    """The narrowest integer of whole bytes that holds the range."""
    return next(d for d in ("i8", "ui8", "i16", "i32", "i64") if int_range(d)[0] <= low and high <= int_range(d)[1])


# ---------------------------------------------------------------- both ways


def unwidened(x: Value, dtype: str) -> Value:
    """The value that a cast made, where only the cast made it wider than `dtype`."""
    return x.op.x if isinstance(x.op, graph.Cast) and x.op.x.type.dtype == dtype else x


def scales(e: Emitter, scale: Value | Number, counts: Shape) -> Value:
    """In f32 where torch has f64."""
    if not isinstance(scale, Value):
        return e.constant(float(scale), "f32", counts)
    scale = unwidened(scale, "f32")
    return e.reshape(e.cast(scale, "f32") if scale.type.dtype == "f64" else scale, counts)


def zeros(e: Emitter, zero: Value | Number | None, counts: Shape, offset: int = 0) -> Value | None:
    """The zero points, `offset` added; None where all of them are known to be 0."""
    if isinstance(zero, Value):
        data = known(e, zero)
        if data is not None and not data.any():
            zero = 0
    if not isinstance(zero, Value):
        zero = int(zero or 0) + offset
        return e.constant(zero, integer_for(zero, zero), counts) if zero else None
    if zero.type.dtype == "i64":
        zero = e.cast(unwidened(zero, "i32"), "i32")
    zero = e.reshape(zero, counts)
    if not offset:
        return zero
    return e.apply("add", zero, offset, dtype="f32" if zero.type.dtype.startswith(("f", "b")) else "i32")


def dequantized(
    e: Emitter,
    q: Value,
    scale: Value | Number,
    zero: Value | Number | None,
    block: Shape,
    limits: tuple[int, int] | None = None,
) -> Value:
    """To the dtype that torch expects. `limits`: where q lies, which says how many bits a stored q needs."""
    to = ir_dtype(e.expected.dtype)
    if not q.type.elements:
        return e.constant(0.0, to, q.type.shape)
    counts, offset = counts_of(q.type.shape, block), 0
    if limits is not None:
        q, offset = narrowed(e, q, *limits)
    entries = [scales(e, scale, counts), *filter(None, [zeros(e, zero, counts, offset)])]
    return e.add(graph.Dequantize(q, *entries, block=block, to=to))


def quantized(
    e: Emitter,
    x: Value,
    scale: Value | Number,
    zero: Value | Number | None,
    block: Shape,
    limits: tuple[int, int],
    to: str,
) -> Value:
    if not x.type.elements:
        return e.constant(0, to, x.type.shape)
    counts = counts_of(x.type.shape, block)
    inverse = e.apply("div", 1.0, scales(e, scale, counts), dtype="f32") if isinstance(scale, Value) else None
    entries = [inverse or e.constant(1.0 / float(scale), "f32", counts)]  # type: ignore[arg-type] - no Value here
    entries += filter(None, [zeros(e, zero, counts)])
    return e.add(graph.Quantize(x, *entries, block=block, to=to, low=limits[0], high=limits[1], inverse=True))


def fake_quantized(
    e: Emitter, x: Value, scale: Value | Number, zero: Value | Number | None, block: Shape, low: int, high: int
) -> Value:
    q = quantized(e, x, scale, zero, block, (low, high), integer_for(low, high))
    return dequantized(e, q, scale, zero, block)


# ---------------------------------------------------------------- quantized_decomposed


@lowers(decomposed.quantize_per_tensor.default, decomposed.quantize_per_tensor.tensor)
def quantize_per_tensor(
    e: Emitter, x: Value, scale: Value | float, zero: Value | int, low: int, high: int, dtype: torch.dtype
) -> Value:
    return quantized(e, x, scale, zero, whole_tensor(x), (low, high), ir_dtype(dtype))


@lowers(decomposed.dequantize_per_tensor.default, decomposed.dequantize_per_tensor.tensor)
def dequantize_per_tensor(
    e: Emitter, q: Value, scale: Value | float, zero: Value | int, low: int, high: int, *_: Any, **options: Any
) -> Value:
    return dequantized(e, q, scale, zero, whole_tensor(q), (low, high))


def number(e: Emitter, x: Value) -> int:
    """The number that a constant holds."""
    if not isinstance(x.op, graph.Constant) or isinstance(x.op.value, tuple):
        e.unsupported("limits that are known only when the model runs")
    return int(x.op.value)  # type: ignore[call-overload] - a splat


@lowers(decomposed.quantize_per_tensor.tensor2)
def quantize_per_tensor_tensors(
    e: Emitter, x: Value, scale: Value, zero: Value, low: Value, high: Value, dtype: torch.dtype
) -> Value:
    return quantize_per_tensor(e, x, scale, zero, number(e, low), number(e, high), dtype)


@lowers(decomposed.dequantize_per_tensor.tensor2)
def dequantize_per_tensor_tensors(
    e: Emitter, q: Value, scale: Value, zero: Value, low: Value, high: Value, *_: Any, **options: Any
) -> Value:
    return dequantize_per_tensor(e, q, scale, zero, number(e, low), number(e, high))


@lowers(decomposed.quantize_per_channel.default)
def quantize_per_channel(
    e: Emitter, x: Value, scale: Value, zero: Value, axis: int, low: int, high: int, dtype: torch.dtype
) -> Value:
    return quantized(e, x, scale, zero, channel(x, axis), (low, high), ir_dtype(dtype))


@lowers(decomposed.dequantize_per_channel.default)
def dequantize_per_channel(
    e: Emitter, q: Value, scale: Value, zero: Value | None, axis: int, low: int, high: int, *_: Any, **options: Any
) -> Value:
    return dequantized(e, q, scale, zero, channel(q, axis), (low, high))


@lowers(decomposed.quantize_per_token.default)
def quantize_per_token(
    e: Emitter, x: Value, scale: Value, zero: Value, low: int, high: int, dtype: torch.dtype
) -> Value:
    return quantized(e, x, scale, zero, groups(x, x.type.shape[-1]), (low, high), ir_dtype(dtype))


@lowers(decomposed.dequantize_per_token.default)
def dequantize_per_token(e: Emitter, q: Value, scale: Value, zero: Value, low: int, high: int, *_: Any) -> Value:
    return dequantized(e, q, scale, zero, groups(q, q.type.shape[-1]), (low, high))


@lowers(decomposed.quantize_per_channel_group.default)
def quantize_per_channel_group(
    e: Emitter, x: Value, scale: Value, zero: Value, low: int, high: int, dtype: torch.dtype, group_size: int = 128
) -> Value:
    return quantized(e, x, scale, zero, groups(x, group_size), (low, high), ir_dtype(dtype))


@lowers(decomposed.dequantize_per_channel_group.default)
def dequantize_per_channel_group(
    e: Emitter,
    q: Value,
    scale: Value,
    zero: Value | None,
    low: int,
    high: int,
    dtype: torch.dtype,
    group_size: int = 128,
    output_dtype: torch.dtype = torch.float32,
) -> Value:
    return dequantized(e, q, scale, zero, groups(q, group_size), (low, high))


@lowers(decomposed.convert_element_type.no_fuse)
def convert_element_type(e: Emitter, x: Value, dtype: torch.dtype) -> Value:
    return e.cast(x, ir_dtype(dtype))


# ---------------------------------------------------------------- torchao

Limit = int | float | None


@lowers("torchao::quantize_affine")
def quantize_affine(
    e: Emitter,
    x: Value,
    block_size: Sequence[int],
    scale: Value,
    zero_point: Value | None,
    output_dtype: torch.dtype,
    quant_min: Limit = None,
    quant_max: Limit = None,
) -> Value:
    limits = range_of(output_dtype, quant_min, quant_max)
    return quantized(e, x, scale, zero_point, given_block(x, block_size), limits, ir_dtype(e.expected.dtype))


@lowers("torchao::dequantize_affine")
def dequantize_affine(
    e: Emitter,
    q: Value,
    block_size: Sequence[int],
    scale: Value,
    zero_point: Value | None,
    input_dtype: torch.dtype,
    quant_min: Limit = None,
    quant_max: Limit = None,
    output_dtype: torch.dtype = torch.float32,
) -> Value:
    return dequantized(e, q, scale, zero_point, given_block(q, block_size), range_of(input_dtype, quant_min, quant_max))


# ---------------------------------------------------------------- quantisation-aware training


@lowers(aten.fake_quantize_per_tensor_affine.default, aten.fake_quantize_per_tensor_affine.tensor_qparams)
def fake_quantize_per_tensor(
    e: Emitter, x: Value, scale: Value | float, zero: Value | int, quant_min: int, quant_max: int
) -> Value:
    return fake_quantized(e, x, scale, zero, whole_tensor(x), quant_min, quant_max)


@lowers(aten.fake_quantize_per_channel_affine.default, decomposed.fake_quant_per_channel.default)
def fake_quantize_per_channel(
    e: Emitter, x: Value, scale: Value, zero: Value, axis: int, quant_min: int, quant_max: int
) -> Value:
    return fake_quantized(e, x, scale, zero, channel(x, axis), quant_min, quant_max)


# ---------------------------------------------------------------- palettes and sparse weights


@lowers("tilewright::lookup")
def lookup(e: Emitter, index: Value, table: Value, block: Sequence[int]) -> Value:
    """Indices into palettes of `table`'s last axis, stored at the width that the palette needs."""
    index, _ = narrowed(e, index, 0, table.type.shape[-1] - 1)
    return e.add(graph.Lookup(index, table, block=given_block(index, block)))


@lowers("tilewright::to_dense")
def to_dense(e: Emitter, mask: Value, nonzeros: Value) -> Value:
    """A weight that is stored as a mask and the numbers that are not zero: one parameter, whose type says how many."""
    return e.add(graph.ToDense(sparse(e, mask, nonzeros)))
