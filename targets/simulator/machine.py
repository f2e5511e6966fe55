"""The machine: walks a flattened program in global time order. Integers only, so every run is the same.

Time is in picoseconds. Data is in nanobytes and rates in nanobytes a picosecond (1 GB/s is 1,000,000), so that a rate
in bytes per second is exact. A sequencer an engine walks the program and issues commands to the queues of its units; a
unit starts its oldest command when that command's tokens are done. A command occupies its unit for a fixed time (a
copy's setup, a body's compute time) and then, if it moves bytes, until they have passed; it completes `latency` later,
in order. Everything that happens at one instant is settled before time moves on: units in their order, then engines in
theirs.

All compiled functions of the walk live in this file, for numba's cache notices a change of the file that a function is
in, no other. They pass records round, not arrays: numba counts references to an array at every call.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .program import Code, Hardware, record

NANO = 1_000_000_000  # nanobytes in a byte
QUEUE = 64  # commands that wait in front of a unit; then its engine's sequencer stalls
OUTSTANDING = 64  # commands started and not completed: the one at work and those in flight
RING = QUEUE + OUTSTANDING  # places for a unit's commands from issue to completion
NEVER = np.int64(1) << 62
UNIT_BITS = 6  # a token is (number of the command on its unit) << UNIT_BITS | unit
MOST_UNITS = 1 << UNIT_BITS
WEIGHT_BITS = 16  # DRAM bytes for each byte of a transfer, as a fixed-point number

# instructions
END, LAUNCH, TASK, FOR, NEXT, COMMAND, TASK_END, LAUNCH_END = range(8)
# what limits a transfer
OWN, PORT, SLC, DRAM = range(4)
# where a task's time goes; a moment counts for the first that applies
CAUSES = ("matrix", "vector", "dram", "slc", "port", "copy", "setup", "latency", "launch", "task", "idle")
MATRIX, VECTOR, BY_DRAM, BY_SLC, BY_PORT, COPYING, SETUP, LATENCY, LAUNCHING, TASKING, WAITING = range(11)
# what a unit does: nothing, a command's fixed time, or a transfer
IDLE, FIXED, FLOWING = range(3)


# What the walk found of each task: last is its last completion; issued is what its commands asked for and moved what
# passed the memory system, in bytes; limited is the time in which some transfer was limited by OWN, PORT, SLC, DRAM;
# own is the time in which nothing but the unit itself limited it.
TASK_COUNTS = record(
    *("start", "end", "last", "retired", "macs", "issued", "moved", "dram_read", "dram_write"),
    cause=len(CAUSES),
    limited=4,
    busy=MOST_UNITS,
    own=MOST_UNITS,
)
SUMMARY = record("finish", "issued", "left", "retired", "events", "stuck")

_ENGINE = record(
    *("pc", "phase", "wake"),  # phase 1: paying for a launch or a task until `wake`
    *("full", "awaited"),  # what its sequencer stalls on: a unit whose queue is full, a token; -1 if it does not
    *("current", "overhead", "edges"),  # task or -1; cause or -1; mask of loops at their edge
    *("unit", "unit_end", "port_rate", "port_left", "launch_ps", "task_ps"),
)
_UNIT = record(
    *("engine", "own_rate"),
    *("issued", "started", "left", "completed"),  # commands so far
    *("doing", "kind", "began", "until", "arrival"),  # kind: the cause that its time counts for; next completion
    *("remaining", "rate", "limit", "weight"),  # of the transfer
)
_PLACE = record("command", "fixed", "volume", "work", "arrival", "reads", "writes", "waits")
_STATE = record(
    *("engine_count", "unit_count", "slc_rate", "dram_rate"),
    engines=(_ENGINE, (MOST_UNITS,)),
    units=(_UNIT, (MOST_UNITS,)),
    places=(_PLACE, (MOST_UNITS, RING)),  # unit, number of the command modulo RING
    flows=MOST_UNITS,
)


@njit(cache=True)
def block_bytes(command, axes, terms, loops):
    """Bytes of memory that a copy moves for the block at the loops' positions: inside the tensor's bounds, each
    contiguous run rounded up to whole lines. Runs whose gap is less than the rounding are one run."""
    run, runs, line = command.item, 1, command.line * 8  # in bits
    for a in range(command.axis, command.axis_end):
        axis = axes[a]
        low, size = axis.offset, axis.extent
        for i in range(axis.term, axis.term_end):
            loop = loops[terms[i].loop]
            low += terms[i].factor * loop.position // terms[i].divisor
            size += terms[i].factor * (loop.extent - 1) // terms[i].divisor
        count = min(low + size, axis.bound) - max(low, 0)
        if count <= 0:
            return 0
        if count == 1:
            continue
        if 0 < axis.stride <= (run + line - 1) // line * line:
            run += (count - 1) * axis.stride
        else:
            runs *= count
    return runs * ((run + line - 1) // line * command.line)


@njit(cache=True)
def _enter(loop, position):
    """Puts a loop at a position. True if the tile there is smaller than the others."""
    loop.position = position
    loop.extent = min(loop.tile, loop.size - position)
    return loop.extent < loop.tile


@njit(cache=True)
def total_bytes(command, axes, terms, loops, inner):
    """Bytes that a copy moves over all iterations of the loops `inner`, and those of its largest block."""
    for i in inner:
        _enter(loops[i], 0)
    total = largest = 0
    while True:
        n = block_bytes(command, axes, terms, loops)
        total += n
        largest = max(largest, n)
        k = len(inner) - 1
        while k >= 0:
            loop = loops[inner[k]]
            if loop.position + loop.tile < loop.size:
                _enter(loop, loop.position + loop.tile)
                break
            _enter(loop, 0)
            k -= 1
        if k < 0:
            return total, largest


@njit(cache=True)
def _share(count, s):
    """Max-min fair rates for the first `count` units of `flows`: all rise together until their unit, their engine's
    port, the SLC or DRAM holds them. Sets `rate` and `limit` of each."""
    slc, dram = s.slc_rate, s.dram_rate
    for e in range(s.engine_count):
        s.engines[e].port_left = s.engines[e].port_rate
    for i in range(count):
        s.units[s.flows[i]].limit = -1
    free = count
    while free > 0:
        level, cause, port = NEVER, OWN, -1
        weights = 0
        for i in range(count):
            unit = s.units[s.flows[i]]
            if unit.limit < 0:
                weights += unit.weight
                level = min(level, unit.own_rate)
        for e in range(s.engine_count):
            sharing = 0
            for i in range(count):
                unit = s.units[s.flows[i]]
                if unit.limit < 0 and unit.engine == e:
                    sharing += 1
            if sharing > 0 and s.engines[e].port_left // sharing < level:
                level, cause, port = s.engines[e].port_left // sharing, PORT, e
        if slc // free < level:
            level, cause = slc // free, SLC
        if weights > 0 and (dram << WEIGHT_BITS) // weights < level:
            level, cause = (dram << WEIGHT_BITS) // weights, DRAM
        level = max(level, 1)
        for i in range(count):
            unit = s.units[s.flows[i]]
            if (
                unit.limit >= 0
                or (cause == OWN and unit.own_rate > level)
                or (cause == PORT and unit.engine != port)
                or (cause == DRAM and unit.weight == 0)
            ):
                continue
            unit.limit, unit.rate = cause, level
            free -= 1
            s.engines[unit.engine].port_left -= level
            slc -= level
            dram -= (level * unit.weight + (1 << WEIGHT_BITS) - 1) >> WEIGHT_BITS
        slc, dram = max(slc, 0), max(dram, 0)


@njit(cache=True)
def _reshare(now, since, s):
    """Brings the transfers up to date after a change among them: what is left, new rates, when each will be through."""
    count = 0
    for u in range(s.unit_count):
        unit = s.units[u]
        if unit.doing == FLOWING:
            unit.remaining -= unit.rate * (now - since)
            s.flows[count] = u
            count += 1
    _share(count, s)
    for i in range(count):
        unit = s.units[s.flows[i]]
        unit.until = now + (unit.remaining + unit.rate - 1) // unit.rate
        unit.kind = (COPYING, BY_PORT, BY_SLC, BY_DRAM)[unit.limit]


@njit(cache=True)
def _done(token, s):
    return token < 0 or s.units[token & (MOST_UNITS - 1)].completed > token >> UNIT_BITS


@njit(cache=True)
def _issue(c, e, fixed, volume, work, command, ahead, links, registers, tokens, s):
    """Puts a command in its unit's queue; gives its token. If it is `ahead` of its task it waits for nothing."""
    unit = s.units[command.unit]
    at = unit.issued % RING
    place = s.places[command.unit, at]
    place.command, place.fixed, place.volume, place.work = c, fixed, volume, work
    command.read_rest += place.volume * command.read
    command.write_rest += place.volume * command.write
    place.reads, place.writes = command.read_rest // command.of, command.write_rest // command.of
    command.read_rest %= command.of
    command.write_rest %= command.of
    place.waits = 0
    for i in range(command.after, command.after if ahead else command.after_end):
        token = registers[e, links[i]]
        if not _done(token, s):
            tokens[command.unit, at, place.waits] = token
            place.waits += 1
    unit.issued += 1
    return (unit.issued - 1) << UNIT_BITS | command.unit


@njit(cache=True)
def _copy_work(command, axes, terms, loops):
    """(fixed time, bytes that pass memory) of a copy of the block at the loops' positions."""
    volume = block_bytes(command, axes, terms, loops)
    if command.near > 0:
        return (volume * NANO + command.near - 1) // command.near, 0
    return command.setup, volume


@njit(cache=True)
def _enter_run(run, command, links, loops):
    """Puts the loops round a command at its run of that number."""
    for i in range(command.round_end - 1, command.round - 1, -1):
        loop = loops[links[i]]
        trips = (loop.size + loop.tile - 1) // loop.tile
        _enter(loop, run % trips * loop.tile)
        run //= trips


@njit(cache=True)
def _issue_ahead(task, e, code, registers, tokens, s, counts, summary):
    """Issues the runs of copies that a task that has not begun allows to come before it."""
    commands, loops, links = code.commands, code.loops, code.links
    for i in range(task.ahead, task.ahead_end, 2):
        command = commands[links[i]]
        unit = s.units[command.unit]
        runs = min(links[i + 1], QUEUE - (unit.issued - unit.started))
        if command.early_runs > 0 or runs <= 0:
            continue
        command.early, command.early_runs = unit.issued << UNIT_BITS | command.unit, runs
        for run in range(runs):
            _enter_run(run, command, links, loops)
            fixed, volume = _copy_work(command, code.axes, code.terms, loops)
            _issue(links[i], e, fixed, volume, 0, command, True, links, registers, tokens, s)
            counts[command.task].issued += volume
            summary.issued += 1


@njit(cache=True)
def _move(first, end, moves, e, registers, moving):
    """Register moves, all at once."""
    for i in range(first, end):
        moving[i - first] = registers[e, moves[i].source]
    for i in range(first, end):
        registers[e, moves[i].target] = moving[i - first]


@njit(cache=True)
def _begin(engine, is_launch, first, end, task, now, links, launches, counts):
    """A launch or a task: waits for its launches, then for its cost. True if the engine is through with it."""
    if engine.phase == 0:
        for i in range(first, end):
            if launches[links[i]].finished == 0:
                return False
        if task >= 0 and counts[task].start < 0:
            counts[task].start = now
        engine.phase, engine.current = 1, task
        engine.overhead = LAUNCHING if is_launch else TASKING
        engine.wake = now + (engine.launch_ps if is_launch else engine.task_ps)
    if now < engine.wake:
        return False
    engine.phase, engine.overhead, engine.wake = 0, -1, NEVER
    return True


@njit(cache=True)
def _stalled(engine, now, s):
    """Whether an engine's sequencer still waits for what it stalled on."""
    if engine.full >= 0:
        return s.units[engine.full].issued - s.units[engine.full].started >= QUEUE
    return not _done(engine.awaited, s) or (engine.phase == 1 and now < engine.wake)


@njit(cache=True)
def _sequence(e, now, code, registers, moving, tokens, s, counts, summary):
    """Runs engine `e`'s sequencer as far as it goes at this instant. True if it did anything."""
    instructions, loops, moves, prices, links = code.instructions, code.loops, code.moves, code.prices, code.links
    commands, axes, terms, tasks, launches = code.commands, code.axes, code.terms, code.tasks, code.launches
    engine = s.engines[e]
    engine.full = engine.awaited = -1
    moved = False
    while True:
        op, arg = instructions[engine.pc].op, instructions[engine.pc].arg
        if op == COMMAND:
            command = commands[arg]
            unit = s.units[command.unit]
            if command.early_runs > 0:
                registers[e, command.register] = command.early
                command.early += 1 << UNIT_BITS
                command.early_runs -= 1
                engine.pc += 1
                moved = True
                continue
            if unit.issued - unit.started >= QUEUE:
                engine.full = command.unit
                return moved
            if command.price < 0:
                (fixed, volume), work = _copy_work(command, axes, terms, loops), 0
            else:
                price = prices[command.price + engine.edges]
                fixed, volume, work = price.ps, price.bytes, price.macs
            token = _issue(arg, e, fixed, volume, work, command, False, links, registers, tokens, s)
            registers[e, command.register] = token
            counts[command.task].issued += volume
            summary.issued += 1
        elif op == FOR:
            loop = loops[arg]
            if _enter(loop, 0):
                engine.edges |= loop.bit
            _move(loop.init, loop.next, moves, e, registers, moving)
        elif op == NEXT:
            loop = loops[arg]
            _move(loop.next, loop.exit, moves, e, registers, moving)
            if loop.position + loop.tile < loop.size:
                if _enter(loop, loop.position + loop.tile):
                    engine.edges |= loop.bit
                engine.pc = loop.body
                continue
            engine.edges &= ~loop.bit
            _move(loop.exit, loop.exit_end, moves, e, registers, moving)
        elif op == LAUNCH:
            row = launches[arg]
            if not _begin(engine, True, row.after, row.after_end, row.first_task, now, links, launches, counts):
                return moved
        elif op == TASK:
            task = tasks[arg]
            if not _begin(engine, False, task.after, task.after_end, arg, now, links, launches, counts):
                return moved
            registers[e, task.start] = -1
        elif op == TASK_END:
            if instructions[engine.pc + 1].op == TASK:
                following = tasks[instructions[engine.pc + 1].arg]
                _issue_ahead(following, e, code, registers, tokens, s, counts, summary)
            for i in range(tasks[arg].wait, tasks[arg].wait_end):
                if not _done(registers[e, links[i]], s):
                    engine.awaited = registers[e, links[i]]
                    return moved
            counts[arg].end = now
            engine.current = -1
        elif op == LAUNCH_END:
            launches[arg].finished = 1
        else:
            engine.awaited = NEVER
            return moved
        engine.pc += 1
        moved = True


@njit(cache=True)
def _work_is_over(u, now, s, commands, counts, slices, summary):
    """Unit `u` is through with a command's fixed time, or with all of it. True if its transfer starts or ends."""
    unit = s.units[u]
    place = s.places[u, unit.left % RING]
    if unit.doing == FIXED and place.volume > 0:
        unit.doing, unit.remaining, unit.rate, unit.until = FLOWING, place.volume * NANO, 0, NEVER
        unit.weight = (((place.reads + place.writes) << WEIGHT_BITS) + place.volume - 1) // place.volume
        return True
    flowed = unit.doing == FLOWING
    command = commands[place.command]
    place.arrival = now + command.latency
    if unit.left > unit.completed:
        place.arrival = max(place.arrival, s.places[u, (unit.left - 1) % RING].arrival)
    else:
        unit.arrival = place.arrival
    unit.left += 1
    unit.doing, unit.until = IDLE, NEVER
    task = counts[command.task]
    task.busy[u] += now - unit.began
    task.moved += place.volume
    task.dram_read += place.reads
    task.dram_write += place.writes
    if len(slices) > 0:
        row = slices[summary.left]
        row[0], row[1], row[2], row[3] = u, unit.began, now, command.task
    summary.left += 1
    return flowed


@njit(cache=True)
def _complete(u, now, s, commands, counts, summary):
    """The oldest result of unit `u` that is under way arrives."""
    unit = s.units[u]
    place = s.places[u, unit.completed % RING]
    task = counts[commands[place.command].task]
    task.retired += 1
    task.macs += place.work
    task.last = now
    summary.retired += 1
    unit.completed += 1
    unit.arrival = s.places[u, unit.completed % RING].arrival if unit.completed < unit.left else NEVER


@njit(cache=True)
def _start(u, now, s, tokens, commands):
    """Starts unit `u`'s oldest waiting command. False if its tokens are not done."""
    unit = s.units[u]
    at = unit.started % RING
    place = s.places[u, at]
    while place.waits > 0 and _done(tokens[u, at, place.waits - 1], s):
        place.waits -= 1
    if place.waits > 0:
        return False
    unit.doing, unit.began, unit.until = FIXED, now, now + place.fixed
    command = commands[place.command]
    if command.price >= 0:
        unit.kind = MATRIX if place.work > 0 else VECTOR
    else:
        unit.kind = COPYING if command.near > 0 else SETUP
    unit.started += 1
    return True


@njit(cache=True)
def _attribute(engine, dt, s, task):
    """Books `dt` of an engine's current task under its cause, and what limited its transfers."""
    cause = engine.overhead if engine.overhead >= 0 else WAITING
    limits = 0
    for u in range(engine.unit, engine.unit_end):
        unit = s.units[u]
        if unit.doing != IDLE:
            cause = min(cause, unit.kind)
            if unit.doing == FLOWING:
                limits |= 1 << unit.limit
            if unit.doing == FIXED or unit.limit == OWN:
                task.own[u] += dt
        elif unit.completed < unit.left:
            cause = min(cause, LATENCY)
    task.cause[cause] += dt
    if limits:
        for limit in range(4):
            if limits >> limit & 1:
                task.limited[limit] += dt


@njit(cache=True)
def _reset(code, hardware, s, counts):
    """The machine before it starts; gives how many registers, moves at once, and tokens of a command it needs."""
    s.engine_count, s.unit_count = len(hardware.engines), len(hardware.units)
    s.slc_rate, s.dram_rate = hardware.memory_rate[0], hardware.memory_rate[1]
    for e in range(s.engine_count):
        engine, row = s.engines[e], hardware.engines[e]
        engine.pc, engine.wake = code.entry[e], NEVER
        engine.full = engine.awaited = engine.current = engine.overhead = -1
        engine.unit, engine.unit_end, engine.port_rate = row.unit, row.unit_end, row.port_rate
        engine.launch_ps, engine.task_ps = row.launch_ps, row.task_ps
    for u in range(s.unit_count):
        unit, own = s.units[u], hardware.units[u]
        unit.engine, unit.own_rate = own.engine, own.rate
        unit.until = unit.arrival = NEVER
    for task in counts:
        task.start = task.end = task.last = -1
    registers = waits = moving = 1
    for command in code.commands:
        registers = max(registers, command.register + 1)
        waits = max(waits, command.after_end - command.after)
    for move in code.moves:
        registers = max(registers, move.target + 1)
    for task in code.tasks:
        registers = max(registers, task.start + 1)
    for loop in code.loops:
        moving = max(moving, loop.exit_end - loop.init)
    return registers, moving, waits


@njit(cache=True)
def _walk(code, hardware, s, counts, slices, summary):
    register_count, move_count, wait_count = _reset(code, hardware, s, counts)
    registers = np.full((s.engine_count, register_count), -1)
    moving = np.zeros(move_count, np.int64)
    tokens = np.zeros((s.unit_count, RING, wait_count), np.int64)
    commands = code.commands
    now = since = np.int64(0)
    while True:
        changed = False
        moved = True
        while moved:
            moved = False
            for u in range(s.unit_count):
                unit = s.units[u]
                while True:
                    if unit.until <= now:
                        changed |= _work_is_over(u, now, s, commands, counts, slices, summary)
                    elif unit.arrival <= now:
                        _complete(u, now, s, commands, counts, summary)
                    elif (
                        unit.doing != IDLE
                        or unit.started == unit.issued
                        or unit.started - unit.completed >= OUTSTANDING
                        or not _start(u, now, s, tokens, commands)
                    ):
                        break
                    summary.events += 1
                    moved = True
            for e in range(s.engine_count):
                if not _stalled(s.engines[e], now, s):
                    moved |= _sequence(e, now, code, registers, moving, tokens, s, counts, summary)
        if changed:
            _reshare(now, since, s)
            since = now
        then = NEVER
        for u in range(s.unit_count):
            then = min(then, s.units[u].until, s.units[u].arrival)
        for e in range(s.engine_count):
            then = min(then, s.engines[e].wake)
        if then == NEVER:
            break
        for e in range(s.engine_count):
            if s.engines[e].current >= 0:
                _attribute(s.engines[e], then - now, s, counts[s.engines[e].current])
        now = then
    summary.finish = now
    for e in range(s.engine_count):
        summary.stuck |= code.instructions[s.engines[e].pc].op != END


@njit(cache=True)
def _walk_tables(code, hardware, state, counts, slices, summary):
    _walk(code, hardware, state[0], counts, slices, summary[0])


def walk(code: Code, hardware: Hardware, slices: int) -> tuple[np.ndarray, np.ndarray, np.void]:
    """Runs the program; gives a row of TASK_COUNTS for each task, (unit, start, end, task) of each command, and the
    SUMMARY. `slices` is how many commands to keep for a trace: all of them, or 0."""
    counts = np.zeros(len(code.tasks), TASK_COUNTS)
    rows = np.zeros((slices, 4), np.int64)
    summary = np.zeros(1, SUMMARY)
    own = code._replace(loops=code.loops.copy(), launches=code.launches.copy(), commands=code.commands.copy())
    _walk_tables(own, hardware, np.zeros(1, _STATE), counts, rows, summary)
    return counts, rows, summary[0]
