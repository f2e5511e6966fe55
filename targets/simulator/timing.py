"""What a simulation says: times in integer picoseconds, traffic in bytes, and what bounds each task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tilewright.compiler.ir import Location

if TYPE_CHECKING:
    from .energy import Energy


class SimulationError(Exception):
    """A program that cannot be priced or run, or whose books do not balance; the message has the op and the numbers."""


@dataclass(slots=True)
class TaskTiming:
    """One task. Its span runs from when its engine takes it up to when its last command is complete; the first task of
    a launch has the launch's cost in its span.

    `breakdown` says where the span went, in picoseconds by cause, and adds up to it: a moment counts as "matrix" while
    a command with MACs is at work, else as "vector" while another body is, else as what limits a transfer ("dram",
    "slc", "port", or "copy" for the copy unit itself), else "setup" of a copy, "latency" of data under way, "launch",
    "task", or "idle". `bound` is the unit, or one of these causes, that was busy for most of the span.
    """

    label: str
    location: Location
    engine: str
    reason: str
    start_ps: int
    end_ps: int
    macs: int
    bytes: int
    dram_read_bytes: int
    dram_write_bytes: int
    unit_busy_ps: dict[str, int]
    bound: str
    breakdown: dict[str, int] = field(default_factory=dict)

    @property
    def span_ps(self) -> int:
        return self.end_ps - self.start_ps


@dataclass(slots=True)
class Timing:
    """A whole run. `tasks` are in the order of their starts; `slices` (unit, start, end, index of the task) are there
    if they were asked for. `events` counts the changes of state that the walk went through; 0 without one. `order` has
    each task's place in the program."""

    latency_ps: int
    unit_busy_ps: dict[str, int]
    dram_read_bytes: int
    dram_write_bytes: int
    macs: int
    events: int
    tasks: list[TaskTiming]
    slices: list[tuple[str, int, int, int]] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    energy: Energy | None = None  # `simulate` works it out


def largest(shares: Mapping[str, int]) -> str:
    """The name with the largest share; the first of equals. "idle" if nothing took any time."""
    name = max(shares, key=lambda n: shares[n], default="idle")
    return name if shares.get(name) else "idle"


def collect(tasks: list[TaskTiming], latency_ps: int, events: int = 0) -> tuple[Timing, list[int]]:
    """Puts the tasks in order of their starts and adds them up. Also gives each old index's new one."""
    order = sorted(range(len(tasks)), key=lambda i: (tasks[i].start_ps, tasks[i].end_ps, i))
    place = [0] * len(tasks)
    for new, old in enumerate(order):
        place[old] = new
    busy: dict[str, int] = {}
    for t in tasks:
        for unit, ps in t.unit_busy_ps.items():
            busy[unit] = busy.get(unit, 0) + ps
    timing = Timing(
        latency_ps=latency_ps,
        unit_busy_ps=dict(sorted(busy.items())),
        dram_read_bytes=sum(t.dram_read_bytes for t in tasks),
        dram_write_bytes=sum(t.dram_write_bytes for t in tasks),
        macs=sum(t.macs for t in tasks),
        events=events,
        tasks=[tasks[i] for i in order],
        order=order,
    )
    return timing, place
