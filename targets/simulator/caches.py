"""What stands between the engines and DRAM, by what it gives up: least recently used bytes, any bytes alike, or
nothing, where the compiler chooses. Each is asked task by task which bytes it has, and says what it writes."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from tilewright.compiler.dialects import soc


@dataclass(frozen=True, slots=True)
class Access:
    """What one copy of a task does to a buffer: `size` different bytes, read or stored. Bytes that are stored are
    `dirty`, unless they go to DRAM at once."""

    buffer: soc.Buffer
    size: int
    stores: bool = False
    dirty: bool = False


@dataclass(slots=True)
class Answer:
    """Of an access: bytes that were there, and bytes of any buffer that went to DRAM to make room."""

    held: int = 0
    written: int = 0


class Cache(Protocol):
    def task(self, accesses: Sequence[Access]) -> list[Answer]:
        """One answer for each."""
        ...

    def drop(self, buffer: soc.Buffer) -> None:
        """Nobody reads the buffer any more."""


@dataclass(slots=True)
class LeastRecent:
    """Gives up the least recently used bytes first. A buffer that nobody reads any more is dropped without being
    written: the allocator gives its addresses to a later buffer, whose stores hit them."""

    capacity: int
    held: dict[soc.Buffer, int] = field(default_factory=dict)  # least recently used first
    dirty: dict[soc.Buffer, int] = field(default_factory=dict)

    def task(self, accesses: Sequence[Access]) -> list[Answer]:
        return [Answer(min(self.held.get(a.buffer, 0), a.size), self.put(a.buffer, a.size, a.dirty)) for a in accesses]

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


PARTS = 16  # of the cache: as much of a buffer is looked at in one step
MOST = 1024  # steps, and pieces of the memory: tensors that large find nothing of themselves anyway


class Random:
    """Gives up any of its bytes alike, those of addresses that nobody reads any more too: what comes in takes from each
    piece of memory in proportion to what is held of it. The copies of a task go through their buffers side by side.

    Memory is cut where buffers begin and end, and finely enough that what is held of a piece is spread evenly.
    """

    def __init__(self, capacity: int, buffers: Iterable[soc.Buffer]):
        self.capacity = max(capacity, 1)
        spans = sorted({(b.address, b.address + b.result.type.bytes) for b in buffers})
        memory = max((end for _, end in spans), default=0) - min((start for start, _ in spans), default=0)
        step = max(self.capacity // PARTS, memory // MOST, 1)
        cuts = {at for span in spans for at in span}
        cuts.update(itertools.chain.from_iterable(range(start, end, step) for start, end in spans))
        self.cuts = sorted(cuts)
        self.size = np.diff(np.array(self.cuts or [0], np.int64))
        self.held, self.dirty = np.zeros_like(self.size), np.zeros_like(self.size)
        self.total = 0

    def task(self, accesses: Sequence[Access]) -> list[Answer]:
        answers = [Answer() for _ in accesses]
        largest = max((a.buffer.result.type.bytes for a in accesses), default=0)
        steps = min(-(-largest * PARTS // self.capacity), MOST)
        parts = [self._parts(a.buffer, steps) for a in accesses]
        for step in range(steps):
            for access, answer, part in zip(accesses, answers, parts, strict=True):
                if part[step] < part[step + 1]:
                    self._touch(slice(part[step], part[step + 1]), access, answer)
        for access, answer in zip(accesses, answers, strict=True):
            answer.held = min(answer.held, access.size)
        return answers

    def drop(self, buffer: soc.Buffer) -> None:
        """Its bytes stay until others take their place."""

    def _parts(self, buffer: soc.Buffer, steps: int) -> list[int]:
        """The piece that each step begins with, and where the last one ends."""
        size = buffer.result.type.bytes
        return [bisect.bisect_left(self.cuts, buffer.address + size * step // steps) for step in range(steps + 1)]

    def _touch(self, pieces: slice, access: Access, answer: Answer) -> None:
        """Of a buffer that is read or stored in part, each piece is: reads find what is held as if it were spread
        evenly, stores of several tasks are taken to go to different bytes."""
        size, held, whole = self.size[pieces], self.held[pieces], access.buffer.result.type.bytes
        wanted = np.ceil(size * (min(access.size, whole) / whole)).astype(np.int64)
        spread = np.minimum(np.rint(wanted * (held / size)).astype(np.int64), wanted)
        there = np.maximum(wanted - (size - held), 0) if access.stores else spread
        missing = wanted - there
        answer.held += int(there.sum())
        answer.written += self._make_room(int(missing.sum()))
        held = np.minimum(self.held[pieces] + missing, size)
        self.total += int((held - self.held[pieces]).sum())
        self.held[pieces] = held
        if access.dirty:
            self.dirty[pieces] = np.minimum(np.maximum(self.dirty[pieces], wanted), held)
        answer.written += self._make_room(0)  # of pieces that are larger than the cache

    def _make_room(self, size: int) -> int:
        """Gives the bytes to write back."""
        over = min(self.total + size - self.capacity, self.total)
        if over <= 0:
            return 0
        stays = self.total - over
        before = int(self.dirty.sum())
        self.held, self.dirty = self.held * stays // self.total, self.dirty * stays // self.total
        self.total = int(self.held.sum())
        return before - int(self.dirty.sum())


@dataclass(slots=True)
class Scratchpad:
    """Temporaries that the compiler keeps on chip: each whole, if there is room when it is first written."""

    capacity: int
    held: dict[soc.Buffer, int] = field(default_factory=dict)
    spilled: set[soc.Buffer] = field(default_factory=set)

    def task(self, accesses: Sequence[Access]) -> list[Answer]:
        return [Answer(a.size if a.buffer in self.held else 0, self.put(a.buffer, a.size, a.dirty)) for a in accesses]

    def put(self, buffer: soc.Buffer, size: int, dirty: bool) -> int:
        """Gives the bytes that have to go to memory: all of them, of a buffer for which there is no room."""
        if buffer in self.held or not dirty:
            return 0
        whole = buffer.result.type.bytes
        fits = buffer not in self.spilled and sum(self.held.values()) + whole <= self.capacity
        if buffer.role == "temporary" and fits:
            self.held[buffer] = whole
            return 0
        self.spilled.add(buffer)
        return size

    def drop(self, buffer: soc.Buffer) -> None:
        self.held.pop(buffer, None)


__all__ = ["Access", "Answer", "Cache", "LeastRecent", "Random", "Scratchpad"]
