"""A stream of bursts for one channel, in the order in which it is offered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .device import Channel

Ints = NDArray[np.int64]


class Bursts(NamedTuple):
    """int64[n] each. `block` names the burst's address; `not_before` is the cycle from which it may be offered."""

    block: Ints
    bank: Ints
    row: Ints
    column: Ints
    write: Ints
    not_before: Ints


class Outcome(NamedTuple):
    """Counters of a run, filled by the schedulers."""

    reads: Ints  # [0] number, [1] sum, [2] least, [3] most of the read latencies in cycles
    rows: Ints  # requests that met [0] their row open, [1] the bank closed, [2] another row open
    unserved: Ints  # [0]: bursts that never reached the pins (merged, forwarded, or left in the write queue)


def new_outcome() -> Outcome:
    return Outcome(np.array([0, 0, 1 << 62, 0], np.int64), np.zeros(3, np.int64), np.zeros(1, np.int64))


@dataclass(frozen=True)
class Lines:
    """Accesses of `line_bytes` each: byte addresses int64[n], writes bool[n].

    Line i is offered no sooner than in cycle not_before[i] (int64[n], ascending), or as soon as the ones before it.
    """

    addresses: Ints
    writes: NDArray[np.bool_]
    not_before: Ints | None = None
    line_bytes: int = 64

    def __len__(self) -> int:
        return len(self.addresses)

    def bursts(self, channel: Channel) -> Bursts:
        """Lines cut into bursts at ascending addresses.

        Where a burst is larger than a line, a line in the same burst and direction as the one before it adds none.
        """
        size = channel.organisation.burst_bytes
        n = len(self)
        not_before = np.zeros(n, np.int64) if self.not_before is None else self.not_before
        writes = self.writes.astype(np.int64)
        if size <= self.line_bytes:
            pieces = self.line_bytes // size
            address = (self.addresses[:, None] + np.arange(pieces) * size).reshape(-1)
            writes, not_before = np.repeat(writes, pieces), np.repeat(not_before, pieces)
        else:
            address = self.addresses - self.addresses % size
            same = (address[1:] == address[:-1]) & (writes[1:] == writes[:-1])
            keep = np.concatenate([np.ones(min(n, 1), bool), ~same])
            address, writes, not_before = address[keep], writes[keep], not_before[keep]
        location = channel.address_map.split(address, channel.organisation)
        return Bursts(address // size, *location, writes, np.ascontiguousarray(not_before, dtype=np.int64))
