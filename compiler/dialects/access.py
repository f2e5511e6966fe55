"""Which block of a tensor an iteration touches: one affine expression an axis.

The text of an axis is `expression[/divisor][:extent]`, over the names of the iteration dims:

    m          one element for each m: the block of a tile of m is [m0, m0 + tile)
    2*oh-1:3   a window of 3 elements that starts at 2*oh - 1 (a convolution's halo; may run outside the tensor)
    32*g+c     two dims on one axis (grouped channels)
    k/32       one element for every 32 points of k (a scale of a group); a tile of k is a multiple of 32, or divides it
    :768       all 768 elements, whatever the iteration
    0          element 0 (broadcast)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

_TERM = re.compile(r"\s*([+-]?)\s*(?:(\d+)\s*\*\s*)?([A-Za-z_]\w*|\d+)")
_DIVIDED = re.compile(r"([^/]*)/\s*([1-9]\d*)\s*((?:[+-]\s*\d+)?)\s*")


@dataclass(frozen=True, slots=True)
class Axis:
    """Elements `[floor(sum(c*d) / divisor) + offset, ... + extent)` for one iteration point; a tile of points widens
    the window. With a divisor, tiles of the dim must be multiples of it or divide it, so that no block is cut twice."""

    terms: tuple[tuple[str, int], ...] = ()  # (dim, coefficient > 0)
    offset: int = 0
    extent: int = 1
    divisor: int = 1

    def __str__(self) -> str:
        text = "+".join(d if c == 1 else f"{c}*{d}" for d, c in self.terms)
        if self.divisor != 1:
            text += f"/{self.divisor}"
        if self.offset or (not text and self.extent == 1):
            text += f"{self.offset:+d}" if text else str(self.offset)
        return text if self.extent == 1 else f"{text}:{self.extent}"

    def start(self, at: Mapping[str, int]) -> int:
        """First element when each dim's tile starts at `at[dim]`."""
        return sum(c * at[d] for d, c in self.terms) // self.divisor + self.offset

    def size(self, tile: Mapping[str, int]) -> int:
        """Elements that a tile of `tile[dim]` points a dim touches."""
        total = 0
        for d, c in self.terms:
            total += c * (tile[d] - 1)
        return total // self.divisor + self.extent

    @property
    def dims(self) -> tuple[str, ...]:
        return tuple(d for d, _ in self.terms)


@dataclass(frozen=True)
class Access:
    """One Axis for each axis of the tensor."""

    axes: tuple[Axis, ...]

    def __str__(self) -> str:
        return ", ".join(map(str, self.axes))

    @property
    def text(self) -> tuple[str, ...]:
        return tuple(map(str, self.axes))

    def start(self, at: Mapping[str, int]) -> tuple[int, ...]:
        return tuple(a.start(at) for a in self.axes)

    def block(self, tile: Mapping[str, int]) -> tuple[int, ...]:
        return tuple([a.size(tile) for a in self.axes])

    @cached_property
    def dims(self) -> frozenset[str]:
        return frozenset(d for a in self.axes for d in a.dims)


def identity(dims: Iterable[str]) -> Access:
    return Access(tuple(Axis(((d, 1),)) for d in dims))


def whole(shape: Iterable[int]) -> Access:
    return Access(tuple(Axis(extent=n) for n in shape))


@lru_cache(maxsize=65536)
def parse_axis(text: str) -> Axis:
    """Reads one axis. Raises ValueError with the text in the message."""
    expression, _, extent = text.partition(":")
    divided = _DIVIDED.fullmatch(expression)
    if divided:
        inner = parse_axis(divided[1])
        if inner.offset or inner.extent != 1 or len(inner.terms) != 1:
            raise ValueError(f"only a dim may be divided, not as in '{text}'")
        offset = int(divided[3].replace(" ", "") or 0)
        return Axis(inner.terms, offset, int(extent) if extent.strip() else 1, int(divided[2]))
    if expression and not re.fullmatch(f"(?:{_TERM.pattern})+\\s*", expression):
        raise ValueError(f"cannot read the index expression '{text}'")
    terms, offset = [], 0
    for sign, coefficient, atom in _TERM.findall(expression):
        factor = int(coefficient or 1) * (-1 if sign == "-" else 1)
        if atom.isdigit():
            offset += factor * int(atom)
        else:
            if factor < 0:
                raise ValueError(f"a dim may not run backwards in '{text}'")
            terms.append((atom, factor))
    return Axis(tuple(terms), offset, int(extent) if extent.strip() else 1)


@lru_cache(maxsize=65536)
def parse_access(axes: tuple[str, ...]) -> Access:
    return Access(tuple(parse_axis(a) for a in axes))
