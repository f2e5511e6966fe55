"""How fast the machine walks, against a bare event loop.

pytest tests/bench/bench_simulator.py -m bench -s
"""

from __future__ import annotations

import heapq
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numba import njit
from tilewright.targets.simulator import machine, simulate
from tilewright.targets.simulator.flatten import flatten
from tilewright.targets.simulator.residency import lay_out

sys.path.insert(0, str(Path(__file__).parent.parent / "simulator"))

from soc_programs import GB, FakeTarget, chain


@njit
def heap_loop(events: int, width: int) -> int:
    """A calendar that always holds `width` events: takes the earliest, puts one back later. What any simulator does."""
    heap = [(np.int64(i), np.int64(i)) for i in range(width)]
    heapq.heapify(heap)
    last = np.int64(0)
    for _ in range(events):
        last, unit = heapq.heappop(heap)
        heapq.heappush(heap, (last + 7 + unit, unit))
    return last


def best(run: Callable[[], object], times: int = 5) -> float:
    """The least CPU time of a few runs, in seconds."""
    seconds = []
    for _ in range(times):
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
    return min(seconds)


@pytest.mark.bench
def test_bench_walk(capsys: pytest.CaptureFixture[str]) -> None:
    """A network of 200 tasks with about 50,000 commands."""
    target = FakeTarget().with_engine(
        launch_ps=10_000_000, task_ps=1_000_000, setup_ps=50_000, latency_ps=100_000, line_bytes=64, load_rate=60 * GB
    )
    module = chain(200, 256, 512, (64, 128, 128))
    program = flatten(module, target)
    lay_out(program, target.memory)
    summary = machine.walk(program.code, program.hardware, 0)[2]
    commands, events = int(summary["retired"]), int(summary["events"])
    heap_loop(10, 12)
    floor = events / best(lambda: heap_loop(events, 12))
    figure = events / best(lambda: machine.walk(program.code, program.hardware, 0))
    whole = best(lambda: simulate(module, target))
    with capsys.disabled():
        print(f"\nwalk of {commands:,} commands: floor {floor / 1e6:.1f} M events/s (a bare heap loop in numba)")
        print(f"figure {figure / 1e6:.1f} M events/s, ratio {figure / floor:.2f}")
        print(f"simulate, all of it: {whole * 1e3:.0f} ms")
    assert figure > 1e6
    assert whole < 1.0
