"""The compiled loop of the line-granular model (`lines`)."""

from __future__ import annotations

from typing import NamedTuple

from .compiled import compiled, inlined
from .line_costs import Costs
from .machine import NEVER, Ints

ROW, OPENED, MAY_ACT, MAY_CLOSE, LAST_COLUMN, SERVED, DRAINED, QUEUE_AT, RANK, PIN_SET, BANK_GROUP = range(
    11
)  # of a bank
OWNER, NEXT, GROUP = range(3)  # of a slot: its number + 1 when taken, a later slot that may be free, who took it
FLOOR, LATEST = range(2)  # of the pins: start of what the direction in turn may use, end of what was placed
(
    READS,  # held in the queue
    WRITES,
    PENDING,  # writes that were not placed yet
    DIRECTION,
    NEXT_REFRESH,
    REFRESHED,
    COMMANDS,  # cycle up to which the command bus is taken
    LATEST_READ,
    DRAINS,
    PHASE_START,  # since the direction changed
    PHASE_LINES,
    AHEAD,  # lines that were served before they were offered
    ACTIVATES,
    BURSTS_READ,
    BURSTS_WRITTEN,
    READS_FROM,  # place of the first entry in the ring
    WRITES_FROM,
) = range(17)
MERGE_TABLE = 1024


class State(NamedTuple):
    bank: Ints  # [bank, 16]
    pins: Ints  # [pin set, 2]
    bus: Ints  # [pin set, slots, 4]
    acts: Ints  # [rank, slots, 4]
    bank_queue: Ints  # [bank, n] -> cycles in which its last lines were served, as a ring
    reads: Ints  # cycles in which entries of the read queue are free again, ascending, as a ring
    writes: Ints
    pending: Ints
    done: Ints  # [line] -> when its queue entry is free again; 0: not served
    next_in_bank: Ints  # [line]
    merged: Ints  # [MERGE_TABLE, 3]: block, direction, when served
    s: Ints


@compiled
def run(c: Costs, st: State, block: Ints, bank: Ints, row: Ints, write: Ints, not_before: Ints) -> int:
    """Places all lines; returns the end of the last burst.

    Each helper has one call site and is inlined there: a call would cost more than the work.
    """
    n, s, done, pending = bank.shape[0], st.s, st.done, st.pending
    s[NEXT_REFRESH] = c.refresh_interval if c.refresh_interval else NEVER
    _link_banks(st, bank)
    now = 0
    for i in range(n + 1):
        writes, keep = True, 0
        if i < n:
            now = max(now, not_before[i])
            if s[NEXT_REFRESH] <= now:
                _refresh(c, st, now)
            writes = write[i] == 1
        if not writes:
            now = _enter(st.reads, s, READS, READS_FROM, c.reads, now)
            batch = 1
        else:
            if i < n:
                now = _enter(st.writes, s, WRITES, WRITES_FROM, max(1, c.writes - s[PENDING]), now)
                pending[s[PENDING]] = i
                s[PENDING] += 1
                if s[LATEST_READ] > now:  # reads wait
                    if s[PENDING] <= c.write_high:
                        continue
                    keep = c.write_low
            batch = s[PENDING]
            s[DRAINS] += 1
        left = 0
        for k in range(batch):
            line = pending[k] if writes else i
            state = st.bank[bank[line]]
            if done[line]:
                s[AHEAD] -= 1
            else:
                if keep > 0:  # the second row of a bank waits while other writes can go
                    second = state[DRAINED] == s[DRAINS] and state[ROW] != row[line]
                    if second or keep >= batch - k:
                        keep -= second
                        pending[left] = line
                        left += 1
                        continue
                state[DRAINED] = s[DRAINS]
                _serve(c, st, state, block, bank, row, write, not_before, line, now)
            if writes:
                _hold(st.writes, s, WRITES, WRITES_FROM, done[line])
            else:
                _hold(st.reads, s, READS, READS_FROM, done[line])
        if writes:
            s[PENDING] = left
    last = 0
    for p in range(c.pin_sets):
        last = max(last, st.pins[p, LATEST])
    return last + (c.write_latency if s[DIRECTION] else c.read_latency)


@inlined
def _link_banks(st: State, bank: Ints) -> None:
    """For each line the next one in the same bank."""
    n, banks = bank.shape[0], st.bank.shape[0]
    for b in range(banks):
        st.bank[b, ROW] = n
    for i in range(n - 1, -1, -1):
        st.next_in_bank[i] = st.bank[bank[i], ROW]
        st.bank[bank[i], ROW] = i
    for b in range(banks):
        st.bank[b, ROW] = -1


@inlined
def _enter(ring: Ints, s: Ints, which: int, first: int, room: int, now: int) -> int:
    """When fewer than `room` entries are held, of which the earliest are let go."""
    gone = s[which] - room + 1
    if gone <= 0:
        return now
    mask = ring.shape[0] - 1
    free_at = ring[(s[first] + gone - 1) & mask]
    s[first] = (s[first] + gone) & mask
    s[which] -= gone
    return max(now, int(free_at))


@inlined
def _hold(ring: Ints, s: Ints, which: int, first: int, until: int) -> None:
    """One more entry, in ascending order."""
    mask = ring.shape[0] - 1
    k = s[first] + s[which]
    while k > s[first] and ring[(k - 1) & mask] > until:
        ring[k & mask] = ring[(k - 1) & mask]
        k -= 1
    ring[k & mask] = until
    s[which] += 1


@compiled
def _refresh(c: Costs, st: State, now: int) -> None:
    """All refreshes that are due: they start when what was placed is done, and close the rows."""
    s = st.s
    while s[NEXT_REFRESH] <= now:
        due = s[NEXT_REFRESH]
        s[NEXT_REFRESH] += c.refresh_interval
        first, count = 0, c.banks
        if c.refresh_per_bank:
            first, count = s[REFRESHED] % c.banks, 1
        s[REFRESHED] += 1
        for b in range(first, first + count):
            if st.bank[b, ROW] >= 0:
                due = max(due, st.bank[b, MAY_CLOSE])
        for b in range(first, first + count):
            st.bank[b, ROW] = -1
            st.bank[b, MAY_ACT] = max(st.bank[b, MAY_ACT], due + c.refresh)


@inlined
def _serve(
    c: Costs,
    st: State,
    state: Ints,
    block: Ints,
    bank: Ints,
    row: Ints,
    write: Ints,
    not_before: Ints,
    i: int,
    now: int,
) -> None:
    """Serves line i, and before it those that hit the row which it would close."""
    line, in_bank, j = -1, 1, st.next_in_bank[i]
    while line != i:
        line = i
        if state[ROW] != row[i] and state[ROW] >= 0:
            line, in_bank, j = _hit_before(c, st, state, row, write, not_before, i, j, in_bank, now)
        _serve_one(c, st, state, block[line], bank[i], row[line], write[i], line, max(now, not_before[line]))
        if line != i:
            st.s[AHEAD] += 1


@inlined
def _hit_before(
    c: Costs,
    st: State,
    state: Ints,
    row: Ints,
    write: Ints,
    not_before: Ints,
    i: int,
    j: int,
    in_bank: int,
    now: int,
) -> tuple[int, int, int]:
    """The next line from j on that hits the open row and goes before i; i if there is none. And where to go on."""
    n, s, done = row.shape[0], st.s, st.done
    while j < n and j - i - s[AHEAD] <= c.window:
        if done[j] == 0 and write[j] == write[i]:
            if row[j] == state[ROW]:
                closes = max(state[MAY_CLOSE], now + 1)
                if not_before[j] > closes:
                    return i, in_bank, j
                if state[SERVED] >= c.row_hit_limit:
                    ready = max(now + 1, state[OPENED] + c.act_to_read, state[LAST_COLUMN] + c.apart * c.burst)
                    if _first_free(st.bus[state[PIN_SET]], ready >> c.burst_bits) << c.burst_bits >= closes:
                        return i, in_bank, j
                return j, in_bank, st.next_in_bank[j]
            in_bank += 1
            if c.bank_queue and in_bank > c.bank_queue:
                return i, in_bank, j
        j = st.next_in_bank[j]
    return i, in_bank, j


@inlined
def _serve_one(
    c: Costs, st: State, state: Ints, block: int, bank: int, row: int, write: int, i: int, entry: int
) -> None:
    s = st.s
    if c.merge:
        twin = st.merged[block & (MERGE_TABLE - 1)]
        if twin[0] == block and twin[1] == write and twin[2] > entry:
            st.done[i] = max(1, entry)
            return
    frees, ring, at = entry, st.bank_queue[bank], state[QUEUE_AT]
    if c.bank_queue:  # an entry of the shared queue is free once the line moves to its bank's queue
        entry = max(entry, ring[at])
        frees = max(1, entry)
    issued = _place(c, st, state, row, write, entry)
    if c.bank_queue:
        ring[at] = issued
        state[QUEUE_AT] = at + 1 if at + 1 < c.bank_queue else 0
    else:
        frees = issued
    if c.merge:
        twin = st.merged[block & (MERGE_TABLE - 1)]
        twin[0], twin[1], twin[2] = block, write, issued
    st.done[i] = frees
    if not write:
        s[LATEST_READ] = max(s[LATEST_READ], issued)


@inlined
def _first_free(calendar: Ints, at: int) -> int:
    """The first free slot from `at` on."""
    mask, t = calendar.shape[0] - 1, at
    while calendar[t & mask, OWNER] == t + 1:
        t = calendar[t & mask, NEXT]
    while at < t:  # shorten the way for those who come later
        following = calendar[at & mask, NEXT]
        calendar[at & mask, NEXT] = t
        at = following
    return t


@inlined
def _take(calendar: Ints, slot: int, group: int) -> None:
    entry = calendar[slot & (calendar.shape[0] - 1)]
    entry[OWNER], entry[NEXT], entry[GROUP] = slot + 1, slot + 1, group


@inlined
def _turn_around(c: Costs, st: State, write: int, entry: int) -> None:
    """Changes the direction of the pins, after what was placed but for lines that wait for their banks."""
    s = st.s
    gap = c.read_to_write if write else c.write_to_read
    until = s[PHASE_START] + s[PHASE_LINES] * c.line_alone + c.precharge + c.act_to_read
    for p in range(c.pin_sets):
        pins = st.pins[p]
        pins[FLOOR] = max(pins[FLOOR], min(pins[LATEST] - c.burst, until)) + gap
    s[DIRECTION], s[PHASE_START], s[PHASE_LINES] = write, max(entry, st.pins[0, FLOOR]), 0


@inlined
def _place(c: Costs, st: State, state: Ints, row: int, write: int, entry: int) -> int:
    """Opens the row if need be and puts the line's bursts on the pins; returns when its last command issues."""
    s, rank = st.s, state[RANK]
    if write != s[DIRECTION]:
        _turn_around(c, st, write, entry)
    s[PHASE_LINES] += 1
    if state[ROW] != row:
        start = entry + 1
        if state[ROW] >= 0:
            start = max(start, state[MAY_CLOSE]) + c.precharge
        start = max(start, state[MAY_ACT], state[OPENED] + c.row_cycle)
        slot = _first_free(st.acts[rank], start // c.activate)
        _take(st.acts[rank], slot, 0)
        start = max(start, slot * c.activate)
        state[ROW], state[OPENED], state[MAY_CLOSE], state[SERVED] = row, start, start + c.row_open, 0
        s[COMMANDS] += c.row_commands
        s[ACTIVATES] += 1
    pins, calendar = st.pins[state[PIN_SET]], st.bus[state[PIN_SET]]
    ready = max(entry + 1, state[OPENED] + (c.act_to_write if write else c.act_to_read), pins[FLOOR])
    if c.row_commands:
        s[COMMANDS] = max(s[COMMANDS], entry) + c.pieces
        ready = max(ready, s[COMMANDS] - 2 * c.reads)  # commands of lines that wait went out of order
    group, mask = state[BANK_GROUP], calendar.shape[0] - 1
    slot, issued = ready >> c.burst_bits, ready
    for _ in range(c.pieces):
        slot = _first_free(calendar, slot)
        if c.apart > 1:
            before, after = calendar[(slot - 1) & mask], calendar[(slot + 1) & mask]
            while (before[OWNER] == slot and before[GROUP] == group) or (
                after[OWNER] == slot + 2 and after[GROUP] == group
            ):
                slot = _first_free(calendar, slot + 1)
                before, after = calendar[(slot - 1) & mask], calendar[(slot + 1) & mask]
        _take(calendar, slot, group)
        issued = max(issued, slot << c.burst_bits)
        slot += c.apart
    pins[LATEST] = max(pins[LATEST], issued + c.burst)
    state[SERVED] += c.pieces
    state[LAST_COLUMN] = issued
    state[MAY_CLOSE] = max(state[MAY_CLOSE], issued + (c.write_to_precharge if write else c.read_to_precharge))
    s[BURSTS_WRITTEN if write else BURSTS_READ] += c.pieces
    return issued
