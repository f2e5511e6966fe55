"""Scales and zero points that a model chooses from the tensor at hand, as dynamic quantisation does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tilewright.compiler.ir import Value

from ..dtypes import ir_dtype
from ..emitter import Emitter, Shape
from .quantization import F32_EPSILON, Limit, counts_of, decomposed, given_block, groups, range_of, whole_tensor
from .registry import lowers


def reduced(e: Emitter, kind: str, x: Value, block: Shape) -> Value:
    """One number of f32 for each block."""
    counts = counts_of(x.type.shape, block)
    split = [n for pair in zip(counts, block, strict=True) for n in pair]
    return e.cast(e.reduce(kind, e.reshape(x, split), range(1, len(split), 2)), "f32")


def extremes(e: Emitter, x: Value, block: Shape) -> tuple[Value, Value]:
    """The least number of each block, 0 at most, and the greatest, 0 at least."""
    return e.apply("minimum", reduced(e, "min", x, block), 0.0), e.apply("maximum", reduced(e, "max", x, block), 0.0)


def largest(e: Emitter, x: Value, block: Shape) -> Value:
    """The largest magnitude of each block. Of both ends, as |x| would be a tensor to write and to read again."""
    low, high = extremes(e, x, block)
    return e.apply("maximum", e.apply("neg", low), high)


def affine(e: Emitter, low: Value, high: Value, limits: tuple[int, int], eps: float) -> tuple[Value, Value]:
    """The scale that takes low..high to the limits, at least eps, and the number that 0 becomes, as i32."""
    scale = e.apply("div", e.apply("sub", high, low), float(limits[1] - limits[0]))
    scale = e.apply("maximum", scale, eps)
    zero = e.apply("sub", float(limits[0]), e.apply("round", e.apply("div", low, scale)))
    return scale, e.cast(clamped(e, zero, limits), "i32")


def symmetric(e: Emitter, x: Value, block: Shape, limits: tuple[int, int], eps: float) -> Value:
    """The scale that takes the largest magnitude to half the range."""
    scale = e.apply("div", largest(e, x, block), float(limits[1] - limits[0]) / 2)
    return e.apply("maximum", scale, eps)


def clamped(e: Emitter, x: Value, limits: tuple[int, int]) -> Value:
    return e.apply("minimum", e.apply("maximum", x, float(limits[0])), float(limits[1]))


def pair(e: Emitter, scale: Value, zero: Value | int) -> list[Value]:
    """In the shapes and dtypes that torch gives them."""
    first, second = e.expected
    zero = zero if isinstance(zero, Value) else e.constant(zero, "i32", scale.type.shape)
    return [
        e.cast(e.reshape(scale, tuple(first.shape)), ir_dtype(first.dtype)),
        e.cast(e.reshape(zero, tuple(second.shape)), ir_dtype(second.dtype)),
    ]


@lowers(decomposed.choose_qparams.tensor)
def choose_qparams(e: Emitter, x: Value, low: int, high: int, eps: float, dtype: torch.dtype) -> list[Value]:
    return pair(e, *affine(e, *extremes(e, x, whole_tensor(x)), (low, high), eps))


@lowers(decomposed.choose_qparams_symmetric.tensor)
def choose_qparams_symmetric(e: Emitter, x: Value, low: int, high: int, eps: float, dtype: torch.dtype) -> list[Value]:
    zero = 128 if dtype == torch.uint8 else 0
    return pair(e, symmetric(e, x, whole_tensor(x), (low, high), eps), zero)


@lowers(decomposed.choose_qparams_per_token.default)
def choose_qparams_per_token(e: Emitter, x: Value, dtype: torch.dtype) -> list[Value]:
    magnitude = e.apply("maximum", largest(e, x, groups(x, x.type.shape[-1])), 1e-5)
    return pair(e, e.apply("div", magnitude, float(range_of(dtype, None, None)[1])), 0)


@lowers(
    decomposed.choose_qparams_per_token_asymmetric.default,
    decomposed._choose_qparams_per_token_asymmetric_impl.default,
)
def choose_qparams_per_token_asymmetric(e: Emitter, x: Value, dtype: torch.dtype) -> list[Value]:
    return pair(e, *per_token_asymmetric(e, x))


def per_token_asymmetric(e: Emitter, x: Value) -> tuple[Value, Value]:
    """For int8, whose zero point comes from the end of the range that gives the smaller error."""
    low, high = extremes(e, x, groups(x, x.type.shape[-1]))
    least, most = -128, 127
    scale, _ = affine(e, low, high, (least, most), F32_EPSILON)
    bottom, top = e.apply("div", low, scale), e.apply("div", high, scale)
    error = e.apply("add", e.apply("add", bottom, float(least)), e.apply("add", top, float(most)))
    zero = e.where(
        e.apply("gt", error, 0.0), e.apply("sub", float(least), bottom), e.apply("sub", float(most), top), dtype="f32"
    )
    return scale, e.cast(e.apply("round", clamped(e, zero, (least, most))), "i32")


@lowers("torchao::choose_qparams_affine")
def choose_qparams_affine(
    e: Emitter,
    x: Value,
    mapping_type: str,
    block_size: Sequence[int],
    target_dtype: torch.dtype,
    quant_min: Limit = None,
    quant_max: Limit = None,
    eps: float | None = None,
    *_: Any,
    **options: Any,
) -> list[Value]:
    limits, block = range_of(target_dtype, quant_min, quant_max), given_block(x, block_size)
    eps = torch.finfo(e.first.dtype).smallest_normal if eps is None else eps
    if mapping_type == "ASYMMETRIC":
        return pair(e, *affine(e, *extremes(e, x, block), limits, eps))
    if mapping_type == "SYMMETRIC":
        scale = symmetric(e, x, block, limits, eps)
    elif mapping_type == "SYMMETRIC_NO_CLIPPING_ERR":
        low, high = extremes(e, x, block)
        least = e.apply("div", low, float(limits[0]))
        scale = e.apply("maximum", e.apply("maximum", least, e.apply("div", high, float(limits[1]))), eps)
    else:
        e.unsupported(f"the mapping {mapping_type}")
    return pair(e, scale, int((limits[0] + limits[1] + 1) / 2))
