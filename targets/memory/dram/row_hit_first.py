"""The FR-FCFS scheduler (`device.RowHitFirst`), compiled."""

from __future__ import annotations

from typing import NamedTuple

from .compiled import compiled, inlined
from .machine import (
    ACT,
    ACT2,
    ACTIVATING,
    CAS_RD,
    CAS_WR,
    CLOSED,
    NEVER,
    PRE,
    PREA,
    RD,
    REFAB,
    REFPB,
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
    write_high: int  # writes have their turn with more than this many
    write_low: int  # until there are fewer than this
    dual_issue: int
    split_window: int  # cycles from ACT1 to ACT2 at most; 0: one activate command
    clock_sync_after: int  # -1: the data clock never stops
    refresh_interval: int  # 0: none
    per_bank: int
    read_latency: int
    write_latency: int
    burst: int


class Queues(NamedTuple):
    """Indices into the bursts, oldest first, but `active` in the order in which rows were opened."""

    reads: Ints
    writes: Ints
    active: Ints  # requests whose row was opened for them, before their column command
    activating: Ints  # requests between ACT1 and ACT2
    active_in: Ints  # [bank] -> number of them in `active`
    deadline: Ints  # [bank] of its ACT2; NEVER: none is due
    refresh: Ints  # banks (the first of a rank, for all-bank) that wait for their refresh
    held: Ints  # READS, WRITES, ACTIVE, ACTIVATING, REFRESHES, WRITE_MODE, CLOCK_UNTIL, SYNCED, SYNCED_FROM
    arrived: Ints  # [burst] -> cycle in which it was taken
    begun: Ints  # [burst] -> a command was issued for it
    oldest_hit: Ints  # [bank] -> arrival of the oldest request that hits the open row; NEVER: none


READS, WRITES, ACTIVE, IN_ACTIVATION, REFRESHES, WRITE_MODE, CLOCK_UNTIL, SYNCED, SYNCED_FROM = range(9)
NO_SLOT, ROW_SLOT, COLUMN_SLOT = range(3)  # which commands a dual-issue slot takes; NO_SLOT: any
SYNC_WAITS = -1  # in place of a cycle: nothing issues now, not even an ACT2; look again in the next cycle


@compiled
def run(rules: Rules, banks: Banks, log: Log, bursts: Bursts, s: Setting, q: Queues, out: Outcome) -> int:
    """Runs all bursts; returns the cycle in which the controller had nothing left to do."""
    total = bursts.block.shape[0]
    cycle, offered, refreshed = 0, 0, 0
    next_refresh = s.refresh_interval if s.refresh_interval else NEVER
    while True:
        moved = False
        while offered < total and bursts.not_before[offered] <= cycle and _offer(bursts, q, out, offered, cycle):
            offered += 1
            moved = True
        cycle += 1
        if cycle == next_refresh:
            next_refresh += s.refresh_interval
            if s.per_bank:
                _queue_refresh(q, refreshed % (s.ranks * s.banks_per_rank))
                refreshed += 1
            else:
                for rank in range(s.ranks):
                    _queue_refresh(q, rank * s.banks_per_rank)
        issued, soonest = _tick(rules, banks, log, bursts, s, q, out, cycle)
        if offered == total and q.held[READS] + q.held[WRITES] + q.held[ACTIVE] + q.held[IN_ACTIVATION] == 0:
            return cycle
        if issued or moved:
            continue
        upcoming = min(soonest, next_refresh)
        if offered < total and bursts.not_before[offered] >= cycle:
            upcoming = min(upcoming, bursts.not_before[offered] + 1)
        cycle = max(cycle, upcoming - 1)


@compiled
def _queue_refresh(q: Queues, bank: int) -> None:
    q.refresh[q.held[REFRESHES]] = bank
    q.held[REFRESHES] += 1


@compiled
def _offer(bursts: Bursts, q: Queues, out: Outcome, i: int, cycle: int) -> bool:
    """Takes burst i: reads of a waiting write's address are forwarded, writes to it merged, others need room."""
    waiting, block, writes = False, bursts.block, q.writes
    for n in range(q.held[WRITES]):
        if block[writes[n]] == block[i]:
            waiting = True
    if waiting:
        if not bursts.write[i]:
            out.reads[0] += 1
            out.reads[1] += 1
            out.reads[2] = min(out.reads[2], 1)
            out.reads[3] = max(out.reads[3], 1)
        out.unserved[0] += 1
        return True
    queue, which = (q.writes, WRITES) if bursts.write[i] else (q.reads, READS)
    if q.held[which] == queue.shape[0]:
        return False
    q.arrived[i] = cycle
    queue[q.held[which]] = i
    q.held[which] += 1
    return True


@compiled
def _tick(
    rules: Rules, banks: Banks, log: Log, bursts: Bursts, s: Setting, q: Queues, out: Outcome, cycle: int
) -> tuple[bool, int]:
    """One cycle; whether something was issued, and if not, when something may be."""
    if s.dual_issue:
        column, soonest = _slot(rules, banks, log, bursts, s, q, out, cycle, COLUMN_SLOT)
        row, later = _slot(rules, banks, log, bursts, s, q, out, cycle, ROW_SLOT)
        return column or row, min(soonest, later)
    if s.split_window:
        urgent = _second_activate(bursts, q, cycle)
        if urgent >= 0:
            _activate_second(rules, banks, log, bursts, s, q, cycle, urgent)
            return True, NEVER
        if q.held[SYNCED]:
            return _column_after_sync(rules, banks, log, bursts, s, q, out, cycle)
    issued, soonest = _slot(rules, banks, log, bursts, s, q, out, cycle, NO_SLOT)
    if not issued and q.held[IN_ACTIVATION] and soonest != SYNC_WAITS:
        _activate_second(rules, banks, log, bursts, s, q, cycle, _second_activate(bursts, q, NEVER))
        return True, NEVER
    return issued, soonest


# ---------------------------------------------------------------- which command


@compiled
def _slot(
    rules: Rules, banks: Banks, log: Log, bursts: Bursts, s: Setting, q: Queues, out: Outcome, cycle: int, slot: int
) -> tuple[bool, int]:
    """Issues one command: for a row opened before, for a refresh, or of the queue in turn."""
    soonest = NEVER
    if slot != ROW_SLOT:
        n, later = _ready_active(rules, banks, bursts, q, cycle)
        if n >= 0:
            i = q.active[n]
            command = WR if bursts.write[i] else RD
            return _column(rules, banks, log, bursts, s, q, out, cycle, q.active, ACTIVE, n, command)
        soonest = min(soonest, later)
    if q.held[REFRESHES]:
        if slot == COLUMN_SLOT:
            return False, soonest
        issued, later = _refresh(rules, banks, log, s, q, cycle)
        return issued, min(soonest, later)
    _set_write_mode(s, q)
    queue, which = (q.writes, WRITES) if q.held[WRITE_MODE] else (q.reads, READS)
    n, command, later = _ready_waiting(rules, banks, bursts, s, q, queue, q.held[which], cycle, slot)
    if n < 0:
        return False, min(soonest, later)
    if command in (RD, WR):
        return _column(rules, banks, log, bursts, s, q, out, cycle, queue, which, n, command)
    i = queue[n]
    _begin(banks, bursts, q, out, i)
    if command == PRE:
        issue(rules, banks, log, cycle, PRE, bursts.bank[i], -1, -1, s.banks_per_rank)
    else:
        issue(rules, banks, log, cycle, ACT, bursts.bank[i], bursts.row[i], bursts.column[i], s.banks_per_rank)
        _remove(queue, q.held, which, n)
        if s.split_window:
            banks.row[bursts.bank[i]] = ACTIVATING
            q.deadline[bursts.bank[i]] = cycle + s.split_window
            _append(q.activating, q.held, IN_ACTIVATION, i)
        else:
            q.active_in[bursts.bank[i]] += 1
            _append(q.active, q.held, ACTIVE, i)
    return True, NEVER


@compiled
def _ready_active(rules: Rules, banks: Banks, bursts: Bursts, q: Queues, cycle: int) -> tuple[int, int]:
    best, soonest = -1, NEVER
    allowed, path, active, arrived = banks.ready, rules.path, q.active, q.arrived
    bank, write = bursts.bank, bursts.write
    for n in range(q.held[ACTIVE]):
        i = active[n]
        ready = allowed_at(allowed, path, bank[i], WR if write[i] else RD)
        if ready > cycle:
            soonest = min(soonest, ready)
        elif best < 0 or arrived[i] < arrived[active[best]]:
            best = n
    return best, soonest


@compiled
def _ready_waiting(
    rules: Rules, banks: Banks, bursts: Bursts, s: Setting, q: Queues, queue: Ints, held: int, cycle: int, slot: int
) -> tuple[int, int, int]:
    """Place and next command of the oldest request that may proceed; else -1 and when one may."""
    allowed, path, open_row, oldest_hit, arrived = banks.ready, rules.path, banks.row, q.oldest_hit, q.arrived
    bank_of, row_of = bursts.bank, bursts.row
    for n in range(held - 1, -1, -1):
        i = queue[n]
        if open_row[bank_of[i]] == row_of[i]:
            oldest_hit[bank_of[i]] = arrived[i]
    best, best_command, soonest = -1, -1, NEVER
    column = WR if held and bursts.write[queue[0]] else RD
    for n in range(held):
        i = queue[n]
        bank = bank_of[i]
        row = open_row[bank]
        if row == row_of[i]:
            if slot == ROW_SLOT:
                continue
            command = column
        elif slot == COLUMN_SLOT or row == ACTIVATING:
            continue
        elif row == CLOSED:
            if q.held[IN_ACTIVATION]:
                continue
            command = ACT
        else:
            if q.active_in[bank] or oldest_hit[bank] <= arrived[i]:
                continue
            command = PRE
        ready = allowed_at(allowed, path, bank, command)
        if ready <= cycle:
            best, best_command = n, command
            break
        soonest = min(soonest, ready)
    for n in range(held):
        oldest_hit[bank_of[queue[n]]] = NEVER
    return best, best_command, soonest


@compiled
def _set_write_mode(s: Setting, q: Queues) -> None:
    if not q.held[WRITE_MODE]:
        if q.held[WRITES] > s.write_high or q.held[READS] == 0:
            q.held[WRITE_MODE] = 1
    elif q.held[WRITES] < s.write_low and q.held[READS]:
        q.held[WRITE_MODE] = 0


@compiled
def _refresh(rules: Rules, banks: Banks, log: Log, s: Setting, q: Queues, cycle: int) -> tuple[bool, int]:
    """The head of the refresh queue, or the precharge before it. A row that was opened for a request waits for it."""
    bank = q.refresh[0]
    count = 1 if s.per_bank else s.banks_per_rank
    busy, is_open = False, False
    for b in range(bank, bank + count):
        is_open |= banks.row[b] != CLOSED
        busy |= q.active_in[b] > 0 or banks.row[b] == ACTIVATING
    command = REFPB if s.per_bank else REFAB
    if is_open:
        command = PRE if s.per_bank else PREA
    if busy:
        return False, NEVER
    ready = allowed_at(banks.ready, rules.path, bank, command)
    if ready > cycle:
        return False, ready
    issue(rules, banks, log, cycle, command, bank, -1, -1, s.banks_per_rank)
    if not is_open:
        for k in range(q.held[REFRESHES] - 1):
            q.refresh[k] = q.refresh[k + 1]
        q.held[REFRESHES] -= 1
    return True, NEVER


# ---------------------------------------------------------------- issue


@compiled
def _column(
    rules: Rules,
    banks: Banks,
    log: Log,
    bursts: Bursts,
    s: Setting,
    q: Queues,
    out: Outcome,
    cycle: int,
    queue: Ints,
    which: int,
    n: int,
    command: int,
) -> tuple[bool, int]:
    """A column command; where the data clock has stopped, the command that starts it comes first."""
    i = queue[n]
    bank = bursts.bank[i]
    if s.clock_sync_after >= 0 and cycle >= q.held[CLOCK_UNTIL]:
        for k in range(q.held[IN_ACTIVATION]):
            if q.deadline[bursts.bank[q.activating[k]]] <= cycle + 1:  # the pair would take its last cycle
                return False, NEVER
        sync = CAS_WR if command == WR else CAS_RD
        ready = allowed_at(banks.ready, rules.path, bank, sync)
        if ready > cycle:
            return False, SYNC_WAITS
        issue(rules, banks, log, cycle, sync, bank, bursts.row[i], bursts.column[i], s.banks_per_rank)
        q.held[SYNCED], q.held[SYNCED_FROM] = n + 1, which
        return True, NEVER
    _begin(banks, bursts, q, out, i)
    issue(rules, banks, log, cycle, command, bank, bursts.row[i], bursts.column[i], s.banks_per_rank)
    latency = s.write_latency if command == WR else s.read_latency
    done = cycle + latency + s.burst
    q.held[CLOCK_UNTIL] = max(q.held[CLOCK_UNTIL], done + s.clock_sync_after)
    if command == RD:
        waited = done - q.arrived[i]
        out.reads[0] += 1
        out.reads[1] += waited
        out.reads[2] = min(out.reads[2], waited)
        out.reads[3] = max(out.reads[3], waited)
    end_of_burst(log, done)
    if which == ACTIVE:
        q.active_in[bank] -= 1
    _remove(queue, q.held, which, n)
    return True, NEVER


@compiled
def _column_after_sync(
    rules: Rules, banks: Banks, log: Log, bursts: Bursts, s: Setting, q: Queues, out: Outcome, cycle: int
) -> tuple[bool, int]:
    n, which = q.held[SYNCED] - 1, q.held[SYNCED_FROM]
    queue = q.active if which == ACTIVE else (q.writes if which == WRITES else q.reads)
    i = queue[n]
    command = WR if bursts.write[i] else RD
    ready = allowed_at(banks.ready, rules.path, bursts.bank[i], command)
    if ready > cycle:
        return False, ready
    q.held[SYNCED] = 0
    q.held[CLOCK_UNTIL] = cycle + 1
    return _column(rules, banks, log, bursts, s, q, out, cycle, queue, which, n, command)


@compiled
def _second_activate(bursts: Bursts, q: Queues, by: int) -> int:
    """Place of the request whose ACT2 is due no later than `by`, the most urgent one; -1: none."""
    best = -1
    for n in range(q.held[IN_ACTIVATION]):
        due = q.deadline[bursts.bank[q.activating[n]]]
        if due <= by and (best < 0 or due < q.deadline[bursts.bank[q.activating[best]]]):
            best = n
    return best


@compiled
def _activate_second(
    rules: Rules, banks: Banks, log: Log, bursts: Bursts, s: Setting, q: Queues, cycle: int, n: int
) -> None:
    i = q.activating[n]
    bank = bursts.bank[i]
    issue(rules, banks, log, cycle, ACT2, bank, bursts.row[i], bursts.column[i], s.banks_per_rank)
    banks.row[bank] = bursts.row[i]
    q.deadline[bank] = NEVER
    q.active_in[bank] += 1
    _remove(q.activating, q.held, IN_ACTIVATION, n)
    _append(q.active, q.held, ACTIVE, i)


@compiled
def _begin(banks: Banks, bursts: Bursts, q: Queues, out: Outcome, i: int) -> None:
    """Counts what the request's first command met."""
    if q.begun[i]:
        return
    q.begun[i] = 1
    row = banks.row[bursts.bank[i]]
    out.rows[0 if row == bursts.row[i] else (1 if row < 0 else 2)] += 1


@inlined
def _append(queue: Ints, held: Ints, which: int, i: int) -> None:
    queue[held[which]] = i
    held[which] += 1


@inlined
def _remove(queue: Ints, held: Ints, which: int, n: int) -> None:
    for k in range(n, held[which] - 1):
        queue[k] = queue[k + 1]
    held[which] -= 1
