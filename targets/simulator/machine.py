"""The machine: walks a flattened program in global time order. Integers only, so every run is the same.

Time is in picoseconds. Data is in nanobytes and rates in nanobytes a picosecond (1 GB/s is 1,000,000), so that a rate
in bytes per second is exact. A sequencer an engine walks the program and issues commands to the queues of its units; a
unit starts its oldest command when that command's tokens are done. A command occupies its unit for a fixed time (a
copy's setup, a body's compute time) and then, if it moves bytes, until they have passed; it completes `latency` later,
in order. On a queued unit a copy that follows another of its task without a gap was set up while that moved. Everything
that happens at one instant is settled before time moves on: units in their order, then engines in theirs.

Where a loop has come to repeat itself, its periods are leapt over, and a task that has run before on an idle machine
is not walked again (the last section). Both give what the walk would, to the bit.

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
MOST_DEPTH = 16  # of nested loops
BIT = 1 << 20  # a bit, in what items and strides of copies are counted in: one of a sparse tensor takes no whole bits
PACKED = -1  # the stride of a sparse tensor: how far apart its elements lie depends on the zeros between them
WEIGHT_BITS = 16  # of fixed-point numbers: DRAM time for each byte of a transfer

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
    *("start", "end", "last", "retired", "macs", "issued", "moved"),
    cause=len(CAUSES),
    limited=4,
    busy=MOST_UNITS,
    own=MOST_UNITS,
)
# leapt: of the events, those that were not walked
SUMMARY = record("finish", "issued", "left", "retired", "events", "stuck", "leapt")

_ENGINE = record(
    *("pc", "phase", "wake"),  # until `wake`, phase 1: pays for a launch or a task; phase 2: does a task it did before
    *("full", "awaited"),  # what its sequencer stalls on: a unit whose queue is full, a token; -1 if it does not
    *("current", "overhead", "edges"),  # task or -1; cause or -1; mask of loops at their edge
    *("unit", "unit_end", "port_rate", "port_left", "launch_ps", "task_ps"),
    *("depth", "turned"),  # loops round its pc; mask of depths at which a loop went round at this instant
    loops=MOST_DEPTH,  # those round its pc
)
_UNIT = record(
    *("engine", "own_rate", "queued"),
    *("issued", "started", "left", "completed"),  # commands so far
    *("doing", "kind", "began", "until", "arrival"),  # kind: the cause that its time counts for; next completion
    *("moved_from", "moved_to", "moved_task"),  # the last transfer that began and that ended, and of which task
    *("remaining", "rate", "limit", "weight"),  # of the transfer
    "demand",  # its weight beside the transfers of other engines
)
_PLACE = record("command", "fixed", "volume", "work", "arrival", "waits")
_ANCHOR = record(
    "loop",  # that this is about; -1 if none
    *("span", "size"),  # how many events it holds; length of the machine's state, 0 if none was kept
    *("digest", "now", "position", "events", "issued", "left", "retired"),  # then
)
_STATE = record(
    *("engine_count", "unit_count", "slc_rate", "dram_rate", "contention"),
    "leaps",  # whether to leap
    engines=(_ENGINE, (MOST_UNITS,)),
    units=(_UNIT, (MOST_UNITS,)),
    places=(_PLACE, (MOST_UNITS, RING)),  # unit, number of the command modulo RING
    anchors=(_ANCHOR, (MOST_DEPTH,)),  # by depth of the loop
    flows=MOST_UNITS,
)


@njit(cache=True)
def block_bytes(command, axes, terms, loops):
    """Bytes of memory that a copy moves for the block at the loops' positions: inside the tensor's bounds, each
    contiguous run rounded up to whole lines. Runs whose gap is less than the rounding are one run, and so is a block
    of a sparse tensor."""
    run, runs, line = command.item, 1, command.line * 8 * BIT
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
        if axis.stride == PACKED:
            run *= count
        elif 0 < axis.stride <= (run + line - 1) // line * line:
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
    at_dram, several = -1, False
    for i in range(count):
        unit = s.units[s.flows[i]]
        unit.limit, unit.demand = -1, unit.weight
        if unit.weight > 0:
            several |= at_dram >= 0 and at_dram != unit.engine
            at_dram = unit.engine
    if several:
        for i in range(count):
            unit = s.units[s.flows[i]]
            unit.demand = (unit.weight * s.contention) >> WEIGHT_BITS
    free = count
    while free > 0:
        level, cause, port = NEVER, OWN, -1
        weights = 0
        for i in range(count):
            unit = s.units[s.flows[i]]
            if unit.limit < 0:
                weights += unit.demand
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
                or (cause == DRAM and unit.demand == 0)
            ):
                continue
            unit.limit, unit.rate = cause, level
            free -= 1
            s.engines[unit.engine].port_left -= level
            slc -= level
            dram -= (level * unit.demand + (1 << WEIGHT_BITS) - 1) >> WEIGHT_BITS
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
    if command.near > 0:
        return 0, 0
    return command.setup, block_bytes(command, axes, terms, loops)


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
    return not _done(engine.awaited, s) or (engine.phase > 0 and now < engine.wake)


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
                for depth in range(engine.depth):
                    s.anchors[depth].loop = -1  # this run takes what no later one will
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
            engine.loops[loop.depth] = arg
            engine.depth = loop.depth + 1
            s.anchors[loop.depth].loop = -1
            _move(loop.init, loop.next, moves, e, registers, moving)
        elif op == NEXT:
            loop = loops[arg]
            _move(loop.next, loop.exit, moves, e, registers, moving)
            if loop.position + loop.tile < loop.size:
                if _enter(loop, loop.position + loop.tile):
                    engine.edges |= loop.bit
                engine.turned |= 1 << loop.depth
                engine.pc = loop.body
                continue
            engine.depth = loop.depth
            engine.edges &= ~loop.bit
            _move(loop.exit, loop.exit_end, moves, e, registers, moving)
        elif op == LAUNCH:
            row = launches[arg]
            if not _begin(engine, True, row.after, row.after_end, row.first_task, now, links, launches, counts):
                return moved
        elif op == TASK:
            task = tasks[arg]
            first = tasks[task.like]
            if engine.phase == 2:
                if now < engine.wake:
                    return moved
                _replay(engine, arg, now, tasks, counts, summary)
                while instructions[engine.pc].op != TASK_END:
                    engine.pc += 1
                continue
            if not _begin(engine, False, task.after, task.after_end, arg, now, links, launches, counts):
                return moved
            registers[e, task.start] = -1
            if s.leaps and _is_alone(e, code, s) and _is_idle(engine, s) and _is_whole(engine.pc, code):
                if first.took >= 0:
                    engine.phase, engine.wake, engine.current = 2, now + first.took, -1
                    moved = True
                    continue
                if counts[arg].cause[WAITING] == 0:
                    task.began, task.before = now, summary.events
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
            if tasks[arg].began >= 0 and _is_idle(engine, s):
                tasks[arg].took, tasks[arg].events = now - tasks[arg].began, summary.events - tasks[arg].before
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
        unit.moved_from = now
        unit.weight = commands[place.command].weight
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
    if flowed:
        unit.moved_to, unit.moved_task = now, command.task
    task = counts[command.task]
    task.busy[u] += now - unit.began
    task.moved += place.volume
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
    command = commands[place.command]
    fixed = place.fixed
    if command.price < 0 and unit.queued > 0 and unit.moved_to == now and unit.moved_task == command.task:
        fixed = max(0, fixed - (now - unit.moved_from))  # set up while the last one moved
    unit.doing, unit.began, unit.until = FIXED, now, now + fixed
    if command.price >= 0:
        unit.kind = MATRIX if place.work > 0 else VECTOR
    else:
        unit.kind = SETUP
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
    s.slc_rate, s.dram_rate, s.contention = hardware.memory_rate[0], hardware.memory_rate[1], hardware.contention
    for e in range(s.engine_count):
        engine, row = s.engines[e], hardware.engines[e]
        engine.pc, engine.wake = code.entry[e], NEVER
        engine.full = engine.awaited = engine.current = engine.overhead = -1
        engine.unit, engine.unit_end, engine.port_rate = row.unit, row.unit_end, row.port_rate
        engine.launch_ps, engine.task_ps = row.launch_ps, row.task_ps
    for u in range(s.unit_count):
        unit, own = s.units[u], hardware.units[u]
        unit.engine, unit.own_rate, unit.queued = own.engine, own.rate, own.queued
        unit.until = unit.arrival = NEVER
        unit.moved_task = -1
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


# What need not be walked.
#
# A loop's iterations repeat once the machine's state, as seen from the present, is what it was some iterations before:
# the same commands in every queue, as far from their ends and from what they wait for. Each further period then takes
# the same time and adds the same to every count, as long as the loop's position changes no command: its tiles are full
# and its blocks inside their tensors. `_repeats` compares the state with one kept before, of which there is one for
# each depth of nesting; it is kept for twice as many events each time, so that any period is found in time (R. P.
# Brent, An improved Monte Carlo factorization algorithm, 1980). A digest tells most states apart without looking at the
# queues. Numbers of commands are only ever compared, so a leap leaves them alone, and with them queues and tokens.

FIRST_SPAN = 256  # events for which the first state of a loop is kept; keeping one costs as much as some dozens


@njit(cache=True)
def _is_idle(engine, s):
    under_way = 0
    for u in range(engine.unit, engine.unit_end):
        under_way += s.units[u].issued - s.units[u].completed
    return under_way == 0


@njit(cache=True)
def _is_alone(e, code, s):
    """Whether all other engines can do nothing before engine `e` ends a launch."""
    for other in range(s.engine_count):
        if other == e:
            continue
        engine = s.engines[other]
        if engine.phase != 0 or engine.current >= 0 or not _is_idle(engine, s):
            return False
        op, arg = code.instructions[engine.pc].op, code.instructions[engine.pc].arg
        if op == LAUNCH:
            first, end = code.launches[arg].after, code.launches[arg].after_end
        elif op == TASK:
            first, end = code.tasks[arg].after, code.tasks[arg].after_end
        elif op == END:
            continue
        else:
            return False
        waits = False
        for i in range(first, end):
            waits |= code.launches[code.links[i]].finished == 0
        if not waits:
            return False
    return True


@njit(cache=True)
def _is_whole(pc, code):
    """Whether no run of the task at `pc` has come before it, and it issues none of another's."""
    while code.instructions[pc].op != TASK_END:
        if code.instructions[pc].op == COMMAND and code.commands[code.instructions[pc].arg].early_runs > 0:
            return False
        pc += 1
    following = code.instructions[pc + 1]
    return following.op != TASK or code.tasks[following.arg].ahead == code.tasks[following.arg].ahead_end


@njit(cache=True)
def _add(task, more, less, times):
    """Adds `times` the difference of two rows of counts to a third."""
    task.retired += times * (more.retired - less.retired)
    task.macs += times * (more.macs - less.macs)
    task.issued += times * (more.issued - less.issued)
    task.moved += times * (more.moved - less.moved)
    for i in range(len(CAUSES)):
        task.cause[i] += times * (more.cause[i] - less.cause[i])
    for i in range(4):
        task.limited[i] += times * (more.limited[i] - less.limited[i])
    for u in range(MOST_UNITS):
        task.busy[u] += times * (more.busy[u] - less.busy[u])
        task.own[u] += times * (more.own[u] - less.own[u])


@njit(cache=True)
def _replay(engine, arg, now, tasks, counts, summary):
    """Books a task that takes what the first one like it took."""
    like = tasks[arg].like
    task, first = counts[arg], counts[like]
    engine.phase, engine.wake, engine.current = 0, NEVER, arg
    launching, tasking, waiting = task.cause[LAUNCHING], task.cause[TASKING], task.cause[WAITING]
    _add(task, first, task, 1)
    task.cause[LAUNCHING], task.cause[TASKING] = launching, tasking
    task.cause[WAITING] += waiting
    if first.last >= 0:
        task.last = now - first.end + first.last
    summary.events += tasks[like].events
    summary.leapt += tasks[like].events
    summary.issued += first.retired
    summary.left += first.retired
    summary.retired += first.retired


@njit(cache=True)
def _as_seen(token, s):
    """A token as the number of commands issued to its unit since; -1 if it is done."""
    if _done(token, s):
        return -1
    return (s.units[token & (MOST_UNITS - 1)].issued - (token >> UNIT_BITS)) << UNIT_BITS | token & (MOST_UNITS - 1)


@njit(cache=True)
def _digest(engine, now, s):
    """A number that two equal states share."""
    h = engine.pc
    for u in range(engine.unit, engine.unit_end):
        unit = s.units[u]
        h = h * 1_000_003 + ((unit.issued - unit.started) << 16 | (unit.started - unit.completed) << 8 | unit.doing)
        if unit.doing != IDLE:
            h = h * 1_000_003 + (unit.until - now)
    return h


@njit(cache=True)
def _repeats(e, now, since, s, summary):
    """The depth of the outermost loop of engine `e` that went round at this instant and either seems to have come to an
    earlier state or should keep this one; -1 if there is none."""
    engine = s.engines[e]
    turned, engine.turned = engine.turned, 0
    if turned == 0 or s.leaps == 0 or engine.current < 0:
        return -1
    digest = np.int64(0)
    for depth in range(engine.depth):
        if turned >> depth & 1 == 0:
            continue
        anchor = s.anchors[depth]
        if anchor.loop != engine.loops[depth]:
            anchor.loop, anchor.span, anchor.size, anchor.events = engine.loops[depth], FIRST_SPAN, 0, summary.events
            continue
        if anchor.size > 0:
            if digest == 0:
                digest = _digest(engine, now, s)
            if anchor.digest == digest:
                return depth
        if summary.events - anchor.events >= anchor.span:
            return depth
    return -1


@njit(cache=True)
def _state_size(s, registers, waits):
    most = 0
    for e in range(s.engine_count):
        most = max(most, s.engines[e].unit_end - s.engines[e].unit)
    return 8 + MOST_DEPTH + registers + most * (17 + RING * (6 + waits))


@njit(cache=True)
def _write_state(out, e, depth, now, since, loops, registers, tokens, s):
    """Writes all that engine `e` will do inside the loop at `depth` depends on, as seen from now; gives its length."""
    engine = s.engines[e]
    out[0], out[1], out[2], out[3] = engine.pc, engine.edges, engine.full, _as_seen(engine.awaited, s)
    n = 4
    for d in range(depth + 1, engine.depth):
        out[n] = loops[engine.loops[d]].position
        n += 1
    for u in range(engine.unit, engine.unit_end):
        unit = s.units[u]
        out[n], out[n + 1], out[n + 2] = unit.completed - unit.issued, unit.left - unit.issued, unit.doing
        n += 3
        if unit.doing != IDLE:
            out[n], out[n + 1], out[n + 2] = unit.kind, unit.began - now, unit.until - now
            n += 3
        if unit.doing == FLOWING:
            out[n], out[n + 1], out[n + 2], out[n + 3] = unit.remaining, unit.rate, unit.limit, unit.weight
            out[n + 4], out[n + 5] = since - now, unit.moved_from - now
            n += 6
        for i in range(unit.completed, unit.issued):
            place = s.places[u, i % RING]
            out[n], out[n + 1], out[n + 2], out[n + 3] = place.command, place.fixed, place.volume, place.work
            n += 4
            if i < unit.left:
                out[n] = place.arrival - now
                n += 1
            elif i >= unit.started:
                out[n] = place.waits
                n += 1
                for t in range(place.waits):
                    out[n] = _as_seen(tokens[u, i % RING, t], s)
                    n += 1
    for r in range(registers.shape[1]):
        out[n] = _as_seen(registers[e, r], s)
        n += 1
    return n


@njit(cache=True)
def _inside(index, position, code):
    """Whether a loop's tile at a position is full and no copy inside the loop has its block there cut by the bounds of
    an axis that the loop runs along, wherever the loops inside it are."""
    loops, axes, terms, pc = code.loops, code.axes, code.terms, code.loops[index].body
    if position + loops[index].tile > loops[index].size:
        return False
    while code.instructions[pc].op != NEXT or code.instructions[pc].arg != index:
        pc += 1
        if code.instructions[pc - 1].op != COMMAND or code.commands[code.instructions[pc - 1].arg].price >= 0:
            continue
        command = code.commands[code.instructions[pc - 1].arg]
        for a in range(command.axis, command.axis_end):
            axis = axes[a]
            low, high, along = axis.offset, axis.offset + axis.extent, False
            for i in range(axis.term, axis.term_end):
                loop, factor, divisor = loops[terms[i].loop], terms[i].factor, terms[i].divisor
                if terms[i].loop > index:  # inside: loops are numbered in program order
                    last = (loop.size - 1) // loop.tile * loop.tile
                    full = max(last - loop.tile, 0)
                    low += min(0, factor * last // divisor)
                    high += max(
                        factor * (min(loop.tile, loop.size) - 1) // divisor,
                        factor * full // divisor + factor * (min(loop.tile, loop.size) - 1) // divisor,
                        factor * last // divisor + factor * (loop.size - last - 1) // divisor,
                    )
                    continue
                along |= terms[i].loop == index
                at = position if terms[i].loop == index else loop.position
                extent = loop.tile if terms[i].loop == index else loop.extent
                low += factor * at // divisor
                high += factor * at // divisor + factor * (extent - 1) // divisor
            if along and (low < 0 or high > axis.bound):
                return False
    return True


@njit(cache=True)
def _periods(index, begin, position, code):
    """How many more times a loop can go on from `position` as it did from `begin` without changing a command."""
    if position <= begin or not _inside(index, begin, code):
        return 0
    loop, step = code.loops[index], position - begin
    few, many = 0, (loop.size - loop.tile - position) // step
    while few < many:
        middle = (few + many + 1) // 2
        if _inside(index, position + middle * step, code):
            few = middle
        else:
            many = middle - 1
    return few


@njit(cache=True)
def _leap(e, depth, now, since, code, registers, tokens, s, counts, summary, kept, scratch, bases):
    """Leaps over as many periods of engine `e`'s loop at `depth` as there are before its end or a cut block; gives the
    time that they take. 0 if the state is not the one that was kept; it may then be kept instead."""
    engine, anchor = s.engines[e], s.anchors[depth]
    if not _is_alone(e, code, s):
        anchor.size, anchor.events = 0, summary.events
        return 0
    index = anchor.loop
    loop, task, base = code.loops[index], counts[engine.current], bases[depth]
    size = _write_state(scratch, e, depth, now, since, code.loops, registers, tokens, s)
    equal = size == anchor.size
    for i in range(size):
        if not equal:
            break
        equal = scratch[i] == kept[depth, i]
    times = _periods(index, anchor.position, loop.position, code) if equal else 0
    if equal and times <= 0:  # the end is near, or blocks are cut here
        anchor.size, anchor.events = 0, summary.events
        anchor.span *= 2
        return 0
    if not equal:
        if summary.events - anchor.events >= anchor.span:
            kept[depth, :size] = scratch[:size]
            anchor.size, anchor.digest, anchor.now = size, _digest(engine, now, s), now
            anchor.position, anchor.events, anchor.issued = loop.position, summary.events, summary.issued
            anchor.left, anchor.retired = summary.left, summary.retired
            anchor.span *= 2
            _add(base, task, base, 1)
        return 0
    ps = times * (now - anchor.now)
    for u in range(engine.unit, engine.unit_end):
        unit = s.units[u]
        unit.began += ps
        unit.moved_from += ps
        for i in range(unit.completed, unit.left):
            s.places[u, i % RING].arrival += ps
        if unit.until < NEVER:
            unit.until += ps
        if unit.arrival < NEVER:
            unit.arrival += ps
    _add(task, task, base, times)
    task.last += ps
    events = times * (summary.events - anchor.events)
    summary.events += events
    summary.leapt += events
    summary.issued += times * (summary.issued - anchor.issued)
    summary.left += times * (summary.left - anchor.left)
    summary.retired += times * (summary.retired - anchor.retired)
    loop.position += times * (loop.position - anchor.position)
    for inner in range(depth, MOST_DEPTH):
        s.anchors[inner].loop = -1
    return ps


@njit(cache=True)
def _walk(code, hardware, s, counts, bases, slices, summary):
    register_count, move_count, wait_count = _reset(code, hardware, s, counts)
    registers = np.full((s.engine_count, register_count), -1)
    moving = np.zeros(move_count, np.int64)
    tokens = np.zeros((s.unit_count, RING, wait_count), np.int64)
    size = _state_size(s, register_count, wait_count)
    kept, scratch = np.zeros((MOST_DEPTH, size), np.int64), np.zeros(size, np.int64)
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
        for e in range(s.engine_count):
            depth = _repeats(e, now, since, s, summary)
            if depth >= 0:
                ps = _leap(e, depth, now, since, code, registers, tokens, s, counts, summary, kept, scratch, bases)
                now, since = now + ps, since + ps
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
def _walk_tables(code, hardware, state, counts, bases, slices, summary):
    _walk(code, hardware, state[0], counts, bases, slices, summary[0])


def walk(code: Code, hardware: Hardware, slices: int = 0, leap: bool = True) -> tuple[np.ndarray, np.ndarray, np.void]:
    """Runs the program; gives a row of TASK_COUNTS for each task, (unit, start, end, task) of each command, and the
    SUMMARY. `slices` is how many commands to keep for a trace: all of them, or 0. Without `leap`, and for a trace, it
    goes through every event."""
    counts = np.zeros(len(code.tasks), TASK_COUNTS)
    rows = np.zeros((slices, 4), np.int64)
    summary = np.zeros(1, SUMMARY)
    own = code._replace(
        loops=code.loops.copy(),
        launches=code.launches.copy(),
        tasks=code.tasks.copy(),
        commands=code.commands.copy(),
    )
    state = np.zeros(1, _STATE)
    state["leaps"] = leap and not slices
    _walk_tables(own, hardware, state, counts, np.zeros(MOST_DEPTH, TASK_COUNTS), rows, summary)
    return counts, rows, summary[0]
