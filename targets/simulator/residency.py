"""Where the bytes of each copy go: plans of the engines' own memories and of the system-level cache, made before the
walk.

An engine that keeps tensors on chip between its tasks holds a temporary there from the task that writes it to the last
one that reads it, if nobody else touches it and there is room all that time. Tensors that are needed soonest come
first. Its units read and write them where they lie: their copies take no time.

What goes through memory meets the cache, in program order. The cache holds whole buffers or parts of them, by bytes;
`caches` says what it gives up.

- Inside a task, a block that is read again is found in the cache if everything that the task touches between two
  reads fits. So a copy brings in, at the outermost loop whose iterations fit, each byte once.
- Between tasks, what was read or written stays. Parameters stream through: a network reads each weight once a run, and
  keeping it would push out activations. A program is taken to run again and again, though: what activations never
  need of the cache, or a part of it, holds as much of each weight from the run before.
- A store leaves its bytes in the cache, dirty. Where dirty bytes are given up, the copy that needed the room pays for
  writing them to DRAM. A result of the program is written through.
- A program that is run again on the same tensors finds all of them, its results among them, if they fit together.
  Otherwise each is given up before it is asked for again.

A scratchpad, where the target has one in the cache's place, holds temporaries alone, and each of them whole.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from tilewright.compiler.dialects import soc
from tilewright.targets.engines.base import CopyUnit
from tilewright.targets.memory.spans import Span, held, peak

from . import dram, machine
from .caches import Access, Cache, LeastRecent, Random, Scratchpad
from .flatten import dram_buffer
from .program import Command, LoopInfo, Program

STREAMED = ("parameter",)


def plan(program: Program, capacity: int, policy: str = "cache", retained: float = 0.0) -> None:
    """Sets `dram_read` and `dram_write` of every command of the program. `retained`: the part of the cache's free room
    that holds weights from the run before."""
    footprints = Footprints(program)
    weights = sum(b.result.type.bytes for b in {c.buffer: None for c in program.commands if _is_streamed(c)} if b)
    held = min(weights, int(max(0, capacity - _peak(program)) * retained))
    cache = _cache(program, policy, capacity - held)
    last_read = _last_reads(program)
    results = set(program.outputs)
    for index, task in enumerate(program.tasks):
        moving = [c for c in task.commands if c.buffer is not None and c.total_bytes]
        # a scratchpad does not catch a block that is read again
        again = {c.index: c.total_bytes for c in moving}
        fetched = again if policy == "scratchpad" else footprints.fetched(moving, capacity)
        through = [c for c in moving if not _is_streamed(c)]
        accesses = [_access(c, footprints.whole(c), results) for c in through]
        for c, access, answer in zip(through, accesses, cache.task(accesses), strict=True):
            if c.read_bytes:
                c.dram_read = fetched[c.index] * (access.size - answer.held) // access.size
            if c.write_bytes and not access.dirty:
                c.dram_write += min(c.write_bytes, access.size)
            c.dram_write += answer.written
        for c in moving:
            if _is_streamed(c):
                c.dram_read = fetched[c.index] * (weights - held) // weights
        for buffer in dict.fromkeys(c.buffer for c in moving):
            if buffer is not None and buffer not in results and last_read.get(buffer, -1) <= index:
                cache.drop(buffer)


def _cache(program: Program, policy: str, capacity: int) -> Cache:
    if policy == "scratchpad":
        return Scratchpad(capacity)
    if policy == "random":
        return Random(capacity, (c.buffer for c in program.commands if c.buffer is not None and not _is_streamed(c)))
    return LeastRecent(capacity)


def _access(c: Command, size: int, results: set[soc.Buffer]) -> Access:
    assert c.buffer is not None
    return Access(c.buffer, size, not c.read_bytes, c.write_bytes > 0 and c.buffer not in results)


def keep(program: Program) -> None:
    """Takes the copies of the tensors that stay on chip out of the memory system."""
    users: dict[soc.Buffer, list[Command]] = {}
    for c in program.commands:
        for buffer in _memory_of(c):
            users.setdefault(buffer, []).append(c)
    free = np.array([program.engines[t.engine].kept_bytes for t in program.tasks], np.int64)
    stays = [
        b for b, cs in users.items() if b.role == "temporary" and b not in program.outputs and _is_local(program, cs)
    ]
    tasks = [[c.task for c in users[b]] for b in stays]
    spans = [Span(min(at), max(at), b.result.type.bytes) for b, at in zip(stays, tasks, strict=True)]
    for i in held(spans, free):
        for c in users[stays[i]]:
            c.near_bytes, c.total_bytes, c.read_bytes, c.write_bytes = c.total_bytes, 0, 0, 0
            c.total_ps = 0


def _memory_of(c: Command) -> Iterable[soc.Buffer]:
    """The buffers in memory that a command reads or writes, through views."""
    values = (c.op.source, c.op.target) if isinstance(c.op, soc.Copy) else (*c.op.inputs, *c.op.outputs)
    return {dram_buffer(v): None for v in values if v.type.space == "dram"}


def _is_local(program: Program, users: list[Command]) -> bool:
    """Whether one engine alone writes the buffer before it reads it, by copies that may be left out."""
    engines = {program.tasks[c.task].engine for c in users}
    written = [c.task for c in users if c.write_bytes]
    read = [c.task for c in users if c.read_bytes]
    return (
        len(engines) == 1
        and all(isinstance(c.op, soc.Copy) and _path(program, c).in_place for c in users)
        and bool(written)
        and (not read or min(written) < min(read))
    )


def look_ahead(program: Program) -> None:
    """Finds the weights that may be loaded before their task begins: the first blocks that the next tasks of the launch
    ask for, as far as they fit what the engine keeps free for them."""
    code, links = program.code, program.code.links.tolist()
    for launch in program.launch_tasks:
        for at, index in enumerate(launch[1:], 1):
            engine = program.engines[program.tasks[index].engine]
            room = engine.ahead_bytes
            first = len(links)
            for c in itertools.chain.from_iterable(_weights(program, i) for i in launch[at : at + engine.ahead_tasks]):
                runs = min(c.count, engine.ahead_runs, room // max(c.largest_bytes, 1))
                if not runs:
                    break
                room -= runs * c.largest_bytes
                links += (c.index, runs)
                c.ahead_bytes = max(c.ahead_bytes, min(runs * c.largest_bytes, c.total_bytes))
            code.tasks[index]["ahead"], code.tasks[index]["ahead_end"] = first, len(links)
    program.code = code._replace(links=np.array(links, np.int64))


def _weights(program: Program, task: int) -> list[Command]:
    """A task's copies of weights, the smallest first: biases and scales come with the weights that they belong to."""
    unit = program.engines[program.tasks[task].engine].weights.name
    copies = [c for c in program.tasks[task].commands if program.units[c.unit] == unit and _is_streamed(c)]
    return sorted(copies, key=lambda c: (c.total_bytes, c.index))


def _is_streamed(c: Command) -> bool:
    return c.buffer is not None and c.buffer.role in STREAMED and c.read_bytes > 0


def _peak(program: Program) -> int:
    """The most bytes of inputs, temporaries and results that are alive in memory during one task."""
    spans: dict[soc.Buffer, tuple[int, int]] = {}
    for c in program.commands:
        if c.buffer is not None and c.total_bytes and c.buffer.role not in STREAMED:
            first, last = spans.get(c.buffer, (c.task, c.task))
            spans[c.buffer] = min(first, c.task), max(last, c.task)
    return peak((Span(*at, buffer.result.type.bytes) for buffer, at in spans.items()), len(program.tasks))


def _touched(program: Program) -> int:
    """Bytes of all tensors in memory that the program uses: what must fit, least recently used ones given up first, for
    a run on the same tensors to find any of them."""
    buffers = {c.buffer: None for c in program.commands if c.total_bytes}
    return sum(b.result.type.bytes for b in buffers if b is not None)


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
    keep(program)
    look_ahead(program)
    if _touched(program) > memory.slc_warm_bytes:
        plan(program, memory.slc_bytes, memory.slc_policy, memory.slc_retained)
    dram.charge(program, memory.demand)
    rows = program.code.commands
    for c in program.commands:
        rows[c.index]["near"] = c.near_bytes > 0
        if c.total_bytes:
            rows[c.index]["weight"] = -((-c.dram_busy << machine.WEIGHT_BITS) // c.total_bytes)
            c.latency_ps = memory.slc_latency_ps + (memory.dram_latency_ps if c.dram_read else 0)
        if (isinstance(c.op, soc.Copy) and not c.near_bytes) or c.total_bytes:
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
