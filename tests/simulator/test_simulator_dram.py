"""What commands keep DRAM busy for: patterns of copies, streams side by side, engines side by side."""

from __future__ import annotations

import pytest
from soc_programs import GB, FakeTarget, Program, chain, matmul_task
from tilewright.compiler.ir import Module
from tilewright.targets import load_target
from tilewright.targets.memory.dram.demand import Demand, Pattern
from tilewright.targets.simulator import kernels, machine, simulate
from tilewright.targets.simulator.flatten import flatten
from tilewright.targets.simulator.residency import lay_out

LPDDR = Demand("lpddr5_6400_x16", 8, 256, 3584)
SLOW = (
    FakeTarget()
    .with_engine(line_bytes=64, load_rate=1000 * GB, store_rate=1000 * GB)
    .with_memory(dram_bytes_per_s=10 * GB, line_bytes=64, demand=LPDDR)
)
MEGABYTES = 16


def copies(rows: int, columns: int, *tiles: int, engines: tuple[str, ...] = ("ane",), store: bool = False) -> Module:
    """Loads a tensor of `rows` x `columns` f16 a block at a time, in that order; or stores it."""
    p = Program()
    for engine in engines:
        x = p.dram(rows, columns, role="output" if store else "input")
        with p.launch(engine), p.task() as task:
            block = p.buffer("m, n", *tiles)
            with p.loop("m", rows, tiles[0], *task.args) as outer:
                with p.loop("n", columns, tiles[1], *outer.args) as inner:
                    token = inner.args[0]
                    inner.yields(p.store(block, x, "m, n", token) if store else p.load(x, "m, n", block, token))
                outer.yields(*inner.tokens)
            task.yields(*outer.tokens)
    return p.module()


@pytest.mark.parametrize("store", [False, True])
def test_a_streaming_copy_takes_what_the_model_says(store: bool) -> None:
    timing = simulate(copies(4096, 2048, 64, 2048, store=store), SLOW)
    moved = 4096 * 2048 * 2
    expected = LPDDR.service(LPDDR.sequential(store)).time * LPDDR.refresh
    assert timing.latency_ps * 10 * GB / 1e12 / moved == pytest.approx(expected, rel=0.005)
    use = timing.dram
    assert use.busy_ps == pytest.approx(timing.latency_ps, rel=0.005)
    assert use.data_ps == moved * 100 and use.refresh_ps > 0 and use.accesses == moved // 64
    assert use.activates < use.accesses / 16


def test_a_strided_copy_takes_longer_and_says_why() -> None:
    """Columns of 64 B: each line in another row than the one before it."""
    whole, strided = (simulate(copies(4096, 2048, *tiles), SLOW) for tiles in ((64, 2048), (4096, 32)))
    pattern = Pattern(64, ((4096, 4096), (64, 64)))
    expected = LPDDR.service(pattern).time / LPDDR.service(LPDDR.sequential()).time
    assert strided.latency_ps / whole.latency_ps == pytest.approx(expected, rel=0.01) and expected > 1.05
    assert strided.dram.rows_ps > whole.dram.rows_ps
    assert strided.dram.activates > 8 * whole.dram.activates
    assert strided.tasks[0].bound == "dram"


def weights(role: str, *readers: tuple[str, int, int]) -> Module:
    """Tasks that read one tensor of 2048 x 2048 f16 by blocks: (engine, rows, columns)."""
    p = Program()
    w = p.dram(2048, 2048, role=role)
    for engine, rows, columns in readers:
        with p.launch(engine), p.task() as task:
            block = p.buffer("m, n", rows, columns)
            with p.loop("m", 2048, rows, *task.args) as outer:
                with p.loop("n", 2048, columns, *outer.args) as inner:
                    inner.yields(p.load(w, "m, n", block, inner.args[0], unit="weights"))
                outer.yields(*inner.tokens)
            task.yields(*outer.tokens)
    return p.module()


def test_weights_stream_where_a_compiler_lays_them_out() -> None:
    """As their one reader takes the blocks; what two read in different orders lies as it is, and so do activations."""
    packs = SLOW.with_engine(line_bytes=64, load_rate=1000 * GB, packs_weights=True)
    packs = packs.with_engine("gpu", line_bytes=64, load_rate=1000 * GB)
    narrow, wide = ("ane", 2048, 32), ("ane", 64, 2048)
    in_order = simulate(weights("parameter", wide), packs)
    packed, strided = simulate(weights("parameter", narrow), packs), simulate(weights("parameter", narrow), SLOW)
    assert packed.dram == in_order.dram
    assert strided.dram.rows_ps > packed.dram.rows_ps and strided.dram.activates > 8 * packed.dram.activates
    assert packed.dram_read_bytes == strided.dram_read_bytes == 2048 * 2048 * 2
    twice = simulate(weights("parameter", narrow, narrow), packs)
    assert twice.dram.activates == pytest.approx(2 * packed.dram.activates, rel=0.01)
    as_is = strided.dram.activates
    assert simulate(weights("input", narrow), packs).dram.activates == as_is
    for other in (("ane", 2048, 64), ("gpu", 2048, 32)):
        assert simulate(weights("parameter", narrow, other), packs).tasks[0].dram.activates == as_is


def test_blocks_that_share_rows_are_not_laid_out() -> None:
    packs = SLOW.with_engine(line_bytes=64, load_rate=1000 * GB, packs_weights=True)
    p = Program()
    w = p.dram(2048, 2048, role="parameter")
    with p.launch("ane"), p.task() as task:
        block = p.buffer(":2048, n:33", 2048, 64)
        with p.loop("n", 2016, 32, *task.args) as loop:
            loop.yields(p.load(w, ":2048, n:33", block, loop.args[0], unit="weights"))
        task.yields(*loop.tokens)
    module = p.module()
    assert simulate(module, packs).dram == simulate(module, SLOW).dram


def test_parts_add_up_and_bytes_are_unchanged() -> None:
    plain = SLOW.with_memory(demand=None)
    module = chain(3, 512, 512, (64, 128, 128))
    timing, before = simulate(module, SLOW), simulate(module, plain)
    assert (timing.dram_read_bytes, timing.dram_write_bytes) == (before.dram_read_bytes, before.dram_write_bytes)
    assert timing.dram.busy_ps == sum(timing.dram.parts.values()) > 0
    assert timing.dram.data_ps == pytest.approx((timing.dram_read_bytes + timing.dram_write_bytes) * 100, abs=99)
    assert before.dram.busy_ps == before.dram.accesses == 0
    assert timing.latency_ps > before.latency_ps


def test_reads_and_writes_share_the_bus() -> None:
    """A task that reads and writes takes longer than its reads and its writes."""
    p = Program()
    x, y = p.dram(4096, 2048), p.dram(4096, 2048, role="output")
    with p.launch("ane"), p.task() as task:
        a, b = p.buffer("m, :2048", 64, 2048), p.buffer("m, :2048", 64, 2048)
        with p.loop("m", 4096, 64, *task.args * 2) as loop:
            loop.yields(p.load(x, "m, :2048", a, loop.args[0]), p.store(b, y, "m, :2048", loop.args[1]))
        task.yields(*loop.tokens)
    both = simulate(p.module(), SLOW)
    parts = sum(simulate(copies(4096, 2048, 64, 2048, store=store), SLOW).latency_ps for store in (False, True))
    streams = [(LPDDR.sequential(store), 1) for store in (False, True)]
    assert both.dram.sharing_ps > 0
    assert both.latency_ps / parts == pytest.approx(LPDDR.interference(streams), rel=0.01)


def test_engines_side_by_side_are_in_each_others_way() -> None:
    target = SLOW.with_engine("gpu", line_bytes=64, load_rate=1000 * GB)
    alone = simulate(copies(4096, 2048, 64, 2048), target).latency_ps
    both = simulate(copies(4096, 2048, 64, 2048, engines=("ane", "gpu")), target).latency_ps
    program = flatten(copies(64, 2048, 64, 2048, engines=("ane", "gpu")), target)
    contention = program.hardware.contention / (1 << machine.WEIGHT_BITS)
    assert contention == pytest.approx(LPDDR.contention, abs=1e-4)
    assert both == pytest.approx(2 * alone * contention, rel=0.005)


def test_a_memory_takes_no_more_than_engines_ask_for() -> None:
    """Where the engines ask for less than the pins carry, what DRAM loses comes out of what they leave."""
    module = copies(4096, 2048, 64, 2048)
    for asked, expected in ((2, 2), (20, 10)):
        target = SLOW.with_engine(dram_bytes_per_s=asked * GB, line_bytes=64, load_rate=1000 * GB)
        loss = max(1.0, LPDDR.service(LPDDR.sequential()).time * LPDDR.refresh * expected / 10)
        rate = 4096 * 2048 * 2 * 1e12 / simulate(module, target).latency_ps
        assert rate == pytest.approx(expected * GB / loss, rel=0.01)


@pytest.mark.parametrize("fidelity", ["cycle", "analytic", "roofline"])
def test_more_bandwidth_is_never_slower(fidelity: str) -> None:
    module = chain(3, 300, 700, (64, 96, 128))
    times = [simulate(module, SLOW.with_memory(dram_bytes_per_s=n * GB), fidelity).latency_ps for n in (5, 10, 20, 40)]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("shape", [(300, 700, (64, 96, 128)), (64, 2048, (64, 512, 512))])
def test_fidelities_agree(shape: tuple[int, int, tuple[int, int, int]]) -> None:
    module = chain(3, *shape)
    cycle, analytic, roofline = (simulate(module, SLOW, f) for f in ("cycle", "analytic", "roofline"))
    assert abs(analytic.latency_ps / cycle.latency_ps - 1) < 0.25
    assert roofline.latency_ps <= cycle.latency_ps
    assert cycle.dram == analytic.dram == roofline.dram


def test_leaps_and_known_kernels_are_what_walking_gives() -> None:
    module = chain(20, 512, 512, (32, 64, 64))
    program = flatten(module, SLOW)
    lay_out(program, SLOW.memory)
    kernels.find(program)
    walked, _, whole = machine.walk(program.code, program.hardware, leap=False)
    counts, _, summary = machine.walk(program.code, program.hardware)
    assert (counts == walked).all() and summary["finish"] == whole["finish"]
    assert summary["leapt"] > summary["events"] / 2
    middle = {int(program.code.tasks[i]["like"]) for i in range(2, 18)}
    assert len(middle) < 4


def test_kernels_of_a_library_go_through_memory_in_order() -> None:
    """A GPU's blocks are cut by the compiler, but spread by the kernel."""
    strided = simulate(copies(4096, 2048, 4096, 32), SLOW)
    whole = simulate(copies(4096, 2048, 4096, 32), SLOW.with_engine(by_kernel=True, line_bytes=64, load_rate=1000 * GB))
    assert whole.dram.activates < strided.dram.activates / 8


def test_rows_that_lie_together_make_longer_runs() -> None:
    plain = simulate(copies(4096, 2048, 4096, 32), SLOW)
    tiled = simulate(
        copies(4096, 2048, 4096, 32), SLOW.with_engine(rows_together=8, line_bytes=64, load_rate=1000 * GB)
    )
    assert tiled.dram.activates <= plain.dram.activates / 4
    assert tiled.dram_read_bytes == plain.dram_read_bytes


def test_chips_name_their_device() -> None:
    named = {name: load_target(name).memory.demand for name in ("m1", "a14", "m2", "m4", "a100", "v100", "h100", "l4")}
    for name, demand in named.items():
        assert demand is not None, name
        assert 0.75 < demand.sustained < 0.95, name
        assert demand.peak_bytes_per_s >= 0.99 * load_target(name).memory.dram_bytes_per_s, name


def test_two_tasks_of_one_kind_cost_the_same_wherever_their_tensors_lie() -> None:
    p = Program()
    with p.launch("ane"):
        for i in range(2):
            x, w, y = p.dram(256, 256), p.dram(256, 256, role="parameter"), p.dram(256, 256, role="output")
            matmul_task(p, x, w, y, (64, 64, 64), str(i))
    one, two = simulate(p.module(), SLOW).tasks
    assert one.dram == two.dram
