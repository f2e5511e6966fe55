"""Main memory: what the channels can carry, without addresses."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.targets.parameter import Bandwidth, Bytes, Fraction, Section, Time


class DramParameters(Section):
    """The `[memory]` table's own keys."""

    bandwidth: Bandwidth  # peak: data rate x bus width
    efficiency: Fraction  # of the peak that streams reach (refresh, turnaround, row misses)
    latency: Time  # from the memory controller's request to the first data, idle
    line: Bytes  # what one access moves at least


@dataclass(frozen=True, slots=True)
class Dram:
    bytes_per_s: int
    efficiency: float
    latency_ps: int
    line_bytes: int

    @classmethod
    def of(cls, p: DramParameters) -> Dram:
        return cls(int(p.bandwidth), float(p.efficiency), p.latency.ps, int(p.line))

    @property
    def sustained_bytes_per_s(self) -> int:
        return int(self.bytes_per_s * self.efficiency)

    def transfer_ps(self, size: int) -> int:
        """Least time in which all channels together move `size` bytes, at the sustained rate."""
        return -(-size * 10**12 // self.sustained_bytes_per_s)
