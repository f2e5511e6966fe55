"""How long the temporaries of a graph live, and so which stay on an engine and what the cache has left for weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Module, Operation, Value
from tilewright.targets.memory import spans

from .loop_spec import origin

_IN_PLACE = (graph.Scatter, graph.WholeOp)  # they reach tensors where those lie in memory


@dataclass(eq=False)
class Span:
    """A temporary, and the places of the ops that make it and that use it last."""

    value: Value
    made: int
    last: int

    @property
    def bytes(self) -> int:
        return self.value.type.bytes

    @property
    def places(self) -> spans.Span:
        return spans.Span(self.made, self.last, self.bytes)


class Lifetimes:
    """Spans of what the ops of a graph make, results of the program apart."""

    def __init__(self, module: Module):
        self.main = module.main
        self.ops = list(module.main.body)
        self.at = {op: i for i, op in enumerate(self.ops)}
        returned = set(module.main.outputs)
        self.spans: list[Span] = []
        for i, op in enumerate(self.ops):
            if isinstance(op, graph.GraphOp) and not op.view and not isinstance(op, graph.SOURCES):
                self.spans += [Span(r, i, self.last_use(r, i)) for r in op.results if r not in returned]

    def last_use(self, value: Value, made: int) -> int:
        last = made
        for user in value.users:
            viewed = isinstance(user, graph.GraphOp) and user.view
            at = (
                max((self.last_use(r, made) for r in user.results), default=made) if viewed else self.at.get(user, made)
            )
            last = max(last, at)
        return last

    def kept(self, room: int, takes: Callable[[Operation], bool]) -> frozenset[Value]:
        """Temporaries that stay on an engine with so many bytes for them, if all ops that it takes are on it: what is
        needed soonest first, as the simulator keeps them."""
        returned = {origin(v) for v in self.main.outputs}
        elsewhere: set[Operation] = {
            op for op in self.ops if isinstance(op, graph.GraphOp) and not op.view and not takes(op)
        }
        local = [s for s in self.spans if s.value not in returned and s.value.op not in elsewhere]
        local = [s for s in local if not self._reached(s.value, elsewhere)]
        stay = spans.held([s.places for s in local], np.full(len(self.ops), room, np.int64))
        return frozenset(local[i].value for i in stay)

    def _reached(self, value: Value, elsewhere: set[Operation]) -> bool:
        """Whether an op works on it in place, or elsewhere, through views."""
        if isinstance(value.op, _IN_PLACE):
            return True
        return any(
            isinstance(user, _IN_PLACE)
            or user in elsewhere
            or (isinstance(user, graph.Gather) and index == 0)
            or (isinstance(user, graph.GraphOp) and user.view and self._reached(user.results[0], elsewhere))
            for user, index in value.uses
        )

    def peak(self, kept: Iterable[Value]) -> int:
        """The most bytes of arguments, temporaries and results that are alive in memory during one op."""
        apart = set(kept)
        alive = [s for s in self.spans if s.value not in apart]
        alive += [Span(a, self._first_use(a), self.last_use(a, 0)) for a in self.main.args if a.uses]
        alive += [Span(v, at, at) for v in set(self.main.outputs) if (at := self.at.get(v.op, -1)) >= 0]  # type: ignore[arg-type]
        return spans.peak((s.places for s in alive), len(self.ops))

    def _first_use(self, value: Value) -> int:
        found = []
        for user in value.users:
            viewed = isinstance(user, graph.GraphOp) and user.view
            found += [self._first_use(r) for r in user.results] if viewed else [self.at.get(user, len(self.ops) - 1)]
        return min(found, default=len(self.ops) - 1)

    def weights(self) -> int:
        """Bytes of the parameters that are used."""
        return sum(op.result.type.bytes for op in self.ops if isinstance(op, graph.Parameter) and op.result.uses)
