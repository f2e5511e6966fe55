"""Whatever is asked of it, the reference model keeps every timing rule; checked from the log alone, pair by pair."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from golden_runs import channel
from hypothesis import given, settings
from hypothesis import strategies as st
from tilewright.targets.memory.dram.device import COLUMN, AddressMap, BankQueues, Channel, Command, Refresh, Rule
from tilewright.targets.memory.dram.reference import LoggedCommand, simulate
from tilewright.targets.memory.dram.requests import Lines
from tilewright.targets.memory.dram.section import load_device

CHANNELS = {
    "bank queues": channel("ds3_DDR4_3200_bgint"),
    "two ranks": channel("ds3_LPDDR4_2400_stock64"),
    "dual issue": channel("ds3_HBM2_2000_x128"),
    "row hits first": channel("r2_DDR4_3200AA_bgint"),
    "split activate": channel("r2_LPDDR5_6400_x16_bgint"),
    "per-bank refresh": channel("r2_LPDDR5_6400_x16_bgint", "perbank"),
    "pseudo channels": load_device("hbm2_2000"),
}
ALL_BANKS = (Command.PREA, Command.REFAB)


def path(c: LoggedCommand) -> dict[str, tuple[int, ...]]:
    return {
        "channel": (),
        "rank": (c.rank,),
        "bank_group": (c.rank, c.bank_group),
        "bank": (c.rank, c.bank_group, c.bank),
    }


def meets(rule: Rule, first: LoggedCommand, second: LoggedCommand) -> bool:
    """Whether the rule speaks of this pair of its commands."""
    wide = first.command in ALL_BANKS or second.command in ALL_BANKS
    level = "rank" if wide and rule.level != "channel" else rule.level
    a, b = path(first)[level], path(second)[level]
    return a[:-1] == b[:-1] and a != b if rule.others else a == b


def check_rules(of: Channel, log: tuple[LoggedCommand, ...]) -> None:
    numbered: dict[Command, list[tuple[int, LoggedCommand]]] = {}
    for k, c in enumerate(log):
        numbered.setdefault(c.command, []).append((k, c))
    for rule in of.rules:
        for k, second in numbered.get(rule.following, []):
            met = 0
            for n, first in reversed(numbered.get(rule.preceding, [])):
                if second.cycle - first.cycle >= rule.cycles:
                    break  # and those before it are further off
                met += n < k and meets(rule, first, second)
                assert met < rule.window, f"{rule}: {first}, then {second}"


def check_states(of: Channel, log: tuple[LoggedCommand, ...]) -> None:
    """Rows are opened in closed banks and used while open, refreshes find banks closed, commands issue one by one."""
    open_rows: dict[tuple[int, int, int], int] = {}
    for c in log:
        bank = (c.rank, c.bank_group, c.bank)
        mine = [b for b in open_rows if b[0] == c.rank]
        if c.command == Command.ACT:
            assert bank not in open_rows
            open_rows[bank] = c.row
        elif c.command == Command.PRE:
            del open_rows[bank]
        elif c.command in COLUMN:
            assert open_rows[bank] == c.row
        elif c.command == Command.PREA:
            assert mine
            for b in mine:
                del open_rows[b]
        elif c.command == Command.REFAB:
            assert not mine
        elif c.command == Command.REFPB:
            assert bank not in open_rows
    used = Counter((c.cycle, c.command in COLUMN if of.dual_issue else 0) for c in log)
    assert max(used.values(), default=0) <= 1


@st.composite
def streams(draw: st.DrawFn) -> Lines:
    """A few runs of lines, so that rows are hit, banks conflict and addresses repeat."""
    addresses, writes = [], []
    for _ in range(draw(st.integers(1, 12))):
        base = draw(st.sampled_from([0, 1 << 14, 1 << 17, 1 << 20, 3 << 20])) + 64 * draw(st.integers(0, 40))
        count, write = draw(st.integers(1, 10)), draw(st.booleans())
        addresses += [base + 64 * k for k in range(count)]
        writes += [write] * count
    gap = draw(st.sampled_from([0, 0, 3, 40]))
    n = len(addresses)
    return Lines(np.array(addresses, np.int64), np.array(writes), np.arange(n, dtype=np.int64) * gap)


@pytest.mark.parametrize("name", CHANNELS)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(lines=streams(), soon=st.booleans())
def test_every_rule_is_kept(name: str, lines: Lines, soon: bool) -> None:
    of = CHANNELS[name]
    if soon:  # refreshes within the run
        of = of.with_refresh(Refresh(of.refresh.kind, max(of.refresh.interval // 8, 200), of.refresh.staggered))
    run = simulate(of, lines, log=(0, 1 << 18))
    check_rules(of, run.commands)
    check_states(of, run.commands)
    assert run.bursts + run.unserved == len(lines.bursts(of).block)
    assert run.reads == int(run.read_latency_sum > 0) * sum(1 for w in lines.bursts(of).write if not w)
    left = run.unserved if isinstance(of.scheduling, BankQueues) else 0
    assert run.counts[Command.WR] + left >= len({int(b) for b, w in zip(*lines.bursts(of)[:5:4], strict=True) if w})


def test_log_refuses_more_than_it_holds() -> None:
    lines = Lines(np.arange(2000, dtype=np.int64) * (1 << 17), np.zeros(2000, np.bool_))
    hbm = CHANNELS["pseudo channels"]
    run = simulate(hbm, lines, log=(0, 100))
    assert all(c.cycle < 100 for c in run.commands) and run.cycles > 100


def test_address_map_joins_pieces_of_a_field() -> None:
    organisation = channel("r2_LPDDR5_6400_x16_bgint").organisation
    fields = (("column", 1), ("bank_group", 2), ("column", 5), ("bank", 2), ("row", 15))
    location = AddressMap(5, fields).split(np.array([0b11_10_10101_01_1_00000], np.int64), organisation)
    assert [int(x[0]) for x in location] == [1 * 4 + 0b10, 0b11, 0b10101_1]


def test_bank_hash_spreads_rows() -> None:
    of = channel("ds3_DDR4_3200_bgint")
    plain = of.address_map
    hashed = AddressMap(plain.offset_bits, plain.fields, bank_hash=True)
    rows = np.arange(16, dtype=np.int64) << 17
    assert len(set(plain.split(rows, of.organisation).bank)) == 1
    assert len(set(hashed.split(rows, of.organisation).bank)) == 16


def test_wrong_fields_are_refused() -> None:
    with pytest.raises(ValueError, match="expected one of rank, bank_group"):
        AddressMap(6, (("col", 7),))
    of = channel("ds3_DDR4_3200_bgint")
    with pytest.raises(ValueError, match="bits of row"):
        Channel(**{f: getattr(of, f) for f in of.__dataclass_fields__} | {"address_map": AddressMap(6, (("row", 40),))})
