"""The golden DRAM runs, read once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from tilewright.targets.memory.dram.device import Channel
from tilewright.targets.memory.dram.requests import Lines
from tilewright.targets.validation.dram import golden
from tilewright.targets.validation.dram.patterns import Pattern, read_patterns

PATTERNS = read_patterns(golden.DATA / "patterns.csv")
CONFIGURATIONS = golden.configurations()


@cache
def stream(pattern: str) -> Lines:
    return PATTERNS[pattern].stream()


@cache
def channel(configuration: str, refresh: str = "allbank") -> Channel:
    return golden.channel(configuration, refresh)


@dataclass(frozen=True)
class Row:
    """One row of a configuration's table."""

    configuration: str
    pattern: Pattern
    refresh: str
    values: dict[str, str]

    @property
    def cycles(self) -> int:
        return int(self.values["total_cycles"])

    @property
    def channel(self) -> Channel:
        return channel(self.configuration, self.refresh)


@cache
def rows(configuration: str) -> tuple[Row, ...]:
    found = golden.rows(configuration)
    return tuple(Row(configuration, PATTERNS[r["pattern_id"]], r["refresh"], r) for r in found)
