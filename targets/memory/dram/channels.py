"""Several channels side by side: how addresses spread over them, and the time that all of them take together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .device import Channel
from .lines import simulate
from .requests import Lines
from .traffic import Transfer, interleave

ENOUGH = 1 << 17  # lines a channel after which a stream has shown its sustained rate: over 40 refresh intervals of DDR4


@dataclass(frozen=True, slots=True)
class Interleaving:
    """Granule i of the address space lies in channel i mod `channels`.

    `hashed` xors all further bits of the granule's number into the channel's, which takes a power of two: so strides of
    all channels' granules spread over the channels as well.
    """

    channels: int
    granule_bytes: int
    hashed: bool = False

    def __post_init__(self) -> None:
        if self.channels < 1 or self.granule_bytes < 1:
            raise ValueError(f"{self}: expected at least one channel and one byte")
        if self.hashed and self.channels & (self.channels - 1):
            raise ValueError(f"{self}: a hash takes a power of two; {self.channels} channels are none")

    def channel_of(self, addresses: NDArray[np.int64]) -> NDArray[np.int64]:
        granule = addresses // self.granule_bytes
        if not self.hashed or self.channels == 1:
            return granule % self.channels
        bits, folded = self.channels.bit_length() - 1, granule
        for shift in range(bits, 48, bits):
            folded = folded ^ (granule >> shift)
        return folded % self.channels

    def within(self, addresses: NDArray[np.int64]) -> NDArray[np.int64]:
        """The address in its channel. Every channel's addresses are dense."""
        return addresses // (self.granule_bytes * self.channels) * self.granule_bytes + addresses % self.granule_bytes

    def split(self, lines: Lines) -> list[Lines]:
        """The lines of each channel, in their order."""
        channel, local = self.channel_of(lines.addresses), self.within(lines.addresses)
        parts = []
        for c in range(self.channels):
            mine = np.flatnonzero(channel == c)
            before = None if lines.not_before is None else lines.not_before[mine]
            parts.append(Lines(local[mine], lines.writes[mine], before, lines.line_bytes))
        return parts


@dataclass(frozen=True, slots=True)
class Channels:
    """Equal channels that share one address space."""

    channel: Channel
    interleaving: Interleaving

    @property
    def peak_bytes_per_s(self) -> float:
        return self.channel.peak_bytes_per_s * self.interleaving.channels

    def time_ps(self, lines: Lines) -> int:
        """From the first line offered to the end of the last burst, when every channel has its own queue of lines."""
        cycles = [simulate(self.channel, part).cycles for part in self.interleaving.split(lines) if len(part)]
        return round(max(cycles, default=0) * self.channel.clock_ps)

    def transfer_ps(self, transfers: Sequence[Transfer], grain: int = 64, line_bytes: int = 64) -> int:
        """The time of transfers whose requesters take turns of `grain` bytes (`traffic.interleave`).

        Of a stream longer than `ENOUGH` lines a channel the first part is simulated; the rest takes its rate.
        """
        total = sum(t.lines(line_bytes) for t in transfers)
        lines = interleave(transfers, grain, line_bytes, limit=ENOUGH * self.interleaving.channels)
        return round(self.time_ps(lines) * (total / len(lines))) if total else 0

    def sustained_bytes_per_s(self, transfers: Sequence[Transfer], grain: int = 64, line_bytes: int = 64) -> float:
        """Bytes of lines moved per second."""
        total = sum(t.lines(line_bytes) for t in transfers)
        return total * line_bytes / (self.transfer_ps(transfers, grain, line_bytes) * 1e-12)
