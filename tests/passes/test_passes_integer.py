"""Products of integers on each engine alone: the numbers of the floats that they stand for, and the int8 rate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantized_nets import M4, Net, agree, check, engine, lower, size, small_target
from tilewright.compiler.dialects import graph, soc, tile
from tilewright.compiler.interpret import run_graph, run_soc, run_tile
from tilewright.passes import PassContext, default_pipeline
from tilewright.targets import load_target
from tilewright.targets.simulator import simulate


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
    assert "no engine that takes it multiplies i8 as fast as f16" in missed[0].reason
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
