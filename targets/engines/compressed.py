"""Weights that are stored compressed: in which form, and which ops of a graph expand one for a product."""

from __future__ import annotations

from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Block, Operation, is_integer

from .demand import base_name


def weight_format(op: Operation, shape: tuple[int, ...] | None = None) -> str:
    """`lookup.ui4`, `to_dense.f16`: how a compressed weight is stored that the op expands; "" for any other op.

    Scales a tensor or a channel are `dequantize.i8` (so is a cast from i8); with the `shape` of the whole weight known,
    those of finer blocks are `dequantize.i8.blocks`.
    """
    if isinstance(op, (graph.Dequantize, graph.Lookup)):
        name = f"{base_name(op)}.{op.dtype()}"
        if isinstance(op, graph.Dequantize) and shape is not None:
            counts = graph.block_counts(shape, op.block)
            cut = [n for n, size in zip(counts, shape, strict=True) if n > 1]
            fine = len(cut) > 1 or any(1 < n < size for n, size in zip(counts, shape, strict=True))
            return f"{name}.blocks" if fine else name
        return name
    if base_name(op) == "to_dense":
        return f"to_dense.{op.operands[0].type.dtype}"
    if base_name(op) == "cast" and is_integer(op.operands[0].type.dtype):
        return f"dequantize.{op.operands[0].type.dtype}"
    return ""


def expands_weight(op: Operation) -> bool:
    """Whether a graph op expands what is known at load time, for a product."""
    if not weight_format(op) or not all(isinstance(u, graph.PRODUCTS) or weight_format(u) for u in op.results[0].users):
        return False
    value = op.operands[0]
    while True:
        maker = value.op
        if maker is None:  # an argument: of a group, the operand
            group = value.owner.parent if isinstance(value.owner, Block) else None
            if not isinstance(group, graph.Fuse):
                return False
            value = group.operands[value.index]
        elif (isinstance(maker, graph.GraphOp) and maker.view) or weight_format(maker):
            value = maker.operands[0]
        else:
            return isinstance(maker, (graph.Parameter, graph.Constant))


__all__ = ["expands_weight", "weight_format"]
