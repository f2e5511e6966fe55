"""How fast the machine walks, against a bare event loop, and what leaps over periods and known kernels save.

pytest tests/bench/bench_simulator.py -m bench -s
"""

from __future__ import annotations

import heapq
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numba import njit
from tilewright.compiler.frontend.sources import load
from tilewright.compiler.pipeline import compile_module
from tilewright.targets import load_target
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
    summary = machine.walk(program.code, program.hardware, leap=False)[2]
    commands, events = int(summary["retired"]), int(summary["events"])
    heap_loop(10, 12)
    floor = events / best(lambda: heap_loop(events, 12))
    figure = events / best(lambda: machine.walk(program.code, program.hardware, leap=False))
    whole = best(lambda: simulate(module, target))
    with capsys.disabled():
        print(f"\nwalk of {commands:,} commands: floor {floor / 1e6:.1f} M events/s (a bare heap loop in numba)")
        print(f"figure {figure / 1e6:.1f} M events/s, ratio {figure / floor:.2f}")
        print(f"simulate, all of it: {whole * 1e3:.0f} ms")
    assert figure > floor / 3
    assert whole < 1.0


REAL = FakeTarget().with_engine(
    launch_ps=10_000_000, task_ps=1_000_000, setup_ps=50_000, latency_ps=100_000, line_bytes=64, load_rate=60 * GB
)


@pytest.mark.bench
@pytest.mark.parametrize("size", [1024, 2048, 4096])
def test_bench_leaps(size: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A matmul with 16,384 to 1,048,576 iterations of its innermost loop; the floor is to walk it."""
    module = chain(1, size, size, (size // 64, 64, 64) if size < 4096 else (16, 64, 64))
    program = flatten(module, REAL)
    lay_out(program, REAL.memory)
    summary = machine.walk(program.code, program.hardware)[2]
    walked = best(lambda: machine.walk(program.code, program.hardware, leap=False), 2)
    leapt = best(lambda: machine.walk(program.code, program.hardware))
    with capsys.disabled():
        print(f"\n{summary['retired']:,} commands, {summary['events']:,} events, leapt over {summary['leapt']:,}")
        print(f"floor {walked * 1e3:.1f} ms to walk them all, figure {leapt * 1e3:.2f} ms, {walked / leapt:.0f} times")
    assert leapt < walked / 4


@pytest.mark.bench
@pytest.mark.parametrize(
    ("name", "dims", "most"),
    [("resnet50", {}, 1.0), ("llama", {"seq": 512}, 3.0), ("llama_decode", {}, 1.0)],
)
def test_bench_networks(name: str, dims: dict[str, int], most: float, capsys: pytest.CaptureFixture[str]) -> None:
    """Whole networks on m4."""
    target, module = load_target("m4"), load(name, dims=dims, weights=False).module
    compile_module(module, target, (), "soc")
    simulate(module, target)
    seconds = best(lambda: simulate(module, target), 3)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    with capsys.disabled():
        print(f"\nsimulate {name} {dims or ''}: floor {most:.0f} s, figure {seconds:.3f} s, ratio {seconds / most:.3f}")
        print(f"at most {resident:.2f} GB resident, with PyTorch and the export")
    assert seconds <= most
    assert resident <= 1.0


@pytest.mark.bench
def test_bench_twice_the_layers(capsys: pytest.CaptureFixture[str]) -> None:
    one, two = (chain(layers, 256, 512, (64, 128, 128)) for layers in (200, 400))
    once, twice = best(lambda: simulate(one, REAL)), best(lambda: simulate(two, REAL))
    with capsys.disabled():
        times = f"floor {once * 1e3:.0f} ms for 200 layers, figure {twice * 1e3:.0f} ms for 400"
        print(f"\n{times}, ratio {twice / once:.2f}")
    assert twice < 2.4 * once
