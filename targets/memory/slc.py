"""The system-level cache, between the fabric and main memory, shared by all engines."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.targets.parameter import Bandwidth, Bytes, Section, Time


class SlcParameters(Section):
    """The `[memory.slc]` table."""

    size: Bytes
    bandwidth: Bandwidth
    latency: Time  # of a hit, without the fabric


@dataclass(frozen=True, slots=True)
class Slc:
    bytes: int
    bytes_per_s: int
    latency_ps: int

    @classmethod
    def of(cls, p: SlcParameters) -> Slc:
        return cls(int(p.size), int(p.bandwidth), p.latency.ps)

    def transfer_ps(self, size: int) -> int:
        """Least time in which the cache delivers `size` bytes to all engines together."""
        return -(-size * 10**12 // self.bytes_per_s)
