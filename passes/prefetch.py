"""Bring operands of products into on-chip memory whole, where the target's compiler does that."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Module, Operation, Value
from tilewright.compiler.ir.rewriter import LogEntry
from tilewright.targets.engines import PricedEngine

from .base import Pass, PassContext, register_pass
from .lifetimes import Lifetimes, Span
from .loop_spec import in_main_memory


@register_pass
@dataclass(frozen=True)
class Prefetch(Pass):
    """Copy the operands that an engine wants whole, the largest first, while they fit beside what is alive and beside
    results that are larger: those go to main memory if they find no room.

    before:  %y = graph.matmul %x, %w : tensor<64x512xbf16>
    after:   %1 = graph.copy %w : tensor<256x512xbf16>
             %2 = graph.copy %x : tensor<64x256xbf16>
             %y = graph.matmul %2, %1 : tensor<64x512xbf16>

    Only what lies in main memory is copied: arguments and parameters. Engines without such a memory want nothing.
    """

    def run(self, module: Module, context: PassContext) -> None:
        target = context.need_target(self.name)
        engines = [target.engines[name] for name in context.usable()]
        if not any(e.resident_bytes for e in engines):
            return
        alive = _Alive(module)
        copies: dict[Value, Span] = {}  # the last one of each operand
        for op in list(module.main.body):
            engine = next((e for e in engines if e.refuses(op) is None), None)
            if engine is None or not isinstance(op, graph.GraphOp):
                continue
            room = engine.resident_bytes - alive.bytes_before(op, engine.resident_bytes)
            made = [b for b in alive.bytes_made(op) if b <= room]
            for i in self.wanted(op, engine):
                value = op.operands[i]
                if value.type.bytes > room - sum(b for b in made if b > value.type.bytes):
                    why = f"operand {i} of {value.type.bytes} bytes does not fit {engine.name}"
                    context.log.append(LogEntry(self.name, "missed", op.name, op.location, why))
                    continue
                room -= value.type.bytes
                if value not in copies or not alive.extended(copies[value], op, engine.resident_bytes):
                    copy = graph.Copy(value, location=op.location)
                    module.main.body.insert_before(op, copy)
                    copies[value] = alive.add(copy.result, op)
                op.set_operand(i, copies[value].value)
                context.log.append(LogEntry(self.name, "applied", op.name, op.location, f"operand {i}"))

    def wanted(self, op: graph.GraphOp, engine: PricedEngine) -> list[int]:
        """Operands that lie in main memory, the largest first."""
        indices = [i for i in engine.resident(op) if in_main_memory(op.operands[i])]
        return sorted(indices, key=lambda i: -op.operands[i].type.bytes)


class _Alive(Lifetimes):
    """Temporaries that are kept for an op or for those after it."""

    def bytes_before(self, op: Operation, capacity: int) -> int:
        """Of those made before the op that fit `capacity` alone: the others go to main memory."""
        i = self.at[op]
        return sum(s.bytes for s in self.spans if s.made < i <= s.last and s.bytes <= capacity)

    def bytes_made(self, op: Operation) -> list[int]:
        """Of each that the op makes."""
        return [s.bytes for s in self.spans if s.made == self.at[op]]

    def add(self, copy: Value, user: Operation) -> Span:
        """A copy that is made for this op."""
        i = self.at[user]
        self.spans.append(Span(copy, i - 1, i))
        return self.spans[-1]

    def extended(self, span: Span, op: Operation, capacity: int) -> bool:
        """Keeps a copy for this op too, if there is room for it all the while."""
        for i in range(span.last + 1, self.at[op]):
            held = sum(s.bytes for s in self.spans if s.made <= i <= s.last and s.bytes <= capacity)
            if held + span.bytes > capacity:
                return False
        span.last = self.at[op]
        return True
