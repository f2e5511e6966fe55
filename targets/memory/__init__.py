"""One memory system for all engines: fabric ports, a system-level cache, DRAM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tilewright.targets.parameter import EnergyPerByte, Power, Section

from .dram import Dram, DramParameters
from .fabric import Fabric, FabricParameters
from .slc import Policy, Slc, SlcParameters

if TYPE_CHECKING:
    from .dram.demand import Demand

__all__ = ["Dram", "Fabric", "Memory", "MemoryEnergy", "MemoryParameters", "Slc"]


class MemoryEnergy(Section):
    """The `[memory.energy]` table. A byte that an engine moves costs `slc`, way and all, and `dram` on top of that if
    DRAM is read or written for it."""

    slc: EnergyPerByte
    dram: EnergyPerByte
    static: Power  # drawn all the time: standby and refresh


class MemoryParameters(DramParameters):
    """The `[memory]` table."""

    slc: SlcParameters
    fabric: FabricParameters
    energy: MemoryEnergy | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """The parts, and their numbers as plain integers (bytes, bytes a second, picoseconds)."""

    dram: Dram
    slc: Slc
    fabric: Fabric
    energy: MemoryEnergy | None = None  # None: not known

    @classmethod
    def of(cls, p: MemoryParameters) -> Memory:
        return cls(Dram.of(p), Slc.of(p.slc), Fabric.of(p.fabric), p.energy)

    @property
    def dram_bytes_per_s(self) -> int:
        """Peak; see `efficiency` and `demand`."""
        return self.dram.bytes_per_s

    @property
    def efficiency(self) -> float:
        """The fraction of the peak that anything reaches; 1 where `demand` says what each pattern costs."""
        return self.dram.efficiency

    @property
    def demand(self) -> Demand | None:
        return self.dram.demand

    @property
    def dram_latency_ps(self) -> int:
        return self.dram.latency_ps

    @property
    def line_bytes(self) -> int:
        return self.dram.line_bytes

    @property
    def slc_bytes(self) -> int:
        return self.slc.bytes

    @property
    def slc_policy(self) -> Policy:
        """What the SLC gives up, or that the compiler says what it holds."""
        return self.slc.policy

    @property
    def slc_bytes_per_s(self) -> int:
        return self.slc.bytes_per_s

    @property
    def slc_latency_ps(self) -> int:
        return self.slc.latency_ps

    @property
    def slc_retained(self) -> float:
        return self.slc.retained

    @property
    def slc_warm_bytes(self) -> int:
        """All tensors of a program are found in the SLC if they are together no larger."""
        return self.slc.warm_bytes

    @property
    def fabric_latency_ps(self) -> int:
        return self.fabric.latency_ps

    @property
    def port_bytes_per_s(self) -> dict[str, int]:
        """The cap of each engine's port, reads and writes together."""
        return self.fabric.port_bytes_per_s
