"""Tensors over the tasks or ops that they are alive in: what is alive at once, and what of it finds room."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Span(NamedTuple):
    """So many bytes from the first place to the last, both among them."""

    first: int
    last: int
    bytes: int


def peak(spans: Iterable[Span], places: int) -> int:
    """The most bytes that are alive at one of so many places."""
    change = [0] * (places + 1)
    for span in spans:
        change[span.first] += span.bytes
        change[span.last + 1] -= span.bytes
    return max(accumulate(change))


def held(spans: Sequence[Span], free: NDArray[np.int64]) -> list[int]:
    """Which of the spans find room in what is `free` at each place, all the time that they are alive: those that are
    needed soonest come first. Takes what they have from `free`."""
    found = []
    for i in sorted(range(len(spans)), key=lambda i: (spans[i].last - spans[i].first, spans[i].first)):
        room = free[spans[i].first : spans[i].last + 1]
        if room.min() >= spans[i].bytes:
            room -= spans[i].bytes
            found.append(i)
    return found
