"""The command-level reference model of one channel: every command in its cycle.

It exists to be right rather than fast: the line-granular model (`lines`) is held to it. Simulated cycles in which no
command can issue are leapt over, which changes no cycle of any command.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import bank_queues, row_hit_first
from .device import COLUMN, BankQueues, Channel, Command, RowHitFirst
from .machine import NEVER, Banks, Log, new_banks, new_log, rule_arrays
from .requests import Bursts, Lines, Outcome, new_outcome


@dataclass(frozen=True)
class LoggedCommand:
    cycle: int
    command: Command
    rank: int
    bank_group: int  # -1 where the command addresses all banks of the rank
    bank: int  # in its group
    row: int  # -1 where the command has none
    column: int


@dataclass(frozen=True)
class Run:
    """What came out of a run; cycles of the channel's clock, of which cycle 0 is when the first burst was offered."""

    cycles: int  # end of the last data burst
    stop_cycle: int  # when the controller had nothing left to do
    counts: dict[Command, int]
    unserved: int  # bursts that never reached the pins: merged, forwarded, or left in the write queue
    reads: int
    read_latency_sum: int
    read_latency_min: int
    read_latency_max: int
    row_hits: int
    row_misses: int
    row_conflicts: int
    active_cycles: int  # of all ranks together: cycles with some bank open, until stop_cycle
    channel: Channel
    commands: tuple[LoggedCommand, ...] = ()

    @property
    def bursts(self) -> int:
        return sum(self.counts[c] for c in COLUMN)

    @property
    def bytes_per_s(self) -> float:
        """Bytes on the data pins over the time until the last of them."""
        return self.bursts * self.channel.organisation.burst_bytes / (self.cycles * self.channel.clock_ps * 1e-12)

    @property
    def read_latency(self) -> float:
        """Mean in cycles, from when a read was taken into its queue to the end of its data."""
        return self.read_latency_sum / self.reads if self.reads else 0.0

    def energy_pj(self) -> dict[str, float]:
        """Energy by cause. Raises ValueError for a channel without currents."""
        e = self.channel.energy
        if e is None:
            raise ValueError(f"{self.channel.name}: no currents, so no energy")
        idle = self.channel.organisation.ranks * self.stop_cycle - self.active_cycles
        return {
            "activate": self.counts[Command.ACT] * e.activate,
            "read": self.counts[Command.RD] * e.read,
            "write": self.counts[Command.WR] * e.write,
            "refresh": self.counts[Command.REFAB] * e.refresh,
            "background": self.active_cycles * e.active_cycle + idle * e.idle_cycle,
        }


def simulate(channel: Channel, stream: Lines | Bursts, log: tuple[int, int] | None = None) -> Run:
    """Offers the stream in order, as fast as the queues take it, and runs until it is done.

    `log`: commands from the first to before the second cycle are kept in `Run.commands`.
    """
    bursts = stream.bursts(channel) if isinstance(stream, Lines) else stream
    n, o = len(bursts.block), channel.organisation
    rules, banks, out = rule_arrays(channel), new_banks(channel), new_outcome()
    span = log or (0, 0)
    trace = new_log(min(span[1] - span[0], 1 << 20) * 2, *span)
    if isinstance(channel.scheduling, BankQueues):
        setting, queues = _bank_queues(channel, channel.scheduling, n)
        stop = bank_queues.run(rules, banks, trace, bursts, setting, queues, out)
    else:
        setting, queues = _row_hit_first(channel, channel.scheduling, n)
        stop = row_hit_first.run(rules, banks, trace, bursts, setting, queues, out)
    return _result(channel, banks, trace, out, stop, o.banks_per_rank)


def _zeros(*shape: int) -> NDArray[np.int64]:
    return np.zeros(shape, np.int64)


def _bank_queues(channel: Channel, scheduling: BankQueues, n: int) -> tuple[bank_queues.Setting, bank_queues.Queues]:
    o, refresh = channel.organisation, channel.refresh
    setting = bank_queues.Setting(
        ranks=o.ranks,
        banks_per_rank=o.banks_per_rank,
        row_hit_limit=scheduling.row_hit_limit,
        idle_drain=scheduling.idle_drain,
        dual_issue=int(channel.dual_issue),
        refresh_interval=refresh.interval if refresh.kind != "none" else 0,
        staggered=int(refresh.staggered),
        read_latency=channel.read_latency,
        write_latency=channel.write_latency,
        burst=channel.burst_cycles,
    )
    queues = bank_queues.Queues(
        reads=_zeros(scheduling.reads),
        writes=_zeros(scheduling.writes),
        commands=_zeros(o.banks, scheduling.commands_per_bank),
        commands_held=_zeros(o.banks),
        held=_zeros(8),
        merged=_zeros(n, 4),
        refresh_due=_zeros(64 * o.ranks),
    )
    return setting, queues


def _row_hit_first(
    channel: Channel, scheduling: RowHitFirst, n: int
) -> tuple[row_hit_first.Setting, row_hit_first.Queues]:
    o, refresh = channel.organisation, channel.refresh
    setting = row_hit_first.Setting(
        ranks=o.ranks,
        banks_per_rank=o.banks_per_rank,
        write_high=math.floor(scheduling.high * scheduling.writes),
        write_low=math.ceil(scheduling.low * scheduling.writes),
        dual_issue=int(channel.dual_issue),
        split_window=channel.activate_window,
        clock_sync_after=channel.clock_sync_after,
        refresh_interval=refresh.interval if refresh.kind != "none" else 0,
        per_bank=int(refresh.kind == "per_bank"),
        read_latency=channel.read_latency,
        write_latency=channel.write_latency,
        burst=channel.burst_cycles,
    )
    queues = row_hit_first.Queues(
        reads=_zeros(scheduling.reads),
        writes=_zeros(scheduling.writes),
        active=_zeros(o.banks),
        activating=_zeros(o.banks),
        active_in=_zeros(o.banks),
        deadline=np.full(o.banks, NEVER, np.int64),
        refresh=_zeros(4096),
        held=_zeros(9),
        arrived=_zeros(n),
        begun=_zeros(n),
        oldest_hit=np.full(o.banks, NEVER, np.int64),
    )
    return setting, queues


def _result(channel: Channel, banks: Banks, log: Log, out: Outcome, stop: int, per_rank: int) -> Run:
    used = int(log.used[0])
    if used > len(log.entries):
        raise ValueError(f"{channel.name}: {used} commands in the cycles to be logged; log fewer cycles")
    commands = []
    for cycle, code, bank, row, column in log.entries[:used].tolist():
        command = Command(code)
        rank, group = bank // per_rank, bank % per_rank // channel.organisation.banks_per_group
        wide = command in (Command.PREA, Command.REFAB)
        place = (rank, -1, -1) if wide else (rank, group, bank % channel.organisation.banks_per_group)
        commands.append(LoggedCommand(cycle, command, *place, row, column))
    end = max(stop, int(log.last[0]))
    still_open = banks.open_banks > 0
    active = int(banks.open_cycles.sum() + (end - banks.opened_at[still_open]).sum())
    return Run(
        cycles=int(log.last[0]),
        stop_cycle=end,
        counts={c: int(log.counts[c]) for c in Command},
        unserved=int(out.unserved[0]),
        reads=int(out.reads[0]),
        read_latency_sum=int(out.reads[1]),
        read_latency_min=int(out.reads[2]) if out.reads[0] else 0,
        read_latency_max=int(out.reads[3]),
        row_hits=int(out.rows[0]),
        row_misses=int(out.rows[1]),
        row_conflicts=int(out.rows[2]),
        active_cycles=active,
        channel=channel,
        commands=tuple(commands),
    )
