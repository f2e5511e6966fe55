"""How fast the DRAM models are, and how well the fast one agrees with the reference.

pytest tests/bench/bench_dram.py -m bench -s
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest
from tilewright.targets.memory.dram import demand, lines, reference
from tilewright.targets.memory.dram.demand import Demand, Pattern

sys.path.insert(0, str(Path(__file__).parent.parent / "memory"))

from golden_runs import CONFIGURATIONS, Row, rows, stream

FLOOR = 10e6  # lines/s


def seconds(run: Callable[[], object], times: int) -> float:
    """The least CPU time of a few runs."""
    found = []
    for _ in range(times):
        start = time.process_time()
        run()
        found.append(time.process_time() - start)
    return min(found)


def lines_per_s(found: tuple[Row, ...], model: Callable[[Row], object], times: int) -> float:
    model(found[0])
    return sum(r.pattern.lines for r in found) / sum(seconds(lambda r=r: model(r), times) for r in found)


@pytest.mark.bench
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_bench_dram_lines(configuration: str, capsys: pytest.CaptureFixture[str]) -> None:
    """From line addresses to a time, over all patterns of a configuration."""
    found = rows(configuration)
    fast = lines_per_s(found, lambda r: lines.simulate(r.channel, stream(r.pattern.name)), 3)
    slow = lines_per_s(found[:8], lambda r: reference.simulate(r.channel, stream(r.pattern.name)), 1)
    errors = [abs(lines.simulate(r.channel, stream(r.pattern.name)).cycles / r.cycles - 1) for r in found]
    with capsys.disabled():
        print(
            f"\n{configuration}: floor {FLOOR / 1e6:.0f} M lines/s, figure {fast / 1e6:.1f}, ratio {fast / FLOOR:.2f}; "
            f"reference {slow / 1e6:.2f} M lines/s; error median {median(errors):.2%}, worst {max(errors):.1%}"
        )
    assert fast >= FLOOR


@pytest.mark.bench
@pytest.mark.parametrize(("device", "channels"), [("lpddr5x_8533_x16", 8), ("hbm2e_3200", 40)])
def test_bench_dram_demand(device: str, channels: int, capsys: pytest.CaptureFixture[str]) -> None:
    """What a pattern that nobody asked for before takes the simulator: its lines over all channels, and one channel's
    through the line-granular model."""
    memory = Demand(device, channels, 256, 3584)
    patterns = [Pattern(64 * (i + 1), ((1 << 12, 8192 + 64 * i), (8, 1 << 25))) for i in range(64)]
    looked_at = memory.most_bytes // 64

    def ask() -> None:
        demand._alone.cache_clear()
        for pattern in patterns:
            memory.service(pattern)

    ask()
    each = seconds(ask, 3) / len(patterns)
    known = seconds(lambda: [memory.service(p) for p in patterns], 3) / len(patterns)
    with capsys.disabled():
        print(
            f"\n{device} x {channels}: floor {FLOOR / 1e6:.0f} M lines/s, figure {looked_at / each / 1e6:.1f}, ratio "
            f"{looked_at / each / FLOOR:.2f}; a new pattern takes {each * 1e3:.2f} ms, a known one {known * 1e6:.1f} us"
        )
    assert looked_at / each >= FLOOR
