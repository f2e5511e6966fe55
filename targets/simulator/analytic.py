"""The analytic fidelity: each task's time worked out from its loops, without walking them.

With constant times, a loop's body is a linear map in the (max, +) algebra: it takes the times at which its units are
free and its tokens done to the times after one iteration. A loop of n iterations is the n-th power of that map, which
repeated squaring gives in log n steps, at any depth of nesting. That is exact for units in order and tokens, with the
mean of a command's iterations for each. Bandwidth that the transfers of a task share is a bound on the whole: a task
takes no less than its bytes need at the port, the SLC and DRAM. Tasks of several engines then share memory by their
mean demand.

F. Baccelli et al., Synchronization and Linearity (1992), chapters 1 and 2.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .machine import COMMAND, FOR, NANO, NEXT
from .program import Command, Program, TaskInfo
from .schedule import place
from .timing import TaskTiming, Timing, collect, largest

FAR_PAST = -(np.int64(1) << 60)
UNREACHED = -(np.int64(1) << 59)  # anything below has no path to it


def run(program: Program) -> Timing:
    alone: list[tuple[int, dict[str, int]]] = []
    spare = 0
    for i in range(len(program.tasks)):
        span, needs, spare = _alone(program, i, spare)
        alone.append((span, needs))
    overhead = [_overhead(program, i) for i in range(len(program.tasks))]
    spans = [sum(o) + span for o, (span, _) in zip(overhead, alone, strict=True)]
    traffic = [(t.bytes, t.dram_busy) for t in program.tasks]
    times = place(program, spans, traffic)
    tasks = [_timing(program, task, times[i], overhead[i], alone[i][1]) for i, task in enumerate(program.tasks)]
    return collect(tasks, max((end for _, end in times), default=0))[0]


def _overhead(program: Program, i: int) -> tuple[int, int]:
    """Launch and task cost of task `i`."""
    task = program.tasks[i]
    first = program.launch_tasks[task.launch][0] == i
    return (program.engines[task.engine].launch_ps if first else 0), program.engines[task.engine].task_ps


def _alone(program: Program, i: int, spare: int) -> tuple[int, dict[str, int], int]:
    """Task i's time with the machine to itself, how much of it each unit at its own pace, and each part of the memory,
    needs, and for how long nothing asks for weights meanwhile. `spare` is that of the task before, in which this one's
    first weights may come."""
    task = program.tasks[i]
    early = {c.index: _early(program, c, spare) for c in task.commands if c.ahead_bytes}
    came = sum(early.values())
    own: dict[str, int] = {}
    for c in task.commands:
        unit = program.units[c.unit]
        late = c.total_bytes - early.get(c.index, 0)
        at_own_rate = late * NANO // int(program.hardware.units[c.unit]["rate"])
        own[unit] = own.get(unit, 0) + _without_gaps(program, c, at_own_rate)
    hardware = program.hardware
    shared = {
        "port": (task.bytes - came) * NANO // int(hardware.engines[task.engine]["port_rate"]),
        "slc": (task.bytes - came) * NANO // int(hardware.memory_rate[0]),
        "dram": max(0, task.dram_busy - came) * NANO // int(hardware.memory_rate[1]),
    }
    fill = max((c.latency_ps for c in task.commands), default=0)
    steady = max(shared.values())
    span = max(_pipeline(program, i, early), steady + fill if steady else 0)
    weights = sum(_occupied(program, c) for c in task.commands if program.units[c.unit].endswith(".weights"))
    return span, own | shared, max(0, spare + span - weights)


def _early(program: Program, c: Command, spare: int) -> int:
    """Bytes of a command's first run that come while the task before it works, of which it leaves `spare` time."""
    return min(c.ahead_bytes, spare * c.total_bytes // max(1, _occupied(program, c)))


def _occupied(program: Program, c: Command) -> int:
    """How long a command's iterations occupy its unit, at the rate of a transfer that shares with nobody."""
    if not c.total_bytes:
        return c.total_ps
    hardware = program.hardware
    engine = program.tasks[c.task].engine
    own, port = int(hardware.units[c.unit]["rate"]), int(hardware.engines[engine]["port_rate"])
    rate = min(own, port, int(hardware.memory_rate[0]))
    by_dram = c.dram_busy * NANO // int(hardware.memory_rate[1])
    return c.total_ps + max(-(-c.total_bytes * NANO // rate), by_dram)


def _without_gaps(program: Program, c: Command, moving_ps: int) -> int:
    """The time of a command's iterations that follow each other at once: on a queued unit each copy but the first is
    set up while the one before it moves."""
    if not c.total_bytes or not program.hardware.units[c.unit]["queued"]:
        return c.total_ps + moving_ps
    first = c.total_ps // c.count
    return first + max(c.total_ps - first, moving_ps)


def _busy(program: Program, task: TaskInfo) -> dict[str, int]:
    busy: dict[str, int] = {}
    for c in task.commands:
        busy[program.units[c.unit]] = busy.get(program.units[c.unit], 0) + _occupied(program, c)
    return {u: busy[u] for u in program.units if busy.get(u)}


def _pipeline(program: Program, i: int, early: dict[int, int]) -> int:
    """The end of task i's last awaited command, after its start, if memory is never shared. `early`: bytes of commands
    that came before it."""
    task = program.tasks[i]
    engine = program.hardware.engines[task.engine]
    first, units = int(engine["unit"]), int(engine["unit_end"] - engine["unit"])
    times = np.zeros(len(program.commands), np.int64)
    busy = _busy(program, task)
    most = max(busy.values(), default=0)
    busiest = [u for u, ps in busy.items() if ps == most]
    for c in task.commands:
        late = c.total_bytes - early.get(c.index, 0)
        occupied = _occupied(program, c) * late // c.total_bytes if c.total_bytes else c.total_ps
        if busiest == [program.units[c.unit]]:  # it alone sets the pace, so its copies wait for nothing
            occupied = _without_gaps(program, c, occupied - c.total_ps)
        times[c.index] = -(-occupied // c.count)
    depth = max((len(c.loops) for c in task.commands), default=0)
    return int(_span(program.code, i, task.first, task.last, times, first, task.registers, units, depth + 1))


def _timing(
    program: Program, task: TaskInfo, time: tuple[int, int], overhead: tuple[int, int], shares: dict[str, int]
) -> TaskTiming:
    launch, each = overhead
    start, end = time
    shares = shares | {"launch": launch, "task": each}
    shares["latency"] = max(0, end - start - launch - each - max(shares.values()))
    bound = largest(shares)
    known = {"launch": launch, "task": each}
    if bound not in known:
        known[bound] = min(shares[bound], end - start - launch - each)
    known["idle"] = end - start - sum(known.values())
    return TaskTiming(
        label=task.op.label,
        location=task.op.location,
        engine=program.engines[task.engine].name,
        reason=task.op.reason,
        start_ps=start,
        end_ps=end,
        macs=task.op.macs,
        bytes=task.bytes,
        dram_read_bytes=task.dram_read,
        dram_write_bytes=task.dram_write,
        unit_busy_ps=_busy(program, task),
        bound=bound,
        breakdown={cause: ps for cause, ps in known.items() if ps},
        dram=task.dram,
    )


@njit(cache=True)
def _identity(m):
    for i in range(len(m)):
        for j in range(len(m)):
            m[i, j] = 0 if i == j else FAR_PAST


@njit(cache=True)
def _copy(a, out):
    for i in range(len(a)):
        for j in range(len(a)):
            out[i, j] = a[i, j]


@njit(cache=True)
def _multiply(a, b, out):
    """out = a after b."""
    n = len(a)
    for i in range(n):
        for j in range(n):
            out[i, j] = FAR_PAST
        for k in range(n):
            step = a[i, k]
            if step > UNREACHED:
                for j in range(n):
                    if b[k, j] > UNREACHED:
                        out[i, j] = max(out[i, j], step + b[k, j])


@njit(cache=True)
def _power(m, n, out, spare):
    """out = m repeated n times; m is used up."""
    _identity(out)
    while n > 0:
        if n & 1:
            _multiply(m, out, spare)
            _copy(spare, out)
        n >>= 1
        if n > 0:
            _multiply(m, m, spare)
            _copy(spare, m)


@njit(cache=True)
def _move(code, first, end, m, spare):
    for i in range(first, end):
        for j in range(len(m)):
            spare[i - first, j] = m[code.moves[i].source, j]
    for i in range(first, end):
        for j in range(len(m)):
            m[code.moves[i].target, j] = spare[i - first, j]


@njit(cache=True)
def _span(code, task, first, last, times, first_unit, registers, units, depth):
    """Rows of a level's matrix: when each register's token is done and each unit is free, as the latest of the times at
    the level's start, each with a delay."""
    size = registers + units
    levels = np.empty((depth, size, size), np.int64)
    power, spare = np.empty((size, size), np.int64), np.empty((size, size), np.int64)
    level = 0
    _identity(levels[0])
    for pc in range(first, last):
        op, arg = code.instructions[pc].op, code.instructions[pc].arg
        m = levels[level]
        if op == COMMAND:
            command = code.commands[arg]
            unit = registers + command.unit - first_unit
            for i in range(command.after, command.after_end):
                for j in range(size):
                    m[unit, j] = max(m[unit, j], m[code.links[i], j])
            for j in range(size):
                m[command.register, j] = FAR_PAST
                if m[unit, j] > UNREACHED:
                    m[unit, j] += times[arg]
                    m[command.register, j] = m[unit, j] + command.latency
        elif op == FOR:
            loop = code.loops[arg]
            _move(code, loop.init, loop.next, m, spare)
            level += 1
            _identity(levels[level])
        elif op == NEXT:
            loop = code.loops[arg]
            _move(code, loop.next, loop.exit, m, spare)
            _power(m, (loop.size - 1) // loop.tile + 1, power, spare)
            level -= 1
            _multiply(power, levels[level], spare)
            _copy(spare, levels[level])
            _move(code, loop.exit, loop.exit_end, levels[level], spare)
    longest = np.int64(0)
    for i in range(code.tasks[task].wait, code.tasks[task].wait_end):
        for j in range(size):
            longest = max(longest, levels[0, code.links[i], j])
    return longest
