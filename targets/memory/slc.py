"""The system-level cache, between the fabric and main memory, shared by all engines; or a scratchpad in its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tilewright.targets.parameter import Bandwidth, Bytes, Measure, Quantity, Section, Time

Fraction = Annotated[Quantity, Measure("fraction", "fraction", (("fraction", 1.0),), 0.0, 1.0)]


class SlcParameters(Section):
    """The `[memory.slc]` table.

    A `cache` holds what was used last, by bytes. A `scratchpad` holds what the compiler puts there: temporaries of the
    program, each whole or not at all, from when it is written until it is read for the last time.
    """

    policy: Literal["cache", "scratchpad"] = "cache"

    size: Bytes
    bandwidth: Bandwidth
    latency: Time  # of a hit, without the fabric
    retained: Fraction | None = None  # part of what activations leave free; it keeps weights from run to run
    warm: Fraction | None = None  # part that finds all tensors of a run before on the same ones, if they fit


@dataclass(frozen=True, slots=True)
class Slc:
    bytes: int
    bytes_per_s: int
    latency_ps: int
    scratchpad: bool = False
    retained: float = 0.0
    warm_bytes: int = 0

    @classmethod
    def of(cls, p: SlcParameters) -> Slc:
        retained = float(p.retained) if p.retained else 0.0
        warm = int(int(p.size) * float(p.warm)) if p.warm else 0
        return cls(int(p.size), int(p.bandwidth), p.latency.ps, p.policy == "scratchpad", retained, warm)

    def transfer_ps(self, size: int) -> int:
        """Least time in which the cache delivers `size` bytes to all engines together."""
        return -(-size * 10**12 // self.bytes_per_s)
