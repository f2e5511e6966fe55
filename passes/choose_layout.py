"""Choose the axis order in memory of each tensor so that the views of it need no copies."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Module, Operation, Value
from tilewright.compiler.ir.rewriter import LogEntry

from .base import Pass, PassContext, register_pass
from .strided import Strided

COPY, SCATTERED = 100, 10  # a copy moves every byte twice; a scattered axis turns each element into a burst


@register_pass
@dataclass(frozen=True)
class ChooseLayout(Pass):
    """Store a result in the order in which its users walk it.

    before:  %1 = graph.attention %q, %k, %v {scale = 1.0} : tensor<1x2x4x8xf16>
             %2 = graph.transpose %1 {permutation = [0, 2, 1, 3]} : tensor<1x4x2x8xf16>
             %3 = graph.reshape %2 {to = [4, 16]} : tensor<4x16xf16>
    after:   %1 = graph.attention ... : tensor<1x2x4x8xf16, "0,2,1,3">, and the reshape is a view
    """

    max_rank: int = 6

    def run(self, module: Module, context: PassContext) -> None:
        returned = set(module.main.outputs)
        for op in module.main.body:
            if (
                not isinstance(op, graph.GraphOp)
                or op.view
                or isinstance(op, (graph.Parameter, graph.Constant, graph.Iota))
            ):
                continue
            if isinstance(op, (graph.Update, graph.Scatter)):
                continue  # in place: the layout is its base's
            for value in op.results:
                if value in returned or not 2 <= value.type.rank <= self.max_rank:
                    continue
                if any(isinstance(u, (graph.Update, graph.Scatter)) and u.operands[0] is value for u in value.users):
                    continue
                order = self.best(value)
                if order is not None:
                    _set_layout(value, order)
                    context.log.append(LogEntry(self.name, "applied", op.name, op.location, f"order {order}"))
        _insert_copies(module, context, self.name)

    def best(self, value: Value) -> tuple[int, ...] | None:
        """The cheapest order of the axes, or None if the natural one is as good."""
        natural = tuple(range(value.type.rank))
        best, least = None, _penalty(value, Strided.of(value.type, natural))
        if least == 0:
            return None
        wide = [i for i, n in enumerate(value.type.shape) if n > 1]
        for moved in itertools.permutations(wide):
            order = list(natural)
            for slot, axis in zip(wide, moved, strict=True):
                order[slot] = axis
            penalty = _penalty(value, Strided.of(value.type, tuple(order)))
            if penalty < least:
                best, least = tuple(order), penalty
        return best


def _penalty(value: Value, view: Strided) -> int:
    """What this storage costs the users of `value`, through their views."""
    total = 0
    for user in value.users:
        if not isinstance(user, graph.GraphOp) or not user.view:
            total += 0 if view.packed_axis() else SCATTERED
            continue
        through = view.through(user)
        if through is None:
            total += COPY
            through = Strided.of(user.result.type)
        total += _penalty(user.result, through)
    return total


def _insert_copies(module: Module, context: PassContext, name: str) -> None:
    """Makes a dense copy before each reshape that no strides can express, so that every view left is free."""
    views: dict[Value, Strided] = {}
    for op in list(module.main.body):
        if not isinstance(op, graph.GraphOp) or not op.view:
            continue
        (x,) = op.operands
        through = views.get(x, Strided.of(x.type)).through(op)
        if through is None:
            assert op.parent is not None
            dense = op.parent.insert_before(op, graph.Copy(x, location=op.location))
            op.set_operand(0, dense.result)
            through = Strided.of(dense.result.type).through(op)
            context.log.append(LogEntry(name, "applied", op.name, op.location, "needs a copy"))
        assert through is not None
        views[op.result] = through


def _set_layout(value: Value, order: tuple[int, ...]) -> None:
    layout = ",".join(map(str, order))
    value.type = value.type.with_layout(layout)
    op: Operation | None = value.op
    if isinstance(op, graph.Fuse):
        inner = op.body.terminator.operands[value.index]
        inner.type = inner.type.with_layout(layout)
    for user, index in value.uses:
        if isinstance(user, graph.Fuse):
            user.body.args[index].type = value.type
