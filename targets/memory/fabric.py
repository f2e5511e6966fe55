"""The on-chip fabric: one port an engine, with a cap on what it carries in both directions together."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.targets.parameter import Bandwidth, Section, Time


class FabricParameters(Section):
    """The `[memory.fabric]` table; `ports` has one entry an engine."""

    latency: Time  # from the cache or the memory controller to an engine
    ports: dict[str, Bandwidth]


@dataclass(frozen=True, slots=True)
class Fabric:
    latency_ps: int
    port_bytes_per_s: dict[str, int]

    @classmethod
    def of(cls, p: FabricParameters) -> Fabric:
        return cls(p.latency.ps, {engine: int(cap) for engine, cap in p.ports.items()})

    def transfer_ps(self, engine: str, size: int) -> int:
        """Least time in which `size` bytes pass the engine's port."""
        return -(-size * 10**12 // self.port_bytes_per_s[engine])
