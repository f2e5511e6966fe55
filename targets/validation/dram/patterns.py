"""The access patterns of the golden DRAM runs, regenerated from their parameters (`data/README.md` defines them)."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tilewright.targets.memory.dram.requests import Lines

LINE = 64
SPACE = 1 << 30  # bytes that a pattern wraps in
U64 = NDArray[np.uint64]


@dataclass(frozen=True)
class Pattern:
    """One row of `patterns.csv`."""

    name: str
    family: str
    rw: str
    lines: int
    interval: int  # cycles between offered lines; 0: back to back
    sha256: str
    parameters: Mapping[str, int]

    @property
    def kind(self) -> str:
        return {"R": "read", "W": "write"}.get(self.rw, "mixed")

    def stream(self, limit: int | None = None) -> Lines:
        """The lines, or the first `limit` of them. Raises ValueError if they are not what the hash says."""
        addresses, writes = _FAMILIES[self.family](self)
        if self.sha256 and stream_hash(addresses, writes) != self.sha256:
            raise ValueError(f"pattern {self.name}: the regenerated lines do not have the hash of the table")
        n = self.lines if limit is None else min(limit, self.lines)
        not_before = np.arange(n, dtype=np.int64) * self.interval
        return Lines(addresses[:n].astype(np.int64), writes[:n], not_before, LINE)


def stream_hash(addresses: U64, writes: NDArray[np.bool_]) -> str:
    """SHA-256 over little-endian uint64 `address * 2 + is_write`."""
    return hashlib.sha256((addresses.astype("<u8") * 2 + writes.astype("<u8")).tobytes()).hexdigest()


def read_patterns(path: Path) -> dict[str, Pattern]:
    """Patterns by name from a table with the columns of `patterns.csv`."""
    numbers = ("base", "base2", "base_step", "n_streams", "stride", "chunk", "run", "width", "pitch", "tile_h", "seed")
    found: dict[str, Pattern] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            parameters = {k: int(row[k]) for k in numbers if row.get(k)}
            name = row["pattern_id"]
            hashed = row.get("sha256_u64le_addr_shl1_or_w", "")
            n, interval = int(row["n_lines"]), int(row["interval"])
            found[name] = Pattern(name, row["family"], row["rw"], n, interval, hashed, parameters)
    return found


def _index(p: Pattern) -> U64:
    return np.arange(p.lines, dtype=np.uint64)


def _constant(p: Pattern) -> NDArray[np.bool_]:
    return np.full(p.lines, p.rw == "W")


def _number(p: Pattern, name: str) -> np.uint64:
    return np.uint64(p.parameters.get(name, 0))


def _stride(p: Pattern) -> tuple[U64, NDArray[np.bool_]]:
    offset = _index(p) * _number(p, "stride")
    space = np.uint64(SPACE)
    return (_number(p, "base") + offset) % space + np.uint64(LINE) * (offset // space), _constant(p)


def _read_write_runs(p: Pattern) -> tuple[U64, NDArray[np.bool_]]:
    run, line = _number(p, "run"), np.uint64(LINE)
    g, k = np.divmod(_index(p), np.uint64(2) * run)
    writes = k >= run
    reads_at = _number(p, "base") + line * (g * run + k)
    writes_at = _number(p, "base2") + line * (g * run + np.where(writes, k - run, np.uint64(0)))
    return np.where(writes, writes_at, reads_at), writes


def _mix(seed: np.uint64, j: U64) -> U64:
    """splitmix64."""
    z = seed + (j + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _random(p: Pattern) -> tuple[U64, NDArray[np.bool_]]:
    chunk, line = _number(p, "chunk"), np.uint64(LINE)
    j, within = np.divmod(_index(p), chunk // line)
    places = _mix(_number(p, "seed"), j) % (np.uint64(SPACE) // chunk)
    writes = j % np.uint64(2) == 1 if p.rw == "A" else _constant(p)
    return places * chunk + line * within, writes


def _streams(p: Pattern) -> tuple[U64, NDArray[np.bool_]]:
    chunk, line = _number(p, "chunk"), np.uint64(LINE)
    q, within = np.divmod(_index(p), chunk // line)
    g, k = np.divmod(q, _number(p, "n_streams"))
    writes = k == np.uint64(2) if p.rw == "RRW" else _constant(p)
    return _number(p, "base") + k * _number(p, "base_step") + g * chunk + line * within, writes


def _tiles(p: Pattern) -> tuple[U64, NDArray[np.bool_]]:
    width, pitch, height, line = (*(_number(p, k) for k in ("width", "pitch", "tile_h")), np.uint64(LINE))
    q, within = np.divmod(_index(p), width // line)
    t, r = np.divmod(q, height)
    ty, tx = np.divmod(t, pitch // width)
    return _number(p, "base") + (ty * height + r) * pitch + tx * width + line * within, _constant(p)


_FAMILIES = {
    "seq": _stride,
    "stride": _stride,
    "rwruns": _read_write_runs,
    "rand": _random,
    "streams": _streams,
    "tile2d": _tiles,
}
