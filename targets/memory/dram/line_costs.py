"""What the rules of a channel cost one line (`lines`): its timing table, reduced to a few numbers."""

from __future__ import annotations

import math
from typing import NamedTuple

from .device import BankQueues, Channel, Command

ACT, PRE, PREA, RD, WR, REFAB, REFPB = (
    Command.ACT,
    Command.PRE,
    Command.PREA,
    Command.RD,
    Command.WR,
    Command.REFAB,
    Command.REFPB,
)


class Costs(NamedTuple):
    """Cycles, unless it says otherwise. A slot is what one burst, or one activate, takes of what all banks share."""

    banks: int
    banks_per_rank: int
    banks_per_group: int
    pin_sets: int  # pseudo channels, or 1: ranks share the pins
    burst: int  # slot on the pins
    burst_bits: int
    pieces: int  # bursts a line, all in one row
    apart: int  # slots between two bursts of one bank group
    activate: int  # slot between activates of a rank: tRRD, or a quarter of tFAW
    act_to_read: int
    act_to_write: int
    precharge: int
    row_open: int  # ACT to PRE at least
    row_cycle: int
    read_to_precharge: int
    write_to_precharge: int
    read_to_write: int
    write_to_read: int
    read_latency: int
    write_latency: int
    row_commands: int  # that opening a row takes of the command bus; 0: row and column commands have buses of their own
    line_alone: int  # time of a line that opens a row, where pins or command bus are all that limits
    refresh: int  # that a bank cannot be opened
    refresh_interval: int  # 0: none
    refresh_per_bank: int
    reads: int  # queue entries, in lines
    writes: int
    write_high: int  # writes are served once more than this many wait
    write_low: int  # until so many are left
    bank_queue: int  # lines that wait in a bank's own queue; 0: there is none
    row_hit_limit: int
    window: int  # lines among which row hits are found
    merge: int  # a burst serves all lines in it that wait at the same time


def line_costs(channel: Channel, pieces: int) -> Costs:
    """`pieces`: bursts that one line is made of. Raises ValueError for bursts of other than 2^n cycles."""
    o, s, burst = channel.organisation, channel.scheduling, channel.burst_cycles
    if burst & (burst - 1):
        raise ValueError(f"{channel.name}: a burst of {burst} cycles; the line-granular model takes powers of two")
    queued = isinstance(s, BankQueues)
    per_bank = channel.refresh.kind == "per_bank"
    row_commands = 0 if channel.dual_issue else (3 if channel.activate_window else 2)

    def least(preceding: Command, following: Command, level: str = "") -> int:
        pair = (preceding, following)
        found = [r.cycles for r in channel.rules if (r.preceding, r.following) == pair and r.window == 1]
        if level:
            same = [r for r in channel.rules if r.level == level and not r.others and r.window == 1]
            found = [r.cycles for r in same if (r.preceding, r.following) == pair]
        return max(found, default=0)

    if per_bank:
        refresh = least(PRE, REFPB) + least(REFPB, ACT, "bank")
    else:
        refresh = max(least(PREA, REFAB), least(PRE, REFAB)) + least(REFAB, ACT)
    quarter = [math.ceil(r.cycles / r.window) for r in channel.rules if r.window > 1]
    bank_queue = max(1, s.commands_per_bank // pieces) if queued else 0
    reads, writes = max(1, s.reads // pieces), max(1, s.writes // pieces)
    return Costs(
        banks=o.banks,
        banks_per_rank=o.banks_per_rank,
        banks_per_group=o.banks_per_group,
        pin_sets=o.ranks if o.pseudo_channels else 1,
        burst=burst,
        burst_bits=burst.bit_length() - 1,
        pieces=pieces,
        apart=math.ceil(max(least(RD, RD, "bank_group"), burst) / burst),
        activate=max(1, least(ACT, ACT, "rank"), *quarter),
        act_to_read=least(ACT, RD),
        act_to_write=least(ACT, WR),
        precharge=least(PRE, ACT, "bank"),
        row_open=least(ACT, PRE),
        row_cycle=least(ACT, ACT, "bank"),
        read_to_precharge=least(RD, PRE),
        write_to_precharge=least(WR, PRE),
        read_to_write=least(RD, WR, "rank"),
        write_to_read=least(WR, RD, "rank"),
        read_latency=channel.read_latency,
        write_latency=channel.write_latency,
        row_commands=row_commands,
        line_alone=max(pieces * burst, pieces + row_commands if row_commands else 0),
        refresh=refresh,
        refresh_interval=channel.refresh.interval if channel.refresh.kind != "none" else 0,
        refresh_per_bank=int(per_bank),
        reads=reads,
        writes=writes,
        write_high=writes - 1 if queued else math.floor(s.high * s.writes) // pieces,
        write_low=0 if queued else math.ceil(s.low * s.writes) // pieces,
        bank_queue=bank_queue,
        row_hit_limit=s.row_hit_limit if queued else 0,
        window=reads + bank_queue * o.banks,
        merge=int(queued),
    )
