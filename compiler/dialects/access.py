"""Which block of a tensor an iteration touches: one affine expression an axis.

The text of an axis is `expression[:extent]`, over the names of the iteration dims:

    m          one element for each m: the block of a tile of m is [m0, m0 + tile)
    2*oh-1:3   a window of 3 elements that starts at 2*oh - 1 (a convolution's halo; may run outside the tensor)
    32*g+c     two dims on one axis (grouped channels)
    :768       all 768 elements, whatever the iteration
    0          element 0 (broadcast)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

_TERM = re.compile(r"\s*([+-]?)\s*(?:(\d+)\s*\*\s*)?([A-Za-z_]\w*|\d+)")


@dataclass(frozen=True, slots=True)
class Axis:
    """Elements `[sum(c*d) + offset, ... + extent)` for one iteration point; a tile of points widens the window."""

    terms: tuple[tuple[str, int], ...] = ()  # (dim, coefficient > 0)
    offset: int = 0
    extent: int = 1

    def __str__(self) -> str:
        text = "+".join(d if c == 1 else f"{c}*{d}" for d, c in self.terms)
        if self.offset or (not text and self.extent == 1):
            text += f"{self.offset:+d}" if text else str(self.offset)
        return text if self.extent == 1 else f"{text}:{self.extent}"

    def start(self, at: Mapping[str, int]) -> int:
        """First element when each dim's tile starts at `at[dim]`."""
        return sum(c * at[d] for d, c in self.terms) + self.offset

    def size(self, tile: Mapping[str, int]) -> int:
        """Elements that a tile of `tile[dim]` points a dim touches."""
        total = self.extent
        for d, c in self.terms:
            total += c * (tile[d] - 1)
        return total

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
