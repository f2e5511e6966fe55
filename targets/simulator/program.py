"""A flattened program: the tables that the machine walks, and what their rows stand for.

The compiled functions take these tables as they are typed here; a change of a column compiles them anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from tilewright.compiler.dialects import soc
from tilewright.targets.engines.base import Engine

from .pricing import Price
from .timing import DramUse


def record(*fields: str, **arrays: int | tuple[np.dtype, tuple[int, ...]]) -> np.dtype:
    """A row of a table: integers by name, then arrays of so many integers, or of (records, shape)."""
    columns: list[tuple] = [(f, np.int64) for f in fields]
    for name, what in arrays.items():
        columns.append((name, np.int64, (what,)) if isinstance(what, int) else (name, *what))
    return np.dtype(columns)


# A program's tables. Columns `x` and `x_end` say which rows [x, x_end) of another table belong to this one. The last
# columns of loops, launches, tasks and commands are written during the walk.
INSTRUCTION = record("op", "arg")  # arg: index of the launch, task, loop or command
LOOP = record(
    *("size", "tile"),
    "bit",  # of the edge mask, set while the loop is at its last, smaller tile; 0 if it has none
    "depth",  # loops round it
    *("body", "init", "next", "exit", "exit_end"),  # first instruction inside; moves
    *("position", "extent"),
)
MOVE = record("source", "target")  # registers
LAUNCH_ROW = record("first_task", "after", "after_end", "finished")  # after: launches, in `links`
TASK_ROW = record(
    *("start", "after", "after_end", "wait", "wait_end"),  # start: a register; wait: registers, in `links`
    *("ahead", "ahead_end"),  # in `links`, by twos: a copy, and how many of its first runs may come before this task
    "like",  # the first task that does the same
    *("began", "before", "took", "events"),  # on an idle machine: begin, events until then; then time and events, or -1
)
COMMAND_ROW = record(
    *("unit", "task", "register", "after", "after_end"),  # after: registers, in `links`
    "price",  # row of `prices` at edge mask 0; -1 for a copy
    *("setup", "item", "line", "axis", "axis_end"),  # copies: fixed time, an element (BIT a bit), bytes of a line, axes
    "latency",
    *("round", "round_end"),  # loops round it, in `links`, outermost first
    "near",  # 1: what it moves stays on chip, and is used where it lies
    "weight",  # DRAM time for each byte that it moves, in what bytes take at `memory_rate`, as a fixed-point number
    *("early", "early_runs"),  # token of the next run that was issued ahead of its task, and how many are left
)
PRICE = record("ps", "bytes", "macs")
# An access's axes, the fastest in memory first. Strides: BIT a bit, or PACKED.
AXIS = record("offset", "extent", "bound", "stride", "term", "term_end")
TERM = record("loop", "factor", "divisor")


class Code(NamedTuple):
    """A flattened program."""

    instructions: np.ndarray  # of all engines; engine e starts at entry[e]
    entry: np.ndarray
    loops: np.ndarray
    moves: np.ndarray
    launches: np.ndarray
    tasks: np.ndarray
    links: np.ndarray
    commands: np.ndarray
    prices: np.ndarray
    axes: np.ndarray
    terms: np.ndarray


UNIT_ROW = record("engine", "rate", "queued")  # queued: 1 if transfers are set up while others move
ENGINE_ROW = record("unit", "unit_end", "port_rate", "launch_ps", "task_ps")


class Hardware(NamedTuple):
    """Rates in nanobytes per picosecond, times in picoseconds. An engine's units are consecutive."""

    units: np.ndarray
    engines: np.ndarray
    memory_rate: np.ndarray  # of the SLC and of DRAM
    dram_peak: int  # rate of DRAM's pins
    contention: int  # what engines that use DRAM at the same time lengthen it by for each other, a fixed-point number


@dataclass(frozen=True, slots=True)
class LoopInfo:
    index: int
    dim: str
    size: int
    tile: int
    bit: int  # of the edge mask; 0 if the last tile is as large as the others

    @property
    def trips(self) -> int:
        return -(-self.size // self.tile)

    @property
    def last(self) -> int:
        """Points of the last tile."""
        return self.size - (self.trips - 1) * self.tile


@dataclass(slots=True, eq=False)
class Command:
    """A copy or an exec, with everything that all its iterations add up to."""

    index: int
    op: soc.Copy | soc.Exec
    unit: int
    task: int
    loops: tuple[LoopInfo, ...]  # that enclose it, outermost first
    count: int  # iterations
    latency_ps: int = 0
    buffer: soc.Buffer | None = None  # in dram
    total_ps: int = 0  # fixed time of all iterations
    total_bytes: int = 0
    read_bytes: int = 0  # of those, by direction
    write_bytes: int = 0
    near_bytes: int = 0  # of what stays on chip and is used where it lies; not counted in the others
    ahead_bytes: int = 0  # of total_bytes, in its first runs, if those may be issued ahead of its task
    largest_bytes: int = 0
    prices: list[tuple[Price, int]] = field(default_factory=list)  # of an exec: (price, how often)
    dram_read: int = 0  # what of it reaches DRAM
    dram_write: int = 0
    dram_busy: int = 0  # bytes that DRAM would move at its rate in the time that it is busy with these


@dataclass(slots=True, eq=False)
class TaskInfo:
    op: soc.Task
    engine: int
    launch: int
    first: int  # its instructions are [first, last)
    last: int = 0
    registers: int = 0
    rows: dict[str, tuple[int, int]] = field(default_factory=dict)  # its [first, last) rows of the other tables
    commands: list[Command] = field(default_factory=list)
    dram: DramUse = field(default_factory=DramUse)

    @property
    def bytes(self) -> int:
        """What its commands move between memory and the engine."""
        return sum(c.total_bytes for c in self.commands)

    @property
    def near_bytes(self) -> int:
        """What its commands move between tensors that stay on chip and the engine's units."""
        return sum(c.near_bytes for c in self.commands)

    @property
    def dram_read(self) -> int:
        return sum(c.dram_read for c in self.commands)

    @property
    def dram_write(self) -> int:
        return sum(c.dram_write for c in self.commands)

    @property
    def dram_busy(self) -> int:
        return sum(c.dram_busy for c in self.commands)


@dataclass(slots=True)
class Program:
    """A flattened program and what its numbers mean."""

    code: Code
    hardware: Hardware
    engines: list[Engine]
    units: list[str]
    tasks: list[TaskInfo]
    commands: list[Command]
    launches: list[list[int]]  # the launches that each waits for
    launch_tasks: list[list[int]]
    outputs: list[soc.Buffer]
