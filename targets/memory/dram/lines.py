"""The line-granular model of one channel: bank states and calendars, where the reference searches queues every cycle.

Lines are taken in the order in which they are offered and placed once: a row is opened in the first free slot of its
rank's activates, and bursts go into the first free slots of the data pins, so that a line that waits for its bank is
overtaken by those that need not wait. Three things are kept from the schedulers: a queue that is full holds back what
follows; a line that would close a row lets those go first that hit it and are near enough to be in the queues; writes
wait until enough of them are there, or nothing reads. Held to the reference by `tests/memory`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .device import Channel, Command
from .line_costs import Costs, line_costs
from .line_kernel import (
    ACTIVATES,
    BANK_GROUP,
    BURSTS_READ,
    BURSTS_WRITTEN,
    MERGE_TABLE,
    OPENED,
    PIN_SET,
    RANK,
    REFRESHED,
    ROW,
    State,
    run,
)
from .machine import NEVER, Ints
from .requests import Lines


@dataclass(frozen=True)
class Estimate:
    """What the model says of a stream; cycles of the channel's clock."""

    cycles: int  # end of the last burst
    counts: dict[Command, int]  # ACT, RD, WR, and REFAB or REFPB
    channel: Channel

    @property
    def bytes_per_s(self) -> float:
        """Bytes on the data pins over the time until the last of them."""
        bursts = self.counts[Command.RD] + self.counts[Command.WR]
        return bursts * self.channel.organisation.burst_bytes / (self.cycles * self.channel.clock_ps * 1e-12)


class Placed(NamedTuple):
    """A stream as the model takes it; int64[n] each. `pieces` bursts of a line lie in one row."""

    block: Ints
    bank: Ints
    row: Ints
    write: Ints
    not_before: Ints
    pieces: int


def place(channel: Channel, stream: Lines) -> Placed:
    """Finds bank and row of each line (of each burst, where a line is spread over several rows)."""
    size = channel.organisation.burst_bytes
    pieces = max(1, stream.line_bytes // size)
    bits = channel.address_map.fields
    low, name = channel.address_map.offset_bits, bits[0][0] if bits else ""
    together = name == "column" and (stream.line_bytes >> low) <= 1 << bits[0][1]
    if pieces == 1 or not together:
        b = stream.bursts(channel)
        return Placed(b.block, b.bank, b.row, b.write, b.not_before, 1)
    location = channel.address_map.split(stream.addresses, channel.organisation)
    not_before = np.zeros(len(stream), np.int64) if stream.not_before is None else stream.not_before
    writes = stream.writes.astype(np.int64)
    return Placed(stream.addresses // stream.line_bytes, location.bank, location.row, writes, not_before, pieces)


def simulate(channel: Channel, stream: Lines | Placed) -> Estimate:
    """The time that the stream takes, offered in order and as fast as the queues take it."""
    placed = stream if isinstance(stream, Placed) else place(channel, stream)
    c = line_costs(channel, placed.pieces)
    state = _new_state(c, channel, len(placed.bank))
    cycles = run(c, state, placed.block, placed.bank, placed.row, placed.write, placed.not_before)
    s = state.s
    counts = dict.fromkeys(Command, 0)
    counts |= {Command.ACT: int(s[ACTIVATES]), Command.RD: int(s[BURSTS_READ]), Command.WR: int(s[BURSTS_WRITTEN])}
    refreshes = int(s[REFRESHED]) * (1 if c.refresh_per_bank else channel.organisation.ranks)
    counts[Command.REFPB if c.refresh_per_bank else Command.REFAB] = refreshes
    return Estimate(int(cycles), counts, channel)


def _new_state(c: Costs, channel: Channel, lines: int) -> State:
    ahead = 2 * (c.refresh + max(c.reads, c.writes, c.bank_queue) * (c.row_cycle + c.write_to_precharge))  # cycles
    slots = 1 << max(8, (ahead // min(c.burst, c.activate)).bit_length())

    def zeros(*shape: int) -> Ints:
        return np.zeros(shape, np.int64)

    def ring(entries: int) -> Ints:
        return zeros(1 << (entries + 1).bit_length())

    bank, number = zeros(c.banks, 16), np.arange(c.banks)
    bank[:, ROW], bank[:, OPENED] = -1, -NEVER
    bank[:, RANK], bank[:, BANK_GROUP] = number // c.banks_per_rank, number // c.banks_per_group
    bank[:, PIN_SET] = bank[:, RANK] if c.pin_sets > 1 else 0
    return State(
        bank=bank,
        pins=zeros(c.pin_sets, 2),
        bus=zeros(c.pin_sets, slots, 4),
        acts=zeros(channel.organisation.ranks, slots, 4),
        bank_queue=zeros(c.banks, max(1, c.bank_queue)),
        reads=ring(c.reads),
        writes=ring(2 * c.writes),
        pending=zeros(c.writes + 2),
        done=zeros(lines),
        next_in_bank=zeros(lines),
        merged=np.full((MERGE_TABLE, 3), -1, np.int64),
        s=zeros(32),
    )
