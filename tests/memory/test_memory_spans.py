"""What is alive at once, and what finds room."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tilewright.targets.memory.spans import Span, held, peak

PLACES = 12
SPANS = st.lists(
    st.builds(
        lambda a, b, size: Span(min(a, b), max(a, b), size),
        st.integers(0, PLACES - 1),
        st.integers(0, PLACES - 1),
        st.integers(0, 50),
    ),
    max_size=10,
)


def alive(spans: list[Span]) -> list[int]:
    return [sum(s.bytes for s in spans if s.first <= at <= s.last) for at in range(PLACES)]


@given(SPANS)
def test_the_peak_is_the_most_that_is_alive(spans: list[Span]):
    assert peak(spans, PLACES) == max(alive(spans))


@given(SPANS, st.integers(0, 80))
def test_what_is_held_fits_and_what_is_not_had_no_room(spans: list[Span], room: int):
    free = np.full(PLACES, room, np.int64)
    found = held(spans, free)
    used = alive([spans[i] for i in found])
    assert max(used) <= room and (free == room - np.array(used)).all()
    lengths = [spans[i].last - spans[i].first for i in found]
    assert lengths == sorted(lengths), "what is needed soonest comes first"
    for i in set(range(len(spans))) - set(found):
        span = spans[i]
        before = [spans[j] for j in found if (spans[j].last - spans[j].first) <= span.last - span.first]
        assert max(alive(before)[span.first : span.last + 1]) + span.bytes > room


def test_nothing_is_alive_of_nothing():
    assert peak([], 0) == 0
    assert held([], np.zeros(0, np.int64)) == []
