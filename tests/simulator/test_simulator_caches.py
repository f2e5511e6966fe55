"""The cache that gives up any of its bytes alike, against one that picks lines by chance."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tilewright.compiler.dialects import soc
from tilewright.compiler.ir import MemRefType
from tilewright.targets.simulator.caches import Access, Random

KIB = 1024
LINE = 64


def buffer(address: int, size: int) -> soc.Buffer:
    return soc.Buffer(result_types=[MemRefType((size // 2,), "f16", (1,), 0, "dram")], address=address)


class Lines:
    """Every line by itself; which one makes room is drawn."""

    def __init__(self, capacity: int, seed: int):
        self.capacity, self.draw = capacity // LINE, random.Random(seed)
        self.slots: list[int] = []
        self.at: dict[int, int] = {}
        self.dirty: set[int] = set()
        self.misses = self.written = 0

    def touch(self, line: int, store: bool) -> None:
        if line not in self.at:
            self.misses += 1
            slot = len(self.slots)
            if slot == self.capacity:
                slot = self.draw.randrange(self.capacity)
                old = self.slots[slot]
                del self.at[old]
                self.written += old in self.dirty
                self.dirty.discard(old)
            else:
                self.slots.append(line)
            self.slots[slot], self.at[line] = line, slot
        if store:
            self.dirty.add(line)


def steps(parts: list[soc.Buffer]) -> Iterator[list[Access]]:
    """What softmax in parts does with scores a, exponentials b and shares, which take a's place."""
    a, b = parts
    size = a.result.type.bytes
    yield [Access(a, size, stores=True, dirty=True)]
    yield [Access(a, size)]
    yield [Access(a, size), Access(b, size, stores=True, dirty=True)]
    yield [Access(b, size), Access(a, size, stores=True, dirty=True)]
    yield [Access(a, size)]


@pytest.mark.parametrize("capacity", [192 * KIB, 256 * KIB, 320 * KIB, 640 * KIB])
def test_hits_and_writes_are_those_of_lines_given_up_by_chance(capacity: int):
    size = 256 * KIB
    parts = [buffer(0, size), buffer(size, size)]
    cache, lines = Random(capacity, parts), Lines(capacity, seed=1)
    missed = written = 0
    for rounds in range(6):
        if rounds == 2:  # it is in its stride
            missed = written = lines.misses = lines.written = 0
        for accesses in steps(parts):
            for access, answer in zip(accesses, cache.task(accesses), strict=True):
                missed += access.size - answer.held
                written += answer.written
            for i in range(size // LINE):
                for a in accesses:
                    lines.touch(a.buffer.address // LINE + i, a.stores)
    moved = 4 * 7 * size
    assert abs(missed - lines.misses * LINE) < 0.04 * moved
    assert abs(written - lines.written * LINE) < 0.04 * moved
    assert (missed == 0) == (capacity > 2 * size)


def test_all_is_found_where_all_fits():
    a, b = buffer(0, 64 * KIB), buffer(64 * KIB, 4 * KIB)
    cache = Random(80 * KIB, [a, b])
    assert [x.held for x in cache.task([Access(a, 64 * KIB), Access(b, 4 * KIB)])] == [0, 0]
    for _ in range(3):
        assert [x.held for x in cache.task([Access(a, 64 * KIB), Access(b, 4 * KIB)])] == [64 * KIB, 4 * KIB]


def test_a_later_buffer_finds_the_lines_of_its_addresses():
    old, new = buffer(0, 32 * KIB), buffer(16 * KIB, 32 * KIB)
    cache = Random(64 * KIB, [old, new])
    cache.task([Access(old, 32 * KIB, stores=True, dirty=True)])
    cache.drop(old)
    assert cache.task([Access(new, 32 * KIB)])[0].held == 16 * KIB


def test_parts_of_a_buffer_that_tasks_store_are_different_ones():
    (whole,) = parts = [buffer(0, 32 * KIB)]
    cache = Random(64 * KIB, parts)
    for _ in range(2):
        cache.task([Access(whole, 16 * KIB, stores=True, dirty=True)])
    assert cache.task([Access(whole, 32 * KIB)])[0].held == 32 * KIB


def test_tensors_that_no_cache_holds_take_few_steps():
    (large,) = parts = [buffer(0, 1 << 44)]
    cache = Random(64 * KIB, parts)
    for stores in (True, False):
        (answer,) = cache.task([Access(large, 1 << 44, stores=stores, dirty=stores)])
        assert answer.held <= 64 * KIB and (answer.written > (1 << 44) - 128 * KIB) == stores
    assert cache.total <= 64 * KIB


SIZES = st.integers(1, 300).map(lambda n: 2 * n)


@given(
    st.integers(1, 2000),
    st.lists(st.tuples(st.integers(0, 40), SIZES), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.floats(0.05, 1)), max_size=30),
)
def test_it_never_holds_more_than_fits_nor_writes_what_was_not_stored(
    capacity: int, made: list[tuple[int, int]], order: list[tuple[int, bool, float]]
):
    buffers = [buffer(64 * at, size) for at, size in made]
    cache = Random(capacity, buffers)
    stored = written = 0
    for index, stores, part in order:
        b = buffers[index % len(buffers)]
        size = max(1, int(b.result.type.bytes * part))
        (answer,) = cache.task([Access(b, size, stores=stores, dirty=stores)])
        assert 0 <= answer.held <= size
        stored += size + len(cache.cuts) if stores else 0
        written += answer.written
        assert (cache.held <= cache.size).all() and (cache.dirty <= cache.held).all()
        assert cache.total == cache.held.sum() <= capacity
    assert written <= stored
