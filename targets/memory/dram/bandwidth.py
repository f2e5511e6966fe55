"""Main memory: what the channels can carry, and what streams and patterns get of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import model_validator
from tilewright.targets.parameter import Bandwidth, Bytes, Fraction, Names, Quantity, Section, Time, count

if TYPE_CHECKING:  # imported where it is asked for: a list of targets does without numba
    from .demand import Demand

LINE = 64  # bytes of an access
SHIPPED = frozenset(path.stem for path in (Path(__file__).parent / "devices").glob("*.toml"))
ChannelCount = Annotated[Quantity, count("channels", 1024)]


def check_lines(granule_bytes: int, turn_bytes: int) -> None:
    """Raises ValueError for a granule or a turn that is no number of lines."""
    if granule_bytes % LINE or turn_bytes % LINE or granule_bytes < LINE:
        raise ValueError(f"a granule of {granule_bytes} B, a turn of {turn_bytes} B; expected whole lines of {LINE} B")


class DramParameters(Section):
    """The `[memory]` table's own keys. Either `device` and what follows it, or `efficiency`."""

    bandwidth: Bandwidth  # peak: data rate x bus width
    latency: Time  # from the memory controller's request to the first data, idle
    line: Bytes  # what one access moves at least
    device: Names | None = None  # of `dram/devices`, or a .toml file; clocked so that all channels reach the bandwidth
    channels: ChannelCount | None = None
    granule: Bytes | None = None  # of consecutive addresses in one channel
    turn: Bytes | None = None  # what one stream moves in a channel before another has its turn
    stream: Fraction | None = None  # of the peak, measured: two streams read and one written
    efficiency: Fraction | None = None  # of the peak that anything reaches, for a memory whose device is not known

    @model_validator(mode="after")
    def _one_model(self) -> DramParameters:
        """Raises ValueError unless there is one model, with all that it takes."""
        needed = {"device": self.device, "channels": self.channels, "granule": self.granule, "turn": self.turn}
        missing = [name for name, value in needed.items() if value is None]
        if self.efficiency is not None and len(missing) < len(needed):
            raise ValueError(
                "has both efficiency and device; expected device, with stream for what was measured, or efficiency"
            )
        if self.efficiency is None and missing:
            raise ValueError(f"{missing[0]} is missing; expected device, channels, granule and turn, or efficiency")
        if self.efficiency is not None and self.stream is not None:
            raise ValueError("has both efficiency and stream; stream belongs to a device")
        if self.device is not None and len(self.device.value) != 1:
            raise ValueError(f"device: expected one name, not {len(self.device.value)}")
        if self.device is not None and self.granule is not None and self.turn is not None:
            check_lines(int(self.granule), int(self.turn))
            if self.device.value[0] not in SHIPPED:
                self._check_device()
        return self

    def _check_device(self) -> None:
        from .section import DeviceError

        try:
            self.demand()
        except DeviceError as error:
            raise ValueError(f"device: {error}") from None

    def demand(self) -> Demand | None:
        """What patterns cost; None if only `efficiency` is known."""
        if self.device is None or self.channels is None or self.granule is None or self.turn is None:
            return None
        stream = float(self.stream) if self.stream is not None else 0.0
        return _demand(self.device.value[0], int(self.channels), int(self.granule), int(self.turn), stream)


@cache
def _demand(device: str, channels: int, granule_bytes: int, turn_bytes: int, stream: float) -> Demand:
    from .demand import Demand

    return Demand(device, channels, granule_bytes, turn_bytes, stream)


@dataclass(frozen=True, slots=True)
class Dram:
    bytes_per_s: int
    efficiency: float  # 1 where `demand` says what patterns cost
    latency_ps: int
    line_bytes: int
    parameters: DramParameters | None = None

    @classmethod
    def of(cls, p: DramParameters) -> Dram:
        efficiency = 1.0 if p.efficiency is None else float(p.efficiency)
        return cls(int(p.bandwidth), efficiency, p.latency.ps, int(p.line), p)

    @property
    def demand(self) -> Demand | None:
        """What patterns cost; None if only a rate is known."""
        return self.parameters.demand() if self.parameters else None

    @property
    def sustained_bytes_per_s(self) -> int:
        """What streams that are read and written get."""
        demand = self.demand
        return int(self.bytes_per_s * (demand.sustained if demand else self.efficiency))

    def transfer_ps(self, size: int) -> int:
        """Least time in which all channels together move `size` bytes, at the sustained rate."""
        return -(-size * 10**12 // self.sustained_bytes_per_s)
