"""The cycle fidelity: walks the program, checks the books, and says what bounds each task."""

from __future__ import annotations

import numpy as np

from . import kernels, machine
from .machine import CAUSES, DRAM, PORT, SLC
from .program import Program, TaskInfo
from .timing import SimulationError, TaskTiming, Timing, collect, largest


def run(program: Program, trace: bool) -> Timing:
    """Raises SimulationError if the program gets stuck or a sum does not come out."""
    commands = sum(c.count for c in program.commands)
    kernels.find(program)
    counts, slices, summary = machine.walk(program.code, program.hardware, commands if trace else 0)
    check(program, counts, summary)
    tasks = [_task(program, task, row) for task, row in zip(program.tasks, counts, strict=True)]
    timing, place = collect(tasks, int(summary["finish"]), int(summary["events"]))
    if trace:
        timing.slices = [(program.units[u], start, end, place[task]) for u, start, end, task in slices.tolist()]
    return timing


def check(program: Program, counts: np.ndarray, summary: np.void) -> None:
    """Conservation: every command retired, MACs and bytes as the loops say, no unit busier than time allows."""
    finish, issued, left, retired, _, stuck, _ = summary.tolist()
    commands = sum(c.count for c in program.commands)
    if stuck or not issued == left == retired == commands:
        waiting = [t.op.label for t, row in zip(program.tasks, counts, strict=True) if row["start"] >= 0 > row["end"]]
        raise SimulationError(
            f"the program got stuck at {finish} ps: of {commands} commands {issued} were issued, {left} ran and "
            f"{retired} retired; unfinished tasks: {', '.join(waiting) or 'none started'}"
        )
    for task, row in zip(program.tasks, counts, strict=True):
        where = f"task '{task.op.label}' ({task.op.location})"
        if row["last"] > row["end"]:
            raise SimulationError(
                f"{where} ends at {row['end']} ps, but its last command at "
                f"{row['last']} ps: the task must yield the token of that command"
            )
        books = {
            "commands": (sum(c.count for c in task.commands), row["retired"]),
            "MACs": (task.op.macs, row["macs"]),
            "bytes asked for by copies": (task.bytes, row["issued"]),
            "bytes that passed memory": (task.bytes, row["moved"]),
            "picoseconds by cause": (row["end"] - row["start"], row["cause"].sum()),
        }
        for what, (expected, found) in books.items():
            if expected != found:
                raise SimulationError(f"{where}: {what}: expected {expected}, found {found}")
    busy = counts["busy"].sum(axis=0)
    for unit, ps in zip(program.units, busy.tolist(), strict=False):
        if ps > finish:
            raise SimulationError(f"unit @{unit} was busy for {ps} ps of {finish} ps")


def _task(program: Program, task: TaskInfo, row: np.void) -> TaskTiming:
    busy = {u: int(ps) for u, ps in zip(program.units, row["busy"], strict=False) if ps}
    return TaskTiming(
        label=task.op.label,
        location=task.op.location,
        engine=program.engines[task.engine].name,
        reason=task.op.reason,
        start_ps=int(row["start"]),
        end_ps=int(row["end"]),
        macs=int(row["macs"]),
        bytes=int(row["moved"]),
        dram_read_bytes=task.dram_read,
        dram_write_bytes=task.dram_write,
        unit_busy_ps=busy,
        bound=_bound(program, row),
        breakdown={cause: int(ps) for cause, ps in zip(CAUSES, row["cause"], strict=True) if ps},
        dram=task.dram,
    )


def _bound(program: Program, row: np.void) -> str:
    """The unit that worked at its own pace for the largest part of the span, or what else took more of it."""
    shares = {u: int(ps) for u, ps in zip(program.units, row["own"], strict=False)}
    shares |= {"dram": int(row["limited"][DRAM]), "slc": int(row["limited"][SLC]), "port": int(row["limited"][PORT])}
    for cause in ("launch", "task", "latency"):
        shares[cause] = int(row["cause"][CAUSES.index(cause)])
    return largest(shares)
