"""Which accesses of the same bytes nothing orders: exact, whatever the data, from one walk of a soc program.

Every command gets a vector clock, a component a unit: how many of that unit's commands are sure to have ended when it
starts, by the unit's queue, by tokens, and by what its task waited for. Every piece of memory remembers who wrote it
and each unit's last read. A command that touches a piece must come after the write there, and a write after the reads.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from tilewright.compiler.dialects import soc
from tilewright.compiler.ir import DTYPE_BITS, Module

from .commands import Touch
from .memory import Region, buffer_bytes, buffer_of, buffers_in, dram_region, scale_of
from .numerics import Arith, Array, numpy_dtype
from .schedule import Command, Completion, Program

HOST = 0  # the unit that fills inputs before anything runs, and reads the outputs after what it waited for
EMPTY = ("temporary", "output")  # roles of buffers that hold nothing at the start
_WHAT = {
    "race": "is not ordered after",
    "overlap": "reads through another buffer what was written by",
    "unwritten": "reads bytes that were not written",
}


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two accesses of the same bytes that nothing orders ("race"), or a read of bytes that were written through another
    buffer ("overlap") or not at all ("unwritten")."""

    kind: str
    space: str
    address: int  # of a byte where it happens
    buffer: str  # the later access's, in words
    earlier: str
    later: str

    def __str__(self) -> str:
        place = f"byte {self.address} of {self.space}, in {self.buffer}"
        return f"{place}: {self.later} {_WHAT[self.kind]} {self.earlier}".rstrip()


def find_conflicts(module: Module, most: int = 10, arith: Arith = "native") -> list[Conflict]:
    """Up to `most` conflicts, in program order, one a pair of commands in the text.

    Needs no data: parameters may be missing or on the meta device.
    """
    return _Detector(module, most, arith).run()


def describe(buffer: soc.Buffer) -> str:
    """A buffer in words, for a report."""
    name = f"'{buffer.result.name}' " if buffer.result.name else ""
    return f"the buffer {name}at byte {buffer.address} of {buffer.result.type.space}"


@dataclass(slots=True)
class _Event:
    """A write: by which command of which unit, through which buffer."""

    unit: int
    clock: int
    buffer: soc.Buffer | None
    by: Command | None


class _Shadow:
    """What happened to one range of a space, in pieces of `grain` bytes."""

    def __init__(self, low: int, high: int, grain: int):
        self.low, self.high, self.grain = low, high, grain
        self.count = -(-(high - low) // grain)
        self.writer = np.zeros(self.count, np.int32)  # index of an event; 0: nobody
        self.reads: dict[int, Array] = {}  # unit -> clock of its last read of each piece

    def pieces(self, array: Array, region: Region, itemsize: int) -> Array:
        """The part of `array` (one number a piece) that a region covers, as a view: the region's shape, then pieces."""
        per, step = itemsize // self.grain, array.itemsize
        strides = tuple([s // self.grain * step for s in region.strides])
        offset = (region.offset - self.low) // self.grain * step
        return np.ndarray((*region.shape, per), array.dtype, array, offset, (*strides, step))


class _Detector:
    def __init__(self, module: Module, most: int, arith: Arith):
        self.module, self.most = module, most
        self.arith: Arith = arith
        self.scale = scale_of(module, arith)
        self.program = Program(module.main, arith, self.scale)
        names = sorted({op.unit.name for op in module.main.walk() if isinstance(op, (soc.Copy, soc.Exec))})
        self.units = {name: i for i, name in enumerate(names, HOST + 1)}
        self.latest = [self._zero() for _ in range(len(names) + 1)]  # clock of each unit's last command
        self.commands: list[list[Command]] = [[] for _ in self.latest]  # by unit, for the report
        self.events = [_Event(HOST, 0, None, None)]
        self.shadows = self._make_shadows()
        self.found: dict[tuple[object, ...], Conflict] = {}

    def _zero(self) -> Array:
        return np.zeros(len(self.units) + 1, np.int64)

    def run(self) -> list[Conflict]:
        self._fill()
        for command in self._walk():
            for touch in command.plan.touches(command.point):
                self._touch(touch, command)
            if len(self.found) >= self.most:
                break
        else:
            self._read_outputs()
        return list(self.found.values())[: self.most]

    # -------------------------------------------------------------- what comes before what

    def _walk(self) -> Iterator[Command]:
        """The commands in program order, each with its clock."""
        engines: dict[str, Array] = {}  # what everything issued from now on comes after
        for launch, waited in self.program.launches:
            base = engines.get(launch.engine.name, self._zero())
            for item in self.program.walk([(launch, waited)]):
                if not isinstance(item, Command):
                    base = np.maximum(base, self._clock(item))
                    continue
                unit = self.units[item.plan.unit]
                clock = np.maximum(base, self.latest[unit])
                for token in item.after:
                    np.maximum(clock, self._clock(token), out=clock)
                clock[unit] += 1
                item.clock, item.after = clock, ()
                self.latest[unit] = clock
                self.commands[unit].append(item)
                yield item
            engines[launch.engine.name] = np.maximum(base, self._clock(self.program.tokens[launch.token]))

    def _clock(self, completion: Completion) -> Array:
        if isinstance(completion, Command):
            return completion.clock
        clock = self._zero()
        for part in completion.parts or ():
            np.maximum(clock, self._clock(part), out=clock)
        return clock

    # -------------------------------------------------------------- memory

    def _make_shadows(self) -> dict[str, list[_Shadow]]:
        """Ranges of memory that may be misused: whole buffers that overlap, and of dram only what changes."""
        written = {b for b in buffers_in(self.module) if b.role in EMPTY}
        for op in self.module.main.walk():
            if isinstance(op, soc.Copy) and not op.loads:
                written.add(buffer_of(op.target))
            elif isinstance(op, soc.Exec):
                written.update(map(buffer_of, op.outputs))
        by_space: dict[str, list[soc.Buffer]] = {}
        for buffer in buffers_in(self.module):
            by_space.setdefault(buffer.result.type.space, []).append(buffer)
        shadows: dict[str, list[_Shadow]] = {}
        for space, buffers in by_space.items():
            grain = max(min(DTYPE_BITS[b.result.type.dtype] for b in buffers) // 8, 1)
            groups: list[tuple[int, int, list[soc.Buffer]]] = []
            for buffer in sorted(buffers, key=lambda b: b.address):
                low, high = buffer.address, buffer.address + buffer_bytes(buffer)
                if groups and low < groups[-1][1]:
                    first, end, members = groups[-1]
                    groups[-1] = (first, max(end, high), [*members, buffer])
                else:
                    groups.append((low, high, [buffer]))
            shadows[space] = [
                _Shadow(low * self.scale, high * self.scale, grain)
                for low, high, members in groups
                if space != "dram" or len(members) > 1 or members[0] in written
            ]
        return shadows

    def _shadow(self, region: Region) -> _Shadow | None:
        shadows = self.shadows.get(region.space, [])
        i = bisect_right(shadows, region.offset, key=lambda s: s.low) - 1
        return shadows[i] if i >= 0 and region.offset < shadows[i].high else None

    def _fill(self) -> None:
        for buffer in buffers_in(self.module):
            if buffer.result.type.space == "dram" and buffer.role not in EMPTY:
                region = dram_region(buffer.result, self.arith, self.scale)
                self._mark(Touch(buffer, region, self._itemsize(buffer), True), HOST, 0, None)

    def _itemsize(self, buffer: soc.Buffer) -> int:
        return numpy_dtype(buffer.result.type.dtype, self.arith).itemsize

    def _read_outputs(self) -> None:
        clock = self._zero()
        for token in self.program.waits:
            np.maximum(clock, self._clock(self.program.tokens[token]), out=clock)
        for value in self.program.outputs:
            buffer = buffer_of(value)
            region = dram_region(value, self.arith, self.scale)
            self._read(Touch(buffer, region, self._itemsize(buffer), False), HOST, clock, None)

    # -------------------------------------------------------------- accesses

    def _touch(self, touch: Touch, command: Command) -> None:
        unit = self.units[command.plan.unit]
        if touch.writes:
            self._write(touch, unit, command)
        else:
            self._read(touch, unit, command.clock, command)

    def _read(self, touch: Touch, unit: int, clock: Array, command: Command | None) -> None:
        shadow = self._shadow(touch.region)
        if shadow is None or 0 in touch.region.shape:
            return
        writers = shadow.pieces(shadow.writer, touch.region, touch.itemsize)
        for index in _distinct(writers):
            event = self.events[index]
            if event.clock > clock[event.unit]:
                self._report("race", touch, writers == index, event.by, command, event.buffer)
            elif index == 0:
                self._report("unwritten", touch, writers == index, None, command, None)
            elif event.buffer is not touch.buffer:
                self._report("overlap", touch, writers == index, event.by, command, event.buffer)
        if unit not in shadow.reads:
            shadow.reads[unit] = np.zeros(shadow.count, np.int32)
        shadow.pieces(shadow.reads[unit], touch.region, touch.itemsize)[...] = clock[unit]

    def _write(self, touch: Touch, unit: int, command: Command) -> None:
        shadow = self._shadow(touch.region)
        if shadow is None or 0 in touch.region.shape:
            return
        writers = shadow.pieces(shadow.writer, touch.region, touch.itemsize)
        for index in _distinct(writers):
            event = self.events[index]
            if event.clock > command.clock[event.unit]:
                self._report("race", touch, writers == index, event.by, command, event.buffer)
        for reader, reads in shadow.reads.items():
            seen = shadow.pieces(reads, touch.region, touch.itemsize)
            latest = int(seen.max())
            if reader != unit and latest > command.clock[reader]:
                self._report("race", touch, seen == latest, self.commands[reader][latest - 1], command, touch.buffer)
        self._mark(touch, unit, int(command.clock[unit]), command)

    def _mark(self, touch: Touch, unit: int, clock: int, command: Command | None) -> None:
        shadow = self._shadow(touch.region)
        if shadow is not None and 0 not in touch.region.shape:
            shadow.pieces(shadow.writer, touch.region, touch.itemsize)[...] = len(self.events)
            self.events.append(_Event(unit, clock, touch.buffer, command))

    def _report(
        self, kind: str, touch: Touch, where: Array, earlier: Command | None, later: Command | None,
        buffer: soc.Buffer | None,
    ) -> None:  # fmt: skip
        key = (kind, touch.buffer, buffer, earlier and earlier.plan, later and later.plan)
        if key in self.found:
            return
        at = np.argwhere(where)[0]
        offset = touch.region.offset + sum(int(i) * s for i, s in zip(at, touch.region.strides, strict=False))
        before = "" if kind == "unwritten" else str(earlier or "the host")
        if buffer is not None and buffer is not touch.buffer:
            before += f" to {describe(buffer)}"
        after = str(later or "the program, which reads its outputs,")
        address = offset // self.scale
        self.found[key] = Conflict(kind, touch.region.space, address, describe(touch.buffer), before, after)


def _distinct(numbers: Array) -> list[int]:
    low, high = int(numbers.min()), int(numbers.max())
    return [low] if low == high else [int(n) for n in np.unique(numbers)]
