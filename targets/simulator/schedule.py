"""Puts tasks of known length on their engines: in order on each, launches after what they wait for, and slower where
engines together ask for more of the shared memory than there is."""

from __future__ import annotations

from collections.abc import Sequence

from .machine import NANO
from .program import Program


def place(program: Program, spans: Sequence[int], traffic: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """(start, end) of each task, in picoseconds. `spans` is each task's time alone, `traffic` its bytes at the SLC and
    at DRAM, spread evenly over it; with no traffic this is the critical path."""
    ends: dict[int, int] = {}
    starts: dict[int, int] = {}
    finished: dict[int, int] = {}  # launches
    queues = [[i for i, t in enumerate(program.tasks) if t.engine == e] for e in range(len(program.engines))]
    left: dict[int, int] = {}  # picoseconds alone that each running task still needs
    now = 0
    while True:
        _finish_launches(program, ends, finished)
        for queue in queues:
            if queue and queue[0] not in left and _ready(program, queue[0], finished):
                starts[queue[0]], left[queue[0]] = now, spans[queue[0]]
        if not left:
            return [(starts[i], ends[i]) for i in range(len(program.tasks))]
        pace = _pace(program, left, spans, traffic)
        step = min(-(-left[i] * of // part) for i, (part, of) in pace.items())
        now += step
        for i, (part, of) in pace.items():
            left[i] -= step * part // of
            if left[i] <= 0:
                ends[i] = now
                del left[i]
                queues[program.tasks[i].engine].pop(0)


def _finish_launches(program: Program, ends: dict[int, int], finished: dict[int, int]) -> None:
    for launch, tasks in enumerate(program.launch_tasks):
        if launch in finished:
            continue
        if all(i in ends for i in tasks) and all(i in finished for i in program.launches[launch]):
            finished[launch] = max((ends[i] for i in tasks), default=0)


def _ready(program: Program, task: int, finished: dict[int, int]) -> bool:
    info = program.tasks[task]
    row = program.code.tasks[task]
    after = [*program.launches[info.launch], *program.code.links[row["after"] : row["after_end"]].tolist()]
    return all(i in finished for i in after)


def _pace(
    program: Program, left: dict[int, int], spans: Sequence[int], traffic: Sequence[tuple[int, int]]
) -> dict[int, tuple[int, int]]:
    """How much of its own pace each running task keeps, as a fraction: max-min fair shares of the SLC and of DRAM."""
    pace = {i: (1, 1) for i in left}
    for resource in range(2):
        need = {i: traffic[i][resource] * NANO // max(spans[i], 1) for i in left}
        capacity = int(program.hardware.memory_rate[resource])
        if sum(need.values()) <= capacity:
            continue
        waiting = sorted(need, key=lambda i: need[i])
        for at, i in enumerate(waiting):
            fair = min(need[i], capacity // (len(waiting) - at))
            capacity -= fair
            if fair and fair * pace[i][1] < pace[i][0] * need[i]:
                pace[i] = (fair, need[i])
    return pace
