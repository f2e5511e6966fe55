"""Compact streams, and how they spread over channels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tilewright.targets.memory.dram import channels
from tilewright.targets.memory.dram.channels import Channels, Interleaving
from tilewright.targets.memory.dram.requests import Lines
from tilewright.targets.memory.dram.section import load_device
from tilewright.targets.memory.dram.traffic import Transfer, interleave

LPDDR5 = load_device("lpddr5_6400_x16")

transfers = st.builds(
    Transfer, st.integers(0, 1 << 20), st.integers(1, 700), st.integers(1, 9), st.integers(0, 5000), st.booleans()
)


@settings(deadline=None)  # the first example compiles
@given(st.lists(transfers, min_size=1, max_size=4), st.sampled_from([64, 128, 512]))
def test_transfers_become_their_lines(asked: list[Transfer], grain: int) -> None:
    want = []
    for t in asked:
        for r in range(t.runs):
            start = t.base + r * t.stride
            last = (start + t.run_bytes - 1) // 64
            want += [(line * 64, t.write) for line in range(start // 64, last + 1)]
    got = interleave(asked, grain)
    assert sorted(zip(got.addresses.tolist(), got.writes.tolist(), strict=True)) == sorted(want)
    assert len(got) == sum(t.lines(64) for t in asked)


def test_requesters_take_turns() -> None:
    got = interleave([Transfer(0, 256), Transfer(1 << 20, 128, write=True)], grain=64)
    assert got.addresses.tolist() == [0, 1 << 20, 64, (1 << 20) + 64, 128, 192]
    assert got.writes.tolist() == [False, True, False, True, False, False]
    assert interleave([Transfer(0, 256)], limit=2).addresses.tolist() == [0, 64]


@settings(deadline=None)  # the first example compiles
@given(
    st.sampled_from([1, 2, 3, 6, 8]), st.sampled_from([64, 256, 4096]), st.lists(st.integers(0, 1 << 24), max_size=50)
)
def test_every_line_has_one_channel(count: int, granule: int, numbers: list[int]) -> None:
    lines = Lines(np.array(numbers, np.int64) * 64, np.zeros(len(numbers), np.bool_))
    for hashed in {False, count & (count - 1) == 0}:
        spread = Interleaving(count, granule, hashed)
        parts = spread.split(lines)
        assert sum(map(len, parts)) == len(lines)
        found = {(c, int(a)) for c, part in enumerate(parts) for a in part.addresses}
        assert len(found) == len(set(numbers))  # no two lines share a place


def test_channels_add_up() -> None:
    one, eight = (Channels(LPDDR5, Interleaving(n, 256)) for n in (1, 8))
    stream = [Transfer(0, 8 << 20)]
    assert eight.peak_bytes_per_s == 8 * one.peak_bytes_per_s
    assert eight.sustained_bytes_per_s(stream) == pytest.approx(8 * one.sustained_bytes_per_s(stream), rel=0.01)
    assert one.sustained_bytes_per_s(stream) == pytest.approx(0.935 * 12.8e9, rel=0.01)  # as the golden run of `seq_R`


def test_strides_of_all_channels_need_a_hash() -> None:
    stream = [Transfer(0, 64, runs=4096, stride=8 * 256)]
    plain, hashed = (Channels(LPDDR5, Interleaving(8, 256, h)) for h in (False, True))
    assert hashed.sustained_bytes_per_s(stream) > 4 * plain.sustained_bytes_per_s(stream)


def test_long_streams_take_the_rate_of_their_first_part(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, stream = Channels(LPDDR5, Interleaving(2, 256)), [Transfer(0, 4 << 20), Transfer(1 << 28, 4 << 20)]
    whole = memory.transfer_ps(stream)
    monkeypatch.setattr(channels, "ENOUGH", 1 << 14)
    assert memory.transfer_ps(stream) == pytest.approx(whole, rel=0.01)
    assert memory.transfer_ps([]) == 0


def test_senseless_streams_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of the line"):
        interleave([Transfer(0, 64)], grain=100)
    with pytest.raises(ValueError, match="at least 1"):
        Transfer(0, 0)
    with pytest.raises(ValueError, match="power of two"):
        Interleaving(6, 256, hashed=True)
