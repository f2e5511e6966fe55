"""Sparse weights on each engine alone: the same numbers at every level, and moved as they are stored."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantized_nets import M4, Net, check, engine, lower, size, small_target
from tilewright.compiler.dialects import graph, soc, tile
from tilewright.compiler.ir import TensorType, parse, print_op
from tilewright.passes import PassContext, parse_pipeline
from tilewright.targets import load_target
from tilewright.targets.simulator import simulate

FIRST_RUN = M4.override("memory.slc.retained", "0")  # no weights are in the cache yet
zeros = st.sampled_from([0.0, 0.1, 0.5, 0.75, 0.97, 1.0])


@settings(max_examples=40, deadline=None)
@given(
    size, size, size, zeros, st.sampled_from(["f16", "f32"]), st.booleans(), st.booleans(), engine, st.integers(0, 9)
)
def test_matmul_with_a_sparse_weight(m, n, k, part, dtype, transposed, small, engine, seed):
    def make():
        net = Net(seed)
        x, w = net.input((m, k), dtype), net.sparse((n, k) if transposed else (k, n), part, dtype)
        return net.done(net.add(graph.ELEMENTWISE["relu"](net.add(graph.Matmul(x, w, transpose_b=transposed)))))

    module = check(make, engine, small_target() if small else M4)
    (task,) = [op for op in module.main.walk() if isinstance(op, soc.Task)]
    (stored,) = [op.x.type for op in make().module.main.body if isinstance(op, graph.ToDense)]
    assert ("to_dense" in task.label) == (stored.bytes < TensorType(stored.shape, dtype).bytes)


@settings(max_examples=20, deadline=None)
@given(size, size, st.sampled_from([1, 3]), st.sampled_from([1, 2, 3]), zeros, st.booleans(), engine, st.integers(0, 9))
def test_conv_with_a_sparse_weight(channels, outputs, kernel, groups, part, small, engine, seed):
    def make():
        net = Net(seed)
        x = net.input((2, channels * groups, 7, 5))
        w = net.sparse((outputs * groups, channels, kernel, kernel), part)
        return net.done(net.add(graph.Conv(x, w, strides=(1, 2), padding=(1, 1, 1, 0), groups=groups)))

    check(make, engine, small_target() if small else M4, races=False)


@pytest.mark.parametrize("name", ["ane", "gpu", "cpu"])
@pytest.mark.parametrize("part", [0.5, 0.75])
def test_mask_and_numbers_are_what_is_read(name, part):
    """A bit each of 512 x 512 weights and two bytes of each that is not zero, beside the input."""
    net = Net(0)
    net.done(net.add(graph.Matmul(net.input((1, 512)), net.sparse((512, 512), part), transpose_b=True)))
    lower(net.module, name, "soc")
    assert simulate(net.module, FIRST_RUN).dram_read_bytes == 512 * 512 // 8 + int(512 * 512 * (1 - part)) * 2 + 1024


@pytest.mark.parametrize("tiles", [(512, 43), (96, 512)])
def test_a_block_of_a_sparse_weight_is_one_run(tiles):
    """However it is cut, its share of mask and numbers comes without the gaps that rows of dense blocks would have."""
    n, k = tiles
    text = f"""
func.func @main(%x: tensor<1x512xf16>) -> tensor<1x512xf16> {{
  %w = graph.parameter {{key = "w"}} : tensor<512x512xf16, "density 1/2">
  %y = tile.loop on @ane (m: par 1 by 1, n: par 512 by {n}, k: red 512 by {k})
      ins(%a = %x[m, k] : !tile.tile<1x{k}xf16, "ane.l2"> buffers 2,
          %b = %w[n, k] : !tile.tile<{n}x{k}xf16, "ane.wbuf density 1/2"> buffers 2)
      accs(%acc = 0.0 [m, n] : !tile.tile<1x{n}xf32, "ane.acc">)
      outs([m, n] in "ane.l2" buffers 2) {{label = "matmul", macs = 262144}} {{
    %0 = tile.to_dense %b : !tile.tile<{n}x{k}xf16, "reg">
    %1 = tile.matmul %a, %0, %acc {{transpose_b = true}} : !tile.tile<1x{n}xf32, "reg">
    tile.last %1
    %2 = tile.cast %1 {{to = "f16"}} : !tile.tile<1x{n}xf16, "reg">
    tile.yield %2
  }} : tensor<1x512xf16>
  func.return %y
}}
"""
    module = parse(text)
    for p in parse_pipeline("allocate,lower-to-soc"):
        p.run(module, PassContext(FIRST_RUN, ("ane",)))
    (task,) = simulate(module, FIRST_RUN).tasks
    weights = sum(lines(a * b * 9 / 8) for a in cuts(512, n) for b in cuts(512, k))
    activations = sum(lines(2 * b) for b in cuts(512, k)) + sum(lines(2 * a) for a in cuts(512, n))
    assert task.bytes == weights + activations


def cuts(size, by):
    return [min(by, size - start) for start in range(0, size, by)]


def lines(size):
    return math.ceil(size / 64) * 64


def test_the_neural_engine_expands_sparse_weights_in_no_time_and_skips_their_zeros():
    timings = {}
    streaming = FIRST_RUN.override("ane.dma.setup", "0").override("ane.start", "0")  # the same for each block
    for part in (0.0, 0.75):
        net = Net(0)
        w = net.sparse((1024, 1024), part) if part else net.weight((1024, 1024), "f16")
        net.done(net.add(graph.Matmul(net.input((64, 1024)), w, transpose_b=True)))
        lower(net.module, "ane", "soc")
        (timings[part],) = simulate(net.module, streaming).tasks
    dense, sparse = timings.values()
    assert sparse.engine == "ane" and "to_dense" in sparse.label
    assert sparse.unit_busy_ps["ane.mac"] == pytest.approx(0.41 * dense.unit_busy_ps["ane.mac"], rel=0.1)
    assert sparse.unit_busy_ps["ane.vec"] <= dense.unit_busy_ps["ane.vec"]  # draining the results, and nothing else
    assert sparse.unit_busy_ps["ane.weights"] == pytest.approx(5 / 16 * dense.unit_busy_ps["ane.weights"], rel=0.05)


def test_an_array_that_multiplies_zeros_gains_nothing_from_them():
    m1, busy = load_target("m1").override("ane.start", "0"), []
    for part in (0.0, 0.75):
        net = Net(0)
        w = net.sparse((256, 256), part) if part else net.weight((256, 256), "f16")
        net.done(net.add(graph.Matmul(net.input((64, 256)), w, transpose_b=True)))
        lower(net.module, "ane", "soc", m1)
        (task,) = simulate(net.module, m1).tasks
        busy.append(task.unit_busy_ps["ane.mac"])
    assert busy[1] == pytest.approx(busy[0], rel=0.05)


def test_the_gpu_pays_for_making_it_dense():
    """In the loop of the product, as for palettes: a look at a bit and a move to its place for each weight."""
    net = Net(0)
    net.done(net.add(graph.Matmul(net.input((4, 256)), net.sparse((256, 256), 0.75), transpose_b=True)))
    lower(net.module, "gpu", "soc")
    (task,) = simulate(net.module, M4).tasks
    cost = M4.engines["gpu"].cost
    least = (cost["compare"] + cost["permute"]) * 256 * 256 / (10 * 128) / 1.398e9 * 1e12
    assert task.unit_busy_ps["gpu.mat"] >= least


def test_an_engine_that_does_not_stream_sparse_weights_says_so():
    target = M4.override("ane.limits.weight_formats", "lookup.ui4")
    net = Net(0)
    net.done(net.add(graph.Matmul(net.input((4, 64)), net.sparse((8, 64), 0.5), transpose_b=True)))
    lower(net.module, "ane", "tile", target)
    (loop,) = [op for op in net.module.main.walk() if isinstance(op, tile.Loop)]
    assert loop.engine.name == "cpu"
    assert "ane streams weights as lookup.ui4, not as to_dense.f16" in loop.reason


def test_sparse_integers_are_dense_integers_once_loaded():
    """Zeros of what is scaled afterwards are not looked for."""
    net = Net(0)
    q = net.sparse((8, 64), 0.5, "i8")
    w = net.add(graph.Dequantize(q, net.weight((8, 1), "f16"), block=(1, 64), to="f16"))
    net.done(net.add(graph.Matmul(net.input((4, 64)), w, transpose_b=True)))
    lower(net.module, "ane", "tile")
    (loop,) = [op for op in net.module.main.walk() if isinstance(op, tile.Loop)]
    assert (loop.engine.name, loop.label) == ("ane", "dequantize+matmul")


def test_a_view_of_a_sparse_weight_stays_sparse():
    net = Net(0)
    w = net.add(graph.Transpose(net.sparse((7, 64), 0.75), permutation=(1, 0)))
    net.done(net.add(graph.Matmul(net.input((3, 64)), w)))
    lower(net.module, "ane", "graph")
    (kind,) = [op.result.type for op in net.module.main.walk() if isinstance(op, graph.Parameter) and not op.unused]
    assert kind == TensorType((64, 7), "f16", density=kind.density) and kind.density is not None
    assert "graph.to_dense" in print_op(net.module)


def test_rows_of_a_sparse_table_are_picked_from_a_dense_one():
    def make():
        net = Net(0)
        table, at = net.sparse((31, 8), 0.75), net.input((5,), "i64")
        net.inputs[0] %= 31
        return net.done(net.add(graph.Gather(table, at, axis=0)))

    module = check(make, "cpu", tolerance=0)
    assert "density" not in print_op(module)
