"""The scheduler with a command queue a bank (`device.BankQueues`), compiled."""

from __future__ import annotations

from typing import NamedTuple

from .compiled import compiled, inlined
from .machine import (
    ACT,
    CLOSED,
    NEVER,
    PRE,
    RD,
    REFAB,
    WR,
    Banks,
    Ints,
    Log,
    Rules,
    allowed_at,
    end_of_burst,
    issue,
)
from .requests import Bursts, Outcome


class Setting(NamedTuple):
    """The channel and its controller in numbers."""

    ranks: int
    banks_per_rank: int
    row_hit_limit: int
    idle_drain: int
    dual_issue: int
    refresh_interval: int  # 0: none
    staggered: int
    read_latency: int
    write_latency: int
    burst: int


class Queues(NamedTuple):
    """Indices into the bursts, oldest first."""

    reads: Ints
    writes: Ints
    commands: Ints  # [bank, n]
    commands_held: Ints  # [bank]
    held: Ints  # READS to YIELDED, see below
    merged: Ints  # [burst, 2] number and sum of the offer cycles of the reads that this burst serves
    refresh_due: Ints  # ranks that wait for their refresh, oldest first


READS, WRITES, COMMANDS, DRAINING, VISITED, FROZEN, REFRESHES, YIELDED = range(8)


@compiled
def run(rules: Rules, banks: Banks, log: Log, bursts: Bursts, s: Setting, q: Queues, out: Outcome) -> int:
    """Runs all bursts; returns the cycle in which the controller had nothing left to do."""
    total = bursts.block.shape[0]
    cycle, offered, next_refresh, next_rank = 0, 0, NEVER, 0
    interval = s.refresh_interval
    if s.refresh_interval:
        if s.staggered:
            interval = s.refresh_interval // s.ranks
        next_refresh = interval
    q.held[FROZEN] = -1
    while True:
        moved = False
        while offered < total and bursts.not_before[offered] <= cycle and _offer(bursts, q, out, offered, cycle):
            offered += 1
            moved = True
        if cycle == next_refresh:
            next_refresh += interval
            for _ in range(1 if s.staggered else s.ranks):
                q.refresh_due[q.held[REFRESHES]] = next_rank
                q.held[REFRESHES] += 1
                next_rank = (next_rank + 1) % s.ranks
        command, soonest = _issue_one(rules, banks, log, bursts, s, q, out, cycle)
        moved |= command >= 0
        moved |= _move_one(bursts, q, s)
        if offered == total and q.held[READS] + q.held[WRITES] + q.held[COMMANDS] == 0:
            break
        if moved:
            cycle += 1
            continue
        upcoming = soonest
        if offered < total and bursts.not_before[offered] > cycle:
            upcoming = min(upcoming, bursts.not_before[offered])
        if upcoming == NEVER and q.held[REFRESHES] == 0:  # the last writes are never drained
            out.unserved[0] += q.held[WRITES]
            break
        cycle = max(min(upcoming, next_refresh), cycle + 1)
    return cycle


@compiled
def _offer(bursts: Bursts, q: Queues, out: Outcome, i: int, cycle: int) -> bool:
    """Takes burst i if its queue has room: into that queue, or into a request for the same address."""
    bank, block = bursts.bank[i], bursts.block[i]
    if bursts.write[i]:
        if q.held[WRITES] == q.writes.shape[0]:
            return False
        if _find(bursts.block, bursts.write, q.writes, q.held[WRITES], block, 1) >= 0:
            out.unserved[0] += 1
            return True
        if _find(bursts.block, bursts.write, q.commands[bank], q.commands_held[bank], block, 1) >= 0:
            out.unserved[0] += 1
            return True
        q.writes[q.held[WRITES]] = i
        q.held[WRITES] += 1
        return True
    if q.held[READS] == q.reads.shape[0]:
        return False
    if (
        _find(bursts.block, bursts.write, q.writes, q.held[WRITES], block, 1) >= 0
        or _find(bursts.block, bursts.write, q.commands[bank], q.commands_held[bank], block, 1) >= 0
    ):
        _served(out, 1, 1, 1)
        out.unserved[0] += 1
        return True
    twin = _find(bursts.block, bursts.write, q.reads, q.held[READS], block, 0)
    if twin < 0:
        twin = _find(bursts.block, bursts.write, q.commands[bank], q.commands_held[bank], block, 0)
    if twin >= 0:
        out.unserved[0] += 1
        q.merged[twin, 0] += 1
        q.merged[twin, 1] += cycle
        q.merged[twin, 3] = cycle
        return True
    q.merged[i, 0], q.merged[i, 1], q.merged[i, 2], q.merged[i, 3] = 1, cycle, cycle, cycle
    q.reads[q.held[READS]] = i
    q.held[READS] += 1
    return True


@inlined
def _find(blocks: Ints, writes: Ints, queue: Ints, held: int, block: int, write: int) -> int:
    for n in range(held):
        if blocks[queue[n]] == block and writes[queue[n]] == write:
            return queue[n]
    return -1


@compiled
def _served(out: Outcome, reads: int, latency_sum: int, least: int) -> None:
    out.reads[0] += reads
    out.reads[1] += latency_sum
    out.reads[2] = min(out.reads[2], least)


@compiled
def _issue_one(
    rules: Rules, banks: Banks, log: Log, bursts: Bursts, s: Setting, q: Queues, out: Outcome, cycle: int
) -> tuple[int, int]:
    """Issues what is ready (two commands with dual issue); returns the first one, and if -1, when one may be ready."""
    command, soonest = -1, NEVER
    if q.held[REFRESHES]:
        command, soonest = _refresh(rules, banks, log, s, q, cycle)
    if command < 0:
        bank, n, command, later = _pick(rules, banks, bursts, s, q, cycle)
        if command < 0:
            return -1, min(soonest, later)
        _commit(rules, banks, log, bursts, s, q, out, cycle, bank, n, command)
    if s.dual_issue:
        bank, n, second, _ = _pick(rules, banks, bursts, s, q, cycle)
        if second >= 0 and (second >= RD and second <= WR) != (command >= RD and command <= WR):
            _commit(rules, banks, log, bursts, s, q, out, cycle, bank, n, second)
    return command, soonest


@compiled
def _refresh(rules: Rules, banks: Banks, log: Log, s: Setting, q: Queues, cycle: int) -> tuple[int, int]:
    """Freezes the rank, closes its banks one by one, and refreshes it."""
    rank = q.refresh_due[0]
    q.held[FROZEN] = rank
    soonest = NEVER
    for bank in range(rank * s.banks_per_rank, (rank + 1) * s.banks_per_rank):
        if banks.row[bank] != CLOSED:
            ready = allowed_at(banks.ready, rules.path, bank, PRE)
            if ready <= cycle:
                issue(rules, banks, log, cycle, PRE, bank, -1, -1, s.banks_per_rank)
                return PRE, NEVER
            soonest = min(soonest, ready)
    if banks.open_banks[rank]:
        return -1, soonest
    ready = allowed_at(banks.ready, rules.path, rank * s.banks_per_rank, REFAB)
    if ready > cycle:
        return -1, ready
    issue(rules, banks, log, cycle, REFAB, rank * s.banks_per_rank, -1, -1, s.banks_per_rank)
    q.held[FROZEN] = -1
    q.held[REFRESHES] -= 1
    for k in range(q.held[REFRESHES]):
        q.refresh_due[k] = q.refresh_due[k + 1]
    return REFAB, NEVER


@compiled
def _pick(rules: Rules, banks: Banks, bursts: Bursts, s: Setting, q: Queues, cycle: int) -> tuple[int, int, int, int]:
    """Bank, place in its queue and command of the first ready one, round robin; else -1 and when one may be ready."""
    soonest, count = NEVER, q.commands.shape[0]
    bank = q.held[VISITED]
    for _ in range(count):
        bank += 1
        if bank == count:
            bank = 0
        if q.commands_held[bank] == 0 or bank // s.banks_per_rank == q.held[FROZEN]:
            continue
        n, command, later = _pick_in_bank(rules, banks, bursts, s, q, bank, cycle)
        if command >= 0:
            q.held[VISITED] = bank
            return bank, n, command, NEVER
        soonest = min(soonest, later)
    return -1, -1, -1, soonest


@compiled
def _pick_in_bank(
    rules: Rules, banks: Banks, bursts: Bursts, s: Setting, q: Queues, bank: int, cycle: int
) -> tuple[int, int, int]:
    queue, held, row = q.commands[bank], q.commands_held[bank], banks.row[bank]
    allowed, path = banks.ready, rules.path
    if row == CLOSED:  # every entry needs the same activate
        ready = allowed_at(allowed, path, bank, ACT)
        return (0, ACT, NEVER) if ready <= cycle else (0, -1, ready)
    soonest, rows, writes, blocks = NEVER, bursts.row, bursts.write, bursts.block
    read_ready, write_ready = allowed_at(allowed, path, bank, RD), allowed_at(allowed, path, bank, WR)
    for n in range(held):
        i = queue[n]
        if rows[i] == row:
            ready = write_ready if writes[i] else read_ready
            if writes[i] and _reads_first(blocks, writes, queue, n, blocks[i]):
                continue
            if ready <= cycle:
                return n, WR if writes[i] else RD, NEVER
        elif n == 0 and (banks.served[bank] >= s.row_hit_limit or not _row_hit(rows, queue, held, row)):
            ready = allowed_at(allowed, path, bank, PRE)
            if ready <= cycle:
                return n, PRE, NEVER
        else:
            continue
        soonest = min(soonest, ready)
    return 0, -1, soonest


@inlined
def _row_hit(rows: Ints, queue: Ints, held: int, row: int) -> bool:
    hit = False
    for n in range(held):
        hit |= rows[queue[n]] == row
    return hit


@inlined
def _reads_first(blocks: Ints, writes: Ints, queue: Ints, n: int, block: int) -> bool:
    """Whether an older read of the same address waits."""
    waits = False
    for k in range(n):
        waits |= blocks[queue[k]] == block and not writes[queue[k]]
    return waits


@compiled
def _commit(
    rules: Rules,
    banks: Banks,
    log: Log,
    bursts: Bursts,
    s: Setting,
    q: Queues,
    out: Outcome,
    cycle: int,
    bank: int,
    n: int,
    command: int,
) -> None:
    i = q.commands[bank, n]
    if command == ACT:
        issue(rules, banks, log, cycle, ACT, bank, bursts.row[i], bursts.column[i], s.banks_per_rank)
        return
    if command == PRE:
        issue(rules, banks, log, cycle, PRE, bank, -1, -1, s.banks_per_rank)
        return
    out.rows[0 if banks.served[bank] else 1] += 1
    issue(rules, banks, log, cycle, command, bank, bursts.row[i], bursts.column[i], s.banks_per_rank)
    if command == RD:
        done = cycle + s.read_latency + s.burst
        _served(out, q.merged[i, 0], q.merged[i, 0] * done - q.merged[i, 1], done - q.merged[i, 3])
        out.reads[3] = max(out.reads[3], done - q.merged[i, 2])
    else:
        done = cycle + s.write_latency + s.burst
    end_of_burst(log, done)
    for k in range(n, q.commands_held[bank] - 1):
        q.commands[bank, k] = q.commands[bank, k + 1]
    q.commands_held[bank] -= 1
    q.held[COMMANDS] -= 1


@compiled
def _move_one(bursts: Bursts, q: Queues, s: Setting) -> bool:
    """Moves one request to its bank's command queue: the oldest whose bank has room, of the queue whose turn it is."""
    if q.held[DRAINING] == 0 and not q.held[YIELDED]:
        waiting = q.held[WRITES]
        if waiting == q.writes.shape[0] or (waiting > s.idle_drain and q.held[COMMANDS] == 0):
            q.held[DRAINING] = waiting
    q.held[YIELDED] = 0
    draining = q.held[DRAINING] > 0
    queue = q.writes if draining else q.reads
    which = WRITES if draining else READS
    for n in range(q.held[which]):
        i = queue[n]
        bank = bursts.bank[i]
        if q.commands_held[bank] == q.commands.shape[1]:
            continue
        if draining:
            if (
                _find(bursts.block, bursts.write, q.reads, q.held[READS], bursts.block[i], 0) >= 0
                or _find(bursts.block, bursts.write, q.commands[bank], q.commands_held[bank], bursts.block[i], 0) >= 0
            ):
                q.held[DRAINING], q.held[YIELDED] = 0, 1  # reads have their turn in the next cycle
                return True
            q.held[DRAINING] -= 1
        q.commands[bank, q.commands_held[bank]] = i
        q.commands_held[bank] += 1
        q.held[COMMANDS] += 1
        for k in range(n, q.held[which] - 1):
            queue[k] = queue[k + 1]
        q.held[which] -= 1
        return True
    return False
