"""Weights that a program stores as integers: read at their true width, and unpacked when the program is loaded."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import torch
from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import DTYPE_BITS, TensorType, Value, dense_tensor, int_range, is_float, is_integer
from torch._subclasses.fake_tensor import FakeTensor

from .emitter import Emitter
from .sparsity import to_dense

PACKED = ("ui1", "ui2", "ui3", "i4", "ui4", "ui6")  # from the narrowest


def held(e: Emitter, x: Value) -> Any:
    """The tensor behind a parameter, which may be fake; None for any other value, and for a parameter without one."""
    return e.parameters.get(x.op.key) if isinstance(x.op, graph.Parameter) else None


def has_data(tensor: Any) -> bool:
    return isinstance(tensor, torch.Tensor) and not isinstance(tensor, FakeTensor) and not tensor.is_meta


def known(e: Emitter, x: Value) -> torch.Tensor | None:
    """The data of a parameter; None where it has none, or where x is no parameter."""
    tensor = held(e, x)
    return tensor.detach() if has_data(tensor) else None


def derived(e: Emitter, x: Value, name: str, type: TensorType, make: Callable[[torch.Tensor], torch.Tensor]) -> Value:
    """A parameter that `make` computes from the tensor of parameter x when the program runs.

    Ends the lowering where x is computed: such a value has no tensor to make it from.
    """
    source = held(e, x)
    if source is None or not isinstance(x.op, graph.Parameter):
        e.unsupported("a packed weight that the model computes; only one that it stores can be unpacked")
    key = f"{x.op.key}.{name}"
    if has_data(source):
        e.parameters[key] = lambda arith: make(source.detach()).cpu().numpy()
    else:
        e.parameters[key] = torch.empty(type.shape, device="meta")
    return e.add(graph.Parameter(key=key, result_types=[type]))


def sparse(e: Emitter, mask: Value, nonzeros: Value) -> Value:
    """The sparse parameter of a mask and the numbers that are not zero, both of which the model stores.

    Ends the lowering where it computes one of them: how many numbers there are is known when they are stored.
    """
    parts = held(e, mask), held(e, nonzeros)
    if any(p is None for p in parts) or not isinstance(nonzeros.op, graph.Parameter):
        e.unsupported("a sparse weight whose mask or numbers the model computes; only one that it stores is sparse")
    density = Fraction(nonzeros.type.elements, max(mask.type.elements, 1))
    kind = TensorType(mask.type.shape, nonzeros.type.dtype, density=density)
    key = f"{nonzeros.op.key}.dense"
    if all(map(has_data, parts)):
        numbers = [p.detach().cpu() for p in parts]
        e.parameters[key] = lambda arith: to_dense(numbers[0], numbers[1].float()).numpy()
    else:
        e.parameters[key] = torch.empty(kind.shape, device="meta")
    return e.add(graph.Parameter(key=key, result_types=[kind]))


def storage_for(low: int, high: int) -> tuple[str, int] | None:
    """The packed dtype that holds low..high, and what to add to the numbers first; None where a byte is needed."""
    for dtype in PACKED:
        bits = DTYPE_BITS[dtype]
        offset = 1 << (bits - 1) if low < 0 and dtype.startswith("u") else 0
        least, most = int_range(dtype)
        if least <= low + offset and high + offset <= most:
            return dtype, offset
    return None


def narrowed(e: Emitter, q: Value, low: int, high: int) -> tuple[Value, int]:
    """A weight whose numbers lie from low to high as a device stores them, and what is added to each of them.

    torch has no integers of less than a byte, and keeps each in one of 8 bits. Any value but a weight, stored or
    quantised by the program, stays as it is, and so does a weight with numbers outside.
    """
    found = storage_for(low, high)
    if found is not None and isinstance(q.op, graph.Quantize) and isinstance(q.op.x.op, graph.Parameter):
        return _narrowed_quantize(e, q.op, *found)
    if found is None or held(e, q) is None or not isinstance(q.op, graph.Parameter):
        return q, 0
    data = known(e, q)
    if data is not None and data.numel() and not low <= int(data.min()) <= int(data.max()) <= high:
        return q, 0
    dtype, offset = found
    kind = dense_tensor(q.type.shape, dtype)
    if not offset:
        return e.add(graph.Parameter(key=q.op.key, result_types=[kind])), 0
    return derived(e, q, dtype, kind, lambda t: (t + offset).to(torch.uint8)), offset


def _narrowed_quantize(e: Emitter, op: graph.Quantize, dtype: str, offset: int) -> tuple[Value, int]:
    x, scale, *given = op.operands
    low, high = op.limits
    if offset:
        zero = given[0] if given else e.constant(0, "i32", scale.type.shape)
        given = [e.apply("add", zero, offset, dtype="i32")]
    attributes = {**op.attributes, "to": dtype, "low": low + offset, "high": high + offset}
    return e.add(graph.Quantize(x, scale, *given, **attributes)), offset


def decoded(e: Emitter, x: Value, dtype: str) -> Value | None:
    """An integer weight as floats: graph.dequantize by 1, so that it stays stored as integers; None for other values.

    Views between the weight and x are taken of the floats.
    """
    op = x.op
    if isinstance(op, (graph.Reshape, graph.Transpose)):
        inner = decoded(e, op.x, dtype)
        if inner is None:
            return None
        return e.reshape(inner, op.to) if isinstance(op, graph.Reshape) else e.transpose(inner, op.permutation)
    if not isinstance(op, graph.Parameter) or x.type.rank < 2 or not x.type.elements:
        return None
    if not is_float(dtype) or not is_integer(x.type.dtype) or DTYPE_BITS[x.type.dtype] > 8:
        return None
    one = e.constant(1.0, "f32", (1,) * x.type.rank)
    return e.add(graph.Dequantize(x, one, block=x.type.shape, to=dtype))
