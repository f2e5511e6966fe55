"""Element types: torch's and the IR's names for them, and torch's promotion between them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from tilewright.compiler.ir import TensorType, Value

from .errors import Unsupported

IR_NAMES: dict[torch.dtype, str] = {
    torch.float16: "f16",
    torch.bfloat16: "bf16",
    torch.float32: "f32",
    torch.float64: "f64",
    torch.bool: "i1",
    torch.int8: "i8",
    torch.uint8: "ui8",
    torch.int16: "i16",
    torch.int32: "i32",
    torch.int64: "i64",
}
COMPLEX_PARTS: dict[torch.dtype, torch.dtype] = {
    torch.complex32: torch.float16,
    torch.complex64: torch.float32,
    torch.complex128: torch.float64,
}
TORCH_DTYPES: dict[str, torch.dtype] = {name: dtype for dtype, name in IR_NAMES.items()}


def ir_dtype(dtype: torch.dtype) -> str:
    """The IR's name. Raises Unsupported for a dtype that the IR lacks (8-bit floats), or has as pairs (complex)."""
    if dtype not in IR_NAMES:
        raise Unsupported(f"a tensor of {str(dtype).removeprefix('torch.')}")
    return IR_NAMES[dtype]


def tensor_type(tensor: torch.Tensor) -> TensorType:
    """The type of a tensor, real or fake; one of complex numbers has their parts along a last axis."""
    if tensor.dtype in COMPLEX_PARTS:
        return TensorType((*map(int, tensor.shape), 2), ir_dtype(COMPLEX_PARTS[tensor.dtype]))
    return TensorType(tuple(int(n) for n in tensor.shape), ir_dtype(tensor.dtype))


@lru_cache(maxsize=64)
def _sample(dtype: str, scalar: bool) -> torch.Tensor:
    return torch.empty(() if scalar else (1,), dtype=TORCH_DTYPES[dtype], device="meta")


def result_type(*operands: Value | bool | int | float) -> str:
    """The dtype that torch computes in: tensors outrank rank-0 tensors, which outrank Python numbers."""
    samples: list[Any] = [_sample(v.type.dtype, not v.type.shape) if isinstance(v, Value) else v for v in operands]
    if len(samples) == 1:
        samples.append(samples[0])
    dtype = torch.result_type(samples[0], samples[1])
    for i in range(2, len(samples)):
        dtype = torch.promote_types(dtype, torch.result_type(samples[0], samples[i]))
    return ir_dtype(dtype)
