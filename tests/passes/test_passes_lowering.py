"""The whole way down, on odd sizes: tile and soc level give the graph's numbers, in any legal order of commands."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tilewright.compiler.dialects import graph, soc, tile
from tilewright.compiler.interpret import run_graph, run_soc, run_tile
from tilewright.compiler.interpret.races import check_races
from tilewright.compiler.ir import Block, Builder, Func, Module, Return, TensorType, verify
from tilewright.passes import PassContext, default_pipeline, parse_pipeline
from tilewright.passes.strided import Strided, reshaped
from tilewright.targets import load_target

TARGET = load_target("m4")


def module_of(inputs, build, dtype="f16") -> Module:
    """A module over inputs of these shapes (or types); `build(builder, *values)` gives the results."""
    types = [t if isinstance(t, TensorType) else TensorType(t, dtype) for t in inputs]
    block = Block(types, [f"x{i}" for i in range(len(types))])
    module = Module()
    module.body.append(Func(sym_name="main", regions=[block]))
    results = build(Builder(block), *block.args)
    block.append(Return(*(results if isinstance(results, (list, tuple)) else [results])))
    verify(module)
    return module


def lower(module: Module, engines: str, level: str = "soc") -> Module:
    context = PassContext(TARGET, tuple(engines.split(",")))
    for p in default_pipeline(level):
        p.run(module, context)
        verify(module)
    return module


def data(module: Module, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    kinds = {"f16": "f2", "f32": "f4", "f64": "f8", "i64": "i8", "i32": "i4", "i8": "i1", "ui8": "u1", "i1": "?"}
    out = []
    for a in module.main.args:
        if a.type.dtype[0] in "iu" and a.type.dtype != "i1":
            out.append(rng.integers(0, 3, a.type.shape).astype(kinds[a.type.dtype]))
        else:
            out.append(rng.standard_normal(a.type.shape).astype(kinds[a.type.dtype]))
    return out


def agree(got, want, tolerance=1e-5) -> None:
    for g, w in zip(got, want, strict=True):
        g, w = g.astype("f8"), w.astype("f8")
        assert g.shape == w.shape
        assert np.linalg.norm(g - w) <= tolerance * max(np.linalg.norm(w), 1e-30)


def check(build_module, engines: str = "ane,gpu,cpu", races: bool = True) -> None:
    """Same numbers at every level, with floats widened so that rounding hides nothing; and no races."""
    module = build_module()
    inputs = data(module)
    want = run_graph(module, inputs, arith="f32")
    lower(module, engines, "tile")
    agree(run_tile(module, inputs, arith="f32"), want)
    context = PassContext(TARGET, tuple(engines.split(",")))
    for p in default_pipeline("soc", start="tile"):
        p.run(module, context)
    verify(module)
    agree(run_soc(module, inputs, arith="f32"), want)
    if races:
        report = check_races(module, inputs, orders=2)
        assert report, str(report)


size = st.sampled_from([1, 2, 3, 5, 7, 8, 13, 16, 17, 31, 33, 64, 65])
engine = st.sampled_from(["ane", "gpu", "cpu"])


@settings(max_examples=60, deadline=None)
@given(
    m=size,
    n=size,
    k=size,
    bias=st.booleans(),
    transposed=st.booleans(),
    batch=st.sampled_from([(), (1,), (3,)]),
    engine=engine,
)
def test_matmul(m, n, k, bias, transposed, batch, engine):
    shapes = [(*batch, m, k), (n, k) if transposed else (k, n), *([(n,)] if bias else [])]
    check(lambda: module_of(shapes, lambda b, *v: b.add(graph.Matmul(*v, transpose_b=transposed)).result), engine)


@pytest.mark.parametrize("dtype", ["i8", "ui8", "i32", "i64", "f64"])
@pytest.mark.parametrize("bias", [False, True])
def test_matmul_of_what_is_no_half(dtype, bias):
    """Integers are summed as they are: an f32 accumulator would be no integer, and lose the large ones."""
    shapes = [(5, 300), (300, 7), *[(7,)] * bias]
    check(lambda: module_of(shapes, lambda b, *v: b.add(graph.Matmul(*v)).result, dtype), "gpu,cpu")


def test_matmul_of_large_integers_is_exact():
    module = module_of([(2, 3), (3, 2)], lambda b, x, y: b.add(graph.Matmul(x, y)).result, "i64")
    x, y = np.array([[2**40 + 1, 3, 5], [7, -(2**50), 1]]), np.array([[1, 2], [3, 5], [7, 2**33 + 1]])
    lower(module, "cpu")
    np.testing.assert_array_equal(run_soc(module, [x, y])[0], x @ y)


@settings(max_examples=60, deadline=None)
@given(
    channels=size,
    outputs=size,
    height=st.integers(3, 19),
    width=st.integers(3, 19),
    kernel=st.sampled_from([1, 2, 3]),
    stride=st.sampled_from([1, 2, 3]),
    pad=st.sampled_from([0, 1]),
    dilation=st.sampled_from([1, 2]),
    engine=engine,
)
def test_conv(channels, outputs, height, width, kernel, stride, pad, dilation, engine):
    if (kernel - 1) * dilation + 1 > min(height, width) + 2 * pad:
        return
    attributes = {"strides": (stride, stride), "padding": (pad, pad, pad, 0), "dilations": (dilation, dilation)}
    if (kernel - 1) * dilation + 1 > width + pad:
        return
    shapes = [(2, channels, height, width), (outputs, channels, kernel, kernel), (outputs,)]
    check(lambda: module_of(shapes, lambda b, *v: b.add(graph.Conv(*v, **attributes)).result), engine)


@settings(max_examples=40, deadline=None)
@given(
    groups=st.sampled_from([2, 3, 8]), inner=st.sampled_from([1, 2, 5]), outer=st.sampled_from([1, 3]), engine=engine
)
def test_grouped_conv(groups, inner, outer, engine):
    shapes = [(1, groups * inner, 9, 7), (groups * outer, inner, 3, 3)]
    attributes = {"strides": (2, 1), "padding": (1, 1, 1, 1), "groups": groups}
    check(lambda: module_of(shapes, lambda b, *v: b.add(graph.Conv(*v, **attributes)).result), engine)


@settings(max_examples=40, deadline=None)
@given(
    heads=st.sampled_from([(1, 1), (2, 1), (3, 2)]),
    m=size,
    n=size,
    d=st.sampled_from([1, 8, 17]),
    causal=st.booleans(),
    mask=st.booleans(),
    engine=engine,
)
def test_attention(heads, m, n, d, causal, mask, engine):
    shared, groups = heads
    shapes = [(2, shared, groups, m, d), (2, shared, 1, n, d), (2, shared, 1, n, d), *([(m, n)] if mask else [])]
    check(lambda: module_of(shapes, lambda b, *v: b.add(graph.Attention(*v, scale=0.3, causal=causal)).result), engine)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(size, size, size),
    axes=st.sets(st.integers(0, 2), min_size=1),
    keep=st.booleans(),
    kind=st.sampled_from(["sum", "mean", "max", "min"]),
    engine=engine,
)
def test_reduce(shape, axes, keep, kind, engine):
    attributes = {"kind": kind, "axes": tuple(sorted(axes)), "keepdims": keep}
    check(lambda: module_of([shape], lambda b, x: b.add(graph.Reduce(x, **attributes)).result), engine)


ROWS = {
    "softmax": lambda b, x, w: b.add(graph.Softmax(x, axis=1)).result,
    "layer_norm": lambda b, x, w: b.add(graph.LayerNorm(x, w, w, eps=1e-5)).result,
    "rms_norm": lambda b, x, w: b.add(graph.RmsNorm(x, w, eps=1e-5)).result,
    "cumsum": lambda b, x, w: b.add(graph.Cumsum(x, axis=0)).result,
    "argmax": lambda b, x, w: b.add(graph.Argmax(x, axis=2)).result,
    "resize": lambda b, x, w: b.add(graph.Resize(x, size=(11, 9), mode="bilinear")).result,
    "max pool": lambda b, x, w: b.add(graph.Pool(x, kind="max", kernel=(3,), strides=(2,), padding=(1, 1))).result,
    "pad": lambda b, x, w: b.add(graph.Pad(x, padding=(0, 1, -1, 2, 3, 0), value=2.0)).result,
    "concat": lambda b, x, w: b.add(graph.Concat(x, b.add(graph.ELEMENTWISE["exp"](x)).result, x, axis=1)).result,
    "strided slice": lambda b, x, w: (
        b.add(
            graph.ELEMENTWISE["relu"](b.add(graph.Slice(x, starts=(0, 1, 2), sizes=(3, 2, 7), steps=(1, 3, 2))).result)
        ).result
    ),
    "transpose and reshape": lambda b, x, w: (
        b.add(graph.Reshape(b.add(graph.Transpose(x, permutation=(2, 0, 1))).result, to=(51, 5))).result
    ),
    "expand": lambda b, x, w: b.add(graph.ELEMENTWISE["add"](b.add(graph.Expand(w, to=(3, 5, 17))).result, x)).result,
    "chain": lambda b, x, w: (
        b.add(
            graph.Softmax(
                b.add(graph.ELEMENTWISE["mul"](b.add(graph.ELEMENTWISE["add"](x, w)).result, x)).result, axis=2
            )
        ).result
    ),
    "update": lambda b, x, w: (
        b.add(graph.Update(x, b.add(graph.Reshape(w, to=(1, 1, 17))).result, starts=(2, 1, 0), steps=(1, 1, 1))).result
    ),
    "strided update": lambda b, x, w: (
        b.add(
            graph.Update(
                x,
                b.add(graph.Slice(x, starts=(0, 0, 0), sizes=(3, 5, 6), steps=(1, 1, 1))).result,
                starts=(0, 0, 1),
                steps=(1, 1, 3),
            )
        ).result
    ),
    "two results": lambda b, x, w: [
        b.add(graph.ELEMENTWISE["relu"](x)).result,
        b.add(graph.ELEMENTWISE["neg"](x)).result,
    ],
}


@pytest.mark.parametrize("engines", ["ane,gpu,cpu", "ane", "gpu", "cpu"])
@pytest.mark.parametrize("name", ROWS)
def test_other_ops(name, engines):
    check(lambda: module_of([(3, 5, 17), (17,)], ROWS[name]), engines)


@pytest.mark.parametrize("engines", ["gpu", "cpu"])
def test_gather_and_scatter(engines):
    kinds = [TensorType((7, 6), "f16"), TensorType((3,), "i64"), TensorType((3, 6), "f16")]

    def build(b, x, i, v):
        rows = b.add(graph.Gather(x, i, axis=0)).result
        return [rows, b.add(graph.Gather(v, i, axis=1)).result]

    check(lambda: module_of(kinds, build), engines)


def test_scatter_of_distinct_rows():
    def build(b, x, v):
        i = b.add(graph.Constant(value=(5, 0, 3), result_types=[TensorType((3,), "i64")])).result
        return b.add(graph.Scatter(x, i, v, axis=0)).result

    check(lambda: module_of([(7, 6), (3, 6)], build))


def test_an_aliased_cache_is_updated_in_place():
    """The new contents of an argument, granted by `aliases`, need no copy of the old."""

    def build(b, cache, row):
        new = b.add(graph.Update(cache, row, starts=(0, 2), steps=(1, 1))).result
        return [b.add(graph.ELEMENTWISE["exp"](new)).result, new]

    module = module_of([(4, 6), (4, 1)], build)
    module.main.attributes["aliases"] = (1, 0)
    inputs = data(module)
    want = run_graph(module, inputs, arith="f32")
    lower(module, "cpu", "tile")
    loops = [op for op in module.main.body if isinstance(op, tile.Loop)]
    assert [loop.label for loop in loops] == ["update", "exp"]
    agree(run_tile(module, inputs, arith="f32"), want)


def cache_write(rows: int) -> Module:
    """A product's rows go into a cache at positions known at run time; what is then in the cache goes on."""
    i64 = TensorType((rows,), "i64")

    def build(b, cache, at, x, w):
        value = b.add(graph.Matmul(x, w)).result
        new = b.add(graph.Scatter(cache, at, value, axis=1)).result
        return [b.add(graph.ELEMENTWISE["relu"](new)).result, new]

    module = module_of([(2, 9, 8), i64, (2, rows, 5), (2, 5, 8)], build)
    module.main.attributes["aliases"] = (1, 0)
    return module


def test_the_neural_engine_writes_one_row_at_a_position_known_at_run_time():
    check(lambda: cache_write(1), "ane")
    module = lower(cache_write(1), "ane")
    (launch,) = [op for op in module.main.body if isinstance(op, soc.Launch)]
    assert launch.engine.name == "ane"
    assert [t.label for t in launch.tasks] == ["matmul", "scatter", "relu"], "in place, between its neighbours"


def test_more_rows_at_positions_known_at_run_time_go_elsewhere():
    module = lower(cache_write(2), "ane")
    launches = [op for op in module.main.body if isinstance(op, soc.Launch)]
    assert [launch.engine.name for launch in launches] == ["ane", "cpu", "ane"]
    assert launches[1].tasks[0].reason.startswith("ane: a write of 2 rows at positions known at run time is over")


def test_every_engine_gets_what_it_refuses_done_elsewhere_and_says_why():
    module = module_of([(4, 8)], lambda b, x: b.add(graph.Cumsum(x, axis=1)).result)
    lower(module, "ane")
    (launch,) = [op for op in module.main.body if isinstance(op, soc.Launch)]
    assert launch.engine.name == "cpu"
    assert "cumsum" in launch.tasks[0].reason


def test_single_buffers_still_compute_the_same():
    module = module_of([(40, 64), (33, 64)], lambda b, x, w: b.add(graph.Matmul(x, w, transpose_b=True)).result)
    inputs = data(module)
    want = run_graph(module, inputs, arith="f32")
    context = PassContext(TARGET, ("cpu",))
    for p in parse_pipeline("fuse,choose-layout,place,tile,double-buffer{slots=1},allocate,lower-to-soc"):
        p.run(module, context)
    agree(run_soc(module, inputs, arith="f32"), want)
    assert check_races(module, inputs, orders=2)


@settings(max_examples=600, deadline=None)
@given(
    st.permutations(range(4)),
    st.sampled_from([(2, 3, 4, 5), (1, 6, 1, 4), (2, 2, 2, 2), (4, 1, 3, 1)]),
    st.integers(0, 7),
)
def test_reshaped_strides_say_what_numpy_does(order, shape, choice):
    array = np.arange(np.prod(shape)).reshape(shape).transpose(order)
    count = int(np.prod(shape))
    to = [
        (count,),
        (2, count // 2),
        (count // 2, 2),
        (1, count, 1),
        (2, 1, count // 2),
        (count // 4, 4),
        (4, count // 4),
        shape,
    ][choice]
    if np.prod(to) != count:
        return
    strides = reshaped(array.shape, tuple(s // array.itemsize for s in array.strides), to)
    expected = array.reshape(to)
    if strides is None:
        assert not np.shares_memory(expected, array)
    else:
        seen = np.lib.stride_tricks.as_strided(array, to, [s * array.itemsize for s in strides])
        np.testing.assert_array_equal(seen, expected)


def test_a_view_of_everything_is_dense():
    kind = TensorType((2, 3), "f16")
    assert Strided.of(kind).is_dense(kind)
    assert not Strided((3, 2), (1, 3)).is_dense(TensorType((3, 2), "f16"))


# ---------------------------------------------------------------- tiles keep to the engine's multiples


@pytest.mark.parametrize("fused", [False, True])
def test_a_product_has_tiles_of_the_engines_multiples_alone_and_in_a_group(fused: bool) -> None:
    """Too large for the scratch, and of odd sizes, so that every dim is cut."""
    rows, depth, columns = 1999, 1503, 3001
    w = TensorType((depth, columns), "f16")

    def build(b, x, w):
        y = b.add(graph.Matmul(x, w)).result
        return b.add(graph.ELEMENTWISE["relu"](y)).result if fused else y

    module = lower(module_of([TensorType((rows, depth), "f16"), w], build), "ane", "tile")
    (loop,) = [op for op in module.main.body if isinstance(op, tile.Loop)]
    multiples = TARGET.engines["ane"].granularity(graph.Matmul(*module.main.args))
    tiles = dict(zip(loop.grid.names, loop.grid.tiles, strict=True))
    sizes = dict(zip(loop.grid.names, loop.grid.sizes, strict=True))
    cut = [d for d in tiles if tiles[d] < sizes[d]]
    assert len(cut) >= 2 and all(tiles[d] % multiples[d] == 0 for d in cut)
