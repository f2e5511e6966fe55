"""Streams described compactly: runs of contiguous bytes at a stride, of requesters that take turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .compiled import compiled
from .requests import Lines

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Transfer:
    """What one requester moves: `runs` runs of `run_bytes`, the first at `base`, their starts `stride` bytes apart."""

    base: int
    run_bytes: int
    runs: int = 1
    stride: int = 0
    write: bool = False

    def __post_init__(self) -> None:
        if self.base < 0 or self.run_bytes < 1 or self.runs < 1 or self.base + self.stride * (self.runs - 1) < 0:
            raise ValueError(f"{self}: expected run_bytes and runs of at least 1, and no address below 0")

    def lines(self, line_bytes: int) -> int:
        """Accesses of `line_bytes` each; a line that two runs touch is accessed twice."""
        if self.stride % line_bytes == 0:
            first = self.base // line_bytes
            return self.runs * ((self.base + self.run_bytes - 1) // line_bytes - first + 1)
        start = self.base + self.stride * np.arange(self.runs, dtype=np.int64)
        return int(((start + self.run_bytes - 1) // line_bytes - start // line_bytes + 1).sum())


def interleave(transfers: Sequence[Transfer], grain: int = 64, line_bytes: int = 64, limit: int | None = None) -> Lines:
    """The lines of all transfers, each requester sending `grain` bytes when it is its turn, round robin.

    `limit`: at most so many lines, the first ones. Raises ValueError for a grain that is no multiple of a line.
    """
    if grain < line_bytes or grain % line_bytes:
        raise ValueError(f"a grain of {grain} B; expected a multiple of the line's {line_bytes} B")
    total = sum(t.lines(line_bytes) for t in transfers)
    n = total if limit is None else min(total, limit)
    table = np.array([(t.base, t.run_bytes, t.runs, t.stride, t.write) for t in transfers], np.int64).reshape(-1, 5)
    addresses, writes = np.empty(n, np.int64), np.empty(n, np.bool_)
    _expand(table, grain // line_bytes, line_bytes, np.zeros((len(table), 2), np.int64), addresses, writes)
    return Lines(addresses, writes, None, line_bytes)


@compiled
def _expand(table: Ints, turn: int, line: int, at: Ints, addresses: Ints, writes: NDArray[np.bool_]) -> None:
    """Fills addresses and writes. `at`: [transfer] -> run, line within it."""
    n = 0
    while n < addresses.shape[0]:
        for k in range(table.shape[0]):
            for _ in range(turn):
                if at[k, 0] == table[k, 2] or n == addresses.shape[0]:
                    break
                start = table[k, 0] + at[k, 0] * table[k, 3]
                address = (start // line + at[k, 1]) * line
                addresses[n], writes[n] = address, table[k, 4] != 0
                n += 1
                at[k, 1] += 1
                if address + line >= start + table[k, 1]:
                    at[k, 0] += 1
                    at[k, 1] = 0
