"""Canonicalise: identities go, views compose, equal sources merge, dead ops go."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Module, Operation, Value, is_float
from tilewright.compiler.ir.rewriter import P, Rewriter, erase_dead

from .base import Pass, PassContext, register_pass, rule


@register_pass
@dataclass(frozen=True)
class Canonicalize(Pass):
    """Brings a graph to its simplest equal form.

    before:  %1 = graph.transpose %x {permutation = [1, 0]} : tensor<8x4xf16>
             %2 = graph.transpose %1 {permutation = [1, 0]} : tensor<4x8xf16>
             %3 = graph.relu %2 : tensor<4x8xf16>
    after:   %1 = graph.relu %x : tensor<4x8xf16>
    """

    def run(self, module: Module, context: PassContext) -> None:
        merge_sources(module)
        super().run(module, context)
        merge_equal(module)
        erase_dead(module, lambda op: isinstance(op, graph.GraphOp))

    @rule(P((graph.Reshape, graph.Transpose, graph.Expand, graph.Cast, graph.Slice), "x"))
    def identity(self, rw: Rewriter, op: Operation, x: Value) -> bool:
        """A view that changes nothing is its operand."""
        if x.type != op.result.type:
            return False
        if isinstance(op, graph.Transpose) and op.permutation != tuple(range(x.type.rank)):
            return False
        return rw.replace(op, x)

    @rule(P(graph.GraphOp))
    def of_nothing(self, rw: Rewriter, op: Operation) -> bool:
        """What has no elements is a constant, and so is a reduction or a product over none; joining none adds none."""
        assert isinstance(op, graph.GraphOp)
        if not op.operands or len(op.results) != 1 or all(v.type.elements for v in (*op.operands, op.result)):
            return False
        if not op.result.type.elements:
            return rw.replace(op, _splat(op.result, 0))
        if isinstance(op, graph.Reduce):
            start = math.nan if op.kind == "mean" else graph.Reduce.KINDS[op.kind]
            return rw.replace(op, _splat(op.result, start))
        if isinstance(op, graph.Matmul) and op.bias is None:
            return rw.replace(op, _splat(op.result, 0))
        if isinstance(op, graph.Pad):
            return rw.replace(op, _splat(op.result, op.value))
        if isinstance(op, graph.Concat):
            return rw.replace(op, graph.Concat(*(v for v in op.operands if v.type.elements), axis=op.axis))
        if isinstance(op, (graph.Update, graph.Scatter, graph.ScatterReduce)):
            return rw.replace(op, op.operands[0])
        return False

    @rule(P(graph.Reshape, P(graph.Reshape, "x")))
    def reshape_of_reshape(self, rw: Rewriter, op: Operation, x: Value) -> bool:
        """Only the last shape counts."""
        return rw.replace(op, graph.Reshape(x, to=op.result.type.shape))

    @rule(P(graph.Transpose, P(graph.Transpose, "x", bind="inner")))
    def transpose_of_transpose(self, rw: Rewriter, op: Operation, x: Value, inner: graph.Transpose) -> bool:
        """Permutations compose."""
        outer = op.attributes["permutation"]
        return rw.replace(op, graph.Transpose(x, permutation=tuple(inner.permutation[a] for a in outer)))

    @rule(P(graph.Concat, "x"))
    def concat_of_one(self, rw: Rewriter, op: Operation, x: Value) -> bool:
        """Joining one tensor gives it back."""
        return rw.replace(op, x)

    @rule(P((graph.Transpose,), "x"))
    def transpose_is_reshape(self, rw: Rewriter, op: Operation, x: Value) -> bool:
        """A permutation that only moves axes of size 1 keeps the order of elements: a reshape."""
        moved = [a for a in op.attributes["permutation"] if x.type.shape[a] != 1]
        if moved != sorted(moved):
            return False
        return rw.replace(op, graph.Reshape(x, to=op.result.type.shape))

    @rule(P(graph.Slice, P(graph.Slice, "x", bind="inner")))
    def slice_of_slice(self, rw: Rewriter, op: Operation, x: Value, inner: graph.Slice) -> bool:
        """Slices compose."""
        a = op.attributes
        starts = tuple(s + i * t for s, i, t in zip(inner.starts, a["starts"], inner.steps, strict=True))
        steps = tuple(i * o for i, o in zip(inner.steps, a["steps"], strict=True))
        return rw.replace(op, graph.Slice(x, starts=starts, sizes=a["sizes"], steps=steps))


def _splat(like: Value, value: float) -> graph.Constant:
    """One number, in the shape and dtype of a value; integers and bools have no infinities."""
    dtype = like.type.dtype
    number = float(value) if is_float(dtype) else bool(value) if dtype == "i1" else int(value)
    return graph.Constant(value=number, result_types=[like.type])


def merge_sources(module: Module) -> None:
    """Equal parameters and constants become one op, at the head of the function."""
    seen: dict[tuple[object, ...], Operation] = {}
    block = module.main.body
    for op in list(block):
        if not isinstance(op, (graph.Parameter, graph.Constant, graph.Iota)):
            continue
        first = seen.setdefault(_key(op), op)
        if first is not op:
            op.result.replace_all_uses(first.result)
            op.erase()
    head = block.first
    for op in seen.values():
        if head is not None and op is not head:
            block.insert_before(head, op.detach())
        else:
            head = op.next


def merge_equal(module: Module) -> None:
    """Ops that compute the same from the same values become the first of them."""
    seen: dict[tuple[object, ...], Operation] = {}
    for op in list(module.main.body):
        if isinstance(op, graph.GraphOp) and not op.regions and op.results:
            first = seen.setdefault(_key(op), op)
            if first is not op:
                for old, new in zip(op.results, first.results, strict=True):
                    old.replace_all_uses(new)
                op.erase()


def _key(op: Operation) -> tuple[object, ...]:
    """What two ops share if they give the same result."""
    attributes = ((k, type(v), repr(v)) for k, v in sorted(op.attributes.items()))
    return (op.name, *op.operands, *(r.type for r in op.results), *attributes)
