"""Recognise attention that a model spells out as two products round a softmax."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Operation, Value
from tilewright.compiler.ir.rewriter import P, Rewriter

from .base import Pass, register_pass, rule
from .fuse_norm import number

_MUL, _DIV, _ADD = (graph.ELEMENTWISE[n] for n in ("mul", "div", "add"))


@register_pass
@dataclass(frozen=True)
class FuseAttention(Pass):
    """One attention instead of product, scale, mask, softmax and product: the scores never reach memory.

    before:  %s = graph.matmul %q, %k {transpose_b = true} : tensor<2x16x16xf16>
             %p = graph.softmax %s {axis = 2} : tensor<2x16x16xf16>
             %y = graph.matmul %p, %v : tensor<2x16x8xf16>
    after:   %y = graph.attention %q, %k, %v {scale = 1.0} : tensor<2x16x8xf16>
    """

    @rule(P(graph.Matmul, P(graph.Softmax, "scores", bind="softmax"), "v", bind="product"))
    def attention(
        self, rw: Rewriter, op: Operation, scores: Value, v: Value, softmax: graph.Softmax, product: graph.Matmul
    ) -> bool:
        if (
            softmax.axis % scores.type.rank != scores.type.rank - 1
            or product.transpose_b
            or len(softmax.result.uses) != 1
        ):
            return rw.missed(op, "the softmax is not over the last axis, or is used elsewhere")
        found = _scores(scores)
        if found is None:
            return rw.missed(op, "the softmax is not of a scaled and masked product")
        qk, scale, mask = found
        if not qk.transpose_b and not _is_transposed(qk.b):
            return rw.missed(op, "the keys are not transposed")
        k = qk.b if qk.transpose_b else qk.b.op.operands[0]  # type: ignore[union-attr]
        operands = [qk.a, k, v]
        if mask is not None:
            operands.append(mask)
        return rw.replace(op, graph.Attention(*operands, scale=scale, location=qk.location))


def _scores(value: Value) -> tuple[graph.Matmul, float, Value | None] | None:
    """(product, scale, additive mask) behind the softmax's operand, where every step has one user."""
    scale, mask = 1.0, None
    while len(value.uses) == 1 and value.op is not None:
        op = value.op
        if isinstance(op, graph.Matmul):
            return (op, scale, mask) if op.bias is None else None
        if isinstance(op, graph.Cast):
            value = op.operands[0]
        elif isinstance(op, _ADD) and mask is None and scale == 1.0:
            a, b = op.operands
            if a.type.shape != op.result.type.shape or not _is_scores(a):
                a, b = b, a
            value, mask = a, b
        elif isinstance(op, (_MUL, _DIV)) and number(op.operands[1]) is not None:
            factor = number(op.operands[1])
            assert factor is not None
            scale *= factor if isinstance(op, _MUL) else 1 / factor
            value = op.operands[0]
        else:
            return None
    return None


def _is_scores(value: Value) -> bool:
    op = value.op
    while isinstance(op, (_MUL, _DIV, graph.Cast)):
        op = op.operands[0].op
    return isinstance(op, graph.Matmul)


def _is_transposed(value: Value) -> bool:
    op = value.op
    if not isinstance(op, graph.Transpose):
        return False
    rank = value.type.rank
    return op.permutation == (*range(rank - 2), rank - 1, rank - 2)
