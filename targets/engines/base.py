"""What an engine must answer: what it takes, where blocks live, which unit runs an op, and how long that takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tilewright.compiler.ir import Operation


@dataclass(frozen=True, slots=True)
class Space:
    """A memory of an engine: its name in types (`ane.l2`) and its size in bytes."""

    name: str
    bytes: int


@dataclass(frozen=True, slots=True)
class CopyUnit:
    """A DMA unit. A transfer takes `setup_ps`, then bytes at no more than `bytes_per_s`, and its data arrives
    `latency_ps` after it left memory; each contiguous run in memory is rounded up to whole lines of `line_bytes`."""

    name: str
    bytes_per_s: int
    setup_ps: int
    latency_ps: int
    line_bytes: int


@dataclass(frozen=True, slots=True)
class Work:
    """One body op on blocks of the actual sizes: what a compute unit is asked to price."""

    op: Operation  # a tile-level op; its attributes matter, its types give the largest block
    inputs: tuple[tuple[int, ...], ...]
    output: tuple[int, ...]
    dtype: str  # of the first input


class Engine(Protocol):
    """An engine of a target, made from its description. Times are integer picoseconds.

    Passes read the spaces, units and `refuses`; the tiler and the simulator read `exec_ps` and the copy units.
    """

    name: str  # "ane"
    launch_ps: int  # from the request to the first task
    task_ps: int  # fixed cost of each task
    input_space: Space  # where activations are loaded to
    weight_space: Space  # where the stationary operand of a matmul or conv goes, if it is a parameter
    accumulator_space: Space
    loads: CopyUnit
    weights: CopyUnit
    stores: CopyUnit
    port_bytes_per_s: int | None  # what it can take and give, where that may be less than its port carries
    dram_bytes_per_s: int | None  # what it can ask of DRAM, where that may be less than DRAM gives

    def refuses(self, op: Operation) -> str | None:
        """Why this engine cannot run a graph-level op (dtype, rank, kind, limit); None if it can."""
        ...

    def unit_of(self, op: Operation) -> str:
        """The compute unit for a body op: `ane.mac` or `ane.vec`."""
        ...

    def exec_ps(self, unit: str, work: Sequence[Work]) -> int:
        """Time of one command that runs these body ops in order on `unit`."""
        ...

    def mac_rate(self, dtype: str) -> float:
        """The most multiply-accumulates a second; 0 for a dtype that it does not multiply."""
        ...

    def granularity(self, op: Operation) -> dict[str, int]:
        """For a graph op: the multiples that the tile of each named dim of its structure should have."""
        ...

    def roofline_ps(self, op: Operation, macs: int, elements: int, dtype: str) -> int:
        """A lower bound on compute time: macs at peak, or elements at the best vector rate; for tests and `roofline`.

        `elements` are the result's (of a reduction or argmax: the operand's), of one block or of all together. The
        bounds of the ops of a command add up to no more than its price.
        """
        ...
