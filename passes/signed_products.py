"""Products of int8 that a CPU's instructions made unsigned become signed again."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Operation, Value
from tilewright.compiler.ir.rewriter import P, Rewriter

from .base import Pass, register_pass, rule

_MUL, _ADD, _SUB = (graph.ELEMENTWISE[n] for n in ("mul", "add", "sub"))
OFFSET = 128  # from i8 to ui8


@register_pass
@dataclass(frozen=True)
class SignedProducts(Pass):
    """Multiply the int8 numbers themselves, where a program adds 128 to them and subtracts what that adds.

    torchao writes int8 products so where the machine that exports them has AVX512-VNNI, whose instructions take
    unsigned by signed.

    before:  %1 = graph.cast %q {to = "i32"};  %2 = graph.add %1, 128;  %3 = graph.cast %2 {to = "ui8"}
             %4 = graph.matmul %3, %w {to = "i32"} : tensor<4x8xi32>
             %5 = graph.cast %w {to = "i32"};   %6 = graph.reduce %5 {kind = "sum", axes = [0], keepdims = true}
             %7 = graph.mul %6, 128;            %8 = graph.sub %4, %7
    after:   %8 = graph.matmul %q, %w {to = "i32"} : tensor<4x8xi32>
    """

    @rule(
        P(
            _SUB,
            P(
                graph.Matmul,
                P(graph.Cast, P(_ADD, P(graph.Cast, "q", to="i32"), P(graph.Constant, value=OFFSET)), to="ui8"),
                "w",
                to="i32",
                transpose_b=False,
            ),
            P(_MUL, P(graph.Reduce, P(graph.Cast, "w", to="i32"), kind="sum"), P(graph.Constant, value=OFFSET)),
        )
    )
    def undo(self, rw: Rewriter, op: Operation, q: Value, w: Value) -> bool:
        """sum((q + 128) w) - 128 sum(w) = sum(q w), in integers."""
        matrices = q.type.rank == w.type.rank == 2
        if q.type.dtype != "i8" or not matrices or op.operands[1].type.shape != (1, w.type.shape[1]):
            return False
        return rw.replace(op, graph.Matmul(q, w, to="i32"), reason="int8 as it was quantised")
