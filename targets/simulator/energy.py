"""What a run costs in energy: counts of the program times what each thing costs, and static power over time.

A task costs, in picojoules, rounded once for each part:

    mac      its MACs, by dtype                   launch   of the launch, if it is the first task of one
    vector   its operations on elements           static   the engine's power over its span, less the launch's time
    local    its bytes, at the engine's memory             (an engine without a task is powered off)
    slc      those that pass the fabric and the SLC
    dram     those that DRAM read or wrote        and `memory` is the memory's static power over the whole run

What stays in the engine's memory between tasks is written there and read there, and goes nowhere else. The fabric has
no figure of its own: what can be measured, and what Apple's compiler counts, is a byte from the SLC with its way.

All but static and memory are the same for every fidelity: they follow the program, not the time that it takes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from tilewright.targets.engines.base import Engine
from tilewright.targets.engines.demand import priced_dtype
from tilewright.targets.memory import MemoryEnergy
from tilewright.targets.parameter import Quantity

from .program import Program, TaskInfo
from .timing import SimulationError, TaskTiming, Timing

PARTS = ("mac", "vector", "local", "slc", "dram", "launch", "static")
MEMORY = "memory"


@dataclass(frozen=True, slots=True)
class Energy:
    """Picojoules of each task by part, in the order of the timing's tasks, and those of the memory at rest.

    Where a parameter is not known that a task asks for, nothing is: `tasks` is empty and `missing` names what to add to
    the target. `sources` has the parameters that were used, by their paths.
    """

    tasks: list[dict[str, int]] = field(default_factory=list)
    memory_pj: int = 0
    sources: dict[str, Quantity] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    @property
    def parts(self) -> dict[str, int]:
        """Picojoules of the whole run by part: the tasks' parts, and `memory`. They add up to `total_pj`."""
        return {part: sum(t[part] for t in self.tasks) for part in PARTS} | {MEMORY: self.memory_pj}

    @property
    def total_pj(self) -> int | None:
        """None if it is not known."""
        return None if self.missing else sum(self.parts.values())


@dataclass(frozen=True, slots=True)
class Counts:
    """What a task does, whatever the time it takes."""

    macs: Mapping[str, int]  # by dtype
    operations: float


def spent(program: Program, timing: Timing, memory: MemoryEnergy | None) -> Energy:
    """The energy of a run. Raises SimulationError if a task's MACs or bytes are not those that were timed."""
    counts = [count(program.engines[task.engine], task) for task in program.tasks]
    asked = _asked(program, counts, memory)
    missing = tuple(path for path, quantity in asked.items() if quantity is None)
    if missing or memory is None:
        return Energy(missing=missing)
    first = {tasks[0] for tasks in program.launch_tasks if tasks}
    tasks = [
        _parts(program, index, counts[index], timed, memory, index in first)
        for timed, index in zip(timing.tasks, timing.order, strict=True)
    ]
    sources = {path: quantity for path, quantity in asked.items() if quantity is not None}
    return Energy(tasks, round(float(memory.static) * timing.latency_ps), sources)


def count(engine: Engine, task: TaskInfo) -> Counts:
    """MACs and vector operations of a task, over all iterations of its commands."""
    macs: dict[str, int] = defaultdict(int)
    operations = 0.0
    for command in task.commands:
        for price, times in command.prices:
            for op in price.ops:
                if op.macs:
                    dtype = priced_dtype(op.work.op, op.work.dtype)
                    macs["i8" if dtype == "ui8" else dtype] += op.macs * times
                else:
                    operations += engine.vector_operations(op.work) * times
    return Counts(macs, operations)


def _asked(program: Program, counts: list[Counts], memory: MemoryEnergy | None) -> dict[str, Quantity | None]:
    """The parameters that the program asks for, by path; None for what the target does not say."""
    asked: dict[str, Quantity | None] = {}
    for task, counted in zip(program.tasks, counts, strict=True):
        engine = program.engines[task.engine]
        path, table = f"{engine.name}.energy", engine.energy
        if table is None:
            asked[path] = None
            continue
        asked |= {f"{path}.mac.{dtype}": table.mac.get(dtype) for dtype in counted.macs}
        asked |= {f"{path}.{name}": getattr(table, name) for name in ("vector", "local", "launch", "static")}
        if table.static_cores is not None:
            asked[f"{path}.static_cores"] = table.static_cores
    if memory is None:
        return asked | {"memory.energy": None}
    return asked | {f"memory.energy.{name}": getattr(memory, name) for name in ("slc", "dram", "static")}


def _parts(
    program: Program, index: int, counts: Counts, timed: TaskTiming, memory: MemoryEnergy, launches: bool
) -> dict[str, int]:
    task = program.tasks[index]
    table = program.engines[task.engine].energy
    assert table is not None, "what is missing was asked for before"
    for what, counted, booked in (("MACs", sum(counts.macs.values()), timed.macs), ("bytes", task.bytes, timed.bytes)):
        if counted != booked:
            where = f"task '{timed.label}' ({timed.location})"
            raise SimulationError(f"{where}: {what}: energy is counted for {counted}, time for {booked}")
    powered = timed.span_ps - timed.breakdown.get("launch", 0)
    return {
        "mac": sum(round(table.mac[dtype].pj * macs) for dtype, macs in counts.macs.items()),
        "vector": round(table.vector.pj * counts.operations),
        "local": round(table.local.pj * (timed.bytes + task.near_bytes)),
        "slc": round(memory.slc.pj * timed.bytes),
        "dram": round(memory.dram.pj * (timed.dram_read_bytes + timed.dram_write_bytes)),
        "launch": round(table.launch.pj) if launches else 0,
        "static": round(table.static_w(program.engines[task.engine].cores) * powered),
    }
