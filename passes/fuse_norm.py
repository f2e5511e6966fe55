"""Recognise a root-mean-square norm that a model spells out."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Operation, Value
from tilewright.compiler.ir.rewriter import P, Rewriter

from .base import Pass, register_pass, rule

_MUL, _ADD, _POW, _RSQRT = (graph.ELEMENTWISE[n] for n in ("mul", "add", "pow", "rsqrt"))


@register_pass
@dataclass(frozen=True)
class FuseNorm(Pass):
    """One rms_norm instead of power, mean, add, reciprocal root and multiply.

    before:  %1 = graph.pow %x, %two : tensor<4x8xf32>
             %2 = graph.reduce %1 {kind = "mean", axes = [1], keepdims = true} : tensor<4x1xf32>
             %3 = graph.add %2, %eps : tensor<4x1xf32>
             %4 = graph.rsqrt %3 : tensor<4x1xf32>
             %5 = graph.mul %x, %4 : tensor<4x8xf32>
    after:   %5 = graph.rms_norm %x {eps = 1e-06} : tensor<4x8xf32>
    """

    @rule(P(_MUL, "x", P(_RSQRT, P(_ADD, P(graph.Reduce, "square", kind="mean", bind="mean"), "eps")), commutes=True))
    def rms_norm(self, rw: Rewriter, op: Operation, x: Value, mean: graph.Reduce, square: Value, eps: Value) -> bool:
        value = number(eps)
        if value is None or not _is_square(square, x) or mean.axes != (x.type.rank - 1,) or not mean.keepdims:
            return rw.missed(op, "the mean is not of the same values squared, over the last axis")
        return rw.replace(op, graph.RmsNorm(x, eps=value))


def _is_square(square: Value, x: Value) -> bool:
    op = square.op
    if isinstance(op, _POW):
        return op.operands[0] is x and number(op.operands[1]) == 2
    return isinstance(op, _MUL) and op.operands[0] is x and op.operands[1] is x


def number(value: Value) -> float | None:
    """The number that a splat constant holds, or None."""
    op = value.op
    if isinstance(op, graph.Constant) and isinstance(op.value, (int, float)):
        return float(op.value)
    return None
