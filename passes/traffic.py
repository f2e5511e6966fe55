"""What the copies of a loop ask of an engine's units and of the memory that all share, at a tiling.

In closed form, as the simulator charges it (`targets.simulator.residency`): temporaries that stay on the engine pass no
memory, of others the system-level cache holds as much as it has room for; weights and arguments come from DRAM, each
byte once if what is touched between two reads fits the cache. The other loops are taken to be on the same engine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tilewright.compiler.dialects.access import Access
from tilewright.compiler.ir import DTYPE_BITS, TensorType, Value, bytes_of
from tilewright.targets import Target
from tilewright.targets.engines.base import CopyUnit, Engine
from tilewright.targets.memory import Memory
from tilewright.targets.memory.rates import dram_rate, port_rate

from .lifetimes import Lifetimes
from .loop_spec import LoopSpec, in_main_memory, is_returned, is_weight, origin
from .strided import Strided

if TYPE_CHECKING:
    from tilewright.targets.memory.dram.demand import Demand, Pattern


@dataclass(frozen=True, slots=True)
class OnChip:
    """What a program leaves on chip, if all that an engine takes is on it: temporaries that stay on the engine, and the
    part of each weight that the cache does not hold from the run before."""

    kept: frozenset[Value]
    fetched: float

    @classmethod
    def of(cls, lifetimes: Lifetimes, engine: Engine, memory: Memory) -> OnChip:
        kept = frozenset[Value]()
        if engine.stores.in_place and engine.loads.in_place:
            kept = lifetimes.kept(engine.kept_bytes, lambda op: engine.refuses(op) is None)
        weights = lifetimes.weights()
        free = max(0, memory.slc_bytes - lifetimes.peak(kept)) if memory.slc_retained else 0
        held = min(weights, int(free * memory.slc_retained))
        return cls(kept, 1.0 - held / weights if weights else 1.0)


@dataclass(frozen=True, slots=True)
class Rates:
    """Bytes a second that one engine gets of the memory: at its port, of the cache, and of DRAM in order."""

    port: int
    cache: int
    read: float
    write: float
    peak: float  # of DRAM's pins
    asked: float  # what engines ask of DRAM at most
    demand: Demand | None

    @classmethod
    def of(cls, target: Target, engine: Engine) -> Rates:
        memory = target.memory
        asked, demand = dram_rate(memory, target.engines.values()), memory.demand
        rates = cls(
            port_rate(memory, engine), memory.slc_bytes_per_s, asked, asked, memory.dram_bytes_per_s, asked, demand
        )
        if demand is None:
            return rates
        return replace(rates, read=rates.dram(demand.sequential()), write=rates.dram(demand.sequential(write=True)))

    def dram(self, pattern: Pattern) -> float:
        """Of DRAM, in a pattern that has it to itself."""
        assert self.demand is not None
        busy = self.demand.service(pattern).time * self.demand.refresh * self.demand.controller
        return min(self.asked, self.peak / max(1.0, busy))


@dataclass(frozen=True, slots=True)
class _Copy:
    """The copies of one tensor of a loop. `dram`: the part of what it touches that DRAM reads or writes."""

    access: Access
    dtype: str
    unit: CopyUnit
    view: Strided | None  # of what is loaded; None for a result
    near: bool  # it stays on the engine
    dram: float
    in_order: bool  # whatever the tiles
    sparse: TensorType | None = None  # stored block by block
    inward: tuple[tuple[int, int, int], ...] = ()  # axis, size and stride, from the one that lies closest in memory


@dataclass(frozen=True, slots=True)
class Asked:
    """Picoseconds: of each unit that copies, of the busiest part of the memory, of one copy of each, and on the way."""

    units: dict[str, int]
    shared: int
    fill: int
    latency: int


class Traffic:
    """The copies of one loop on one engine, whose `rates` these are. `views` are the strides behind each input."""

    def __init__(
        self, spec: LoopSpec, engine: Engine, memory: Memory, rates: Rates, on_chip: OnChip, views: list[Strided]
    ):
        self.rates, self.capacity = rates, memory.slc_bytes
        self.by_kernel = engine.by_kernel
        self.again = memory.slc_policy == "scratchpad"  # it does not catch a block that is read again
        self.sizes = {d.name: d.size for d in spec.dims}
        self.reductions = {d.name for d in spec.dims if d.kind == "red"}
        self.copies = self._copies(spec, engine, on_chip, views)
        self.whole = [self._bytes(c, self.sizes) for c in self.copies]
        self.latency = memory.fabric_latency_ps + memory.slc_latency_ps if self.copies else 0
        if any(c.dram for c in self.copies):
            self.latency += memory.dram_latency_ps

    def _copies(self, spec: LoopSpec, engine: Engine, on_chip: OnChip, views: list[Strided]) -> list[_Copy]:
        missed = self._missed(spec, on_chip)
        found = []
        for i, view in zip(spec.inputs, views, strict=True):
            if i.role == "ref":
                continue
            unit = engine.weights if i.role == "weight" else engine.loads
            sparse = i.value.type if i.value.type.density is not None else None
            in_order = sparse is not None or (engine.packs_weights and is_weight(i.value))
            near = origin(i.value) in on_chip.kept
            dram = on_chip.fetched if is_weight(i.value) else 1.0
            if not in_main_memory(i.value):
                dram = 0.0 if near else missed[origin(i.value)]
            found.append(_Copy(i.access, i.dtype, unit, view, near, dram, in_order, sparse, _inward(view)))
        if spec.out_refs:
            return found
        near = all(r in on_chip.kept for r in spec.op.results)
        dram = 1.0 if is_returned(spec.op) else 0.0 if near else missed[spec.op.results[0]]
        for access, dtype in zip(spec.outs, spec.out_dtypes, strict=True):
            found.append(_Copy(access, dtype, engine.stores, None, near, dram, in_order=True))
        return found

    def _missed(self, spec: LoopSpec, on_chip: OnChip) -> dict[Value, float]:
        """The part of each temporary of the loop that neither the engine nor the cache holds. A cache holds a part of
        all, a scratchpad some of them whole."""
        inputs = [origin(i.value) for i in spec.inputs if i.role != "ref" and not in_main_memory(i.value)]
        passing = [v for v in dict.fromkeys((*inputs, *spec.op.results)) if v not in on_chip.kept]
        total, room = sum(v.type.bytes for v in passing), self.capacity
        missed = dict.fromkeys((*inputs, *spec.op.results), 0.0)
        for v in passing:
            if self.again:
                missed[v] = 0.0 if v.type.bytes <= room else 1.0
                room -= 0 if missed[v] else v.type.bytes
            else:
                missed[v] = max(0.0, 1.0 - self.capacity / total) if total else 0.0
        return missed

    def at(self, tiles: dict[str, int], order: tuple[str, ...], exact: bool = False) -> Asked:
        """With the loops in this order, outermost first. DRAM is read in order, or, if `exact`, in the pattern that
        tiles and loops make of it."""
        trips = {d: -(-self.sizes[d] // tiles[d]) for d in order}
        visits = [_visits(c.access, order if c.view else self._outside(order), trips) for c in self.copies]
        asked = [n * self._bytes(c, tiles) for n, c in zip(visits, self.copies, strict=True)]
        fetched = self._fetched(asked, tiles, trips)
        units: dict[str, int] = {}
        setup: dict[str, int] = {}
        moved = fill = dram = 0
        for c, n, size, missed in zip(self.copies, visits, asked, fetched, strict=True):
            if c.near:
                continue
            on_pins = int(missed / self._dram(c, tiles, order, exact) * 1e12) if missed else 0
            rate = min(c.unit.bytes_per_s, self.rates.port, self.rates.cache)
            total = n * c.unit.setup_ps + max(size * 10**12 // rate, on_pins)
            setup[c.unit.name] = setup.get(c.unit.name, 0) + n * c.unit.setup_ps
            units[c.unit.name] = units.get(c.unit.name, 0) + total
            moved += size
            dram += on_pins
            fill += total // n
        # what is read waits for the setups before it, and what is written for what was read
        shared = max(moved * 10**12 // min(self.rates.port, self.rates.cache), dram) + max(setup.values(), default=0)
        return Asked(units, shared, fill, self.latency)

    def _dram(self, c: _Copy, tiles: dict[str, int], order: tuple[str, ...], exact: bool) -> float:
        """Bytes a second at which DRAM moves a tensor."""
        if c.view is None:
            return self.rates.write
        if not exact or c.in_order or self.rates.demand is None:
            return self.rates.read
        return self.rates.dram(self._pattern(c, c.view, tiles, order))

    def _pattern(self, c: _Copy, view: Strided, tiles: dict[str, int], order: tuple[str, ...]) -> Pattern:
        """A block at all positions of the loops that move it; of engines that spread blocks over their cores, all that
        they touch."""
        from tilewright.targets.memory.dram.demand import Pattern

        bits = DTYPE_BITS[c.dtype]
        at_once = self.sizes if self.by_kernel else tiles
        block = (min(b, n) for b, n in zip(c.access.block(at_once), view.shape, strict=True))
        dims = sorted(zip(block, view.strides, strict=True), key=lambda d: d[1])
        for d in () if self.by_kernel else reversed(order):
            axes = zip(c.access.axes, view.strides, strict=True)
            step = sum(k * tiles[d] // a.divisor * stride for a, stride in axes for name, k in a.terms if name == d)
            dims.append((-(-self.sizes[d] // tiles[d]), step))
        moved = tuple((n, -(-stride * bits // 8)) for n, stride in dims if n > 1 and stride)
        return Pattern(max(1, -(-bits // 8)), moved)

    def _outside(self, order: tuple[str, ...]) -> tuple[str, ...]:
        """The loops round what follows the reductions."""
        return tuple(d for d in order if d not in self.reductions)

    def _fetched(self, asked: list[int], tiles: dict[str, int], trips: dict[str, int]) -> list[int]:
        """Bytes of each tensor that DRAM moves, of those that are `asked` for: at first what the cache does not hold of
        it, and all of what is read again for want of room."""
        if self.again:
            return [int(c.dram * size) for c, size in zip(self.copies, asked, strict=True)]
        brought = self._brought(asked, tiles, trips)
        first = [min(size, whole) for size, whole in zip(brought, self.whole, strict=True)]
        return [
            0 if c.near else int(c.dram * once) + size - once
            for c, size, once in zip(self.copies, brought, first, strict=True)
        ]

    def _brought(self, asked: list[int], tiles: dict[str, int], trips: dict[str, int]) -> list[int]:
        """Bytes of each tensor that come into an empty cache: all that it touches in the outermost loop whose single
        iterations fit, times the iterations of the loops outside it. `trips`: of the loops, outermost first."""
        least = [min(n, whole) for n, whole in zip(asked, self.whole, strict=True)]
        if sum(least) <= self.capacity or least == asked:
            return least
        outside, inner, within = 1, dict(self.sizes), self.whole
        for d, count in trips.items():
            if count == 1:
                continue
            inner[d] = tiles[d]
            once = [self._bytes(c, inner) for c in self.copies]  # in one iteration
            if sum(n for c, n in zip(self.copies, once, strict=True) if not c.near) <= self.capacity:
                return [min(n, outside * w) for n, w in zip(asked, within, strict=True)]
            outside, within = outside * count, once
        return asked

    def _bytes(self, c: _Copy, tiles: dict[str, int]) -> int:
        """What one copy moves: of a tensor in memory, runs of whole lines."""
        block = c.access.block(tiles)
        if c.sparse is not None:
            return c.sparse.bytes_for(math.prod(block))
        if c.view is None:
            return bytes_of(math.prod(block), c.dtype)
        block = tuple(map(min, block, c.view.shape))
        run = 1  # elements
        for axis, n, stride in c.inward:
            if stride != run:
                break
            run *= block[axis]
            if block[axis] < n:
                break
        count = math.prod(block) // run if run else 0
        line = c.unit.line_bytes
        return count * (-(-bytes_of(run, c.dtype) // line) * line)


def _inward(view: Strided) -> tuple[tuple[int, int, int], ...]:
    axes = [(i, n, t) for i, (n, t) in enumerate(zip(view.shape, view.strides, strict=True)) if n > 1 and t]
    return tuple(sorted(axes, key=lambda a: a[2]))


def _visits(access: Access, order: tuple[str, ...], trips: dict[str, int]) -> int:
    """How often a block changes: iterations down to the innermost loop that it depends on."""
    count, seen = 1, 1
    for d in order:
        count *= trips[d]
        if d in access.dims and trips[d] > 1:
            seen = count
    return seen
