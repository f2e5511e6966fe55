"""How long DRAM is busy with what each command moves, from the pattern in which it goes through memory.

A copy's pattern is that of its block, and of the loops round it that lead to another block; the loops that come back to
the same one find it in the cache, if anything does. A parameter that an engine's compiler lays out as its blocks are
read goes by in order, whatever its shape, if no copy reads it in another order and no two blocks share any of it. What
commands of one task move goes on side by side, so the mixture counts (`targets.memory.dram.demand`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tilewright.compiler.dialects import soc
from tilewright.targets.engines.base import Engine
from tilewright.targets.memory.dram.bandwidth import LINE
from tilewright.targets.memory.dram.demand import Demand, Pattern

from .flatten import dram_buffer
from .machine import BIT, NANO
from .program import Command, Program
from .timing import DramUse

PACKED = ("parameter", "constant")


@dataclass(frozen=True, slots=True)
class _Stream:
    command: Command
    pattern: Pattern
    bytes: int


def charge(program: Program, demand: Demand | None) -> None:
    """Sets `dram_busy` of every command and `dram` of every task. Without `demand`, DRAM's rate says it all."""
    for c in program.commands:
        c.dram_busy = c.dram_read + c.dram_write
    if demand is None:
        return
    patterns = _Patterns(program, demand)
    # the engines together may ask for less than the peak; then the pins wait for them
    refresh, controller = demand.refresh, demand.controller
    rate, peak = int(program.hardware.memory_rate[1]), int(program.hardware.dram_peak)
    for task in program.tasks:
        streams = [s for c in task.commands for s in patterns.streams(c)]
        if not streams:
            continue
        mixing = demand.interference([(s.pattern, s.bytes) for s in streams])
        use = task.dram = DramUse()
        for s in streams:
            service = demand.service(s.pattern)
            mixed = max(1.0, service.time * mixing)
            busy = max(1.0, mixed * refresh * controller)
            ps = s.bytes * NANO / peak
            use.data_ps += round(ps)
            use.rows_ps += round(ps * (service.time - 1))
            use.sharing_ps += round(ps * (mixed - service.time))
            use.refresh_ps += round(ps * mixed * (refresh - 1))
            use.controller_ps += round(ps * (busy - mixed * refresh))
            use.accesses += -(-s.bytes // LINE)
            use.activates += round(s.bytes / LINE * service.activates)
            s.command.dram_busy += max(0, round(s.bytes * (busy * rate / peak - 1)))


class _Patterns:
    """Finds what a command's accesses to memory look like."""

    def __init__(self, program: Program, demand: Demand):
        self.program, self.demand = program, demand
        self.rows = program.code.commands
        self.axes, self.terms = program.code.axes.tolist(), program.code.terms.tolist()
        self.packed = self._packed()

    def _packed(self) -> set[Command]:
        """Copies of parameters whose blocks lie one after the other."""
        readers: dict[soc.Buffer, list[Command]] = {}
        for c in self.program.commands:
            for buffer in _parameters(c):
                readers.setdefault(buffer, []).append(c)
        found: set[Command] = set()
        for commands in readers.values():
            packs = all(self.program.engines[self.program.tasks[c.task].engine].packs_weights for c in commands)
            orders = {self._order(c) for c in commands} if packs else set()
            if len(orders) == 1 and () not in orders:
                found.update(commands)
        return found

    def _order(self, c: Command) -> tuple[object, ...]:
        """The blocks that a copy reads, in their order; empty if two of them share any of the tensor."""
        if not isinstance(c.op, soc.Copy):
            return ()
        loops, row = {loop.index: loop for loop in c.loops}, self.rows[c.index]
        order: list[object] = []
        for offset, extent, bound, stride, first, end in self.axes[row["axis"] : row["axis_end"]]:
            moving = [(loops[i], n, by) for i, n, by in self.terms[first:end] if loops[i].trips > 1]
            still = [(loops[i], n, by) for i, n, by in self.terms[first:end] if loops[i].trips == 1]
            size = extent + sum(n * (loop.tile - 1) // by for loop, n, by in moving)
            size += sum(n * (loop.size - 1) // by for loop, n, by in still)
            if len(moving) > 1 or any(size > n * loop.tile // by for loop, n, by in moving):
                return ()
            depth = [c.loops.index(loop) for loop, _, _ in moving]
            order.append((offset, size, bound, stride, tuple(depth), tuple(loop.trips for loop, _, _ in moving)))
        return tuple(order) or ((),)

    def streams(self, c: Command) -> list[_Stream]:
        """What it reads and writes in DRAM. A load writes what it pushes out of the cache, in the order in which that
        came; a body that works in place goes through its tensors in order, as sparse blocks are stored."""
        moves = isinstance(c.op, soc.Copy) and c.dram_read + c.dram_write > 0
        own = self.of(c) if moves and c not in self.packed and not _is_sparse(c) else self.demand.sequential()
        back = isinstance(c.op, soc.Copy) and not c.op.loads
        found = []
        if c.dram_read:
            found.append(_Stream(c, own, c.dram_read))
        if c.dram_write:
            written = own if back else self.demand.sequential()
            found.append(_Stream(c, written.written(), c.dram_write))
        return found

    def _rows_together(self, engine: Engine, axes: Sequence[tuple[int, ...]], item: int) -> int:
        """Rows of the tensor that lie in memory as one; 1 for a tensor with fewer, or whose last axis has gaps."""
        together = engine.rows_together
        return together if len(axes) > 1 and axes[0][3] == item and axes[1][2] >= together else 1

    def of(self, c: Command) -> Pattern:
        """A copy's full block at all positions of the loops that move it. An engine that prices by kernel spreads
        blocks over its cores side by side, so that all that they touch is taken by address."""
        row = self.rows[c.index]
        loops = {loop.index: loop for loop in c.loops}
        axes = self.axes[row["axis"] : row["axis_end"]]
        run, dims = int(row["item"]), []  # in parts of a bit
        engine = self.program.engines[self.program.tasks[c.task].engine]
        together = self._rows_together(engine, axes, run)
        run *= together
        steps = dict.fromkeys(loops, 0)
        for place, (offset, extent, bound, stride, first, end) in enumerate(axes):
            size = extent
            stride *= together if place == 0 else 1
            for index, factor, divisor in self.terms[first:end]:
                at_once = loops[index].size if engine.by_kernel else min(loops[index].tile, loops[index].size)
                size += factor * (at_once - 1) // divisor
                steps[index] += factor * loops[index].tile // divisor * stride
            size = max(1, min(size, bound - max(offset, 0)))
            dims.append((size, stride) if place != 1 else (-(-size // together), stride * together))
        if not engine.by_kernel:
            dims += [(loop.trips, steps[loop.index]) for loop in reversed(c.loops) if steps[loop.index]]
        byte = 8 * BIT
        whole = tuple((count, -(-stride // byte)) for count, stride in dims)
        return Pattern(max(1, -(-run // byte)), whole).merged(self.demand.most_bytes)


def _is_sparse(c: Command) -> bool:
    return isinstance(c.op, soc.Copy) and c.op.source.type.density is not None


def _parameters(c: Command) -> Iterator[soc.Buffer]:
    """The parameters in memory that a command reads, through views."""
    sources = (c.op.source,) if isinstance(c.op, soc.Copy) else c.op.inputs
    buffers = {dram_buffer(v): None for v in sources if v.type.space == "dram"}
    return (b for b in buffers if b.role in PACKED)
