"""The line-granular model, held to the reference (which the golden runs equal, cycle for cycle)."""

from __future__ import annotations

from statistics import median

import numpy as np
import pytest
from golden_runs import CONFIGURATIONS, channel, rows, stream
from tilewright.targets.memory.dram import reference
from tilewright.targets.memory.dram.device import Command
from tilewright.targets.memory.dram.lines import simulate
from tilewright.targets.memory.dram.requests import Lines

ERRORS: dict[str, list[float]] = {}


def errors(configuration: str) -> list[float]:
    """Relative errors of the time of all patterns."""
    if configuration not in ERRORS:
        found = rows(configuration)
        ERRORS[configuration] = [simulate(r.channel, stream(r.pattern.name)).cycles / r.cycles - 1 for r in found]
    return ERRORS[configuration]


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_within_three_percent_median(configuration: str) -> None:
    found = [abs(e) for e in errors(configuration)]
    worst = max(range(len(found)), key=found.__getitem__)
    name = rows(configuration)[worst].pattern.name
    print(f"{configuration}: median {median(found):.2%}, worst {found[worst]:.1%} ({name})")
    assert median(found) <= 0.03


@pytest.mark.parametrize("kind", ["read", "write", "mixed"])
def test_within_three_percent_median_by_kind(kind: str) -> None:
    found = [abs(e) for c in CONFIGURATIONS for e, r in zip(errors(c), rows(c), strict=True) if r.pattern.kind == kind]
    assert median(found) <= 0.03


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_every_line_is_moved(configuration: str) -> None:
    """Bursts are those of the reference, but for writes that it leaves in its queue and lines that it merges."""
    of = channel(configuration)
    for name in ("stride_W_256", "rand_A_64", "paced_rand_R_8"):
        got, want = simulate(of, stream(name)).counts, reference.simulate(of, stream(name)).counts
        for command in (Command.RD, Command.WR):
            assert got[command] == pytest.approx(want[command], abs=32)


@pytest.mark.parametrize("configuration", ["ds3_DDR4_3200_bgint", "r2_LPDDR5_6400_x16_bgint"])
def test_more_work_takes_longer(configuration: str) -> None:
    of, whole = channel(configuration), stream("rand_A_256")
    last = 0
    for n in (1, 10, 100, 1000, 10000):
        cycles = simulate(of, Lines(whole.addresses[:n], whole.writes[:n])).cycles
        assert cycles > last
        last = cycles


def test_nothing_takes_no_time() -> None:
    none = Lines(np.zeros(0, np.int64), np.zeros(0, np.bool_))
    assert simulate(channel("ds3_DDR4_3200_bgint"), none).counts[Command.RD] == 0
