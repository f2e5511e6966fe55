"""Quantised and palettised programs on each engine alone: the same numbers at every level, and weights as stored."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tilewright.compiler.dialects import graph, soc, tile
from tilewright.compiler.interpret import run_graph, run_soc, run_tile
from tilewright.compiler.interpret.races import check_races
from tilewright.compiler.ir import Block, Builder, Func, Module, Return, TensorType, int_range, verify
from tilewright.passes import PassContext, default_pipeline
from tilewright.targets import load_target
from tilewright.targets.simulator import simulate

M4 = load_target("m4")
NUMPY = {"f16": "f2", "f32": "f4", "i8": "i1", "i4": "i1", "i32": "i4", "i64": "i8"}
SMALL = {"ane.array.weight_buffer": "128", "ane.scratch.size": "8KiB", "gpu.threadgroup_memory": "512",
         "cpu.cache.l2": "8KiB", "ane.array.accumulators": "256", "cpu.cache.l1": "1KiB"}  # fmt: skip


@cache
def small_target():
    """M4 with memories so small that every loop here has several tiles along each dim."""
    target = M4
    for path, value in SMALL.items():
        target = target.override(path, value)
    return target


class Net:
    """A module under construction: `net.input(...)`, `net.weight(...)`, then ops through `net.add`."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.module, self.block = Module(), Block()
        self.module.body.append(Func(sym_name="main", regions=[self.block]))
        self.builder = Builder(self.block)
        self.inputs: list[np.ndarray] = []

    def array(self, shape, dtype, most=None):
        if dtype[0] in "iu":
            low, high = int_range(dtype)
            return self.rng.integers(low, (high if most is None else most) + 1, shape).astype(NUMPY.get(dtype, "u1"))
        return (0.1 + np.abs(self.rng.standard_normal(shape))).astype(NUMPY[dtype])  # scales are positive

    def input(self, shape, dtype="f16"):
        value = self.block.add_arg(TensorType(tuple(shape), dtype), f"x{len(self.inputs)}")
        signed = self.rng.choice([-1, 1], shape).astype(NUMPY[dtype]) if dtype[0] == "f" else 1
        self.inputs.append((self.array(shape, dtype) * signed).astype(NUMPY.get(dtype, "u1")))
        return value

    def weight(self, shape, dtype, most=None):
        key = f"w{len(self.module.parameters)}"
        self.module.parameters[key] = self.array(shape, dtype, most)
        return self.add(graph.Parameter(key=key, result_types=[TensorType(tuple(shape), dtype)]))

    def number(self, value, dtype, rank):
        return self.add(graph.Constant(value=value, result_types=[TensorType((1,) * rank, dtype)]))

    def add(self, op):
        return self.builder.add(op).result

    def compressed(self, shape, block, kind, dtype="f16"):
        """A weight that is expanded: `kind` is its dtype, after `lut.` if it is looked up, or before `+zero`."""
        counts = graph.block_counts(shape, block)
        if kind.startswith("lut"):
            stored = kind.removeprefix("lut.")
            table = self.weight((*counts, int_range(stored)[1] + 1), dtype)
            return self.add(graph.Lookup(self.weight(shape, stored), table, block=block))
        stored, _, zero = kind.partition("+")
        operands = [self.weight(shape, stored), self.weight(counts, dtype)]
        self.module.parameters[operands[1].op.key] /= 1 + int_range(stored)[1]  # weights of about 1
        if zero:
            operands.append(self.weight(counts, "i8", 7))
        return self.add(graph.Dequantize(*operands, block=block, to=dtype))

    def done(self, *results):
        self.block.append(Return(*results))
        verify(self.module)
        return self


def lower(module, engines, level, target=M4):
    context = PassContext(target, tuple(engines.split(",")))
    for p in default_pipeline(level):
        p.run(module, context)
        verify(module)
    return context


def agree(got, want, tolerance):
    for g, w in zip(got, want, strict=True):
        g, w = g.astype("f8"), w.astype("f8")
        assert g.shape == w.shape
        assert np.linalg.norm(g - w) <= tolerance * max(np.linalg.norm(w), 1e-30)


def check(make, engines, target=M4, races=True, tolerance=2e-6):
    """Every level agrees with the program as written, in f32 and in its own arithmetic; costs obey their bounds."""
    net = make()
    want = {arith: run_graph(net.module, net.inputs, arith=arith) for arith in ("f32", "native")}
    for level, run in (("graph", run_graph), ("tile", run_tile), ("soc", run_soc)):
        module = make().module
        lower(module, engines, level, target)
        agree(run(module, net.inputs, arith="f32"), want["f32"], tolerance)
        agree(run(module, net.inputs, arith="native"), want["native"], 2e-3)
    if races:
        report = check_races(module, net.inputs, orders=1)
        assert report, str(report)
    timings = {f: simulate(module, target, f) for f in ("roofline", "analytic", "cycle")}
    assert timings["roofline"].latency_ps <= timings["cycle"].latency_ps
    assert timings["analytic"].dram_read_bytes == timings["cycle"].dram_read_bytes
    assert len({t.macs for t in timings.values()}) == 1
    return module


engine = st.sampled_from(["ane", "gpu", "cpu"])
size = st.sampled_from([1, 2, 3, 5, 7, 8, 13, 16, 17, 31, 33, 64, 65])
KINDS = ["i4", "ui4+zero", "i8", "ui8+zero", "lut.ui1", "lut.ui2", "lut.ui3", "lut.ui4", "lut.ui6", "lut.ui8"]


# ---------------------------------------------------------------- weights expanded in the loop of their product


@settings(max_examples=40, deadline=None)
@given(
    m=size,
    n=size,
    k=size,
    kind=st.sampled_from(KINDS),
    transposed=st.booleans(),
    grain=st.sampled_from(["tensor", "channel", 4, 32]),
    small=st.booleans(),
    engine=engine,
    seed=st.integers(0, 9),
)
def test_matmul_with_a_compressed_weight(m, n, k, kind, transposed, grain, small, engine, seed):
    shape = (n, k) if transposed else (k, n)
    along = {"tensor": (n, k), "channel": (1, k)}.get(grain, (1, grain))
    block = along if transposed else along[::-1]

    def make():
        net = Net(seed)
        x, w = net.input((m, k)), net.compressed(shape, block, kind)
        y = net.add(graph.Matmul(x, w, transpose_b=transposed))
        return net.done(
            net.add(graph.ELEMENTWISE["relu"](net.add(graph.ELEMENTWISE["add"](y, net.weight((n,), "f16")))))
        )

    module = check(make, engine, small_target() if small else M4)
    (task,) = [op for op in module.main.walk() if isinstance(op, soc.Task)]
    assert "dequantize" in task.label or "lookup" in task.label


@settings(max_examples=20, deadline=None)
@given(
    channels=size,
    outputs=size,
    kernel=st.sampled_from([1, 3]),
    groups=st.sampled_from([1, 2, 3]),
    kind=st.sampled_from(KINDS),
    along=st.sampled_from(["o", "c", "tensor", "group"]),
    small=st.booleans(),
    engine=engine,
    seed=st.integers(0, 9),
)
def test_conv_with_a_compressed_weight(channels, outputs, kernel, groups, kind, along, small, engine, seed):
    shape = (outputs * groups, channels, kernel, kernel)
    block = {"o": (1, *shape[1:]), "c": (1, 3, kernel, kernel), "tensor": shape, "group": (4, *shape[1:])}[along]

    def make():
        net = Net(seed)
        x, w = net.input((2, channels * groups, 7, 5)), net.compressed(shape, block, kind)
        return net.done(net.add(graph.Conv(x, w, strides=(1, 2), padding=(1, 1, 1, 0), groups=groups)))

    check(make, engine, small_target() if small else M4, races=False)


def test_the_weight_is_moved_at_its_stored_size():
    """4-bit groups of 32: half a byte a weight and a scale for 32 of them, against two bytes."""
    moved = {}
    for kind in ("f16", "i4"):
        net = Net(0)
        x = net.input((1, 512))
        w = net.weight((512, 512), "f16") if kind == "f16" else net.compressed((512, 512), (1, 32), kind)
        net.done(net.add(graph.Matmul(x, w, transpose_b=True)))
        lower(net.module, "gpu", "soc")
        moved[kind] = simulate(net.module, M4).dram_read_bytes
    assert moved["f16"] == 512 * 512 * 2 + 1024
    assert moved["i4"] == 512 * 512 // 2 + 512 * 16 * 2 + 1024


def test_the_neural_engine_expands_palettes_in_no_time():
    """Streaming 4-bit indices: a quarter of the weight DMA's time, and no work for the vector unit."""
    timings = {}
    for kind in ("f16", "lut.ui4"):
        net = Net(0)
        x = net.input((64, 1024))
        w = net.weight((1024, 1024), "f16") if kind == "f16" else net.compressed((1024, 1024), (1024, 1024), kind)
        net.done(net.add(graph.Matmul(x, w, transpose_b=True)))
        lower(net.module, "ane", "soc")
        timings[kind] = simulate(net.module, M4)
    (plain,), (small,) = timings["f16"].tasks, timings["lut.ui4"].tasks
    assert plain.engine == small.engine == "ane"
    assert small.unit_busy_ps["ane.mac"] == pytest.approx(plain.unit_busy_ps["ane.mac"], rel=0.1)
    assert small.unit_busy_ps["ane.vec"] <= plain.unit_busy_ps["ane.vec"]  # draining the results, and nothing else
    assert small.unit_busy_ps["ane.weights"] == pytest.approx(plain.unit_busy_ps["ane.weights"] / 4, rel=0.1)


def test_the_gpu_pays_for_expanding():
    net = Net(0)
    net.done(net.add(graph.Matmul(net.input((4, 256)), net.compressed((256, 256), (1, 32), "i4"), transpose_b=True)))
    lower(net.module, "gpu", "soc")
    (task,) = simulate(net.module, M4).tasks
    least = 2 * 256 * 256 / (10 * 128) / 1.398e9 * 1e12  # a conversion and a product for each weight, on all lanes
    assert task.unit_busy_ps["gpu.mat"] >= least


def test_what_the_neural_engine_cannot_stream_goes_elsewhere_and_says_why():
    net = Net(0)
    net.done(net.add(graph.Matmul(net.input((4, 64)), net.compressed((8, 64), (1, 32), "i4"), transpose_b=True)))
    lower(net.module, "ane", "tile")
    (loop,) = [op for op in net.module.main.walk() if isinstance(op, tile.Loop)]
    assert loop.engine.name == "cpu"
    assert "not as dequantize.i4.blocks" in loop.reason


def test_tiles_keep_to_the_groups():
    net = Net(0)
    net.done(net.add(graph.Matmul(net.input((64, 700)), net.compressed((96, 700), (1, 48), "i4"), transpose_b=True)))
    lower(net.module, "gpu", "tile", small_target())
    (loop,) = [op for op in net.module.main.walk() if isinstance(op, tile.Loop)]
    k = loop.grid.tile()["k"]
    assert k < 700
    assert k % 48 == 0 or 48 % k == 0


@pytest.mark.parametrize("steps", [1, 2])
def test_a_weight_of_two_products_is_expanded_in_each(steps):
    def make():
        net = Net(3)
        w = net.compressed((7, 33), (1, 33), "i8")
        if steps == 2:
            q = net.add(graph.Lookup(net.weight((7, 33), "ui4"), net.weight((1, 1, 16), "i8"), block=(7, 33)))
            w = net.add(graph.Dequantize(q, w.op.scale, block=(1, 33), to="f16"))
        ys = [net.add(graph.Matmul(net.input((m, 33)), w, transpose_b=True)) for m in (2, 3)]
        return net.done(*ys)

    module = check(make, "ane")
    labels = [op.label for op in module.main.walk() if isinstance(op, soc.Task)]
    assert labels == ["dequantize+matmul" if steps == 1 else "lookup+dequantize+matmul"] * 2


@pytest.mark.parametrize("kind", ["i4", "lut.ui4", "i8", "ui3"])
@pytest.mark.parametrize("block", [(1, 20), (1, 4), (11, 20)])
@pytest.mark.parametrize("engine", ["ane", "gpu", "cpu"])
def test_rows_are_gathered_before_they_are_expanded(kind, block, engine):
    def make():
        net = Net(1)
        indices = net.block.add_arg(TensorType((2, 3), "i64"), "i")
        net.inputs.append(net.rng.integers(0, 11, (2, 3)))
        return net.done(net.add(graph.Gather(net.compressed((11, 20), block, kind), indices, axis=0)))

    module = check(make, engine)
    labels = [op.label for op in module.main.walk() if isinstance(op, soc.Task)]
    assert labels[-1] in ("gather+dequantize", "gather+lookup")
    assert set(labels[:-1]) <= {"gather"}  # of the scales


def test_a_transposed_weight_is_transposed_as_it_is_stored():
    def make():
        net = Net(1)
        w = net.add(graph.Transpose(net.compressed((6, 40), (1, 8), "i4"), permutation=(1, 0)))
        return net.done(net.add(graph.Matmul(net.input((3, 40)), w)))

    module = check(make, "cpu")
    assert [op.label for op in module.main.walk() if isinstance(op, soc.Task)] == ["dequantize+matmul"]


def test_a_palette_of_integers_is_scaled_after_it():
    def make():
        net = Net(1)
        lookup = graph.Lookup(net.weight((6, 40), "ui4"), net.weight((1, 1, 16), "i8"), block=(6, 40))
        w = net.add(graph.Dequantize(net.add(lookup), net.weight((6, 1), "f16"), block=(1, 40), to="f16"))
        return net.done(net.add(graph.Matmul(net.input((3, 40)), w, transpose_b=True)))

    for name in ("ane", "gpu", "cpu"):
        module = check(make, name)
        (task,) = [op for op in module.main.walk() if isinstance(op, soc.Task)]
        assert task.label == "lookup+dequantize+matmul"
        assert task.parent.parent.engine.name == name


def test_a_weight_of_integers_may_be_scaled_after_its_product():
    def make():
        net = Net(1)
        w = net.add(graph.Cast(net.weight((96, 64), "i8"), to="f16"))
        y = net.add(graph.Matmul(net.input((3, 64)), w, transpose_b=True))
        return net.done(net.add(graph.ELEMENTWISE["mul"](y, net.weight((96,), "f16"))))

    for name in ("ane", "gpu", "cpu"):
        (task,) = [op for op in check(make, name).main.walk() if isinstance(op, soc.Task)]
        assert task.label == "cast+matmul+mul"
        assert task.parent.parent.engine.name == name


def test_a_product_stays_on_its_engine_where_that_cannot_read_the_integers():
    """M1's Neural Engine multiplies floats that the CPU makes of an input of integers."""

    def make():
        net = Net(1)
        x = net.add(graph.Dequantize(net.input((3, 64), "i8"), net.number(0.03, "f32", 2), block=(3, 64), to="f16"))
        return net.done(net.add(graph.Matmul(x, net.compressed((8, 64), (1, 64), "i8"), transpose_b=True)))

    module = check(make, "ane", load_target("m1"))
    found = [(op.engine.name, [t.label for t in op.tasks]) for op in module.main.walk() if isinstance(op, soc.Launch)]
    assert found == [("cpu", ["dequantize"]), ("ane", ["dequantize+matmul"])]


# ---------------------------------------------------------------- on their own


@settings(max_examples=30, deadline=None)
@given(
    rows=size,
    columns=size,
    block=st.tuples(size, size),
    kind=st.sampled_from([*KINDS, "quantize", "quantize+zero"]),
    small=st.booleans(),
    engine=engine,
    seed=st.integers(0, 9),
)
def test_the_ops_alone(rows, columns, block, kind, small, engine, seed):
    def make():
        net = Net(seed)
        counts = graph.block_counts((rows, columns), block)
        if kind.startswith("quantize"):
            operands = [net.input((rows, columns), "f32"), net.input(counts, "f32")]
            operands += [net.input(counts, "i8")] if kind.endswith("zero") else []
            return net.done(net.add(graph.Quantize(*operands, block=block, to="i8")))
        if kind.startswith("lut"):
            index = net.input((rows, columns), kind.removeprefix("lut."))
            table = net.input((*counts, int_range(kind.removeprefix("lut."))[1] + 1))
            return net.done(net.add(graph.Lookup(index, table, block=block)))
        stored, _, zero = kind.partition("+")
        operands = [net.input((rows, columns), stored), net.input(counts), *([net.input(counts, "i8")] if zero else [])]
        return net.done(net.add(graph.Dequantize(*operands, block=block, to="f16")))

    check(make, engine, small_target() if small else M4, races=False)


# ---------------------------------------------------------------- integer arithmetic


def static_matmul(m, n, k, *, x_dtype="i8", zero=None, per_channel=True, bias=False, requantise=False, w_dtype="i8",
                  dtype="f16", seed=0, rows=False):  # fmt: skip
    def make():
        net = Net(seed)
        xq = net.input((m, k), x_dtype)
        sx = net.input((m, 1), "f32") if rows else net.number(0.03, "f32", 2)
        zeros = [] if zero is None else [net.number(zero, "i32", 2)]
        x = net.add(graph.Dequantize(xq, sx, *zeros, block=(1 if rows else m, k), to=dtype))
        w = net.compressed((n, k), (1 if per_channel else n, k), w_dtype, dtype)
        operands = [x, w, *([net.weight((n,), dtype)] if bias else [])]
        y = net.add(graph.Matmul(*operands, transpose_b=True))
        if requantise:
            y = net.add(graph.ELEMENTWISE["relu"](y))
            y = net.add(graph.Quantize(y, net.number(50.0, "f32", 2), block=(m, n), to="i8"))
        return net.done(y)

    return make


@settings(max_examples=25, deadline=None)
@given(
    m=size,
    n=size,
    k=size,
    x_dtype=st.sampled_from(["i8", "ui8"]),
    zero=st.sampled_from([None, 0, 7]),
    per_channel=st.booleans(),
    bias=st.booleans(),
    small=st.booleans(),
    seed=st.integers(0, 9),
)
def test_an_integer_matmul_on_the_neural_engine(m, n, k, x_dtype, zero, per_channel, bias, small, seed):
    make = static_matmul(m, n, k, x_dtype=x_dtype, zero=zero, per_channel=per_channel, bias=bias, seed=seed)
    module = check(make, "ane", small_target() if small else M4)
    products = [op for op in module.main.walk() if isinstance(op, tile.Matmul)]
    assert [op.dtype(0) for op in products] == [x_dtype]
    assert all(op.engine.name == "ane" for op in module.main.walk() if isinstance(op, soc.Launch))


def int8_context(make, engines="ane", target=M4):
    module = make().module
    return module, lower(module, engines, "soc", target)


def test_the_int8_rate_is_used_where_there_is_one():
    module, _ = int8_context(static_matmul(512, 512, 1024))
    (task,) = simulate(module, M4).tasks
    floats = static_matmul(512, 512, 1024)().module
    context = PassContext(load_target("m1"), ("ane",))
    for p in default_pipeline("graph"):
        p.run(floats, context)
    missed = [e for e in context.log if e.rule == "integer-products"]
    assert [e.outcome for e in missed] == ["missed"]
    assert "no engine that takes it multiplies i8 faster than f16" in missed[0].reason
    peak_ps = 512 * 512 * 1024 / (16 * 512 * 2.364e9) * 1e12
    assert peak_ps <= task.unit_busy_ps["ane.mac"] <= 1.3 * peak_ps


def test_the_sums_are_requantised_in_the_same_loop():
    make = static_matmul(33, 17, 65, zero=3, bias=True, requantise=True)
    net = make()
    want = run_graph(net.module, net.inputs, arith="f32")[0].astype(int)
    for level, run in (("graph", run_graph), ("tile", run_tile), ("soc", run_soc)):
        module = make().module
        lower(module, "ane", level)
        (got,) = run(module, net.inputs, arith="f32")
        assert got.dtype == np.int8
        assert np.abs(got.astype(int) - want).max() <= 1
        assert np.mean(got.astype(int) != want) < 0.01
    (task,) = [op for op in module.main.walk() if isinstance(op, soc.Task)]
    assert task.label == "matmul+dequantize+relu+quantize"


def test_a_scale_for_each_row_of_x():
    make = static_matmul(33, 17, 65, rows=True, dtype="f32")
    for engines in ("cpu", "gpu", "ane"):
        check(make, engines)
    module = make().module
    for p in default_pipeline("graph"):
        p.run(module, PassContext())
    assert any(isinstance(op, graph.Matmul) and op.to == "i32" for op in module.main.walk())
    net = make()
    agree(run_graph(module, net.inputs), run_graph(net.module, net.inputs), 2e-6)


@settings(max_examples=15, deadline=None)
@given(
    channels=size,
    outputs=size,
    groups=st.sampled_from([1, 2, 5]),
    zero=st.sampled_from([None, 7]),
    bias=st.booleans(),
    small=st.booleans(),
    engine=engine,
    w_dtype=st.sampled_from(["i8", "i4"]),
    seed=st.integers(0, 9),
)
def test_an_integer_convolution(channels, outputs, groups, zero, bias, small, engine, w_dtype, seed):
    """Padding is 0 in numbers, the zero point in integers; on engines without an int8 rate it is that of floats."""

    def make():
        net = Net(seed)
        xq = net.input((2, channels * groups, 7, 5), "ui8")
        zeros = [] if zero is None else [net.number(zero, "i32", 4)]
        x = net.add(graph.Dequantize(xq, net.number(0.03, "f32", 4), *zeros, block=xq.type.shape, to="f16"))
        shape = (outputs * groups, channels, 3, 3)
        w = net.compressed(shape, (1, *shape[1:]), w_dtype)
        operands = [x, w, *([net.weight((shape[0],), "f16")] if bias else [])]
        return net.done(net.add(graph.Conv(*operands, strides=(1, 2), padding=(1, 1, 1, 0), groups=groups)))

    module = check(make, engine, small_target() if small else M4, races=False)
    products = {op.dtype(0) for op in module.main.walk() if isinstance(op, tile.Conv)}
    assert products == ({"f16"} if engine == "gpu" else {"ui8"})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("zero", "the weight has zero points"),
        ("groups", "the scales of the weight change along what is summed"),
        ("x", "the scales of x change along what is summed"),
    ],
)
def test_products_that_stay_in_floats_say_why(change, why):
    net = Net(0)
    xq = net.input((4, 8), "i8")
    block = (4, 2) if change == "x" else (4, 8)
    x = net.add(graph.Dequantize(xq, net.input(graph.block_counts((4, 8), block), "f16"), block=block, to="f16"))
    w = net.compressed((6, 8), (1, 4 if change == "groups" else 8), "i8+zero" if change == "zero" else "i8")
    net.done(net.add(graph.Matmul(x, w, transpose_b=True)))
    context = lower(net.module, "ane", "soc")
    assert why in [e.reason for e in context.log if e.rule == "integer-products" and e.outcome == "missed"]


def test_rounding_stays_on_a_neural_engine_without_integers():
    """M1: quantize and dequantize between two convolutions are work of its vector unit, and no integer leaves it."""

    def make():
        net = Net(2)
        x = net.input((1, 8, 9, 9))
        for _ in range(2):
            q = net.add(graph.Quantize(x, net.number(0.25, "f32", 4), block=x.type.shape, to="i8"))
            x = net.add(graph.Dequantize(q, net.number(0.25, "f32", 4), block=x.type.shape, to="f16"))
            stored = net.weight((8, 8, 3, 3), "i8"), net.number(0.002, "f16", 4)
            w = net.add(graph.Dequantize(*stored, block=(8, 8, 3, 3), to="f16"))
            x = net.add(graph.Conv(x, w, strides=(1, 1), padding=(1, 1, 1, 1)))
        return net.done(x)

    module = check(make, "ane", load_target("m1"), tolerance=2e-3)
    assert {op.engine.name for op in module.main.walk() if isinstance(op, soc.Launch)} == {"ane"}


def test_a_quantised_program_goes_through_text_at_every_level(roundtrip):
    for level in ("graph", "tile", "soc"):
        net = static_matmul(33, 17, 65, zero=3, bias=True, requantise=True)()
        lower(net.module, "ane", level)
        roundtrip(net.module)
        net = Net(0)
        net.done(
            net.add(graph.Matmul(net.input((64, 700)), net.compressed((96, 700), (1, 48), "i4"), transpose_b=True))
        )
        lower(net.module, "gpu", level, small_target())
        roundtrip(net.module)
