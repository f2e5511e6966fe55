"""Groups of ops that one engine runs as one loop."""

from __future__ import annotations

from collections.abc import Sequence

from tilewright.compiler.ir import TensorType, operand, result

from .base import GraphOp


class Fuse(GraphOp, name="graph.fuse"):
    """A group of ops that one engine runs as one loop: intermediate tensors never reach memory.

    The region's arguments are the operands; it ends in graph.yield of the results.

        func.func @main(%x: tensor<4x16xf16>, %w: tensor<8x16xf16>, %b: tensor<8xf16>) -> tensor<4x8xf16> {
          %y = graph.fuse(%xi = %x, %wi = %w, %bi = %b) {engine = @ane} {
            %0 = graph.matmul %xi, %wi {transpose_b = true} : tensor<4x8xf16>
            %1 = graph.add %0, %bi : tensor<4x8xf16>
            %2 = graph.relu %1 : tensor<4x8xf16>
            graph.yield %2
          } : tensor<4x8xf16>
          func.return %y
        }
    """

    __slots__ = ()
    region_count = 1
    inputs = operand(variadic=True)
    outputs = result(variadic=True)

    def infer(self) -> Sequence[TensorType]:
        return [v.type for v in self.body.terminator.operands]

    def macs(self) -> int:
        return sum(op.macs() for op in self.body if isinstance(op, GraphOp))

    def verify(self) -> None:
        for a, v in zip(self.body.args, self.operands, strict=True):
            if a.type != v.type:
                self.fail(f"region argument {a.type} does not match operand {v.type}")
        if not isinstance(self.body.last, Yield):
            self.fail("the body must end in graph.yield")
        super().verify()


class Yield(GraphOp, name="graph.yield"):
    """Ends a graph.fuse and names its results: `graph.yield %2`."""

    __slots__ = ()
    values = operand(variadic=True)
    terminator = True

    def infer(self) -> Sequence[TensorType]:
        return ()

    def verify(self) -> None:
        if not isinstance(self.parent and self.parent.parent, Fuse):
            self.fail("stands only at the end of graph.fuse")
