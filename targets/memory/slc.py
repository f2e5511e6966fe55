"""The system-level cache, between the fabric and main memory, shared by all engines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tilewright.targets.parameter import Bandwidth, Bytes, Measure, Quantity, Section, Time

Retained = Annotated[Quantity, Measure("fraction", "fraction", (("fraction", 1.0),), 0.0, 1.0)]


class SlcParameters(Section):
    """The `[memory.slc]` table."""

    size: Bytes
    bandwidth: Bandwidth
    latency: Time  # of a hit, without the fabric
    retained: Retained  # of what activations leave free: the part that keeps weights from one run to the next


@dataclass(frozen=True, slots=True)
class Slc:
    bytes: int
    bytes_per_s: int
    latency_ps: int
    retained: float

    @classmethod
    def of(cls, p: SlcParameters) -> Slc:
        return cls(int(p.size), int(p.bandwidth), p.latency.ps, float(p.retained))

    def transfer_ps(self, size: int) -> int:
        """Least time in which the cache delivers `size` bytes to all engines together."""
        return -(-size * 10**12 // self.bytes_per_s)
