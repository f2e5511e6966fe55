"""The soc interpreter on programs built by hand."""

import math

import numpy as np
import pytest
from tilewright.compiler.dialects import soc, tile
from tilewright.compiler.interpret import InterpretError, run_soc
from tilewright.compiler.interpret.schedule import ORDERS
from tilewright.compiler.ir import (
    TOKEN,
    Block,
    Builder,
    Func,
    Location,
    MemRefType,
    Module,
    Return,
    Symbol,
    TileType,
    contiguous_strides,
    verify,
)

RNG = np.random.default_rng(2)


def floats(*shape, dtype="f2"):
    return RNG.standard_normal(shape).astype(dtype)


def memref(shape, dtype, space="dram", order=None, strides=None, offset=0):
    return MemRefType(shape, dtype, strides or contiguous_strides(shape, order), offset, space)


class Program:
    """A program of one task a launch, built step by step."""

    def __init__(self):
        self.module = Module()
        main = self.module.body.append(Func(regions=[Block()], sym_name="main"))
        self.b, self.end = Builder(main.body), 0

    def dram(self, kind, role="temporary", **attributes):
        op = self.b.add(soc.Buffer(address=self.end, role=role, result_types=[kind], **attributes))
        self.end += -(-kind.bytes // 64) * 64
        return op.result

    def launch(self, engine, fill, *after):
        """A launch of one task; `fill(block, start)` gives the tokens of the task's end."""
        region = Block([TOKEN], ["start"])
        op = self.b.add(soc.Launch(*after, engine=Symbol(engine), regions=[Block()], result_types=[TOKEN]))
        region.append(soc.Yield(*fill(region, region.args[0])))
        where = Location("net.py", 9, 0, "layer", "op")
        task = op.body.append(soc.Task(regions=[region], label="op", location=where))
        op.body.append(soc.Yield(task.result))
        return op.result

    def finish(self, *outputs, waits=()):
        self.b.add(soc.Wait(*waits))
        self.b.add(Return(*outputs))
        verify(self.module)
        return self.module


def chip(block, kind, address=0, access=(), depth=0, slots=1):
    op = soc.Buffer(address=address, access=access, depth=depth, slots=slots, slot_bytes=-(-kind.bytes // 64) * 64,
                    result_types=[kind])  # fmt: skip
    return block.append(op).result


def copy(block, source, target, *after, unit, access, **attributes):
    return block.append(soc.Copy(source, target, *after, unit=Symbol(unit), access=access, **attributes)).result


def execute(block, reads, writes, *after, body, unit="ane.vec", **attributes):
    """`body(block, *blocks)` gives what is yielded."""
    region = Block([TileType(v.type.shape, v.type.dtype, v.type.space) for v in reads])
    region.append(tile.Yield(*body(region, *region.args)))
    op = soc.Exec(*reads, *writes, *after, unit=Symbol(unit), reads=len(reads), writes=len(writes), regions=[region],
                  **attributes)  # fmt: skip
    return block.append(op).result


def apply(name, **attributes):
    return lambda block, *blocks: [block.append(tile.on_blocks(name)(*blocks, **attributes)).result]


def loop(block, dim, size, cut, inits, fill):
    body = Block([TOKEN] * len(inits))
    body.append(soc.Yield(*fill(body, body.args)))
    return block.append(soc.For(*inits, dim=dim, size=size, tile=cut, regions=[body])).results


def elementwise(program, engine, source, target, name="neg", cut=4, size=13, access="i", after=()):
    """A launch that applies `name` to a vector, a block at a time, with one slot for each side."""
    dtype = source.type.dtype

    def fill(block, start):
        x = chip(block, memref((cut,), dtype, f"{engine}.l2"), 0, ("i",), 1)
        y = chip(block, memref((cut,), dtype, f"{engine}.l2"), 64, ("i",), 1)

        def step(inner, tokens):
            read, stored = tokens
            load = copy(inner, source, x, read, unit=f"{engine}.load", access=("i",))
            done = execute(inner, [x], [y], load, stored, body=apply(name), unit=f"{engine}.vec")
            store = copy(inner, y, target, done, unit=f"{engine}.store", access=(access,))
            return [done, store]

        return [loop(block, "i", size, cut, [start, start], step)[1]]

    return program.launch(engine, fill, *after)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("tiles", [(4, 3, 5), (13, 10, 17), (1, 10, 3)])
def test_matmul_in_every_order(soc_matmul, tiles, order):
    x, w = floats(13, 17), floats(10, 17)
    exact = x.astype("f4") @ w.T.astype("f4")
    y = run_soc(soc_matmul(tiles=tiles), [x, w], order=order, seed=3)[0]
    assert y.dtype == np.float16
    np.testing.assert_allclose(y.astype("f4"), exact, 2e-3, 4e-3)
    wide = run_soc(soc_matmul(tiles=tiles), [x, w], arith="f32", order=order)[0]
    assert wide.dtype == np.float32
    np.testing.assert_allclose(wide, exact, 1e-5, 1e-5)


def test_engines_one_after_the_other():
    p = Program()
    x, t, y = (p.dram(memref((13,), "f16"), r) for r in ("input", "temporary", "output"))
    first = elementwise(p, "ane", x, t, "neg")
    second = elementwise(p, "gpu", t, y, "relu", cut=5, after=[first])
    module = p.finish(y, waits=[first, second])
    a = floats(13)
    for order in ORDERS:
        np.testing.assert_array_equal(run_soc(module, [a], order=order)[0], np.maximum(-a, 0))


def test_without_the_launch_token_an_engine_reads_what_nobody_wrote():
    p = Program()
    x, t, y = (p.dram(memref((13,), "f16"), r) for r in ("input", "temporary", "output"))
    first = elementwise(p, "ane", x, t)
    second = elementwise(p, "gpu", t, y)
    module = p.finish(y, waits=[first, second])
    assert np.isfinite(run_soc(module, [floats(13)])[0]).all()
    assert np.isnan(run_soc(module, [floats(13)], order="youngest_first")[0]).any()


def test_a_wait_holds_back_what_follows_it():
    p = Program()
    x, t, y = (p.dram(memref((13,), "f16"), r) for r in ("input", "temporary", "output"))
    first = elementwise(p, "ane", x, t)
    p.b.add(soc.Wait(first))
    module = p.finish(y, waits=[elementwise(p, "gpu", t, y)])
    a = floats(13)
    for order in ORDERS:
        np.testing.assert_array_equal(run_soc(module, [a], order=order)[0], a)


def test_what_the_host_does_not_wait_for_may_not_be_there():
    p = Program()
    x, y = p.dram(memref((13,), "f16"), "input"), p.dram(memref((13,), "f16"), "output")
    elementwise(p, "ane", x, y)
    module = p.finish(y)
    assert np.isfinite(run_soc(module, [floats(13)])[0]).all()
    assert np.isnan(run_soc(module, [floats(13)], order="stores_late")[0]).any()


def test_loads_pad_and_stores_drop_outside_the_tensor():
    p = Program()
    x, y = p.dram(memref((5,), "f32"), "input"), p.dram(memref((6,), "f32"), "output")

    def fill(block, start):
        buffer = chip(block, memref((4,), "f32", "ane.l2"), 0, ("i-1:2",), 1)

        def step(inner, tokens):
            load = copy(inner, x, buffer, *tokens, unit="ane.load", access=("i-1:2",), pad=-math.inf)
            return [copy(inner, buffer, y, load, unit="ane.store", access=("i-1:2",))]

        return loop(block, "i", 6, 3, [start], step)

    module = p.finish(y, waits=[p.launch("ane", fill)])
    assert list(run_soc(module, [np.arange(5, dtype="f4")])[0]) == [0, 1, 2, 3, 4, -np.inf]


def test_a_load_outside_without_padding_is_an_error():
    p = Program()
    x, y = p.dram(memref((12,), "f32"), "input"), p.dram(memref((13,), "f32"), "output")
    module = p.finish(y, waits=[elementwise(p, "ane", x, y)])
    with pytest.raises(InterpretError, match=r"'soc.copy' .*\[i\] reads from \(12,\) a block of \(1,\)"):
        run_soc(module, [np.zeros(12, "f4")])


def test_layouts_views_and_sources():
    """A column-major input, a transposed view of it, a parameter, a constant and an iota: each read by its own copy."""
    p = Program()
    x = p.dram(memref((3, 4), "f32", order=(1, 0)), "input")
    sources = [
        p.b.add(soc.View(x, result_types=[memref((4, 3), "f32", strides=(3, 1))])).result,
        p.dram(memref((4, 3), "f32", order=(1, 0)), "parameter", key="w"),
        p.dram(memref((4, 3), "f32"), "constant", value=tuple(range(12))),
        p.dram(memref((), "f32"), "constant", value=2.5),
        p.dram(memref((5,), "i64"), "iota", value=(3, 2)),
    ]
    outputs = [p.dram(memref(v.type.shape, v.type.dtype), "output") for v in sources]

    def fill(block, start):
        ends = []
        for i, (source, target) in enumerate(zip(sources, outputs, strict=True)):
            access = tuple(f":{n}" for n in source.type.shape)
            buffer = chip(block, memref(source.type.shape, source.type.dtype, "ane.l2"), 128 * i, access)
            load = copy(block, source, buffer, start, unit="ane.load", access=access)
            ends.append(copy(block, buffer, target, load, unit="ane.store", access=access))
        return ends

    module = p.finish(*outputs, waits=[p.launch("ane", fill)])
    x, w = floats(3, 4, dtype="f4"), floats(4, 3, dtype="f4")
    module.parameters["w"] = w
    got = run_soc(module, [x], order="random")
    for a, b in zip(got, [x.T, w, np.arange(12).reshape(4, 3), 2.5, [3, 5, 7, 9, 11]], strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_view_outside_its_buffer_is_an_error():
    p = Program()
    x = p.dram(memref((3, 4), "f32"), "input")
    view = p.b.add(soc.View(x, result_types=[memref((4, 4), "f32")])).result
    with pytest.raises(InterpretError, match=r"'soc.view' .*reaches element 15, outside memref<3x4xf32"):
        run_soc(p.finish(view), [floats(3, 4, dtype="f4")])


def test_an_input_in_dram_is_written_in_place():
    p = Program()
    base, rows = p.dram(memref((6, 3), "f16"), "input"), p.dram(memref((2,), "i64"), "input", index=1)
    value = p.dram(memref((2, 3), "f16"), "input", index=2)

    def fill(block, start):
        i = chip(block, memref((2,), "i64", "cpu.l2"), 0, (":2",))
        load = copy(block, rows, i, start, unit="cpu.load", access=(":2",))
        body = lambda inner, *blocks: [inner.append(tile.ScatterRows(*blocks, axis=0)).result]  # noqa: E731
        return [execute(block, [base, i, value], [base], load, body=body, unit="cpu.simd")]

    module = p.finish(base, waits=[p.launch("cpu", fill)])
    x, v = floats(6, 3), floats(2, 3)
    expected = x.copy()
    expected[[5, 0]] = v
    for arith in ("native", "f32"):
        np.testing.assert_array_equal(run_soc(module, [x, np.array([5, 0]), v], arith=arith)[0], expected)


def test_a_block_without_an_access_has_the_shape_that_was_written():
    """Between the two commands of a step lies a block that no tensor describes; on the edge it is smaller."""
    p = Program()
    x, y = p.dram(memref((10,), "f16"), "input"), p.dram(memref((10,), "f16"), "output")

    def fill(block, start):
        a = chip(block, memref((4,), "f16", "ane.l2"), 0, ("i",), 1)
        mid = chip(block, memref((4,), "f32", "ane.l2"), 64)
        b = chip(block, memref((4,), "f16", "ane.l2"), 128, ("i",), 1)

        def step(inner, tokens):
            load = copy(inner, x, a, *tokens, unit="ane.load", access=("i",))
            first = execute(inner, [a], [mid], load, body=apply("cast", to="f32"), unit="ane.mac")
            second = execute(inner, [mid], [b], first, body=apply("cast", to="f16"))
            return [copy(inner, b, y, second, unit="ane.store", access=("i",))]

        return loop(block, "i", 10, 4, [start], step)

    module = p.finish(y, waits=[p.launch("ane", fill)])
    a = floats(10)
    for order in ORDERS:
        np.testing.assert_array_equal(run_soc(module, [a], order=order)[0], a)


def test_a_body_knows_where_its_block_lies():
    p = Program()
    s, y = p.dram(memref((6, 7), "f32"), "input"), p.dram(memref((6, 7), "f32"), "output")

    def fill(block, start):
        a = chip(block, memref((4, 3), "f32", "ane.l2"), 0, ("m", "n"), 2)
        body = lambda inner, x: [inner.append(tile.Causal(x, row="m", column="n")).result]  # noqa: E731

        def step(inner, tokens):
            load = copy(inner, s, a, *tokens, unit="ane.load", access=("m", "n"))
            done = execute(inner, [a], [a], load, body=body)
            return [copy(inner, a, y, done, unit="ane.store", access=("m", "n"))]

        return loop(block, "m", 6, 4, [start], lambda inner, tokens: loop(inner, "n", 7, 3, tokens, step))

    module = p.finish(y, waits=[p.launch("ane", fill)])
    x = floats(6, 7, dtype="f4")
    np.testing.assert_array_equal(run_soc(module, [x])[0], np.where(np.tri(6, 7) > 0, x, -np.inf))


def test_launches_that_wait_for_each_other_are_stuck():
    """The second engine's launch is waited for by the first's, which the program text forbids and a pass could make."""
    p = Program()
    x, y = p.dram(memref((13,), "f16"), "input"), p.dram(memref((13,), "f16"), "output")
    first = elementwise(p, "ane", x, y)
    second = elementwise(p, "gpu", x, y, after=[first])
    module = p.finish(y, waits=[first, second])
    first.op.set_operands([second])
    with pytest.raises(InterpretError, match="stuck"):
        run_soc(module, [floats(13)], order="random")
    with pytest.raises(InterpretError, match="waits for something that comes after it"):
        run_soc(module, [floats(13)])


def test_errors():
    p = Program()
    x, y = p.dram(memref((13,), "f16"), "input"), p.dram(memref((13,), "f16"), "output")
    module = p.finish(y, waits=[elementwise(p, "ane", x, y)])
    with pytest.raises(InterpretError, match=r"takes 1 inputs \(#0\), not 2"):
        run_soc(module, [floats(13), floats(13)])
    with pytest.raises(InterpretError, match="knows the orders program, random"):
        run_soc(module, [floats(13)], order="backwards")
    module.main.attributes["inputs"] = ("image",)
    with pytest.raises(InterpretError, match=r"input 'image' has shape \(12,\)"):
        run_soc(module, [floats(12)])
    with pytest.raises(InterpretError, match="uint8"):
        run_soc(module, [np.zeros(13, "u1")])


def test_a_copy_that_changes_the_block_is_an_error():
    p = Program()
    x, y = p.dram(memref((8,), "f16"), "input"), p.dram(memref((8,), "f16"), "output")

    def fill(block, start):
        a = chip(block, memref((4,), "f16", "ane.l2"), 0, (":4",))
        return [copy(block, x, a, start, unit="ane.load", access=(":8",))]

    module = p.finish(y, waits=[p.launch("ane", fill)])
    with pytest.raises(InterpretError, match=r"moves a block of \(8,\) where \(4,\) is expected"):
        run_soc(module, [floats(8)])
