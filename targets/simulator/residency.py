"""Which bytes of each copy reach DRAM: a plan of the system-level cache, made in program order before the walk.

The cache holds whole buffers or parts of them, by bytes, and gives up the least recently used ones first.

- Inside a task, a block that is read again is found in the cache if everything that the task touches between two
  reads fits. So a copy brings in, at the outermost loop whose iterations fit, each byte once.
- Between tasks, what was read or written stays. Parameters stream through: a network reads each weight once a run, and
  keeping it would push out activations.
- A store leaves its bytes in the cache, dirty. Where dirty bytes are given up, the copy that needed the room pays for
  writing them to DRAM. A result of the program is written through. A temporary that nobody reads any more is dropped
  without being written: the allocator gives its addresses to a later buffer, whose stores hit them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from tilewright.compiler.dialects import soc
from tilewright.targets.engines.base import CopyUnit

from . import machine
from .program import Command, LoopInfo, Program

STREAMED = ("parameter",)


@dataclass(slots=True)
class Cache:
    """Bytes held of each buffer, least recently used first, and how many of them are dirty."""

    capacity: int
    held: dict[soc.Buffer, int] = field(default_factory=dict)
    dirty: dict[soc.Buffer, int] = field(default_factory=dict)

    def share(self, buffer: soc.Buffer, of: int) -> tuple[int, int]:
        """The part of `of` bytes of the buffer that is held, as a fraction."""
        return min(self.held.get(buffer, 0), of), of

    def put(self, buffer: soc.Buffer, size: int, dirty: bool) -> int:
        """Makes the buffer the most recent, with at least `size` bytes or what fits; gives the bytes to write back."""
        had, soiled = self.held.pop(buffer, 0), self.dirty.pop(buffer, 0)
        want = max(had, size)
        keep = min(want, self.capacity)
        stale = max(soiled, size) if dirty else soiled
        written = max(0, stale - keep)  # what does not even fit alone
        room = self.capacity - keep
        for other in list(self.held):
            excess = sum(self.held.values()) - room
            if excess <= 0:
                break
            out = min(excess, self.held[other])
            self.held[other] -= out
            lost = max(0, self.dirty.get(other, 0) - self.held[other])
            self.dirty[other] = self.dirty.get(other, 0) - lost
            written += lost
            if not self.held[other]:
                self.drop(other)
        self.held[buffer], self.dirty[buffer] = keep, min(stale, keep)
        return written

    def drop(self, buffer: soc.Buffer) -> None:
        self.held.pop(buffer, None)
        self.dirty.pop(buffer, None)


def plan(program: Program, capacity: int) -> None:
    """Sets `dram_read` and `dram_write` of every command of the program."""
    cache = Cache(capacity)
    footprints = Footprints(program)
    last_read = _last_reads(program)
    results = set(program.outputs)
    for index, task in enumerate(program.tasks):
        moving = [c for c in task.commands if c.buffer is not None and c.total_bytes]
        fetched = footprints.fetched(moving, capacity)
        for c in moving:
            assert c.buffer is not None
            once, once_fetched = footprints.whole(c), fetched[c.index]
            if c.read_bytes:
                have, of = cache.share(c.buffer, once)
                c.dram_read = once_fetched * (of - have) // of
                if c.buffer.role not in STREAMED:
                    c.dram_write += cache.put(c.buffer, once, dirty=False)
            if c.write_bytes and c.buffer in results:
                c.dram_write += min(c.write_bytes, once)
                c.dram_write += cache.put(c.buffer, once, dirty=False)
            elif c.write_bytes:
                c.dram_write += cache.put(c.buffer, once, dirty=True)
        for buffer in dict.fromkeys(c.buffer for c in moving):
            if buffer is not None and buffer not in results and last_read.get(buffer, -1) <= index:
                cache.drop(buffer)


def _last_reads(program: Program) -> dict[soc.Buffer, int]:
    """The last task that reads each buffer."""
    last: dict[soc.Buffer, int] = {}
    for index, task in enumerate(program.tasks):
        for c in task.commands:
            if c.buffer is not None and c.read_bytes:
                last[c.buffer] = index
    return last


def lay_out(program: Program, memory: Any) -> None:
    """Plans the cache, and writes each command's DRAM traffic and latency into the program's arrays."""
    plan(program, memory.slc_bytes)
    rows = program.code.commands
    for c in program.commands:
        if c.total_bytes:
            rows[c.index]["weight"] = -((-(c.dram_read + c.dram_write) << machine.WEIGHT_BITS) // c.total_bytes)
            c.latency_ps = memory.slc_latency_ps + (memory.dram_latency_ps if c.dram_read else 0)
        if isinstance(c.op, soc.Copy) or c.total_bytes:
            c.latency_ps += _path(program, c).latency_ps
        rows[c.index]["latency"] = c.latency_ps


def _path(program: Program, c: Command) -> CopyUnit:
    """The copy unit that a command's data goes through; a body that uses DRAM in place takes the load path."""
    engine = program.engines[program.tasks[c.task].engine]
    units = {u.name: u for u in (engine.stores, engine.weights, engine.loads)}
    return units.get(program.units[c.unit], engine.loads)


class Footprints:
    """How many different bytes of memory a copy touches while some of its loops run."""

    def __init__(self, program: Program):
        self.program = program
        self.loops = program.code.loops.copy()

    def within(self, c: Command, inner: int) -> int:
        """Bytes while all loops from depth `inner` on run once, and those outside stand in their middle."""
        if not isinstance(c.op, soc.Copy):
            assert c.buffer is not None
            runs = math.prod(loop.trips for loop in c.loops[inner:])
            return min(c.largest_bytes * runs, c.buffer.result.type.bytes)
        for depth, loop in enumerate(c.loops):
            middle = loop.trips // 2 * loop.tile
            whole, one = (0, loop.size), (middle, min(loop.tile, loop.size - middle))
            row = self.loops[loop.index]
            row["position"], row["extent"] = whole if depth >= inner else one
        code = self.program.code
        return int(machine.block_bytes(code.commands[c.index], code.axes, code.terms, self.loops))

    def whole(self, c: Command) -> int:
        """Bytes that the command touches in the whole task."""
        return max(1, min(self.within(c, 0), c.total_bytes))

    def fetched(self, commands: list[Command], capacity: int) -> dict[int, int]:
        """Bytes that each command brings into an empty cache: all that it touches in the outermost loop whose single
        iterations fit, times the iterations of the loops outside it."""
        working: dict[LoopInfo, int] = {}
        for c in commands:
            for depth, loop in enumerate(c.loops):
                working[loop] = working.get(loop, 0) + self.within(c, depth + 1)
        result = {}
        for c in commands:
            outside, best = 1, c.total_bytes
            for depth, loop in enumerate(c.loops):
                if working[loop] <= capacity:
                    best = min(best, self.within(c, depth) * outside)
                    break
                outside *= loop.trips
            result[c.index] = best
        return result
