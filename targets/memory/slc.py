"""The system-level cache, between the fabric and main memory, shared by all engines; or a scratchpad in its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tilewright.targets.parameter import Bandwidth, Bytes, Fraction, Measure, Quantity, Section, Time

Held = Annotated[Quantity, Measure("fraction", "fraction", (("fraction", 1.0),), 0.0, 1.0)]
Policy = Literal["cache", "random", "scratchpad"]


class SlcParameters(Section):
    """The `[memory.slc]` table.

    A `cache` holds what was used last, by bytes; a `random` one gives up any of its bytes alike. A `scratchpad` holds
    what the compiler puts there: temporaries of the program, each whole or not at all, from when it is written until it
    is read for the last time.
    """

    policy: Policy = "cache"

    size: Bytes
    share: Fraction | None = None  # of the size, that programs have; others hold the rest. None: all
    bandwidth: Bandwidth
    latency: Time  # of a hit, without the fabric
    retained: Held | None = None  # part of what activations leave free; it keeps weights from run to run
    warm: Held | None = None  # part that finds all tensors of a run before on the same ones, if they fit


@dataclass(frozen=True, slots=True)
class Slc:
    bytes: int  # that programs have
    bytes_per_s: int
    latency_ps: int
    policy: Policy = "cache"
    retained: float = 0.0
    warm_bytes: int = 0

    @classmethod
    def of(cls, p: SlcParameters) -> Slc:
        size = int(int(p.size) * float(p.share)) if p.share else int(p.size)
        retained = float(p.retained) if p.retained else 0.0
        warm = int(size * float(p.warm)) if p.warm else 0
        return cls(size, int(p.bandwidth), p.latency.ps, p.policy, retained, warm)

    def transfer_ps(self, size: int) -> int:
        """Least time in which the cache delivers `size` bytes to all engines together."""
        return -(-size * 10**12 // self.bytes_per_s)
