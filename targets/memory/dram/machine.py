"""The state of a channel's banks, and the rules over it, as arrays that compiled schedulers work on.

Nodes are numbered level by level: 0 is the channel, then the ranks, the bank groups, the banks. A node holds for each
command the first cycle in which the rules that were met so far allow it there; a command may issue in a bank when every
node on the path from the channel down to that bank allows it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .compiled import compiled, inlined
from .device import LEVELS, RANK_WIDE, Channel, Command, Rule

COMMANDS = len(Command)
ACT, ACT2, PRE, PREA, CAS_RD, CAS_WR, RD, WR, REFAB, REFPB = (int(c) for c in Command)
CLOSED, ACTIVATING = -1, -2  # in place of an open row
NEVER = 1 << 62
MAX_WINDOW = 8

Ints = NDArray[np.int64]


class Rules(NamedTuple):
    """The rules by their preceding command: those of command c are entries first[c] to first[c + 1] - 1."""

    first: Ints
    level: Ints
    following: Ints
    cycles: Ints
    window: Ints
    others: Ints
    path: Ints  # [bank, level] -> node
    sibling_first: Ints  # [node]: the children of its parent are sibling_first .. sibling_first + sibling_count - 1
    sibling_count: Ints


class Banks(NamedTuple):
    ready: Ints  # [node, command] -> cycle
    history: Ints  # [rank, n] -> cycle of the n-th last activate
    row: Ints  # [bank] -> open row, CLOSED or ACTIVATING
    served: Ints  # [bank] -> column commands since the row was opened
    open_banks: Ints  # [rank]
    opened_at: Ints  # [rank]: since when some bank has been open
    open_cycles: Ints  # [rank]: in the past


class Log(NamedTuple):
    """What was issued. `entries` holds commands from cycle start to before stop: cycle, command, bank, row, column."""

    counts: Ints  # [command]
    entries: Ints  # [n, 5]
    used: Ints  # [1]
    span: Ints  # start, stop
    last: Ints  # [0]: end of the last data burst, [1]: last cycle in which a command was issued


def rule_arrays(channel: Channel) -> Rules:
    o = channel.organisation
    table = sorted((_rank_wide(r) for r in channel.rules), key=lambda r: r.preceding)
    for r in table:
        if r.window > 1 and (r.preceding != Command.ACT or r.level != "rank" or r.others or r.window > MAX_WINDOW):
            raise ValueError(f"{channel.name}: {r}: only activates of a rank have windows, of at most {MAX_WINDOW}")
    counts = np.bincount([int(r.preceding) for r in table], minlength=COMMANDS)
    bank = np.arange(o.banks)
    group, rank = bank // o.banks_per_group, bank // o.banks_per_rank
    groups = o.ranks * o.bank_groups
    base = (0, 1, 1 + o.ranks, 1 + o.ranks + groups)
    path = np.stack([bank * 0, base[1] + rank, base[2] + group, base[3] + bank], axis=1).astype(np.int64)
    parents = [(0, 1)] + [(base[1], o.ranks)] * o.ranks
    parents += [(base[2] + r * o.bank_groups, o.bank_groups) for r in range(o.ranks) for _ in range(o.bank_groups)]
    parents += [
        (base[3] + g * o.banks_per_group, o.banks_per_group) for g in range(groups) for _ in range(o.banks_per_group)
    ]

    def column(values: list[int]) -> Ints:
        return np.array(values, np.int64)

    return Rules(
        first=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        level=column([LEVELS.index(r.level) for r in table]),
        following=column([r.following for r in table]),
        cycles=column([r.cycles for r in table]),
        window=column([r.window for r in table]),
        others=column([r.others for r in table]),
        path=path,
        sibling_first=column([first for first, _ in parents]),
        sibling_count=column([count for _, count in parents]),
    )


def _rank_wide(rule: Rule) -> Rule:
    """A rule with a command to all banks holds for the rank, however it is written."""
    wide = rule.preceding in RANK_WIDE or rule.following in RANK_WIDE
    if wide and not rule.others and rule.level in ("bank", "bank_group"):
        return Rule("rank", rule.preceding, rule.following, rule.cycles, rule.window)
    return rule


def new_banks(channel: Channel) -> Banks:
    o = channel.organisation
    nodes = 1 + o.ranks + o.ranks * o.bank_groups + o.banks
    return Banks(
        ready=np.zeros((nodes, COMMANDS), np.int64),
        history=np.full((o.ranks, MAX_WINDOW), -NEVER, np.int64),
        row=np.full(o.banks, CLOSED, np.int64),
        served=np.zeros(o.banks, np.int64),
        open_banks=np.zeros(o.ranks, np.int64),
        opened_at=np.zeros(o.ranks, np.int64),
        open_cycles=np.zeros(o.ranks, np.int64),
    )


def new_log(capacity: int, start: int, stop: int) -> Log:
    return Log(
        counts=np.zeros(COMMANDS, np.int64),
        entries=np.zeros((capacity, 5), np.int64),
        used=np.zeros(1, np.int64),
        span=np.array([start, stop], np.int64),
        last=np.zeros(2, np.int64),
    )


@inlined
def allowed_at(ready: Ints, path: Ints, bank: int, command: int) -> int:
    """The first cycle in which the rules allow the command in the bank (rank-wide ones: in its rank)."""
    t = max(ready[0, command], ready[path[bank, 1], command])
    return max(t, ready[path[bank, 2], command], ready[path[bank, 3], command])


@compiled
def apply_rules(rules: Rules, banks: Banks, bank: int, command: int, cycle: int) -> None:
    """What the command forbids to later ones."""
    ready, path = banks.ready, rules.path
    level, follow, cycles, window, others = rules.level, rules.following, rules.cycles, rules.window, rules.others
    for k in range(rules.first[command], rules.first[command + 1]):
        node, following = path[bank, level[k]], follow[k]
        if others[k]:
            first = rules.sibling_first[node]
            for other in range(first, first + rules.sibling_count[node]):
                if other != node:
                    ready[other, following] = max(ready[other, following], cycle + cycles[k])
            continue
        since = cycle
        if window[k] > 1:
            since = banks.history[node - 1, window[k] - 1]
        ready[node, following] = max(ready[node, following], since + cycles[k])


@compiled
def issue(
    rules: Rules, banks: Banks, log: Log, cycle: int, command: int, bank: int, row: int, column: int, per_rank: int
) -> None:
    """Issues the command: state, rules, counts and log. `per_rank`: banks in a rank."""
    rank = bank // per_rank
    if command == ACT:
        history = banks.history[rank]
        for n in range(MAX_WINDOW - 1, 0, -1):
            history[n] = history[n - 1]
        history[0] = cycle
        if banks.open_banks[rank] == 0:
            banks.opened_at[rank] = cycle
        banks.open_banks[rank] += 1
        banks.row[bank] = row
        banks.served[bank] = 0
    elif command == PRE:
        _close(banks, bank, rank, cycle)
    elif command == PREA:
        for b in range(rank * per_rank, (rank + 1) * per_rank):
            if banks.row[b] != CLOSED:
                _close(banks, b, rank, cycle)
    elif command in (RD, WR):
        banks.served[bank] += 1
    apply_rules(rules, banks, bank, command, cycle)
    log.counts[command] += 1
    log.last[1] = cycle
    if log.span[0] <= cycle < log.span[1]:
        if log.used[0] < log.entries.shape[0]:
            entry = log.entries[log.used[0]]
            entry[0], entry[1], entry[2], entry[3], entry[4] = cycle, command, bank, row, column
        log.used[0] += 1


@compiled
def _close(banks: Banks, bank: int, rank: int, cycle: int) -> None:
    banks.row[bank] = CLOSED
    banks.open_banks[rank] -= 1
    if banks.open_banks[rank] == 0:
        banks.open_cycles[rank] += cycle - banks.opened_at[rank]


@inlined
def end_of_burst(log: Log, cycle: int) -> None:
    log.last[0] = max(log.last[0], cycle)
