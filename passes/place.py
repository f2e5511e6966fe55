"""Place each op on an engine: the cheapest path through the program, with a price for every change of engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Module, Operation, Symbol
from tilewright.compiler.ir.rewriter import LogEntry
from tilewright.targets import Target
from tilewright.targets.engines import PricedEngine

from .base import Pass, PassContext, PassError, register_pass
from .loop_bodies import loops_of
from .loop_spec import LoopSpec
from .planner import Planner


@register_pass
@dataclass(frozen=True)
class Place(Pass):
    """Give every op the attribute `engine`, and `reason` where an engine that was asked for could not take it.

    The choice is a shortest path over the ops in order: an op costs its estimate on an engine, and a change of engine
    costs that engine's launch, as Core ML's segmenter weighs it. An engine that is not usable gets what all usable ones
    refuse, if it is the target's fallback.
    """

    slots: int = 2  # as in the pass tile

    def run(self, module: Module, context: PassContext) -> None:
        choices = _all_choices(module, context, self.slots, self.name)
        path, _ = _shortest(choices, context)
        for (op, costs, reasons), engine in zip(choices, path, strict=True):
            op.attributes["engine"] = Symbol(engine)
            if reasons:
                op.attributes["reason"] = "; ".join(reasons)
            note = ", ".join(f"{n} {c / 1e6:.1f} us" for n, c in costs.items())
            context.log.append(LogEntry(self.name, "applied", op.name, op.location, f"{engine} of {note}"))


def estimated_ps(module: Module, context: PassContext, slots: int = 2) -> int:
    """The time of a graph on the engines that `Place` would give its ops. Raises PassError where none takes an op."""
    return _shortest(_all_choices(module, context, slots, "place"), context)[1]


class _Choice(NamedTuple):
    """An op, its estimated time on each engine that can take it, and why each other one cannot."""

    op: Operation
    costs: dict[str, int]
    reasons: list[str]


def _all_choices(module: Module, context: PassContext, slots: int, name: str) -> list[_Choice]:
    target, planner = context.need_target(name), context.planner(slots, module)
    loops = [(op, loops_of(op)) for op in module.main.body if isinstance(op, graph.GraphOp)]
    return [_choices(op, specs, target, context.usable(), planner) for op, specs in loops if specs]


def _choices(
    op: Operation, specs: list[LoopSpec], target: Target, usable: tuple[str, ...], planner: Planner
) -> _Choice:
    costs: dict[str, int] = {}
    reasons: list[str] = []
    takes = {n: target.engines[n].refuses(op) for n in dict.fromkeys((*usable, target.fallback))}
    whole = [n for n in usable if takes[n] is None and not _in_parts(op, target.engines[n])]
    for name, why in takes.items():
        if name not in usable and costs:
            continue
        if why is None and whole and _in_parts(op, target.engines[name]):
            why = "runs it in parts only"
        cost = planner.cost_ps(specs, name) if why is None else None
        if cost is None:
            reasons.append(f"{name}: {why or 'no tile fits its memories'}")
        else:
            costs[name] = cost
    if not costs:
        raise PassError(f"no engine takes '{op.name}' ({op.location}): {'; '.join(reasons)}")
    return _Choice(op, costs, reasons)


def _in_parts(op: Operation, engine: PricedEngine) -> bool:
    members = op.body if isinstance(op, graph.Fuse) else (op,)
    return any(engine.in_parts(m) for m in members)


def _shortest(choices: list[_Choice], context: PassContext) -> tuple[list[str], int]:
    """One engine an op, of least total time, with a launch at the start and at each change of engine; and that time."""
    assert context.target is not None
    launch = {n: e.launch_ps for n, e in context.target.engines.items()}
    totals: dict[str, int] = {"": 0}
    steps: list[dict[str, str]] = []  # engine of this op -> engine of the op before it
    for choice in choices:
        reached, came_from = {}, {}
        for name, cost in choice.costs.items():
            arrive = {b: t + (0 if b == name else launch[name]) for b, t in totals.items()}
            before = min(arrive, key=lambda b: (arrive[b], b != name))
            reached[name], came_from[name] = arrive[before] + cost, before
        totals = reached
        steps.append(came_from)
    at = min(totals, key=lambda n: totals[n])
    total, path = totals[at], []
    for came_from in reversed(steps):
        path.append(at)
        at = came_from[at]
    return path[::-1], total
