"""What an engine must answer: what it takes, where blocks live, which unit runs an op, and how long that takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tilewright.compiler.ir import Operation
from tilewright.targets.parameter import Cores, Energy, EnergyPerByte, EnergyPerMac, EnergyPerOperation, Power, Section

WHOLE = 1 << 40  # a tile's multiple: more than any size


@dataclass(frozen=True, slots=True)
class Space:
    """A memory of an engine: its name in types (`ane.l2`) and its size in bytes."""

    name: str
    bytes: int


class EngineEnergy(Section):
    """An engine's table `energy`. What a MAC or a vector operation reads and writes in the engine's own memory is in
    its figure, as it is in what can be measured; `local` is for what copies bring into that memory or take out of it,
    and for what stays in it between tasks.
    """

    mac: dict[str, EnergyPerMac]  # by dtype of the factors; i8 stands for ui8 as well
    vector: EnergyPerOperation  # on one element, as cheap as an add (see `Engine.vector_operations`)
    local: EnergyPerByte
    launch: Energy  # all of a launch, in place of static power during it
    static: Power  # drawn while the engine has a task; without one it is powered off
    static_cores: Cores | None = None  # of which `static` is; other numbers draw in proportion. None: however many

    def static_w(self, cores: int) -> float:
        """Watts of an engine with so many cores."""
        return float(self.static) * (cores / int(self.static_cores) if self.static_cores else 1.0)


@dataclass(frozen=True, slots=True)
class CopyUnit:
    """A DMA unit. A transfer takes `setup_ps`, then bytes at no more than `bytes_per_s`, and its data arrives
    `latency_ps` after it left memory; each contiguous run in memory is rounded up to whole lines of `line_bytes`.

    `queued`: a transfer that follows another of its task without a gap was set up while that moved. `in_place`: what
    stays on chip between two tasks of its engine is used where it lies, so that it takes no copy."""

    name: str
    bytes_per_s: int
    setup_ps: int
    latency_ps: int
    line_bytes: int
    queued: bool = False
    in_place: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """One body op on blocks of the actual sizes: what a compute unit is asked to price.

    `whole` is for engines that price by kernel: what the op works on in all iterations of its loop together.
    """

    op: Operation  # a tile-level op; its attributes matter, its types give the largest block
    inputs: tuple[tuple[int, ...], ...]
    output: tuple[int, ...]
    dtype: str  # of the first input
    whole: tuple[tuple[tuple[int, ...], ...], tuple[int, ...]] | None = None  # inputs and output of the whole loop


class Engine(Protocol):
    """An engine of a target, made from its description. Times are integer picoseconds.

    Passes read the spaces, units and `refuses`; the tiler and the simulator read `exec_ps` and the copy units.
    """

    name: str  # "ane"
    cores: int
    launch_ps: int  # from the request to the first task
    task_ps: int  # fixed cost of each task
    input_space: Space  # where activations are loaded to
    weight_space: Space  # where the stationary operand of a matmul or conv goes, if it is a parameter
    accumulator_space: Space
    crossing_slots: int  # buffers of a block that one command of a step makes and another reads
    resident_bytes: int  # on-chip memory for operands that are brought in whole, and for temporaries; 0: none
    loads: CopyUnit
    weights: CopyUnit
    stores: CopyUnit
    by_kernel: bool  # a command's price depends on the whole loop that it is a part of: works say its sizes
    co_resident: int  # sets of blocks that share a core, each with its own buffers
    wait_ps: int  # from a request to its data: what a loop's buffers have to cover; 0 where it is not looked at
    energy: EngineEnergy | None  # None: not known
    kept_bytes: int  # room for tensors that stay on chip between tasks; 0: each task ends in memory
    ahead_bytes: int  # of a task's first weights that are loaded while the task before it works
    ahead_tasks: int  # that follow one, whose weights may come so
    ahead_runs: int  # of one copy that may be asked for so early
    port_bytes_per_s: int | None  # what it can take and give, where that may be less than its port carries
    packs_weights: bool  # its compiler lays a parameter out in the order in which its task reads the blocks
    rows_together: int  # of a tensor, whose elements lie beside each other in memory; 1: rows lie one after the other
    dram_bytes_per_s: int | None  # what it can ask of DRAM, where that may be less than DRAM gives

    def refuses(self, op: Operation) -> str | None:
        """Why this engine cannot run a graph-level op (dtype, rank, kind, limit); None if it can."""
        ...

    @property
    def stream_bytes_per_s(self) -> int:
        """What tiles are chosen for: the rate of main memory, where DMA units are faster."""
        ...

    def in_parts(self, op: Operation) -> bool:
        """Whether a graph op runs as several tasks, one for each of its steps: attention, a softmax."""
        ...

    def unit_of(self, op: Operation) -> str:
        """The compute unit for a body op: `ane.mac` or `ane.vec`."""
        ...

    def bounding_unit(self, op: Operation) -> str:
        """The unit whose rate a body op takes up, which may work beside the one that its command is on."""
        ...

    def buffers(self, ops: Iterable[Operation], wanted: int) -> int:
        """How many buffers a block that changes gets in a loop of these body ops, where `wanted` are asked for."""
        ...

    def exec_ps(self, unit: str, work: Sequence[Work]) -> int:
        """Time of one command that runs these body ops in order on `unit`."""
        ...

    def mac_rate(self, dtype: str) -> float:
        """The most multiply-accumulates a second; 0 for a dtype that it does not multiply."""
        ...

    def vector_operations(self, work: Work) -> float:
        """Operations on single elements that a body op without MACs takes, in operations as cheap as an add."""
        ...

    def granularity(self, op: Operation) -> dict[str, int]:
        """For a graph op: the multiples that the tile of each named dim of its structure should have; WHOLE where it
        must not be cut."""
        ...

    def pieces(self, op: Operation) -> int | None:
        """Into how many pieces at most a graph op is cut, one of which is computed on while the next comes; None for as
        many as pay."""
        ...

    def largest(self, op: Operation) -> dict[str, int]:
        """For a graph op: the largest tile of each named dim of its structure; of others, whatever fits."""
        ...

    def resident(self, op: Operation) -> tuple[int, ...]:
        """The operands of a graph op that the compiler brings whole into on-chip memory before the op starts, if they
        fit its `resident_bytes`."""
        ...

    def roofline_ps(self, op: Operation, macs: int, elements: int, dtype: str) -> int:
        """A lower bound on compute time: macs at peak, or elements at the best vector rate; for tests and `roofline`.

        `elements` are the result's (of a reduction or argmax: the operand's), of one block or of all together. The
        bounds of the ops of a command add up to no more than its price.
        """
        ...
