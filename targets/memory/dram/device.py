"""What a DRAM channel is: organisation, address map, timing rules, and how its controller schedules.

All times are in cycles of the channel's command clock, all sizes in bytes. The command-level reference model
(`reference.simulate`) and the line-granular one (`lines.simulate`) both take a `Channel`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .compiled import compiled


class Command(IntEnum):
    """Commands of the channel. A split activate (LPDDR5) is ACT (ACT1), then ACT2."""

    ACT = 0
    ACT2 = 1
    PRE = 2
    PREA = 3
    CAS_RD = 4
    CAS_WR = 5
    RD = 6
    WR = 7
    REFAB = 8
    REFPB = 9


RANK_WIDE = (Command.PREA, Command.REFAB)  # address all banks of a rank
COLUMN = (Command.RD, Command.WR)
Level = Literal["channel", "rank", "bank_group", "bank"]
LEVELS: tuple[Level, ...] = ("channel", "rank", "bank_group", "bank")
FIELDS: tuple[str, ...] = ("rank", "bank_group", "bank", "row", "column")


@dataclass(frozen=True, slots=True)
class Rule:
    """`following` comes at least `cycles` after `preceding` in the same node of `level`, or in one of its siblings.

    `others`: the siblings are meant. `window` n counts from the n-th last `preceding` command: tFAW is a window of 4.
    """

    level: Level
    preceding: Command
    following: Command
    cycles: int
    window: int = 1
    others: bool = False


@dataclass(frozen=True, slots=True)
class Organisation:
    """One channel. A pseudo channel (HBM) takes the place of a rank: it has data pins of its own."""

    ranks: int
    bank_groups: int  # a rank
    banks_per_group: int
    rows: int
    bursts_per_row: int
    burst_bytes: int
    pseudo_channels: bool = False

    @property
    def banks_per_rank(self) -> int:
        return self.bank_groups * self.banks_per_group

    @property
    def banks(self) -> int:
        return self.ranks * self.banks_per_rank

    @property
    def row_bytes(self) -> int:
        return self.bursts_per_row * self.burst_bytes


class Location(NamedTuple):
    """Where each of n bursts lies; int64[n] each. `bank` counts through the whole channel: rank, group, bank."""

    bank: NDArray[np.int64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class AddressMap:
    """Cuts an address into fields, from the LSB up, after `offset_bits` bits within a burst.

    A field that is listed twice is concatenated, the first piece being its low bits. Bits above the last field are
    ignored. `bank_hash` xors the bank bits with the low row bits, which spreads strides of whole rows over banks.
    """

    offset_bits: int
    fields: tuple[tuple[str, int], ...]  # (one of FIELDS, bits)
    bank_hash: bool = False

    def __post_init__(self) -> None:
        for name, bits in self.fields:
            if name not in FIELDS or bits < 0:
                raise ValueError(f"address map: ({name!r}, {bits}) is no field; expected one of {', '.join(FIELDS)}")

    def split(self, addresses: NDArray[np.int64], organisation: Organisation) -> Location:
        """Bank, row and column of each byte address (int64[n])."""
        field = np.array([FIELDS.index(name) for name, _ in self.fields], np.int64)
        bits = np.array([bits for _, bits in self.fields], np.int64)
        o = organisation
        sizes = np.array([o.bank_groups, o.banks_per_group, o.banks_per_rank, self.bank_hash], np.int64)
        location = Location(*(np.empty(len(addresses), np.int64) for _ in range(3)))
        _split(addresses, self.offset_bits, field, bits, sizes, *location)
        return location


@compiled
def _split(addresses, offset_bits, field, bits, sizes, bank, row, column):  # type: ignore[no-untyped-def]
    """Fills bank, row and column; `sizes`: groups, banks a group, banks a rank, and whether banks are hashed."""
    for i in range(addresses.shape[0]):
        rest = addresses[i] >> offset_bits
        rank, group, number, in_row, in_column = 0, 0, 0, 0, 0
        low_row, low_column, low_group, low_bank, low_rank = 0, 0, 0, 0, 0
        for k in range(field.shape[0]):
            part = rest & ((1 << bits[k]) - 1)
            rest >>= bits[k]
            if field[k] == 4:
                in_column |= part << low_column
                low_column += bits[k]
            elif field[k] == 3:
                in_row |= part << low_row
                low_row += bits[k]
            elif field[k] == 2:
                number |= part << low_bank
                low_bank += bits[k]
            elif field[k] == 1:
                group |= part << low_group
                low_group += bits[k]
            else:
                rank |= part << low_rank
                low_rank += bits[k]
        within = group * sizes[1] + number
        if sizes[3]:
            within = (within ^ in_row) % sizes[2]
        bank[i], row[i], column[i] = rank * sizes[2] + within, in_row, in_column


@dataclass(frozen=True, slots=True)
class BankQueues:
    """Scheduling with a command queue a bank.

    Reads and writes wait in queues of their own; each cycle one of them moves to the queue of its bank. Bank queues are
    visited round robin, and each gives its oldest command that timing allows. A row is closed for the oldest command of
    the bank, once no queued command hits it or `row_hit_limit` column commands were served. Writes move only while the
    write queue drains: from when it is full, or holds more than `idle_drain` and no bank has commands, until as many
    have moved as were in it. Refresh freezes its rank, and precharges bank by bank.
    """

    reads: int = 32
    writes: int = 32
    commands_per_bank: int = 8
    row_hit_limit: int = 4
    idle_drain: int = 8


@dataclass(frozen=True, slots=True)
class RowHitFirst:
    """FR-FCFS over one read and one write queue.

    Each cycle: the oldest request whose row was opened for it and whose column command is ready; else the head of the
    refresh queue, which blocks what follows; else of the queue in turn the ready request that came first, where a row
    is not closed while a request as old or older hits it. Writes have their turn from when more than `high` of their
    queue is taken, or no read waits, until less than `low` is and one does.
    """

    reads: int = 32
    writes: int = 32
    high: float = 0.8
    low: float = 0.2


@dataclass(frozen=True, slots=True)
class Refresh:
    """`all_bank`: one REFab a rank every `interval`; `per_bank`: one REFpb every `interval`, bank after bank."""

    kind: Literal["none", "all_bank", "per_bank"]
    interval: int = 0
    staggered: bool = False  # ranks take turns every interval / ranks, instead of all at once


@dataclass(frozen=True, slots=True)
class Energy:
    """Energy in pJ of each command, and a cycle of one rank with some or no bank open."""

    activate: float
    read: float
    write: float
    refresh: float
    active_cycle: float
    idle_cycle: float

    @classmethod
    def of_currents(
        cls,
        vdd: float,
        idd: dict[str, float],
        *,
        ras: int,
        rp: int,
        burst: int,
        rfc: int,
        clock_ns: float,
        devices: int = 1,
    ) -> Energy:
        """From data-sheet currents in mA (IDD0, 2N, 3N, 4R, 4W, 5AB), V and cycles (Micron TN-40-07).

        An activate-precharge pair is charged what one row cycle at IDD0 draws above standby, a column command what its
        burst draws above active standby, a refresh what tRFC at IDD5AB draws above it.
        """
        unit = vdd * devices * clock_ns  # V x mA x ns = pJ
        standby = idd["IDD3N"]
        return cls(
            activate=unit * (idd["IDD0"] * (ras + rp) - standby * ras - idd["IDD2N"] * rp),
            read=unit * (idd["IDD4R"] - standby) * burst,
            write=unit * (idd["IDD4W"] - standby) * burst,
            refresh=unit * (idd["IDD5AB"] - standby) * rfc,
            active_cycle=unit * standby,
            idle_cycle=unit * idd["IDD2N"],
        )


@dataclass(frozen=True, slots=True)
class Channel:
    """One DRAM channel with its controller."""

    name: str
    clock_ps: float
    organisation: Organisation
    address_map: AddressMap
    rules: tuple[Rule, ...]
    scheduling: BankQueues | RowHitFirst
    refresh: Refresh
    read_latency: int  # from RD to the first data
    write_latency: int
    burst_cycles: int  # that a burst holds the data pins
    dual_issue: bool = False  # a row and a column command in one cycle (HBM)
    activate_window: int = 0  # cycles between ACT1 and ACT2 at most; 0: one activate command
    clock_sync_after: int = -1  # cycles that the data clock (WCK) runs on after a burst; -1: it never stops
    energy: Energy | None = None

    def __post_init__(self) -> None:
        o, bits = self.organisation, {field: 0 for field in FIELDS}
        for name, n in self.address_map.fields:
            bits[name] += n
        sizes = (o.ranks, o.bank_groups, o.banks_per_group, o.rows, o.bursts_per_row)
        for name, size in zip(FIELDS, sizes, strict=True):
            if 1 << bits[name] > size:
                raise ValueError(f"{self.name}: address map: {bits[name]} bits of {name}, but there are only {size}")
        refresh, blocks = (Command.REFAB, Command.ACT), (Command.REFPB, Command.REFPB)
        pair = blocks if self.refresh.kind == "per_bank" else refresh
        takes = max((r.cycles for r in self.rules if (r.preceding, r.following) == pair), default=0)
        if self.refresh.kind != "none" and self.refresh.interval <= takes:
            raise ValueError(f"{self.name}: a refresh every {self.refresh.interval} cycles, but each takes {takes}")
        if isinstance(self.scheduling, BankQueues) and (self.activate_window or self.refresh.kind == "per_bank"):
            raise ValueError(
                f"{self.name}: bank queues know no split activate and no per-bank refresh; use RowHitFirst"
            )

    @property
    def peak_bytes_per_s(self) -> float:
        """Bursts back to back on the data pins of the channel (of all pseudo channels)."""
        pins = self.organisation.ranks if self.organisation.pseudo_channels else 1
        return pins * self.organisation.burst_bytes / (self.burst_cycles * self.clock_ps * 1e-12)

    def with_queues(self, entries: int) -> Channel:
        """The same channel with read and write queues of that many entries."""
        return replace(self, scheduling=replace(self.scheduling, reads=entries, writes=entries))

    def with_refresh(self, refresh: Refresh) -> Channel:
        return replace(self, refresh=refresh)
