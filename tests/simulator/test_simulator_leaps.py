"""Leaping over periods and over kernels that ran before: every count is what walking gives."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from soc_programs import GB, REAL, FakeTarget, Program, chain, matmul_task, relu, two_engines
from tilewright.compiler.frontend.sources import load
from tilewright.compiler.ir import Module, Value
from tilewright.compiler.pipeline import compile_module, copy_module
from tilewright.targets import load_target
from tilewright.targets.simulator import kernels, machine
from tilewright.targets.simulator.flatten import flatten
from tilewright.targets.simulator.residency import lay_out


def leapt(module: Module, target: Any) -> float:
    """The part of the events that was leapt over, once all counts are found equal to those of a walk without leaps."""
    program = flatten(module, target)
    lay_out(program, target.memory)
    kernels.find(program)
    walked, _, whole = machine.walk(program.code, program.hardware, leap=False)
    counts, _, summary = machine.walk(program.code, program.hardware)
    for index, task in enumerate(program.tasks):
        for column in machine.TASK_COUNTS.names or ():
            found, expected = counts[index][column].tolist(), walked[index][column].tolist()
            assert found == expected, f"{task.op.label}: {column}"
    for column in machine.SUMMARY.names or ():
        assert column == "leapt" or summary[column] == whole[column], column
    assert whole["leapt"] == 0
    return int(summary["leapt"]) / max(1, int(summary["events"]))


@pytest.mark.parametrize("dram", [1000, 100, 20])
@pytest.mark.parametrize(
    ("m", "n", "tiles"),
    [
        (2048, 2048, (64, 64, 64)),  # full tiles
        (2000, 2000, (30, 70, 50)),  # a smaller last tile along each dim
        (1, 8192, (1, 32, 32)),
        (5120, 5120, (32, 64, 5120)),  # no inner loop
    ],
)
def test_long_loops_are_leapt_over(m: int, n: int, tiles: tuple[int, int, int], dram: int):
    assert leapt(chain(1, m, n, tiles), REAL.with_memory(dram_bytes_per_s=dram * GB)) > 0.8


def test_the_same_kernel_is_walked_once():
    walked_once = leapt(chain(50, 64, 64, (32, 32, 32)), REAL)
    assert walked_once > 0.9  # each of them is too short for a leap
    assert leapt(chain(1, 64, 64, (32, 32, 32)), REAL) == 0


def test_kernels_with_other_traffic_are_other_kernels():
    p = Program()
    x = p.dram(64, 64)
    with p.launch("ane"):
        for role in ("temporary", "output"):
            matmul_task(p, x, p.dram(64, 64, role="parameter"), p.dram(64, 64, role=role), (32, 32, 32))
    assert leapt(p.module(), REAL) == 0  # one reads x from DRAM, the other from the cache


def test_a_kernel_beside_others_is_walked():
    """Two engines share memory all the time."""
    p = Program()
    for engine in ("ane", "gpu"):
        x, w = p.dram(2048, 64), p.dram(64, 64, role="parameter")
        with p.launch(engine):
            for _ in range(2):
                matmul_task(p, x, w, p.dram(2048, 64, role="output"), (8, 64, 64))
    target = REAL.with_engine("gpu", load_rate=60 * GB, setup_ps=50_000).with_memory(dram_bytes_per_s=20 * GB)
    assert leapt(p.module(), target) < 0.1


def test_an_engine_that_waits_does_not_prevent_leaps():
    p = Program()
    x, w = p.dram(8192, 64), p.dram(64, 64, role="parameter")
    for engine in ("ane", "gpu"):
        with p.launch(engine, *p.launches):
            matmul_task(p, x, w, p.dram(8192, 64, role="output"), (8, 64, 64))
    assert leapt(p.module(), REAL.with_engine("gpu", launch_ps=5)) > 0.7


def window_task(
    p: Program, rows: int, tile: int, step: int, window: int, pad: int, columns: tuple[int, int], label: str
) -> None:
    """Moves a window over the rows: `window` loads for each tile of rows and columns, cut at both ends by `pad`."""
    wide, narrow = columns
    x, y = p.dram(max(1, step * rows - pad), wide), p.dram(rows, wide, role="output")
    block = step * (min(tile, rows) - 1) + 1
    with p.task(label) as task:
        (start,) = task.args
        xb = p.buffer(f"{step}*m+r-{pad}, c", block, min(narrow, wide), slots=2)
        yb = p.buffer("m, c", min(tile, rows), min(narrow, wide))
        zb = p.buffer("m, c", min(tile, rows), min(narrow, wide))
        with p.loop("m", rows, tile, *[start] * 3) as outer:
            with p.loop("c", wide, narrow, *outer.args) as inner:
                f0, f1, stored = inner.args
                with p.loop("r", window, 1, f0, f1, stored) as steps:
                    g0, g1, ready = steps.args
                    a = p.load(x, f"{step}*m+r-{pad}, c", xb, g0)
                    done = p.exec("vec", [yb], [zb], relu, a, ready)
                    steps.yields(g1, done, done)
                inner.yields(*steps.tokens[:2], p.store(zb, y, "m, c", steps.tokens[2]))
            outer.yields(*inner.tokens)
        task.yields(*outer.tokens)


def test_leaps_end_where_blocks_are_cut():
    p = Program()
    with p.launch("ane"):
        window_task(p, 3001, 2, 2, 3, 40, (70, 32), "window")
    assert leapt(p.module(), REAL) > 0.7


# ------------------------------------------------------------------ random programs

trips = st.integers(1, 40)
tiles = st.integers(1, 9)
edges = st.integers(0, 3)
matmuls = st.tuples(*[st.tuples(trips, tiles, edges)] * 3)
windows = st.tuples(
    st.integers(1, 600), tiles, st.integers(1, 2), st.integers(1, 4), st.integers(0, 30),
    st.tuples(st.integers(1, 60), st.integers(1, 30)),
)  # fmt: skip
launches = st.lists(st.tuples(st.sampled_from(["ane", "gpu"]), st.booleans()), min_size=1, max_size=4)
targets = st.builds(
    two_engines,
    *(st.integers(1, 300) for _ in range(3)),
    *(st.integers(0, 5000) for _ in range(3)),
    st.sampled_from([1, 16, 64]),
    st.sampled_from([64, 1024, 1 << 20]),
    st.sampled_from([0, 100, 4096]),
)


def dim(trips: int, tile: int, edge: int) -> int:
    return max(1, trips * tile - edge)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(matmuls, windows), min_size=1, max_size=3), launches, targets)
def test_leaps_give_what_walking_gives(tasks: list[Any], order: list[Any], target: FakeTarget):
    """Launches that hold the same tasks, each on tensors of its own, one after the other or side by side."""
    p = Program()
    for engine, waits in order:
        after: list[Value] = p.launches[-1:] if waits else []
        with p.launch(engine, *after):
            for i, task in enumerate(tasks):
                if len(task) == 3:
                    m, n, k = (dim(*t) for t in task)
                    x, w, y = p.dram(m, k), p.dram(k, n, role="parameter"), p.dram(m, n, role="output")
                    matmul_task(p, x, w, y, tuple(t[1] for t in task), str(i))  # type: ignore[arg-type]
                else:
                    window_task(p, *task, str(i))
    leapt(p.module(), target)


@functools.lru_cache(maxsize=1)
def network(name: str) -> Module:
    return load(name, weights=False).module


@pytest.mark.parametrize("target", ["m1", "m4"])
@pytest.mark.parametrize("engines", [(), ("ane",), ("gpu",), ("cpu",)], ids=["all", "ane", "gpu", "cpu"])
@pytest.mark.parametrize("name", ["mobilenetv2", "vit_b16"])
def test_networks(name: str, engines: tuple[str, ...], target: str):
    hardware = load_target(target)
    module = copy_module(network(name))
    compile_module(module, hardware, engines, "soc")
    share = leapt(module, hardware)
    assert share > 0 or engines in ((), ("ane",))  # weights that come ahead of their task keep its kernels apart
