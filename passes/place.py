"""Place each op on an engine: the cheapest path through the program, with a price for every change of engine."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Module, Operation, Symbol
from tilewright.compiler.ir.rewriter import LogEntry
from tilewright.targets import Target

from .base import Pass, PassContext, PassError, register_pass
from .loop_bodies import loops_of
from .loop_spec import LoopSpec
from .planner import Planner


@register_pass
@dataclass(frozen=True)
class Place(Pass):
    """Give every op the attribute `engine`, and `reason` where an engine that was asked for could not take it.

    The choice is a shortest path over the ops in order: an op costs its estimate on an engine, and a change of engine
    costs that engine's launch, as Core ML's segmenter weighs it.
    """

    slots: int = 2  # as in the pass tile

    def run(self, module: Module, context: PassContext) -> None:
        target = context.need_target(self.name)
        planner = context.planner(self.slots, module)
        loops = [(op, loops_of(op)) for op in module.main.body if isinstance(op, graph.GraphOp)]
        ops = [op for op, specs in loops if specs]
        if not ops:
            return
        choices = [_choices(op, specs, target, context.usable(), planner) for op, specs in loops if specs]
        path = _shortest([c for c, _ in choices], {n: e.launch_ps for n, e in target.engines.items()})
        for op, engine, (costs, reasons) in zip(ops, path, choices, strict=True):
            op.attributes["engine"] = Symbol(engine)
            if reasons:
                op.attributes["reason"] = "; ".join(reasons)
            note = ", ".join(f"{n} {c / 1e6:.1f} us" for n, c in costs.items())
            context.log.append(LogEntry(self.name, "applied", op.name, op.location, f"{engine} of {note}"))


def _choices(
    op: Operation, specs: list[LoopSpec], target: Target, usable: tuple[str, ...], planner: Planner
) -> tuple[dict[str, int], list[str]]:
    """(estimated time on each engine that can take the op, why each other one cannot)."""
    costs: dict[str, int] = {}
    reasons: list[str] = []
    for name in (*usable, target.fallback):
        if name in costs or (name == target.fallback and costs):
            continue
        why = target.engines[name].refuses(op)
        cost = planner.cost_ps(specs, name) if why is None else None
        if cost is None:
            reasons.append(f"{name}: {why or 'no tile fits its memories'}")
        else:
            costs[name] = cost
    if not costs:
        raise PassError(f"no engine takes '{op.name}' ({op.location}): {'; '.join(reasons)}")
    return costs, reasons


def _shortest(costs: list[dict[str, int]], launch: dict[str, int]) -> list[str]:
    """One engine an op: least total time, counting a launch at the start and at each change of engine."""
    totals: dict[str, int] = {"": 0}
    steps: list[dict[str, str]] = []  # engine of this op -> engine of the op before it
    for choice in costs:
        reached, came_from = {}, {}
        for name, cost in choice.items():
            arrive = {b: t + (0 if b == name else launch[name]) for b, t in totals.items()}
            before = min(arrive, key=lambda b: (arrive[b], b != name))
            reached[name], came_from[name] = arrive[before] + cost, before
        totals = reached
        steps.append(came_from)
    at = min(totals, key=lambda n: totals[n])
    path = []
    for came_from in reversed(steps):
        path.append(at)
        at = came_from[at]
    return path[::-1]
