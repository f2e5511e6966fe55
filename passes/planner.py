"""Plans for ops on engines, made once for each distinct loop: a network repeats its layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Module, Value
from tilewright.targets import Target

from .lifetimes import Lifetimes
from .loop_spec import LoopSpec, in_main_memory, is_returned, is_weight, origin
from .strided import Strided
from .tiling import DoesNotFitError, Plan, Tiler
from .traffic import OnChip, Rates, Traffic


class Planner:
    """Tiles the loops of a graph on the target's engines. `slots` is how many buffers a moving block will get, `plans`
    the plans that are known."""

    def __init__(
        self, target: Target, module: Module, slots: int = 2, plans: dict[tuple[object, ...], Plan | None] | None = None
    ):
        self.target, self.slots = target, slots
        self.rates: dict[str, Rates] = {}
        self.lifetimes = Lifetimes(module)
        self.on_chip: dict[str, OnChip] = {}
        self._plans = {} if plans is None else plans

    def plan(self, spec: LoopSpec, engine: str) -> Plan:
        """Raises DoesNotFitError."""
        if engine not in self.rates:
            self.rates[engine] = Rates.of(self.target, self.target.engines[engine])
            self.on_chip[engine] = OnChip.of(self.lifetimes, self.target.engines[engine], self.target.memory)
        chip = self.on_chip[engine]
        key = (engine, self.slots, chip.fetched, *_signature(spec, chip.kept))
        if key not in self._plans:
            self._plans[key] = self._tiled(spec, engine) or (
                self._tiled(replace(spec, fixed=spec.tight, tight={}), engine) if spec.tight else None
            )
        found = self._plans[key]
        if found is None:
            raise DoesNotFitError(spec.op, engine)
        return found

    def _tiled(self, spec: LoopSpec, engine: str) -> Plan | None:
        on, views = self.target.engines[engine], [storage_view(i.value) for i in spec.inputs]
        traffic = Traffic(spec, on, self.target.memory, self.rates[engine], self.on_chip[engine], views)
        try:
            return Tiler(spec, on, self.slots, traffic).plan()
        except DoesNotFitError:
            return None

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


def _signature(spec: LoopSpec, kept: frozenset[Value]) -> tuple[object, ...]:
    """What a plan depends on: two loops with one signature get one plan."""
    return (
        spec.op.name,
        is_returned(spec.op),
        all(r in kept for r in spec.op.results),
        spec.dims,
        tuple(
            (
                *(i.access, i.role, i.dtype, i.value.type.shape, storage_view(i.value).strides),
                *(in_main_memory(i.value), is_weight(i.value), origin(i.value) in kept),
            )
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
