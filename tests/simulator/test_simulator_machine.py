"""Timestamps of small programs, by hand. See soc_programs: a byte takes 10 ps, a MAC or an element 1 ps."""

from __future__ import annotations

import pytest
from soc_programs import GB, FakeTarget, Program, chain, matmul, relu
from tilewright.targets.simulator import FIDELITIES, SimulationError, Timing, simulate
from tilewright.targets.simulator.cycle import check
from tilewright.targets.simulator.flatten import flatten
from tilewright.targets.simulator.machine import walk
from tilewright.targets.simulator.residency import lay_out

KB = 1024  # bytes of a block of 8 x 64 f16


def one_copy(role: str = "input", **engine: int) -> Timing:
    """Loads 1 KiB."""
    p = Program()
    x = p.dram(8, 64, role=role)
    with p.launch("ane"), p.task() as task:
        task.yields(p.load(x, ":8, :64", p.buffer(":8, :64", 8, 64), *task.args))
    return simulate(p.module(), FakeTarget().with_engine(**engine))


def test_copy_takes_its_bytes_at_the_units_rate():
    timing = one_copy()
    assert timing.latency_ps == 10 * KB
    assert (timing.tasks[0].start_ps, timing.tasks[0].end_ps) == (0, 10 * KB)
    assert timing.unit_busy_ps == {"ane.load": 10 * KB}
    assert (timing.dram_read_bytes, timing.dram_write_bytes, timing.tasks[0].bytes) == (KB, 0, KB)


def test_setup_occupies_the_unit_and_latency_does_not():
    timing = one_copy(setup_ps=100, latency_ps=7)
    assert timing.latency_ps == 100 + 10 * KB + 7
    assert timing.unit_busy_ps == {"ane.load": 100 + 10 * KB}
    assert timing.tasks[0].breakdown == {"copy": 10 * KB, "setup": 100, "latency": 7}


def eight_copies(tasks: int = 1, **engine: int) -> Timing:
    p = Program()
    x = p.dram(64, 64)
    with p.launch("ane"):
        for _ in range(tasks):
            with p.task() as task:
                b = p.buffer("m, :64", 8, 64, slots=2)
                with p.loop("m", 64, 8, *task.args * 2) as rows:
                    rows.yields(rows.args[1], p.load(x, "m, :64", b, task.args[0]))
                task.yields(*rows.tokens)
    return simulate(p.module(), FakeTarget().with_engine(**engine))


def test_copies_in_flight_overlap_their_latency():
    assert eight_copies(setup_ps=100, latency_ps=5000).latency_ps == 8 * (100 + 10 * KB) + 5000


def test_a_queued_copy_is_set_up_while_the_one_before_it_moves():
    assert eight_copies(setup_ps=9 * KB, queued=True).latency_ps == 9 * KB + 8 * 10 * KB
    assert eight_copies(setup_ps=15 * KB, queued=True).latency_ps == 8 * 15 * KB + 10 * KB
    assert eight_copies(2, setup_ps=9 * KB, queued=True).latency_ps == 2 * (9 * KB + 8 * 10 * KB)


def test_memory_latencies_add_up_on_a_miss():
    p = Program()
    x, y = p.dram(8, 64), p.dram(8, 64, role="output")
    with p.launch("ane"), p.task() as task:
        b = p.buffer(":8, :64", 8, 64)
        c = p.load(x, ":8, :64", b, *task.args)
        task.yields(p.store(b, y, ":8, :64", c))
    target = FakeTarget().with_engine(latency_ps=1).with_memory(slc_latency_ps=10, dram_latency_ps=1000)
    # the load waits for DRAM, the store is done when the cache has it
    assert simulate(p.module(), target).latency_ps == 10 * KB + 1011 + 10 * KB + 11


def one_body(task_ps: int = 0, launch_ps: int = 0) -> Timing:
    p = Program()
    x, y = p.dram(8, 64), p.dram(8, 64, role="output")
    with p.launch("ane"), p.task("relu", reason="by hand") as task:
        xb, yb = p.buffer(":8, :64", 8, 64), p.buffer(":8, :64", 8, 64)
        c = p.load(x, ":8, :64", xb, *task.args)
        e = p.exec("vec", [xb], [yb], relu, c)
        task.yields(p.store(yb, y, ":8, :64", e))
    return simulate(p.module(), FakeTarget().with_engine(task_ps=task_ps, launch_ps=launch_ps), trace=True)


def test_chain_of_copy_exec_copy():
    timing = one_body()
    assert timing.slices == [
        ("ane.load", 0, 10240, 0),
        ("ane.vec", 10240, 10752, 0),
        ("ane.store", 10752, 20992, 0),
    ]
    assert timing.tasks[0].breakdown == {"vector": 512, "copy": 20480}
    assert timing.tasks[0].bound == "ane.load"
    assert timing.tasks[0].location.source == "model.py:7"
    assert timing.tasks[0].reason == "by hand"


def test_launch_and_task_cost_come_before_the_first_command():
    timing = one_body(task_ps=300, launch_ps=20_000)
    assert timing.latency_ps == 20_000 + 300 + 20_992
    assert timing.tasks[0].start_ps == 0
    assert timing.tasks[0].breakdown["launch"] == 20_000
    assert timing.tasks[0].breakdown["task"] == 300
    assert one_body(launch_ps=200_000).tasks[0].bound == "launch"
    assert one_body(task_ps=200_000).tasks[0].bound == "task"


def streamed(rows: int, vec_ps: int, slots: int) -> Timing:
    """relu on `rows` blocks of 1 KiB: load and store take 10240 each, the body 512 + `vec_ps`."""
    p = Program()
    x, y = p.dram(rows * 8, 64), p.dram(rows * 8, 64, role="output")
    with p.launch("ane"), p.task() as task:
        xb, yb = p.buffer("m, :64", 8, 64, slots=slots), p.buffer("m, :64", 8, 64, slots=slots)
        with p.loop("m", rows * 8, 8, *task.args * 2 * slots) as loop:
            free, stored = loop.args[:slots], loop.args[slots:]
            c = p.load(x, "m, :64", xb, free[0])
            e = p.exec("vec", [xb], [yb], relu, c, stored[0])
            s = p.store(yb, y, "m, :64", e)
            loop.yields(*free[1:], e, *stored[1:], s)
        task.yields(*loop.tokens)
    target = FakeTarget().with_engine(exec_overhead_ps=vec_ps).with_memory(dram_bytes_per_s=1000 * GB)
    return simulate(p.module(), target)


def test_single_buffer_runs_load_and_body_in_turn():
    # the next load waits for the body, while the store runs beside it
    assert streamed(10, 0, slots=1).latency_ps == 10 * (10_240 + 512) + 10_240


def test_double_buffering_reaches_its_steady_state():
    # bound by the copies: fill with a load, drain with a body and a store
    assert streamed(10, 0, slots=2).latency_ps == 10 * 10_240 + 512 + 10_240
    # bound by the body
    timing = streamed(10, 19_488, slots=2)
    assert timing.latency_ps == 10_240 + 10 * 20_000 + 10_240
    assert timing.tasks[0].bound == "ane.vec"
    assert timing.tasks[0].breakdown == {"vector": 200_000, "copy": 20_480}


def contenders(dram_rate: int) -> Timing:
    """Two engines load 4 KiB each at the same time; the second then loads another 4 KiB alone."""
    p = Program()
    a, b = p.dram(32, 64), p.dram(64, 64)
    with p.launch("ane"), p.task("one") as task:
        task.yields(p.load(a, ":32, :64", p.buffer(":32, :64", 32, 64), *task.args))
    with p.launch("gpu"), p.task("two") as task:
        buffer = p.buffer("m, :64", 32, 64, slots=2)
        with p.loop("m", 64, 32, *task.args) as loop:
            loop.yields(p.load(b, "m, :64", buffer, task.args[0]))
        task.yields(*loop.tokens)
    return simulate(p.module(), FakeTarget().with_engine("gpu").with_memory(dram_bytes_per_s=dram_rate))


def test_engines_share_dram_exactly():
    timing = contenders(100 * GB)
    assert [(t.label, t.start_ps, t.end_ps) for t in timing.tasks] == [("one", 0, 81_920), ("two", 0, 81_920 + 40_960)]
    assert timing.tasks[0].bound == "dram"
    assert timing.tasks[0].breakdown == {"dram": 81_920}
    assert timing.tasks[1].breakdown == {"dram": 81_920, "copy": 40_960}
    # with enough for both, each runs at its own unit's rate
    assert [t.end_ps for t in contenders(200 * GB).tasks] == [40_960, 81_920]


def test_port_is_shared_by_the_copies_of_one_engine():
    p = Program()
    x, w = p.dram(8, 64), p.dram(8, 64, role="parameter")
    with p.launch("ane"), p.task() as task:
        a = p.load(x, ":8, :64", p.buffer(":8, :64", 8, 64), *task.args)
        b = p.load(w, ":8, :64", p.buffer(":8, :64", 8, 64), *task.args, unit="weights")
        task.yields(a, b)
    module = p.module()
    fast = FakeTarget().with_memory(dram_bytes_per_s=1000 * GB)
    assert simulate(module, fast).latency_ps == 10_240
    timing = simulate(module, fast.with_memory(port_rate=50 * GB))
    assert timing.latency_ps == 2 * 1024 * 20
    assert timing.tasks[0].bound == "port"
    timing = simulate(module, fast.with_memory(slc_bytes_per_s=50 * GB))
    assert timing.latency_ps == 2 * 1024 * 20
    assert timing.tasks[0].bound == "slc"


def test_a_slow_unit_leaves_its_share_to_the_others():
    p = Program()
    x, y = p.dram(8, 64), p.dram(24, 64)
    with p.launch("ane"), p.task() as task:
        task.yields(p.load(x, ":8, :64", p.buffer(":8, :64", 8, 64), *task.args))
    with p.launch("gpu"), p.task() as task:
        task.yields(p.load(y, ":24, :64", p.buffer(":24, :64", 24, 64), *task.args))
    # 25 of the 100 GB/s go to ane, the other 75 to gpu, and both need the same time
    target = FakeTarget().with_engine("ane", load_rate=25 * GB).with_engine("gpu")
    assert [t.end_ps for t in simulate(p.module(), target).tasks] == [40_960, 40_960]


def test_launches_wait_for_their_tokens_and_for_waits():
    p = Program()
    x, y = p.dram(8, 64), p.dram(8, 64, role="temporary")
    with p.launch("ane") as first, p.task("first") as task:
        task.yields(p.store(p.buffer(":8, :64", 8, 64), y, ":8, :64", *task.args))
    with p.launch("gpu", *first.tokens), p.task("second") as task:
        task.yields(p.load(y, ":8, :64", p.buffer(":8, :64", 8, 64), *task.args))
    p.wait(p.launches[1])
    with p.launch("cpu"), p.task("third") as task:
        task.yields(p.load(x, ":8, :64", p.buffer(":8, :64", 8, 64), *task.args))
    target = FakeTarget().with_engine("gpu", launch_ps=1000).with_engine("cpu", launch_ps=70)
    timing = simulate(p.module(), target)
    assert [(t.label, t.start_ps, t.end_ps) for t in timing.tasks] == [
        ("first", 0, 10_240),
        ("second", 10_240, 21_480),
        ("third", 21_480, 31_790),
    ]
    assert (timing.dram_read_bytes, timing.dram_write_bytes) == (1024, 0)  # what is between them stays in the cache


def test_tasks_of_an_engine_run_one_after_the_other():
    p = Program()
    x = p.dram(8, 64)
    with p.launch("ane"):
        for _ in range(3):
            with p.task() as task:
                task.yields(p.load(x, ":8, :64", p.buffer(":8, :64", 8, 64), *task.args))
    timing = simulate(p.module(), FakeTarget().with_engine(launch_ps=10, task_ps=1))
    assert [(t.start_ps, t.end_ps) for t in timing.tasks] == [(0, 10_251), (10_251, 20_492), (20_492, 30_733)]


def test_edge_tiles_take_less_time():
    p = Program()
    x, w = p.dram(10, 12), p.dram(12, 7)
    with p.launch("ane"), p.task(macs=10 * 12 * 7) as task:
        xb, wb, acc = p.buffer("m, k", 4, 8), p.buffer("k, n", 8, 4), p.buffer("m, n", 4, 4, dtype="f32")
        with p.loop("m", 10, 4, *task.args) as m:
            with p.loop("n", 7, 4, *m.args) as n:
                with p.loop("k", 12, 8, *n.args) as k:
                    a, b = p.load(x, "m, k", xb, *k.args), p.load(w, "k, n", wb, *k.args, unit="weights")
                    k.yields(p.exec("mac", [xb, wb, acc], [acc], matmul, a, b))
                n.yields(*k.tokens)
            m.yields(*n.tokens)
        task.yields(*m.tokens)
    timing = simulate(p.module(), FakeTarget(), trace=True)
    mac = [end - start for unit, start, end, _ in timing.slices if unit == "ane.mac"]
    sizes = [(4, 4), (4, 4), (2, 2)]
    assert mac == [m * n * k for m, _ in sizes for n in (4, 3) for k in (8, 4)]
    loads = [end - start for unit, start, end, _ in timing.slices if unit == "ane.load"]
    assert timing.macs == 10 * 12 * 7
    assert timing.tasks[0].bytes == 2 * (10 * 12 * 2 + 12 * 7 * 3)
    assert len(loads) == 12


def test_halo_is_clipped_to_the_tensor():
    p = Program()
    x = p.dram(4, 12)
    with p.launch("ane"), p.task() as task:
        b = p.buffer(":4, 2*w-1:3", 4, 7)
        with p.loop("w", 6, 3, *task.args) as loop:
            loop.yields(p.load(x, ":4, 2*w-1:3", b, *loop.args))
        task.yields(*loop.tokens)
    timing = simulate(p.module(), FakeTarget(), trace=True)
    # w = 0..2 wants elements -1..5, has 0..5; w = 3..5 wants 5..11, has them all; 4 rows of f16
    assert [end - start for _, start, end, _ in timing.slices] == [6 * 4 * 2 * 10, 7 * 4 * 2 * 10]


def test_a_copy_outside_the_tensor_moves_nothing():
    p = Program()
    x = p.dram(4, 8)
    with p.launch("ane"), p.task() as task:
        task.yields(p.load(x, ":4, 8:8", p.buffer(":4, 8:8", 4, 8), *task.args))
    timing = simulate(p.module(), FakeTarget().with_engine(setup_ps=5, latency_ps=3))
    assert (timing.latency_ps, timing.tasks[0].bytes) == (8, 0)


def moved(target: FakeTarget, x_shape: tuple[int, ...], access: str, block: tuple[int, ...], **view: object) -> int:
    p = Program()
    x = p.dram(*x_shape)
    if view:
        x = p.view(x, **view)  # type: ignore[arg-type]
    with p.launch("ane"), p.task() as task:
        task.yields(p.load(x, access, p.buffer(access, *block), *task.args))
    return simulate(p.module(), target).tasks[0].bytes


def test_runs_are_rounded_up_to_lines():
    lines = FakeTarget().with_engine(line_bytes=64)
    assert moved(lines, (8, 64), ":8, :64", (8, 64)) == 1024  # one run
    assert moved(lines, (8, 100), ":8, :33", (8, 33)) == 8 * 128  # 66 bytes a row
    assert moved(lines, (8, 33), ":8, :33", (8, 33)) == 576  # 528 bytes in one run
    assert moved(lines, (8, 64, 64), ":8, :1, :64", (8, 1, 64)) == 8 * 128
    assert moved(lines, (8, 64), ":8, :1", (8, 1)) == 8 * 64  # a column: one line a row
    # every other row of 100 bytes: a run of 100 in every 200; of 30 in every 60: lines are shared
    assert moved(lines, (16, 50), ":8, :50", (8, 50), shape=(8, 50), strides=(100, 1)) == 8 * 128
    assert moved(lines, (16, 15), ":8, :15", (8, 15), shape=(8, 15), strides=(30, 1)) == 7 * 64 + 64
    # a transposed view moves what its memory moves
    assert moved(lines, (8, 64), ":64, :8", (64, 8), shape=(64, 8), strides=(1, 64)) == 1024
    # a broadcast axis is read again
    assert moved(lines, (1, 64), ":8, :64", (8, 64), shape=(8, 64), strides=(0, 1)) == 8 * 128


def test_the_queue_of_a_unit_is_bounded_and_nothing_gets_stuck():
    p = Program()
    x = p.dram(1024, 64)
    with p.launch("ane"), p.task() as task:
        b = p.buffer("m, :64", 1, 64)
        with p.loop("m", 1024, 1, *task.args) as loop:
            loop.yields(p.load(x, "m, :64", b, task.args[0]))
        e = p.exec("vec", [p.buffer(":8, :64", 8, 64)], [p.buffer(":8, :64", 8, 64)], relu, *loop.tokens)
        task.yields(e)
    timing = simulate(p.module(), FakeTarget().with_engine(latency_ps=1_000_000))
    # 64 transfers of 1280 ps are under way at a time, then the unit waits for the first of them to arrive
    assert timing.latency_ps > 1024 // 64 * 1_000_000
    assert timing.unit_busy_ps["ane.load"] == 1024 * 1280


def test_a_task_must_yield_what_it_waits_for():
    p = Program()
    x = p.dram(8, 64)
    with p.launch("ane"), p.task("leaky") as task:
        p.load(x, ":8, :64", p.buffer(":8, :64", 8, 64), *task.args)
        task.yields(*task.args)
    with pytest.raises(SimulationError, match=r"'leaky'.*ends at 0 ps, but its last command at 10240 ps"):
        simulate(p.module(), FakeTarget())


def test_a_program_without_work_takes_no_time():
    module = Program().module()
    for fidelity in FIDELITIES:
        timing = simulate(module, FakeTarget(), fidelity)
        assert (timing.latency_ps, timing.tasks, timing.unit_busy_ps) == (0, [], {})


def test_an_empty_launch_costs_its_launch():
    p = Program()
    with p.launch("ane"):
        pass
    assert simulate(p.module(), FakeTarget().with_engine(launch_ps=500)).latency_ps == 500


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("macs", "MACs: expected 32768, found 32769"),
        ("moved", "bytes that passed memory: expected 6144, found 6145"),
        ("issued", "bytes asked for by copies: expected 6144, found 6145"),
        ("retired", "commands: expected 5, found 6"),
    ],
)
def test_books_that_do_not_balance_are_an_error(column: str, message: str):
    target = FakeTarget()
    program = flatten(chain(1, 32, 32, (32, 32, 32)), target)
    lay_out(program, target.memory)
    counts, _, summary = walk(program.code, program.hardware, 0)
    check(program, counts, summary)
    counts[column] += 1
    with pytest.raises(SimulationError, match=message):
        check(program, counts, summary)


def test_units_cannot_be_busier_than_time_allows():
    target = FakeTarget()
    program = flatten(chain(1, 32, 32, (32, 32, 32)), target)
    lay_out(program, target.memory)
    counts, _, summary = walk(program.code, program.hardware, 0)
    counts["busy"] += 10**9
    with pytest.raises(SimulationError, match=r"unit @ane.load was busy for"):
        check(program, counts, summary)
