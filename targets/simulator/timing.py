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
class DramUse:
    """What DRAM is busy with for a task or a run, in picoseconds of all channels together: `data` on the pins; `rows`
    that wait to be opened, and banks and channels that have more to do than others; `sharing`: streams that close each
    other's rows and turn the bus around; `refresh`; and `controller`, by which a measured stream takes longer, or
    shorter, than the device's rules say. Where all is zero, only a rate is known of the memory."""

    data_ps: int = 0
    rows_ps: int = 0
    sharing_ps: int = 0
    refresh_ps: int = 0
    controller_ps: int = 0
    accesses: int = 0  # lines of 64 B
    activates: int = 0

    @property
    def parts(self) -> dict[str, int]:
        """They add up to `busy_ps`; `sharing` is below 0 where streams fill each other's gaps."""
        return {
            "data": self.data_ps,
            "rows": self.rows_ps,
            "sharing": self.sharing_ps,
            "refresh": self.refresh_ps,
            "controller": self.controller_ps,
        }

    @property
    def busy_ps(self) -> int:
        return sum(self.parts.values())

    def add(self, other: DramUse) -> None:
        self.data_ps += other.data_ps
        self.rows_ps += other.rows_ps
        self.sharing_ps += other.sharing_ps
        self.refresh_ps += other.refresh_ps
        self.controller_ps += other.controller_ps
        self.accesses += other.accesses
        self.activates += other.activates


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
    dram: DramUse = field(default_factory=DramUse)

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

    @property
    def dram(self) -> DramUse:
        total = DramUse()
        for task in self.tasks:
            total.add(task.dram)
        return total


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
