"""ATen's products with integer weights: int8 by int8, and floats by weights of 8 or 4 bits in the layout of a kernel.

A packed weight becomes a parameter of one integer an element in the order of the matrix, stored at its true width; a
device has a layout of its own.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import TensorType, Value, dense_tensor

from ..dtypes import ir_dtype
from ..emitter import Emitter
from ..weights import derived, known
from .contraction import matrix_product
from .quantization import groups, quantized
from .quantization_parameters import per_token_asymmetric
from .registry import aten, lowers


@lowers(aten._int_mm.default)
def int_mm(e: Emitter, a: Value, b: Value) -> Value:
    return e.add(graph.Matmul(a, b, to="i32"))


@lowers(aten._weight_int8pack_mm.default)
def weight_int8pack_mm(e: Emitter, x: Value, weight: Value, scales: Value) -> Value:
    """weight[n, k] with a scale for each of its n rows."""
    n, k = weight.type.shape
    w = e.add(graph.Dequantize(weight, e.reshape(scales, (n, 1)), block=(1, k), to=x.type.dtype))
    return matrix_product(e, x, w, transpose_b=True)


@lowers(aten._weight_int4pack_mm_for_cpu.default)
def weight_int4pack_mm_for_cpu(e: Emitter, x: Value, weight: Value, group: int, scales_and_zeros: Value) -> Value:
    n, k = weight.type.shape[0], x.type.shape[1]
    q = derived(e, weight, "i4", dense_tensor((n, k), "i4"), lambda t: unpack_for_cpu(t, k) - 8)
    return grouped_product(e, x, q, group, scales_and_zeros)


@lowers(aten._weight_int4pack_mm.default)
def weight_int4pack_mm(e: Emitter, x: Value, weight: Value, group: int, scales_and_zeros: Value) -> Value:
    n, k = weight.type.shape[0] * 8, x.type.shape[1]
    q = derived(e, weight, "i4", dense_tensor((n, k), "i4"), lambda t: unpack_tensor_core_tiles(t) - 8)
    return grouped_product(e, x, q, group, scales_and_zeros)


def grouped_product(e: Emitter, x: Value, q: Value, group: int, scales_and_zeros: Value) -> Value:
    """x[m, k] times the transpose of w[n, k] = q * scale + zero, both in scales_and_zeros[k / group, n, 2].

    As (q - (-zero / scale)) * scale.
    """
    n, count = q.type.shape[0], scales_and_zeros.type.shape[0]
    data = known(e, scales_and_zeros)
    if data is not None and (data[..., 1][data[..., 0] == 0] != 0).any():
        e.unsupported("a group of weights with the scale 0")
    kind = dense_tensor((n, count), scales_and_zeros.type.dtype)
    scale = derived(e, scales_and_zeros, "scale", kind, lambda t: t[..., 0].T.float())
    zero = derived(e, scales_and_zeros, "zero", kind, _zero_points)
    w = e.add(graph.Dequantize(q, scale, zero, block=groups(q, group), to=x.type.dtype))
    return matrix_product(e, x, w, transpose_b=True)


def _zero_points(scales_and_zeros: torch.Tensor) -> torch.Tensor:
    scale, zero = scales_and_zeros.float().unbind(-1)
    return torch.where(scale == 0, 0.0, -zero / scale).T


# ---------------------------------------------------------------- dynamic


@lowers(aten._dyn_quant_matmul_4bit.default)
def dyn_quant_matmul_4bit(
    e: Emitter, x: Value, packed: Value, block_size: int, in_features: int, out_features: int
) -> Value:
    """Rows of x as int8 with a scale and a zero point each, by weights of 4 bits with a scale for each block.

    `packed` is what torch packs where Arm's KleidiAI kernels are missing: bytes of two weights, scales and a bias, one
    after the other as f32.
    """
    n, k = out_features, in_features
    weights, scales = n * k // 2, n * k // block_size
    rest = packed.type.elements - weights - scales
    if packed.type.dtype != "f32" or rest not in (0, n):
        e.unsupported("a weight in the layout of Arm's KleidiAI kernels, which no other program can read")

    def part(name: str, type: TensorType, start: int) -> Value:
        return derived(e, packed, name, type, lambda t: t[start : start + type.elements].reshape(type.shape))

    q = derived(e, packed, "i4", dense_tensor((n, k), "i4"), lambda t: nibbles(t[:weights].to(torch.uint8), n) - 8)
    scale = part("scale", dense_tensor((n, k // block_size), "f32"), weights)
    bias = part("bias", dense_tensor((n,), "f32"), weights + scales) if rest else None
    w = e.add(graph.Dequantize(q, scale, block=(1, block_size), to=x.type.dtype))
    row_scale, row_zero = per_token_asymmetric(e, x)
    block = groups(x, k)
    rows = quantized(e, x, row_scale, row_zero, block, (-128, 127), "i8")
    x = e.add(graph.Dequantize(rows, row_scale, row_zero, block=block, to=x.type.dtype))
    return e.cast(matrix_product(e, x, w, bias, transpose_b=True), ir_dtype(e.expected.dtype))


# ---------------------------------------------------------------- layouts


def nibbles(packed: torch.Tensor, rows: int) -> torch.Tensor:
    """Two integers of 0..15 a byte, the low half first, as [rows, columns] of i8."""
    return torch.stack([packed & 15, packed >> 4], dim=-1).reshape(rows, -1).to(torch.int8)


def unpack_for_cpu(packed: torch.Tensor, columns: int) -> torch.Tensor:
    """[n, k] of 0..15 from what aten._convert_weight_to_int4pack_for_cpu made on this machine.

    Its layout is that of the machine's vector registers. It is found by packing the position of each element.
    """
    n = packed.shape[0]
    out = torch.empty(n * columns, dtype=torch.int8)
    out[_positions_for_cpu(n, columns)] = nibbles(packed, 1)[0]
    return out.reshape(n, columns)


@lru_cache(maxsize=8)
def _positions_for_cpu(n: int, k: int) -> torch.Tensor:
    """Which element of [n, k] each half byte of the packed tensor holds: its position, hexadecimal digit by digit."""
    positions = torch.arange(n * k, dtype=torch.int64).reshape(n, k)
    found = torch.zeros(n * k, dtype=torch.int64)
    for shift in range(0, max(n * k - 1, 1).bit_length(), 4):
        digit = ((positions >> shift) & 15).to(torch.int32)
        packed = aten._convert_weight_to_int4pack_for_cpu(digit, 1)
        found += nibbles(packed, 1)[0].to(torch.int64) << shift
    return found


def unpack_tensor_core_tiles(packed: torch.Tensor) -> torch.Tensor:
    """[n, k] of 0..15 from [n / 8, k / (16 i), 32, i / 2] of i32: what CUDA's aten._convert_weight_to_int4pack makes.

    Each of 32 lanes holds what it feeds to the matrix instruction m16n8k16: of row lane / 4 and two k-tiles of 16 the
    elements 2 (lane % 4) + 0, 1, 8, 9, those of even number in the low half of the word
    (matrix_to_m16n8k16_Bint4_layout in aten/src/ATen/native/cuda/int4mm.cu).
    """
    tiles, outer, lanes, words = packed.shape
    values = (packed.unsqueeze(-1) >> torch.arange(0, 32, 4)) & 15
    parts = values.reshape(tiles, outer, lanes // 4, 4, words, 2, 2, 2)  # ..., row, lane % 4, word, odd, k-tile, half
    ordered = parts.permute(0, 2, 1, 4, 6, 7, 3, 5)  # tile, row, outer, word, k-tile, half, lane % 4, odd
    return ordered.reshape(tiles * 8, -1).to(torch.int8)
