"""The three fidelities of one program, on matmul networks and on random ones."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from soc_programs import GB, REAL, FakeTarget, Program, chain, matmul_task, relu, two_engines
from tilewright.compiler.ir import Module
from tilewright.targets.simulator import FIDELITIES, Timing, simulate


def network(engines: tuple[str, ...] = ("ane",), count: int = 3) -> Module:
    """On each engine a launch of `count` matmuls of its own; the launches of different engines run side by side."""
    p = Program()
    for engine in engines:
        x = p.dram(100, 96)
        with p.launch(engine):
            for i in range(count):
                y = p.dram(100, 96, role="output")
                matmul_task(p, x, p.dram(96, 96, role="parameter"), y, (32, 48, 40), f"{engine} {i}")
                x = y
    return p.module()


@pytest.mark.parametrize("dram", [1000, 100, 20])
@pytest.mark.parametrize(
    ("m", "n", "tiles"),
    [(784, 640, (64, 128, 128)), (64, 640, (64, 128, 128)), (1, 1024, (1, 128, 256)), (100, 300, (30, 70, 50))],
)
def test_analytic_is_near_cycle(m: int, n: int, tiles: tuple[int, int, int], dram: int):
    module, target = chain(3, m, n, tiles), REAL.with_memory(dram_bytes_per_s=dram * GB)
    cycle, analytic = simulate(module, target), simulate(module, target, "analytic")
    assert abs(analytic.latency_ps / cycle.latency_ps - 1) < 0.15
    assert analytic.macs == cycle.macs
    assert analytic.dram_read_bytes == cycle.dram_read_bytes
    assert analytic.dram_write_bytes == cycle.dram_write_bytes


def test_analytic_is_exact_where_nothing_is_shared():
    """Constant times, one transfer at a time: the (max, +) model is the machine."""
    p = Program()
    x, y = p.dram(64, 64), p.dram(64, 64, role="output")
    with p.launch("ane"), p.task() as task:
        xb, yb = p.buffer("m, :64", 8, 64), p.buffer("m, :64", 8, 64)
        with p.loop("m", 64, 8, *task.args * 2) as loop:
            c = p.load(x, "m, :64", xb, loop.args[1])
            e = p.exec("vec", [xb], [yb], relu, c)
            s = p.store(yb, y, "m, :64", e)
            loop.yields(e, s)
        task.yields(*loop.tokens)
    module, target = p.module(), REAL.with_engine(load_rate=100 * GB)
    assert simulate(module, target, "analytic").latency_ps == simulate(module, target).latency_ps


def test_roofline_is_the_busiest_resource():
    module = chain(1, 64, 64, (64, 64, 64))
    timing = simulate(module, REAL, "roofline")
    assert (timing.latency_ps, timing.tasks[0].bound) == (64**3, "ane.mac")
    slow = REAL.with_memory(dram_bytes_per_s=1 * GB)
    assert simulate(module, slow, "roofline").latency_ps == 3 * 64 * 64 * 2 * 1000
    assert simulate(module, slow, "roofline").tasks[0].bound == "dram"


def test_engines_side_by_side_contend_in_both_models():
    module = network(("ane", "gpu"))
    target = REAL.with_engine("gpu").with_memory(dram_bytes_per_s=2 * GB, slc_bytes=1 << 16)
    for fidelity in ("cycle", "analytic"):
        alone = simulate(network(), target, fidelity).latency_ps
        both = simulate(module, target, fidelity).latency_ps
        assert 1.3 * alone < both < 2.1 * alone
    assert abs(simulate(module, target, "analytic").latency_ps / simulate(module, target).latency_ps - 1) < 0.25


@pytest.mark.parametrize("fidelity", FIDELITIES)
def test_breakdowns_add_up(fidelity: str):
    timing = simulate(network(("ane", "gpu")), REAL.with_engine("gpu"), fidelity)
    for task in timing.tasks:
        assert sum(task.breakdown.values()) == task.span_ps
        assert task.bound != "idle"
    assert timing.latency_ps == max(t.end_ps for t in timing.tasks)
    assert [t.start_ps for t in timing.tasks] == sorted(t.start_ps for t in timing.tasks)


def test_traces_cover_what_units_did():
    timing = simulate(network(("ane", "gpu")), REAL.with_engine("gpu"), trace=True)
    busy: dict[str, int] = {}
    for unit, start, end, task in timing.slices:
        assert timing.tasks[task].start_ps <= start <= end <= timing.tasks[task].end_ps
        assert timing.tasks[task].engine == unit.partition(".")[0]
        busy[unit] = busy.get(unit, 0) + end - start
    assert busy == timing.unit_busy_ps


# ------------------------------------------------------------------ random programs

sizes = st.integers(1, 40)
tiles = st.integers(1, 16)
programs = st.lists(st.tuples(sizes, sizes, sizes, tiles, tiles, tiles), min_size=1, max_size=4)
targets = st.builds(
    two_engines,
    *(st.integers(1, 300) for _ in range(3)),
    *(st.integers(0, 5000) for _ in range(3)),
    st.sampled_from([1, 16, 64]),
    st.sampled_from([64, 1024, 1 << 20]),
)


def random_module(shapes: list[tuple[int, ...]], engines: tuple[str, ...]) -> Module:
    """A matmul task for each shape, dealt out to the engines; each launch waits for the one before the last."""
    p = Program()
    for i, (m, n, k, *tiles) in enumerate(shapes):
        with p.launch(engines[i % len(engines)], *p.launches[: max(0, i - 1)]):
            x, w = p.dram(m, k), p.dram(k, n, role="parameter")
            matmul_task(p, x, w, p.dram(m, n, role="output"), tuple(tiles), str(i))  # type: ignore[arg-type]
    return p.module()


def spans(timing: Timing) -> dict[str, int]:
    return {t.label: t.span_ps for t in timing.tasks}


@settings(max_examples=60, deadline=None)
@given(programs, targets)
def test_roofline_is_a_lower_bound_of_each_task(shapes: list[tuple[int, ...]], target: FakeTarget):
    module = random_module(shapes, ("ane", "gpu"))
    cycle, roofline = spans(simulate(module, target)), spans(simulate(module, target, "roofline"))
    assert all(roofline[label] <= cycle[label] for label in cycle)


@settings(max_examples=40, deadline=None)
@given(programs, targets)
def test_analytic_stays_in_sight(shapes: list[tuple[int, ...]], target: FakeTarget):
    """Tiny tasks on odd hardware, where all of its approximations count."""
    module = random_module(shapes, ("ane", "gpu"))
    cycle, analytic = simulate(module, target), simulate(module, target, "analytic")
    assert cycle.latency_ps / 2 < analytic.latency_ps < cycle.latency_ps * 2
    assert analytic.dram_read_bytes == cycle.dram_read_bytes


@settings(max_examples=40, deadline=None)
@given(programs, targets, st.sampled_from(["dram_bytes_per_s", "slc_bytes_per_s", "port_rate"]))
def test_more_bandwidth_is_never_slower_on_a_chain(shapes: list[tuple[int, ...]], target: FakeTarget, which: str):
    """Load, body, store, one after the other: nothing can overtake anything."""
    p = Program()
    with p.launch("ane"):
        for m, n, _, tm, tn, _ in shapes:
            x, y = p.dram(m, n), p.dram(m, n, role="output")
            with p.task() as task:
                xb, yb = p.buffer("m, n", min(tm, m), min(tn, n)), p.buffer("m, n", min(tm, m), min(tn, n))
                with p.loop("m", m, tm, *task.args) as rows:
                    with p.loop("n", n, tn, *rows.args) as columns:
                        c = p.load(x, "m, n", xb, *columns.args)
                        columns.yields(p.store(yb, y, "m, n", p.exec("vec", [xb], [yb], relu, c)))
                    rows.yields(*columns.tokens)
                task.yields(*rows.tokens)
    module = p.module()
    faster = target.with_memory(**{which: getattr(target.memory, which) * 2})
    assert simulate(module, faster).latency_ps <= simulate(module, target).latency_ps


@settings(max_examples=20, deadline=None)
@given(programs, targets)
def test_the_same_program_gives_the_same_timing(shapes: list[tuple[int, ...]], target: FakeTarget):
    first, second = (simulate(random_module(shapes, ("gpu", "ane")), target, trace=True) for _ in range(2))
    assert first == second
