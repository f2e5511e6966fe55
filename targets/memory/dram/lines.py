"""The line-granular model of one channel: bank states and calendars instead of queues searched every cycle."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .device import BankQueues, Channel, Command
from .machine import NEVER, Ints, compiled, inlined
from .requests import Lines

RING = 4096  # slots of a calendar that are told apart
ACT, PRE, RD, WR, REFAB, REFPB, PREA = (
    Command.ACT, Command.PRE, Command.RD, Command.WR, Command.REFAB, Command.REFPB, Command.PREA)


class Costs(NamedTuple):
    """The rules, as what they cost a line. Cycles, unless it says otherwise."""

    banks: int
    ranks: int
    per_rank: int
    per_group: int
    pin_sets: int
    burst: int
    pieces: int  # bursts of one line, in one row
    apart: int  # slots between bursts of one bank group
    act_to_read: int
    act_to_write: int
    precharge: int
    row_open: int
    row_cycle: int
    read_to_precharge: int
    write_to_precharge: int
    read_to_write: int
    write_to_read: int
    act_slot: int
    act_commands: int
    read_latency: int
    write_latency: int
    refresh: int
    refresh_interval: int
    refresh_per_bank: int
    reads: int  # queue entries, in lines
    writes: int
    write_high: int
    write_low: int
    bank_depth: int
    single_bus: int
    row_hit_limit: int
    ahead: int
    gap: int
    unit: int
    merge: int


def costs(channel: Channel, pieces: int) -> Costs:
    o, table = channel.organisation, channel.rules

    def least(preceding: Command, following: Command, *levels: str) -> int:
        found = [r.cycles for r in table if (r.preceding, r.following) == (preceding, following)
                 and r.window == 1 and not r.others and (not levels or r.level in levels)]
        return max(found, default=0)

    faw = [math.ceil(r.cycles / r.window) for r in table if r.window > 1]
    ccd_l = max(least(RD, RD), channel.burst_cycles)
    s = channel.scheduling
    per_bank = channel.refresh.kind == "per_bank"
    split = bool(channel.activate_window)
    rp_all = max(least(PREA, REFAB), least(PRE, REFAB))
    queued = isinstance(s, BankQueues)
    return Costs(
        banks=o.banks, ranks=o.ranks, per_rank=o.banks_per_rank, per_group=o.banks_per_group,
        pin_sets=o.ranks if o.pseudo_channels else 1,
        burst=channel.burst_cycles, pieces=pieces, apart=math.ceil(ccd_l / channel.burst_cycles),
        act_to_read=least(ACT, RD) + (0 if not split else 0), act_to_write=least(ACT, WR), precharge=least(PRE, ACT, "bank"), row_open=least(ACT, PRE),
        row_cycle=least(ACT, ACT, "bank"), read_to_precharge=least(RD, PRE), write_to_precharge=least(WR, PRE),
        read_to_write=least(RD, WR), write_to_read=least(WR, RD, "rank"),
        act_slot=max([least(ACT, ACT, "rank"), *faw]), act_commands=3 if split else 2,
        read_latency=channel.read_latency, write_latency=channel.write_latency,
        refresh=(least(REFPB, ACT, "bank") + least(PRE, REFPB)) if per_bank else least(REFAB, ACT) + rp_all,
        refresh_interval=channel.refresh.interval if channel.refresh.kind != "none" else 0,
        refresh_per_bank=int(per_bank),
        reads=max(1, s.reads // pieces), writes=max(1, s.writes // pieces),
        write_high=(s.writes // pieces - 1) if queued else math.floor(s.high * s.writes) // pieces,
        write_low=0 if queued else math.ceil(s.low * s.writes) // pieces,
        bank_depth=max(1, s.commands_per_bank // pieces) if queued else 0,
        single_bus=int(not channel.dual_issue),
        row_hit_limit=s.row_hit_limit if queued else 0,
        ahead=max(1, s.reads // pieces) + (s.commands_per_bank // pieces * o.banks if queued else 0),
        gap=least(RD, PRE),
        merge=int(queued and o.burst_bytes > 64),
        unit=max(pieces * channel.burst_cycles, 0 if channel.dual_issue else pieces + 3),
    )


class State(NamedTuple):
    row: Ints
    act_at: Ints
    may_act: Ints  # after the precharge, [bank]
    may_close: Ints
    bus: Ints  # [pin set, RING, 3]: slot id that took it, next, bank group
    acts: Ints  # [rank, RING, 2]
    floor: Ints  # [pin set] first cycle that the direction in turn may use
    latest: Ints  # [pin set] end of what was placed
    depth: Ints  # [bank, depth] issue ring
    depth_at: Ints
    read_slots: Ints  # times at which entries free
    write_slots: Ints
    pending: Ints  # writes waiting
    done: Ints
    next_in_bank: Ints
    drained: Ints
    served: Ints
    last_column: Ints
    s: Ints  # scalars


@inlined
def _free(calendar: Ints, at: int) -> int:
    """The first free slot from `at` on."""
    t = at
    while calendar[t & (RING - 1), 0] == t + 1:
        t = calendar[t & (RING - 1), 1]
    u = at
    while u < t:  # shorten the way for those who come after
        v = calendar[u & (RING - 1), 1]
        calendar[u & (RING - 1), 1] = t
        u = v
    return t


READS_HELD, WRITES_HELD, PENDING, NOW, DIRECTION, NEXT_REFRESH, REFRESHED, COMMANDS, LATEST_READ, DRAINS, PHASE_START, PHASE_COUNT, AHEAD = range(13)


@compiled
def _place(c: Costs, st: State, bank: int, row: int, write: int, entry: int) -> int:
    """Serves one line in its bank; returns when its last column command issues."""
    rank = bank // c.per_rank
    pins = rank if c.pin_sets > 1 else 0
    if write != st.s[DIRECTION]:
        gap = c.read_to_write if write else c.write_to_read
        work = st.s[PHASE_COUNT] * c.unit + c.precharge + c.act_to_read
        for p in range(c.pin_sets):
            st.floor[p] = max(st.floor[p], min(st.latest[p] - c.burst, st.s[PHASE_START] + work)) + gap
        st.s[PHASE_START] = max(entry, st.floor[0])
        st.s[PHASE_COUNT] = 0
        st.s[DIRECTION] = write
    st.s[PHASE_COUNT] += 1
    if st.row[bank] != row:
        start = entry + 1
        if st.row[bank] >= 0:
            start = max(start, st.may_close[bank]) + c.precharge
        start = max(start, st.may_act[bank], st.act_at[bank] + c.row_cycle)
        slot = _free(st.acts[rank], start // c.act_slot)
        a = st.acts[rank, slot & (RING - 1)]
        a[0], a[1] = slot + 1, slot + 1
        start = max(start, slot * c.act_slot)
        st.act_at[bank] = start
        st.may_close[bank] = start + c.row_open
        st.row[bank] = row
        st.served[bank] = 0
        st.s[COMMANDS] += c.act_commands
    ready = max(entry + 1, st.act_at[bank] + (c.act_to_write if write else c.act_to_read), st.floor[pins])
    if c.single_bus:
        st.s[COMMANDS] = max(st.s[COMMANDS], entry) + c.pieces
        ready = max(ready, st.s[COMMANDS] - 2 * c.reads)
    group = bank // c.per_group
    calendar = st.bus[pins]
    issued = 0
    slot = ready // c.burst
    for _ in range(c.pieces):
        slot = _free(calendar, slot)
        if c.apart > 1:
            while True:
                b, a = calendar[(slot - 1) & (RING - 1)], calendar[(slot + 1) & (RING - 1)]
                if (b[0] == slot and b[2] == group) or (a[0] == slot + 2 and a[2] == group):
                    slot = _free(calendar, slot + 1)
                else:
                    break
        e = calendar[slot & (RING - 1)]
        e[0], e[1], e[2] = slot + 1, slot + 1, group
        issued = max(ready, slot * c.burst)
        slot += c.apart
        ready = issued
    st.latest[pins] = max(st.latest[pins], issued + c.burst)
    st.served[bank] += c.pieces
    st.last_column[bank] = issued
    st.may_close[bank] = max(st.may_close[bank], issued + (c.write_to_precharge if write else c.read_to_precharge))
    return issued


@compiled
def _refresh(c: Costs, st: State, now: int) -> None:
    while st.s[NEXT_REFRESH] <= now:
        due = st.s[NEXT_REFRESH]
        st.s[NEXT_REFRESH] += c.refresh_interval
        if c.refresh_per_bank:
            b = st.s[REFRESHED] % c.banks
            st.s[REFRESHED] += 1
            start = max(due, st.may_close[b]) if st.row[b] >= 0 else due
            st.row[b] = -1
            st.may_act[b] = max(st.may_act[b], start + c.refresh)
        else:
            start = due
            for p in range(c.pin_sets):
                start = max(start, st.latest[p])
            for b in range(c.banks):
                start = max(start, st.may_close[b])
            for b in range(c.banks):
                st.row[b] = -1
                st.may_act[b] = start + c.refresh


@inlined
def _enter(slots: Ints, held: int, room: int, now: int) -> int:
    """Leaves fewer than `room` times in the list, dropping the earliest; returns when that is so."""
    while held >= room:
        k = 0
        for j in range(1, held):
            if slots[j] < slots[k]:
                k = j
        now = max(now, slots[k])
        held -= 1
        slots[k] = slots[held]
    return now


@compiled
def _drain(c: Costs, st: State, bank: Ints, row: Ints, write: Ints, not_before: Ints, keep: int, now: int) -> None:
    """Serves waiting writes, oldest first, until `keep` are left; a second row of a bank waits while others can go."""
    st.s[DRAINS] += 1
    total = st.s[PENDING]
    spare, left = keep, 0
    for j in range(total):
        i = st.pending[j]
        b = bank[i]
        if st.done[i] == 0:
            if spare > 0 and st.drained[b] == st.s[DRAINS] and st.row[b] != row[i]:
                spare -= 1
                st.pending[left] = i
                left += 1
                continue
            if spare >= total - j:
                st.pending[left] = i
                left += 1
                continue
            _serve(c, st, bank, row, write, not_before, i, now)
            st.drained[b] = st.s[DRAINS]
        else:
            st.s[AHEAD] -= 1
        st.write_slots[st.s[WRITES_HELD]] = st.done[i]
        st.s[WRITES_HELD] += 1
    st.s[PENDING] = left


@compiled
def _serve(c: Costs, st: State, bank: Ints, row: Ints, write: Ints, not_before: Ints, i: int, now: int) -> None:
    """Serves line i, and before it those that hit the row which it would close."""
    b = bank[i]
    if st.row[b] != row[i] and st.row[b] >= 0:
        open_row, w = st.row[b], write[i]
        calendar = st.bus[b // c.per_rank if c.pin_sets > 1 else 0]
        in_bank, j = 1, st.next_in_bank[i]
        while j - i - st.s[AHEAD] <= c.ahead and j < bank.shape[0]:
            if st.done[j] == 0 and write[j] == w:
                if row[j] == open_row:
                    closes = max(st.may_close[b], now + 1)
                    if not_before[j] > closes:
                        break
                    if not (c.bank_depth and st.served[b] < c.row_hit_limit):
                        soon = max(now + 1, st.act_at[b] + c.act_to_read, st.last_column[b] + c.apart * c.burst)
                        if _free(calendar, soon // c.burst) * c.burst >= closes:
                            break
                    _queue(c, st, bank, row, write, j, max(now, not_before[j]))
                    st.s[AHEAD] += 1
                else:
                    in_bank += 1
                    if c.bank_depth and in_bank > c.bank_depth:
                        break
            j = st.next_in_bank[j]
    _queue(c, st, bank, row, write, i, now)


@compiled
def _queue(c: Costs, st: State, bank: Ints, row: Ints, write: Ints, i: int, entry: int) -> None:
    b = bank[i]
    if c.bank_depth:
        d = st.depth_at[b]
        entry = max(entry, st.depth[b, d])
        frees = entry
        issued = _place(c, st, b, row[i], write[i], entry)
        st.depth[b, d] = issued
        st.depth_at[b] = (d + 1) % c.bank_depth
        st.done[i] = max(1, frees)
    else:
        issued = _place(c, st, b, row[i], write[i], entry)
        st.done[i] = issued
    if not write[i]:
        st.s[LATEST_READ] = max(st.s[LATEST_READ], issued)


@compiled
def run(c: Costs, st: State, bank: Ints, row: Ints, write: Ints, not_before: Ints) -> int:
    n = bank.shape[0]
    st.s[NEXT_REFRESH] = c.refresh_interval if c.refresh_interval else NEVER
    now = 0
    for b in range(c.banks):
        st.row[b] = n
    for i in range(n - 1, -1, -1):
        st.next_in_bank[i] = st.row[bank[i]]
        st.row[bank[i]] = i
    for b in range(c.banks):
        st.row[b] = -1
    for i in range(n):
        now = max(now, not_before[i])
        if write[i]:
            room = max(1, c.writes - st.s[PENDING])
            if st.s[WRITES_HELD] >= room:
                now = _enter(st.write_slots, st.s[WRITES_HELD], room, now)
                st.s[WRITES_HELD] = min(st.s[WRITES_HELD], room - 1)
            st.pending[st.s[PENDING]] = i
            st.s[PENDING] += 1
            if st.s[NEXT_REFRESH] <= now:
                _refresh(c, st, now)
            if st.s[LATEST_READ] <= now:
                _drain(c, st, bank, row, write, not_before, 0, now)
            elif st.s[PENDING] > c.write_high:
                _drain(c, st, bank, row, write, not_before, c.write_low, now)
        else:
            if st.s[READS_HELD] >= c.reads:
                now = _enter(st.read_slots, st.s[READS_HELD], c.reads, now)
                st.s[READS_HELD] = min(st.s[READS_HELD], c.reads - 1)
            if st.s[NEXT_REFRESH] <= now:
                _refresh(c, st, now)
            if st.done[i] == 0:
                _serve(c, st, bank, row, write, not_before, i, now)
            else:
                st.s[AHEAD] -= 1
            st.read_slots[st.s[READS_HELD]] = st.done[i]
            st.s[READS_HELD] += 1
    _drain(c, st, bank, row, write, not_before, 0, now)
    last = 0
    for p in range(c.pin_sets):
        last = max(last, st.latest[p])
    return last + (c.write_latency if st.s[DIRECTION] else c.read_latency)


def simulate(channel: Channel, stream: Lines) -> int:
    b = stream.bursts(channel)
    pieces = max(1, stream.line_bytes // channel.organisation.burst_bytes)
    n = len(b.bank)
    if pieces > 1:
        bb, rr = b.bank.reshape(-1, pieces), b.row.reshape(-1, pieces)
        if (bb == bb[:, :1]).all() and (rr == rr[:, :1]).all():
            b = b._replace(bank=bb[:, 0].copy(), row=rr[:, 0].copy(), write=b.write[::pieces].copy(), not_before=b.not_before[::pieces].copy())
        else:
            pieces = 1
    return simulate_units(channel, b, pieces)


def simulate_units(channel, b, pieces):
    c = costs(channel, pieces)
    z = lambda *s: np.zeros(s, np.int64)
    st = State(np.full(c.banks, -1, np.int64), np.full(c.banks, -(1 << 40), np.int64), z(c.banks), z(c.banks),
               z(c.pin_sets, RING, 3), z(c.ranks, RING, 2), z(c.pin_sets), z(c.pin_sets),
               z(c.banks, max(1, c.bank_depth)), z(c.banks), z(c.reads + 8), z(c.writes * 2 + 8), z(c.writes + 8), z(len(b.bank)), z(len(b.bank)), z(c.banks), z(c.banks), z(c.banks), z(16))
    return run(c, st, b.bank, b.row, b.write, b.not_before)
