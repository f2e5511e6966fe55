"""Choose tile sizes: the cheapest grid whose buffers fit, by an estimate that reads only the loop and the engine.

The estimate is the time of the busiest unit plus what fills the pipeline: the simulator is the judge, this is a guide.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from tilewright.compiler.dialects import graph, tile
from tilewright.compiler.dialects.access import Access
from tilewright.compiler.ir import IRError, Operation, TensorType, bytes_of
from tilewright.targets.engines.base import Engine, Work

from .loop_members import lead_of, members_of
from .loop_spec import LoopSpec
from .traffic import Traffic

ALIGNMENT = 64  # bytes: buffers start on a line
SIDES = (512, 2048)  # of the tiles that are tried beside the widest, where the buffers have to cover latencies
ALIKE = 0.01  # of the time: estimates do not tell apart what differs by less


@dataclass(frozen=True, slots=True)
class Plan:
    """A tiling: dims in loop order (reductions last), a tile size for each, and the estimated time of the loop.

    `crossing` are the body's values that one command makes and another reads.
    """

    order: tuple[str, ...]
    tiles: dict[str, int]
    cost_ps: int
    crossing: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Command:
    """A run of body ops on one compute unit."""

    unit: str
    steps: tuple[int, ...]  # body values
    once: bool  # after the reductions


class Tiler:
    """Prices tilings of one loop on one engine."""

    def __init__(self, spec: LoopSpec, engine: Engine, slots: int, traffic: Traffic):
        self.spec, self.engine = spec, engine
        self.sizes = {d.name: d.size for d in spec.dims}
        self.reductions = tuple(d.name for d in spec.dims if d.kind == "red")
        self.parallel = tuple(d.name for d in spec.dims if d.kind != "red")
        self.traffic = traffic
        self.ops = _prototypes(spec, engine)
        self.slots = slots_of(engine, slots, self.ops)
        values = len(spec.inputs) + len(spec.accs) + len(spec.steps)
        self.accesses = [spec.block(v)[0] for v in range(values)]  # of every value of the body
        self.wholes = [access.block(self.sizes) for access in self.accesses]
        self.commands = self._commands()
        self.crossing = self._crossing()
        # a step starts and ends on one unit, which waits for what others make in between, as there is room for one
        units = [c.unit for c in self.commands if not c.once]
        self.in_turn = bool(self.crossing) and engine.crossing_slots == 1 and len(units) > 2 and units[0] == units[-1]

    def _commands(self) -> list[_Command]:
        first = len(self.spec.inputs) + len(self.spec.accs)
        out: list[_Command] = []
        for i, step in enumerate(self.spec.steps):
            if issubclass(step.cls, tile.Constant):
                continue
            unit, once = self.engine.unit_of(self.ops[i]), bool(self.spec.accs) and i >= self.spec.carried_at
            if out and out[-1].unit == unit and out[-1].once == once:
                out[-1] = _Command(unit, (*out[-1].steps, first + i), once)
            else:
                out.append(_Command(unit, (first + i,), once))
        return out

    def _crossing(self) -> tuple[int, ...]:
        """Body values that one command makes and another reads: each needs a buffer on chip."""
        first = len(self.spec.inputs) + len(self.spec.accs)
        maker = {v: c for c in self.commands for v in c.steps}
        found: dict[int, None] = {}
        for c in self.commands:
            for v in c.steps:
                for o in self.spec.steps[v - first].operands:
                    if o in maker and maker[o] is not c and o not in self.spec.carried:
                        found[o] = None
        return tuple(found)

    # -------------------------------------------------------------- what a tiling takes

    def fits(self, tiles: dict[str, int]) -> bool:
        need: dict[str, int] = {}

        def take(space: str, access: Access, kind: str | TensorType, slots: int) -> None:
            elements = math.prod(access.block(tiles))
            size = bytes_of(elements, kind) if isinstance(kind, str) else kind.bytes_for(elements)
            need[space] = need.get(space, 0) + slots * -(-size // ALIGNMENT) * ALIGNMENT

        e = self.engine
        scratch = e.input_space.name
        for i in self.spec.inputs:
            if i.role != "ref":
                take(
                    e.weight_space.name if i.role == "weight" else scratch,
                    i.access,
                    i.value.type,
                    self._slots(i.access, tiles),
                )
        for access, _, dtype in self.spec.accs:
            take(e.accumulator_space.name, access, dtype, 1)
        if not self.spec.out_refs:
            for access, dtype in zip(self.spec.outs, self.spec.out_dtypes, strict=True):
                take(scratch, access, dtype, self._slots(access, tiles))
        for v in self.crossing:
            access, dtype = self.spec.block(v)
            take(scratch, access, dtype, e.crossing_slots)
        limits = {s.name: s.bytes for s in (e.input_space, e.weight_space, e.accumulator_space)}
        return all(size <= limits[space] for space, size in need.items())

    def _slots(self, access: Access, tiles: dict[str, int]) -> int:
        return self.slots if any(tiles[d] < self.sizes[d] for d in access.dims) else 1

    def compute_ps(self, tiles: dict[str, int]) -> list[tuple[str, int, bool]]:
        """(unit, time of one command, once a reduction) for each command."""
        first = len(self.spec.inputs) + len(self.spec.accs)
        blocks = [access.block(tiles) for access in self.accesses]
        out = []
        for c in self.commands:
            work = []
            for v in c.steps:
                step = self.spec.steps[v - first]
                inputs = tuple([blocks[o] for o in step.operands])
                dtype = self.spec.block(step.operands[0])[1] if step.operands else step.dtype
                whole = None
                if self.engine.by_kernel:
                    whole = tuple([self.wholes[o] for o in step.operands]), self.wholes[v]
                work.append(Work(self.ops[v - first], inputs, blocks[v], dtype, whole))
            out.append((c.unit, self.engine.exec_ps(c.unit, work), c.once))
        return out

    def cost_ps(self, tiles: dict[str, int], order: tuple[str, ...], exact: bool = False) -> int:
        """Estimated time of the whole loop: of its busiest unit or of the memory, and what fills the pipeline. That is
        no more than its commands take one after the other. `exact`: with DRAM as the tiles read it, not in order."""
        e = self.engine
        trips = {d: -(-self.sizes[d] // tiles[d]) for d in order}
        steps = math.prod(trips.values())
        outer = math.prod(trips[d] for d in self.parallel)
        copies = self.traffic.at(tiles, order, exact)
        busy, fill = dict(copies.units), copies.fill
        chain = 0
        for unit, time, once in self.compute_ps(tiles):
            busy[unit] = busy.get(unit, 0) + time * (outer if once else steps)
            fill += time
            chain += 0 if once else time
        worst = max((copies.shared, *busy.values(), steps * chain if self.in_turn else 0))
        if e.wait_ps:
            worst = max(worst, steps * (fill + e.wait_ps) // self.slots)
        return e.task_ps + worst + min(fill, max(0, sum(busy.values()) - worst)) + copies.latency

    # -------------------------------------------------------------- search

    def plan(self) -> Plan:
        """Grows tiles from the smallest, one step of one dim at a time, and keeps the cheapest grid seen, by an
        estimate that takes DRAM to be read in order. The plan's own is exact.

        Raises IRError if not even the smallest tiles fit.
        """
        lead = self._lead()
        multiples, pieces = self.engine.granularity(lead), self.engine.pieces(lead)
        ladders = {d.name: self._ladder(d.name, multiples.get(d.name, 1)) for d in self.spec.dims}
        if not self.fits({d: ladder[0] for d, ladder in ladders.items()}):
            ladders = {d.name: self._ladder(d.name, 1) for d in self.spec.dims}
            if not self.fits({d: ladder[0] for d, ladder in ladders.items()}):
                raise DoesNotFitError(self.spec.op, self.engine.name)
        elif pieces is not None:
            ladders = {d: ladder[:1] for d, ladder in ladders.items()}
        best = self._climb(ladders, {})
        if self.engine.by_kernel and pieces is None:  # waves of blocks are counted once, however the loop is cut
            best = self._of_two(best, self._climb({d: self._ladder(d, 1) for d in ladders}, {}))
        for side in SIDES if self.engine.wait_ps and self.reductions else ():  # wide tiles crowd out square ones
            capped = {d: self._up_to(side, a) if d in self.parallel else a for d, a in ladders.items()}
            best = min(best, self._climb(capped, {}), key=lambda p: p.cost_ps)
        for d in self.spec.groups:  # many groups at a time: what belongs to one is less than a line of memory
            wide = max((i for i, t in enumerate(ladders[d]) if self.fits(self._at(ladders, {d: i}))), default=0)
            best = min(best, self._climb(ladders, {d: wide}), key=lambda p: p.cost_ps)
        best = self._reordered(best)
        return replace(best, cost_ps=self.cost_ps(best.tiles, best.order, exact=True))

    def _of_two(self, a: Plan, b: Plan) -> Plan:
        """The cheaper; of two that are alike the one that asks less of the memory, where some blocks wait for DRAM and
        others do not."""
        if abs(a.cost_ps - b.cost_ps) > ALIKE * max(a.cost_ps, b.cost_ps):
            return min(a, b, key=lambda p: p.cost_ps)
        return min(a, b, key=lambda p: self.traffic.at(p.tiles, p.order).shared)

    def _lead(self) -> Operation:
        """The op whose dims are the loop's: of a group, its anchor."""
        op = self.spec.op
        return lead_of(members_of(op)) if isinstance(op, graph.Fuse) else op

    @staticmethod
    def _up_to(side: int, ladder: list[int]) -> list[int]:
        return [t for t in ladder if t <= side] or ladder[:1]

    @staticmethod
    def _at(ladders: dict[str, list[int]], at: dict[str, int]) -> dict[str, int]:
        return {d: ladder[at.get(d, 0)] for d, ladder in ladders.items()}

    def _climb(self, ladders: dict[str, list[int]], start: dict[str, int]) -> Plan:
        """The cheapest grid on the way up from `start`, places in the ladders."""
        at = {**dict.fromkeys(ladders, 0), **start}
        tiles = self._at(ladders, at)
        natural = self.parallel + self.reductions
        best = Plan(natural, dict(tiles), self.cost_ps(tiles, natural), self.crossing)
        while True:
            options = []
            for d, ladder in ladders.items():
                if at[d] + 1 < len(ladder):
                    grown = {**tiles, d: ladder[at[d] + 1]}
                    if self.fits(grown):
                        options.append((self.cost_ps(grown, natural), d, grown))
            if not options:
                break
            cost, d, tiles = min(options, key=lambda o: o[0])
            at[d] += 1
            if cost <= best.cost_ps:
                best = replace(best, tiles=dict(tiles), cost_ps=cost)
        return best

    def _ladder(self, dim: str, multiple: int) -> list[int]:
        fixed, size = self.spec.fixed.get(dim), self.sizes[dim]
        sizes = _ladder(size, multiple, fixed, self.engine.largest(self.spec.op).get(dim))
        groups = self.spec.groups.get(dim)
        if fixed is not None or not groups:
            return sizes
        # each size is rounded up to whole groups, and what is less than a group down to a part of it
        common = math.lcm(*groups)
        parts = [t for t in range(1, min(common, size) + 1) if all(t % g == 0 or g % t == 0 for g in groups)]
        least = next((t for t in parts if t % multiple == 0), parts[-1])
        rounded = {min(size, -(-s // common) * common) for s in sizes}
        return sorted({size, *rounded, *(t for t in parts if t >= min(least, sizes[0]))})

    def _reordered(self, plan: Plan) -> Plan:
        """The order of the parallel loops that reloads least."""
        moving = [d for d in self.parallel if plan.tiles[d] < self.sizes[d]]
        if not 2 <= len(moving) <= 4:
            return plan
        still = [d for d in self.parallel if d not in moving]
        for order in itertools.permutations(moving):
            whole = (*still, *order, *self.reductions)
            cost = self.cost_ps(plan.tiles, whole)
            if cost < plan.cost_ps:
                plan = replace(plan, order=whole, cost_ps=cost)
        return plan


def slots_of(engine: Engine, slots: int, ops: Iterable[Operation]) -> int:
    """Buffers of a block that moves in a loop of these body ops, where `slots` are asked for: as many for each set of
    blocks that share a core."""
    slots = engine.buffers(ops, slots)
    return slots if slots == 1 else slots * engine.co_resident


class DoesNotFitError(IRError):
    """Not even the smallest tile of the op fits the engine's memories."""

    def __init__(self, op: Operation, engine: str):
        super().__init__(f"no tile of '{op.name}' ({op.location}) fits the memories of {engine}")


def _ladder(size: int, multiple: int, fixed: int | None, most: int | None = None) -> list[int]:
    """Tile sizes worth trying, ascending: even cuts into 1, 2, 3, 4, 6, 8, 12, ... tiles, rounded up to a multiple.

    Of those above `most` none is left, unless nothing would be.
    """
    if fixed is not None:
        return [fixed]
    sizes, cuts = set(), 1
    while cuts < 2 * size:
        for c in (cuts, cuts * 3 // 2):
            even = -(-size // c)
            sizes.add(min(size, -(-even // multiple) * multiple))
        cuts *= 2
    ladder = sorted(sizes) or [max(size, 1)]
    return [n for n in ladder if most is None or n <= most] or ladder[:1]


def _prototypes(spec: LoopSpec, engine: Engine) -> list[Operation]:
    """One op a step, for the engine to look at its kind and attributes; the blocks are of one point each."""
    ones = {d.name: 1 for d in spec.dims}
    spaces = {"data": "reg", "weight": engine.weight_space.name, "ref": "reg", "acc": "reg"}
    body = spec.build({**ones, **spec.fixed}, spaces)
    return [op for op in body if not isinstance(op, (tile.Last, tile.Yield))]
