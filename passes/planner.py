"""Plans for ops on engines, made once for each distinct loop: a network repeats its layers."""

from __future__ import annotations

from collections.abc import Sequence

from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Value
from tilewright.targets import Target

from .loop_spec import LoopSpec, in_main_memory, is_returned
from .strided import Strided
from .tiling import DoesNotFitError, Plan, Tiler


class Planner:
    """Tiles loops on the target's engines. `slots` is how many buffers a moving block will get."""

    def __init__(self, target: Target, slots: int = 2):
        self.target, self.slots = target, slots
        self._plans: dict[tuple[object, ...], Plan | None] = {}

    def plan(self, spec: LoopSpec, engine: str) -> Plan:
        """Raises DoesNotFitError."""
        key = (engine, *_signature(spec))
        if key not in self._plans:
            views: list[Strided | None] = [storage_view(i.value) for i in spec.inputs]
            try:
                self._plans[key] = Tiler(spec, self.target.engines[engine], self.slots, views).plan()
            except DoesNotFitError:
                self._plans[key] = None
        found = self._plans[key]
        if found is None:
            raise DoesNotFitError(spec.op, engine)
        return found

    def cost_ps(self, specs: Sequence[LoopSpec], engine: str) -> int | None:
        """Estimated time of an op's loops on an engine that takes it; None if their blocks do not fit."""
        try:
            return sum(self.plan(spec, engine).cost_ps for spec in specs)
        except DoesNotFitError:
            return None


def storage_view(value: Value) -> Strided:
    """The strides with which a graph value is read, through the views that made it."""
    op = value.op
    if isinstance(op, graph.GraphOp) and op.view:
        through = storage_view(op.operands[0]).through(op)
        if through is not None:
            return through
    return Strided.of(value.type)


def _signature(spec: LoopSpec) -> tuple[object, ...]:
    """What a plan depends on: two loops with one signature get one plan."""
    return (
        spec.op.name,
        is_returned(spec.op),
        spec.dims,
        tuple(
            (i.access, i.role, i.dtype, i.value.type.shape, storage_view(i.value).strides, in_main_memory(i.value))
            for i in spec.inputs
        ),
        tuple(spec.accs),
        tuple(
            (s.cls.name, s.operands, tuple(sorted((k, repr(v)) for k, v in s.attributes.items())), s.access, s.dtype)
            for s in spec.steps
        ),
        tuple(spec.outs),
        tuple(spec.out_dtypes),
    )
