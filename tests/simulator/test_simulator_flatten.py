"""What a program flattens to: prices at edges, traffic of bodies that use DRAM in place, and what is refused."""

from __future__ import annotations

import pytest
from soc_programs import FakeEngine, FakeTarget, Program, chain, matmul, matmul_task, passed_on, relu
from tilewright.compiler.dialects import tile
from tilewright.compiler.ir import Module, Value
from tilewright.targets.simulator import SimulationError, simulate
from tilewright.targets.simulator.flatten import flatten


def test_a_program_is_as_long_as_its_text():
    short, long = (flatten(chain(1, m, 64, (8, 8, 8)), FakeTarget()) for m in (64, 6400))
    assert len(short.code.instructions) == len(long.code.instructions)
    assert sum(c.count for c in long.commands) == 100 * sum(c.count for c in short.commands)


def test_only_edges_that_occur_are_priced():
    p = Program()
    x, w, y = p.dram(20, 30), p.dram(30, 64), p.dram(20, 64)
    with p.launch("ane"):
        matmul_task(p, x, w, y, (8, 8, 64))  # m and k have an edge (k is one small tile), n has none
    program = flatten(p.module(), FakeTarget())
    mac = next(c for c in program.commands if program.units[c.unit] == "ane.mac")
    assert [(price.ps, times) for price, times in mac.prices] == [(8 * 8 * 30, 2 * 8), (4 * 8 * 30, 8)]
    assert sum(price.macs * times for price, times in mac.prices) == 20 * 30 * 64


def test_equal_bodies_are_priced_once():
    asked = []

    class Counting(FakeEngine):
        def exec_ps(self, unit, work):
            asked.append(unit)
            return super().exec_ps(unit, work)

    flatten(chain(5, 64, 64, (16, 16, 16)), FakeTarget(engines={"ane": Counting()}))
    assert sorted(asked) == ["ane.mac", "ane.vec"]


def one_exec(inputs: list[tuple[int, ...]], body, output: tuple[int, ...], dtypes=("f16",) * 3) -> Module:
    """A task with one exec on `@ane.vec`; the first input is in memory."""
    p = Program()
    table = p.dram(*inputs[0], dtype=dtypes[0])
    with p.launch("ane"), p.task() as task:
        blocks = [p.buffer("", *shape, dtype=d) for shape, d in zip(inputs[1:], dtypes[1:], strict=False)]
        target = p.buffer("", *output) if output else table
        task.yields(p.exec("vec", [table, *blocks], [target], body, *task.args))
    return p.module()


def test_gather_moves_the_rows_that_it_reads():
    def body(x: Value, i: Value):
        return [tile.on_blocks("gather")(x, i, axis=0)]

    module = one_exec([(1000, 50), (7,)], body, (7, 50), dtypes=("f16", "i64"))
    timing = simulate(module, FakeTarget().with_memory(line_bytes=64))
    assert timing.tasks[0].bytes == 7 * 128  # rows of 100 bytes, in lines
    assert (timing.dram_read_bytes, timing.dram_write_bytes) == (7 * 128, 0)
    assert timing.latency_ps == 7 * 50 + 7 * 128 * 10  # the body, then its rows


def test_scatter_moves_the_rows_that_it_writes():
    def body(base: Value, i: Value, value: Value):
        return [tile.ScatterRows(base, i, value, axis=1)]

    module = one_exec([(2, 100, 32), (5,), (2, 5, 32)], body, (), dtypes=("f16", "i64", "f16"))
    timing = simulate(module, FakeTarget())
    assert timing.tasks[0].bytes == 2 * 5 * 64
    assert timing.dram_read_bytes == 0


def test_passing_a_block_on_is_priced_as_a_move():
    p = Program()
    with p.launch("ane"), p.task() as task:
        a, b = p.buffer("", 4, 8), p.buffer("", 4, 8)
        task.yields(p.exec("vec", [a], [b], passed_on, *task.args))
    assert simulate(p.module(), FakeTarget()).latency_ps == 4 * 8


def test_a_constant_takes_the_shape_that_it_meets():
    def body(x: Value):
        half = tile.Constant(result_types=[x.type], value=0.5)
        return [half, tile.on_blocks("mul")(x, half.result)]

    p = Program()
    with p.launch("ane"), p.task() as task:
        a, b = p.buffer("m, :8", 4, 8), p.buffer("m, :8", 4, 8)
        with p.loop("m", 6, 4, *task.args) as loop:
            loop.yields(p.exec("vec", [a], [b], body, *loop.args))
        task.yields(*loop.tokens)
    assert simulate(p.module(), FakeTarget()).latency_ps == 4 * 8 + 2 * 8


def test_work_without_a_price_is_an_error():
    class Refusing(FakeEngine):
        def exec_ps(self, unit, work):
            raise ValueError(f"no price for {work[0].op.name}")

    class Free(FakeEngine):
        def exec_ps(self, unit, work):
            return 0

    module = chain(1, 8, 8, (8, 8, 8))
    with pytest.raises(SimulationError, match=r"ane cannot price tile.matmul on @ane.mac .*no price for tile.matmul"):
        simulate(module, FakeTarget(engines={"ane": Refusing()}))
    with pytest.raises(SimulationError, match=r"prices tile.matmul on @ane.mac .* at 0 ps"):
        simulate(module, FakeTarget(engines={"ane": Free()}))


def test_macs_must_add_up():
    p = Program()
    with p.launch("ane"), p.task("short", macs=100) as task:
        a, b, c = p.buffer("", 4, 4), p.buffer("", 4, 4), p.buffer("", 4, 4, dtype="f32")
        task.yields(p.exec("mac", [a, b], [c], matmul, *task.args))
    with pytest.raises(SimulationError, match="'short' is to do 100 MACs, but its commands do 64"):
        simulate(p.module(), FakeTarget())


def test_refusals_name_the_op_and_the_place():
    def program(unit: str = "load", access: str = "m, :8", engine: str = "ane") -> Module:
        p = Program()
        x = p.dram(8, 8)
        with p.launch(engine), p.task() as task:
            with p.loop("m", 8, 4, *task.args) as loop:
                loop.yields(p.load(x, access, p.buffer(access, 4, 8), *loop.args, unit=unit))
            task.yields(*loop.tokens)
        return p.module()

    target = FakeTarget()
    with pytest.raises(SimulationError, match="no engine 'npu'; it has ane"):
        simulate(program(engine="npu"), target)
    with pytest.raises(SimulationError, match=r"@ane.mac is no copy unit of engine ane"):
        simulate(program(unit="mac"), target)
    with pytest.raises(SimulationError, match=r"soc.copy.*uses 'k', which no loop round it runs over"):
        simulate(program(access="k, :8"), target)
    with pytest.raises(SimulationError, match="less than 1 MB/s"):
        simulate(program(), target.with_memory(slc_bytes_per_s=1000))
    with pytest.raises(ValueError, match="unknown fidelity 'exact'; there are roofline, analytic, cycle"):
        simulate(program(), target, fidelity="exact")


def test_nested_loops_need_different_dims():
    p = Program()
    with p.launch("ane"), p.task() as task:
        a = p.buffer("m, :8", 4, 8)
        with p.loop("m", 8, 4, *task.args) as outer:
            with p.loop("m", 8, 4, *outer.args) as inner:
                inner.yields(p.exec("vec", [a], [a], relu, *inner.args))
            outer.yields(*inner.tokens)
        task.yields(*outer.tokens)
    with pytest.raises(SimulationError, match="runs over 'm' inside a loop over 'm'"):
        simulate(p.module(), FakeTarget())
