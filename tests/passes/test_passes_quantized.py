"""Compressed weights on each engine alone: the same numbers at every level, and moved at their stored size."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantized_nets import KINDS, M4, Net, check, engine, lower, size, small_target
from tilewright.compiler.dialects import graph, soc, tile
from tilewright.compiler.ir import TensorType, int_range
from tilewright.targets import load_target
from tilewright.targets.simulator import simulate

# ---------------------------------------------------------------- weights expanded in the loop of their product

FIRST_RUN = M4.override("memory.slc.retained", "0")  # no weights are in the cache yet


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
        moved[kind] = simulate(net.module, FIRST_RUN).dram_read_bytes
    assert moved["f16"] == 512 * 512 * 2 + 1024
    assert moved["i4"] == 512 * 512 // 2 + 512 * 16 * 2 + 1024


def test_the_neural_engine_expands_palettes_in_no_time():
    """Streaming 4-bit indices: a quarter of the weight DMA's time, and no work for the vector unit."""
    timings = {}
    streaming = FIRST_RUN.override("ane.dma.setup", "0")  # what a copy costs beside its bytes is the same for both
    for kind in ("f16", "lut.ui4"):
        net = Net(0)
        x = net.input((64, 1024))
        w = net.weight((1024, 1024), "f16") if kind == "f16" else net.compressed((1024, 1024), (1024, 1024), kind)
        net.done(net.add(graph.Matmul(x, w, transpose_b=True)))
        lower(net.module, "ane", "soc")
        timings[kind] = simulate(net.module, streaming)
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
@pytest.mark.parametrize("block", [(1, 20), (1, 4), (3, 20), (11, 20)])
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
    assert all(label == "gather" or block[0] == 3 for label in labels[:-1])  # of the scales, or which block it is


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
