"""Bring operands of products into on-chip memory whole, where the target's compiler does that."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Module, Value
from tilewright.compiler.ir.rewriter import LogEntry
from tilewright.targets.engines import PricedEngine

from .base import Pass, PassContext, register_pass
from .loop_spec import in_main_memory

_SOURCES = (graph.Parameter, graph.Constant)


@register_pass
@dataclass(frozen=True)
class Prefetch(Pass):
    """Copy the operands that an engine wants whole, the largest first, while they fit beside what is alive.

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
        for op in list(module.main.body):
            engine = next((e for e in engines if e.refuses(op) is None), None)
            if engine is None or not isinstance(op, graph.GraphOp):
                continue
            room = engine.resident_bytes - alive.bytes_at(op, engine.resident_bytes)
            for i in self.wanted(op, engine):
                value = op.operands[i]
                if value.type.bytes <= room:
                    room -= value.type.bytes
                    copy = graph.Copy(value, location=op.location)
                    module.main.body.insert_before(op, copy)
                    op.set_operand(i, copy.result)
                    context.log.append(LogEntry(self.name, "applied", op.name, op.location, f"operand {i}"))
                else:
                    why = f"operand {i} of {value.type.bytes} bytes does not fit {engine.name}"
                    context.log.append(LogEntry(self.name, "missed", op.name, op.location, why))

    def wanted(self, op: graph.GraphOp, engine: PricedEngine) -> list[int]:
        """Operands that lie in main memory, the largest first."""
        indices = [i for i in engine.resident(op) if in_main_memory(op.operands[i])]
        return sorted(indices, key=lambda i: -op.operands[i].type.bytes)


class _Alive:
    """Bytes of temporaries that are kept for an op or for those after it."""

    def __init__(self, module: Module):
        ops = list(module.main.body)
        self.at = {op: i for i, op in enumerate(ops)}
        returned = set(module.main.outputs)
        self.spans: list[tuple[int, int, int]] = []  # (made, last used, bytes)
        for i, op in enumerate(ops):
            if not isinstance(op, graph.GraphOp) or op.view or isinstance(op, _SOURCES):
                continue
            for r in op.results:
                if r not in returned:
                    self.spans.append((i, self.last_use(r, i), r.type.bytes))

    def last_use(self, value: Value, made: int) -> int:
        last = made
        for user in value.users:
            viewed = isinstance(user, graph.GraphOp) and user.view
            at = (
                max((self.last_use(r, made) for r in user.results), default=made) if viewed else self.at.get(user, made)
            )
            last = max(last, at)
        return last

    def bytes_at(self, op: graph.GraphOp, capacity: int) -> int:
        """Of those made before the op that fit `capacity` alone: the others go to main memory, and so does what the op
        makes, if its operands leave no room."""
        i = self.at[op]
        return sum(size for made, last, size in self.spans if made < i <= last and size <= capacity)
