"""How long DRAM is busy with a stream of accesses, for what simulates whole programs: no address is looked at there.

A copy of a program touches memory in nested loops of runs of bytes (`Pattern`). Its lines, as they fall on the busiest
channel, go through the line-granular model once; what they take there, in units of what their bytes take on the data
pins alone, is their `Service`. Streams that run side by side take turns in a channel, and so open each other's rows
and turn the bus around: what their mixture takes beyond its parts is `interference`, by the same model. Patterns are
few, so both are remembered.

Where a stream starts does not count: the operating system scatters the pages of a buffer over the banks, so streams are
put at rows that have nothing to do with each other. Refresh stops every bank, whatever the pattern: its part is that of
a long stream.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .bandwidth import LINE, check_lines
from .compiled import compiled
from .device import FIELDS, AddressMap, Channel, Command, Refresh
from .lines import simulate
from .requests import Ints, Lines
from .section import load_device

CHUNK = 256  # bytes beside each other in a row
LINES = 1 << 10  # a channel: a pattern's first, of which the first quarter fills the queues
SEEN = 8  # times as many are looked at for how evenly they spread over the channels
LONG = 1 << 16  # lines a channel, over a dozen refresh intervals
FEWEST = 64  # lines a channel; what has fewer counts as a stream
PARTS = 16  # in which a mixture is told
SPREAD = 0.381966  # of a channel's rows, between the starts of streams: the golden section keeps them apart


@dataclass(frozen=True, slots=True)
class Pattern:
    """Runs of `run_bytes`; `dims` says how many of them, and how many bytes apart, from the innermost loop out."""

    run_bytes: int
    dims: tuple[tuple[int, int], ...] = ()
    write: bool = False

    def merged(self, most_bytes: int) -> Pattern:
        """The same accesses with as few dims as possible, and no more of them than reach `most_bytes`."""
        run, dims = self.run_bytes, []
        for count, stride in self.dims:
            if count == 1 or stride == 0:
                continue
            if not dims and abs(stride) <= -(-run // LINE) * LINE:
                run += (count - 1) * abs(stride)
            elif dims and stride == dims[-1][0] * dims[-1][1]:
                dims[-1] = (dims[-1][0] * count, dims[-1][1])
            else:
                dims.append((count, stride))
        reached, kept = min(-(-run // LINE) * LINE, most_bytes), []
        for count, stride in dims:
            count = min(count, -(-most_bytes // reached))
            if count > 1:
                kept.append((count, stride))
            reached *= count
        return Pattern(min(run, most_bytes), tuple(kept), self.write)

    def written(self) -> Pattern:
        return Pattern(self.run_bytes, self.dims, write=True)


@dataclass(frozen=True, slots=True)
class Service:
    """Of one line: DRAM's time beside that on the data pins, which is 1, without refresh; and activates."""

    rows: float  # waiting for rows, banks and the bus, and channels that have less to do
    activates: float

    @property
    def time(self) -> float:
        return 1.0 + self.rows


@dataclass(frozen=True, slots=True)
class Demand:
    """A memory of equal channels. `granule_bytes` of consecutive addresses lie in one of them, or of their pseudo
    channels; `turn_bytes` is what one stream moves there before another has its turn.

    `stream`: the part of the peak that a triad (two reads, a write) was measured to reach; 0 where nobody did. The
    model's times are scaled by what it misses that by.
    """

    device: str
    channels: int
    granule_bytes: int
    turn_bytes: int
    stream: float = 0.0

    def __post_init__(self) -> None:
        """Raises DeviceError for an unknown device, ValueError for a granule or a turn that is no number of lines."""
        _channel(self.device)
        check_lines(self.granule_bytes, self.turn_bytes)

    @property
    def most_bytes(self) -> int:
        """After so many bytes a pattern has shown what it costs."""
        return SEEN * LINES * LINE * self.ways

    @property
    def ways(self) -> int:
        """Channels, or pseudo channels: each has its own banks and pins."""
        organisation = _channel(self.device).organisation
        return self.channels * (organisation.ranks if organisation.pseudo_channels else 1)

    @property
    def peak_bytes_per_s(self) -> float:
        """Of the device as it is specified."""
        return _channel(self.device).peak_bytes_per_s * self.channels

    def sequential(self, write: bool = False) -> Pattern:
        return Pattern(self.most_bytes, (), write)

    def service(self, pattern: Pattern) -> Service:
        """What one line of a pattern alone takes."""
        alone = _alone(self._shape(), pattern.merged(self.most_bytes))
        return Service(alone.time * alone.imbalance - 1.0, alone.activates)

    def interference(self, streams: Sequence[tuple[Pattern, int]]) -> float:
        """What the mixture takes over what its streams take one after the other. Each comes with its bytes."""
        total = sum(size for _, size in streams)
        shares = [(p.merged(self.most_bytes), round(PARTS * size / max(total, 1))) for p, size in streams]
        mixed = sorted(((p, n) for p, n in shares if n), key=lambda m: (m[0].write, m[0].run_bytes, m[0].dims, m[1]))
        return _interference(self._shape(), self.turn_bytes, tuple(mixed)) if len(mixed) > 1 else 1.0

    @property
    def refresh(self) -> float:
        """What refresh makes every time longer by, as a factor."""
        return _refresh(self.device)

    @property
    def controller(self) -> float:
        """Times as measured over times as the device's rules and queues give them."""
        return 1.0 / (self.stream * _triad(self._shape(), self.turn_bytes)) if self.stream else 1.0

    @property
    def sustained(self) -> float:
        """The part of the peak that a triad reaches."""
        return self.stream or 1.0 / _triad(self._shape(), self.turn_bytes)

    @property
    def contention(self) -> float:
        """What the streams of one engine make those of another longer by, as a factor: two triads, over one."""
        one = [self.sequential(), self.sequential(), self.sequential(write=True)]
        alone = _interference(self._shape(), self.turn_bytes, _mixture(one))
        return max(1.0, _interference(self._shape(), self.turn_bytes, _mixture(one * 2)) / alone)

    def _shape(self) -> Demand:
        """What times in units of the peak depend on."""
        return Demand(self.device, self.channels, self.granule_bytes, 0)


def _mixture(patterns: Sequence[Pattern]) -> tuple[tuple[Pattern, int], ...]:
    return tuple((p, 1) for p in patterns)


@cache
def _channel(device: str) -> Channel:
    """With the map of an open-page controller in place of the file's, for the maps of products are not published.

    The lines of a row follow each other, but that two bank groups take turns every `CHUNK` bytes: then bursts of both
    are at hand, and none has to wait for tCCD_L. Pseudo channels are channels of their own, of which this is one. Banks
    are xored with rows, without which strides of a power of two would meet in one bank: Z. Zhang, Z. Zhu, X. Zhang, A
    permutation-based page interleaving scheme (MICRO 2000).
    """
    channel = load_device(device)
    bits = dict.fromkeys(FIELDS, 0)
    for name, n in channel.address_map.fields:
        bits[name] += n
    low = min(bits["column"], (CHUNK // channel.organisation.burst_bytes).bit_length() - 1)
    paired = min(1, bits["bank_group"])
    fields = (
        ("column", low),
        ("bank_group", paired),
        ("column", bits["column"] - low),
        ("bank_group", bits["bank_group"] - paired),
        ("bank", bits["bank"]),
        ("rank", 0 if channel.organisation.pseudo_channels else bits["rank"]),
        ("row", bits["row"]),
    )
    address_map = AddressMap(channel.address_map.offset_bits, tuple(f for f in fields if f[1]), bank_hash=True)
    return replace(channel, address_map=address_map)


@cache
def _unrefreshed(device: str) -> Channel:
    return _channel(device).with_refresh(Refresh("none"))


@cache
def _refresh(device: str) -> float:
    lines = Lines(np.arange(LONG, dtype=np.int64) * LINE, np.zeros(LONG, np.bool_))
    with_it, without = (simulate(c, lines).cycles for c in (_channel(device), _unrefreshed(device)))
    return with_it / without


@cache
def _triad(shape: Demand, turn_bytes: int) -> float:
    """The time of a line of a triad."""
    streams = [shape.sequential(), shape.sequential(), shape.sequential(write=True)]
    mean = sum(shape.service(p).time for p in streams) / len(streams)
    return mean * _interference(shape, turn_bytes, _mixture(streams)) * shape.refresh


class _Alone(NamedTuple):
    """A pattern by itself, on its busiest channel."""

    lines: Ints  # addresses within the channel
    imbalance: float  # how many more they are than every channel's share
    time: float  # of one, over that on the data pins
    activates: float  # of one


@lru_cache(maxsize=1 << 12)
def _alone(shape: Demand, pattern: Pattern) -> _Alone:
    lines, imbalance = _busiest(shape, pattern)
    if len(lines) < FEWEST:
        return _alone(shape, shape.sequential(pattern.write))
    time, activates = _per_line(shape.device, lines, np.full(len(lines), pattern.write))
    return _Alone(lines, imbalance, time, activates)


@lru_cache(maxsize=1 << 14)
def _interference(shape: Demand, turn_bytes: int, mixed: tuple[tuple[Pattern, int], ...]) -> float:
    address_map = _unrefreshed(shape.device).address_map
    space = 1 << address_map.offset_bits + sum(bits for _, bits in address_map.fields)
    starts = [int(i * SPREAD * (space >> 16)) << 16 for i in range(len(mixed))]
    alone = [_alone(shape, pattern) for pattern, _ in mixed]
    parts = [n for _, n in mixed]
    turns, turn = _turns(parts), max(1, turn_bytes // LINE)
    periods = 4 * max(1, -(-2 * LINES // (4 * turn * len(turns))))  # a head of whole periods fills the queues
    at, addresses = [0] * len(mixed), []
    for i in turns * periods:
        n = np.arange(at[i], at[i] + turn) % len(alone[i].lines)
        addresses.append((alone[i].lines[n] + starts[i]) % space)
        at[i] += turn
    writes = np.repeat([mixed[i][0].write for i in turns * periods], turn)
    time, _ = _per_line(shape.device, np.concatenate(addresses), writes)
    return time * sum(parts) / sum(n * a.time for n, a in zip(parts, alone, strict=True))


def _turns(parts: Sequence[int]) -> list[int]:
    """Who has the next turn, for one period: as many turns as parts, and as evenly as can be."""
    common = math.gcd(*parts)
    credit, turns = [0] * len(parts), []
    for _ in range(sum(parts) // common):
        credit = [c + n // common for c, n in zip(credit, parts, strict=True)]
        chosen = max(range(len(parts)), key=credit.__getitem__)
        credit[chosen] -= sum(parts) // common
        turns.append(chosen)
    return turns


def _per_line(device: str, addresses: Ints, writes: NDArray[np.bool_]) -> tuple[float, float]:
    """(time over that on the data pins, activates) of one line, once the queues are full."""
    channel, n = _unrefreshed(device), len(addresses)
    first = n // 4
    whole = simulate(channel, Lines(addresses, writes))
    head = simulate(channel, Lines(addresses[:first], writes[:first]))
    on_pins = LINE // channel.organisation.burst_bytes * channel.burst_cycles
    time = (whole.cycles - head.cycles) / ((n - first) * on_pins)
    return max(1.0, time), whole.counts[Command.ACT] / n


def _busiest(shape: Demand, pattern: Pattern) -> tuple[Ints, float]:
    """The busiest channel's lines, as addresses within it, and how many more they are than every channel's share."""
    dims = np.array(pattern.dims, np.int64).reshape(-1, 2)
    base = -sum(min(0, (count - 1) * stride) for count, stride in pattern.dims)
    ways = shape.ways
    found = np.empty((ways, LINES), np.int64)
    counts, position = np.zeros(ways, np.int64), np.zeros(len(dims), np.int64)
    bits = 0 if ways & (ways - 1) else ways.bit_length() - 1
    total = _spread(base, pattern.run_bytes, dims, position, shape.granule_bytes, bits, found, counts)
    busiest = int(counts.argmax())
    n = int(counts[busiest])
    fair = total / ways + shape.granule_bytes / LINE  # the others are at most a granule behind
    return _scattered(shape.device, found[busiest, : min(n, LINES)]), max(1.0, n / fair)


def _scattered(device: str, addresses: Ints) -> Ints:
    """Rows renumbered by xors of their higher bits, so that no stride stays on a few banks. Controllers do: P. Pessl et
    al., DRAMA (USENIX Security 2016), found each bank bit to be an xor of several address bits."""
    channel = _unrefreshed(device)
    size = channel.organisation.row_bytes << min(1, (channel.organisation.bank_groups - 1).bit_length())
    rows = addresses // size
    return (rows ^ rows >> 1 ^ rows >> 4) * size + addresses % size


@compiled
def _spread(base, run, dims, position, granule, bits, found, counts):
    """Walks a pattern's lines until some channel has `SEEN` times as many as `found` has room for; gives their number.

    Granules go to channels in turn, each round in an order of its own: xored with the bits above the `bits` of a power
    of two (as `channels.Interleaving` does), else turned by a hash of the round's number.
    """
    channels, most = found.shape
    total, start = 0, base
    while True:
        line = start // 64
        while line * 64 < start + run:
            number = line * 64 // granule
            if bits > 0:
                folded, rest = number, number >> bits
                while rest > 0:
                    folded ^= rest
                    rest >>= bits
                channel = folded & (channels - 1)
            else:
                channel = (number + (number // channels * 0x9E3779B1 >> 16)) % channels
            if counts[channel] < most:
                found[channel, counts[channel]] = number // channels * granule + line * 64 % granule
            counts[channel] += 1
            total += 1
            if counts[channel] == SEEN * most:
                return total
            line += 1
        k = 0
        while k < dims.shape[0]:
            position[k] += 1
            start += dims[k, 1]
            if position[k] < dims[k, 0]:
                break
            start -= dims[k, 0] * dims[k, 1]
            position[k] = 0
            k += 1
        if k == dims.shape[0]:
            return total
