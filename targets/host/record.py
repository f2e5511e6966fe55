"""What the micro-benchmarks found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from .machine import Machine


@dataclass(frozen=True, slots=True)
class Probe:
    """One figure in base units (s, Hz, B/s, 1/s), from what it was taken, and how far its samples scatter above it."""

    value: float
    how: str
    spread: float = 0.0


class Kernel(NamedTuple):
    """A library's product. `mac_rate`: multiply-adds a second of a core; `pack` and `stream`: seconds an element of the
    second operand, and of a core an element of the first and the result; `start`: of a small one; `ragged`: more of a
    core for an element in a block of channels that is not whole; `together`: the same where all cores work."""

    mac_rate: Probe
    pack: Probe
    stream: Probe
    start: Probe
    ragged: Probe | None = None
    together: Kernel | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """All of one machine. `functions`: seconds of one core an element, and a reduction of a row, by the op's name;
    `exposed`: how much of the shorter of a function's computing and its memory traffic the other does not hide;
    `long`: of a row that is gone over again, the bytes of which nothing shows, and how much of the rest;
    `apart`: cores that work together were not near each other for all of it."""

    machine: Machine
    date: str
    threads: int
    probes: Mapping[str, Probe]
    functions: Mapping[str, tuple[Probe, Probe]]
    kernels: Mapping[str, Kernel]
    exposed: Mapping[str, Probe]
    long: Mapping[str, tuple[Probe, Probe]]
    apart: bool = False

    def __getitem__(self, name: str) -> float:
        return self.probes[name].value

    def restless(self, limit: float = 1.0) -> list[str]:
        """The probes half of whose samples took more than `1 + limit` times the least: others used the machine."""
        return [name for name, probe in self.probes.items() if probe.spread > limit]
