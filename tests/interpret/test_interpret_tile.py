"""The tile interpreter on loops built by hand."""

import numpy as np
import pytest
import torch
from tilewright.compiler.dialects import graph, tile
from tilewright.compiler.interpret import InterpretError, run_tile
from tilewright.compiler.ir import Block, Builder, Func, Location, Module, Return, Symbol, TensorType, TileType, verify
from torch.nn import functional as fn

RNG = np.random.default_rng(1)


def floats(*shape, dtype="f2"):
    return RNG.standard_normal(shape).astype(dtype)


def program(*types):
    """(module, its builder, the arguments of main)."""
    module = Module()
    main = module.body.append(Func(regions=[Block(types, [f"x{i}" for i in range(len(types))])], sym_name="main"))
    return module, Builder(main.body), main.args


def loop(
    builder, inputs, results, grid, ins, outs, build, accs=(), inits=(), into=(), spaces=None, pads=None, dtypes=()
):
    """A tile.loop over `grid` = {dim: (size, tile, "par" | "red")}; `build(builder, *blocks)` gives what it yields."""
    names = tuple(grid)
    tiles = {d: t for d, (_, t, _) in grid.items()}
    window = lambda access: tile.parse_access(access).block(tiles)  # noqa: E731
    spaces = spaces or ["ane.l2"] * len(ins)
    types = [TileType(window(a), v.type.dtype, s) for a, v, s in zip(ins, inputs, spaces, strict=True)]
    types += [TileType(window(a), d, "ane.acc") for a, d in zip(accs, dtypes or ["f32"] * len(accs), strict=True)]
    body = Block(types)
    inner = Builder(body)
    inner.add(tile.Yield(*build(inner, *body.args)))
    op = tile.Loop(
        *inputs, *into, result_types=results, regions=[body], engine=Symbol("ane"), dims=names,
        sizes=tuple(n for n, _, _ in grid.values()), tiles=tuple(tiles.values()),
        reductions=sum(k == "red" for _, _, k in grid.values()), ins=tuple(ins),
        pads=tuple(pads or ["none"] * len(ins)), buffers=(1,) * len(ins), accs=tuple(accs), inits=tuple(inits),
        outs=tuple(outs), out_spaces=("ane.l2",) * len(outs), out_buffers=(1,) * len(outs), into=len(into),
        location=Location("net.py", 7, 0, "fc", "linear"),
    )  # fmt: skip
    return builder.add(op)


def matmul(m, n, k, tiles, layout=None):
    module, b, (x, w) = program(TensorType((m, k), "f16"), TensorType((n, k), "f16", layout))

    def build(inner, xb, wb, acc):
        total = inner.add(tile.Matmul(xb, wb, acc, transpose_b=True)).result
        inner.add(tile.Last(total))
        return [inner.add(tile.on_blocks("cast")(total, to="f16")).result]

    grid = {d: (size, t, kind) for d, size, t, kind in zip("mnk", (m, n, k), tiles, ("par", "par", "red"), strict=True)}
    y = loop(b, [x, w], [TensorType((m, n), "f16", layout)], grid, [("m", "k"), ("n", "k")], [("m", "n")], build,
             accs=[("m", "n")], inits=[0.0])  # fmt: skip
    b.add(Return(y.result))
    verify(module)
    return module


@pytest.mark.parametrize("layout", [None, "1,0"])
@pytest.mark.parametrize("tiles", [(7, 5, 9), (3, 2, 4), (1, 1, 1), (4, 5, 8)])
def test_matmul_with_edges_in_every_dim(tiles, layout):
    x, w = floats(7, 9), floats(5, 9)
    y = run_tile(matmul(7, 5, 9, tiles, layout), [x, w])[0]
    np.testing.assert_allclose(y, (x.astype("f4") @ w.T.astype("f4")).astype("f2"), 2e-3, 1e-3)
    assert y.dtype == np.float16
    y = run_tile(matmul(7, 5, 9, tiles, layout), [x, w], arith="f32")[0]
    np.testing.assert_allclose(y, x.astype("f4") @ w.T.astype("f4"), 1e-5, 1e-5)
    assert y.dtype == np.float32


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("tiles", [(2, 3, 4, 2), (4, 8, 9, 3), (1, 8, 1, 1)])
def test_conv_reads_its_halo(tiles, stride):
    out = (9 - 1) // stride + 1
    module, b, (x, w) = program(TensorType((1, 3, 9, 9), "f32"), TensorType((4, 3, 3, 3), "f32"))

    def build(inner, xb, wb, acc):
        total = inner.add(tile.Conv(xb, wb, acc, strides=(stride,) * 2, dilations=(1, 1))).result
        inner.add(tile.Last(total))
        return [total]

    sizes = zip("ohwc", (4, out, out, 3), tiles, ("par", "par", "par", "red"), strict=True)
    grid = {d: (n, min(t, n), kind) for d, n, t, kind in sizes}
    ins = [("0", "c", f"{stride}*h-1:3", f"{stride}*w-1:3"), ("o", "c", ":3", ":3")]
    y = loop(b, [x, w], [TensorType((1, 4, out, out), "f32")], grid, ins, [("0", "o", "h", "w")], build,
             accs=[("0", "o", "h", "w")], inits=[0.0], pads=[0.0, "none"])  # fmt: skip
    b.add(Return(y.result))
    verify(module)
    x, w = floats(1, 3, 9, 9, dtype="f4"), floats(4, 3, 3, 3, dtype="f4")
    expected = fn.conv2d(torch.tensor(x), torch.tensor(w), stride=stride, padding=1).numpy()
    np.testing.assert_allclose(run_tile(module, [x, w])[0], expected, 1e-4, 1e-5)


def test_a_read_out_of_bounds_without_padding_is_an_error():
    module, b, (x,) = program(TensorType((9,), "f32"))
    y = loop(b, [x], [TensorType((9,), "f32")], {"i": (9, 4, "par")}, [("i+1",)], [("i",)], lambda inner, xb: [xb])
    b.add(Return(y.result))
    with pytest.raises(InterpretError, match=r"'tile.loop' \(linear fc net.py:7\): input 0 \[i\+1\].*\(9,\) .*'i': 8"):
        run_tile(module, [floats(9, dtype="f4")])


@pytest.mark.parametrize(
    ("dtype", "pad", "reads"), [("f16", -np.inf, -np.inf), ("i32", -np.inf, -(2**31)), ("i1", 0, False)]
)
def test_padding_by_dtype(dtype, pad, reads):
    module, b, (x,) = program(TensorType((3,), dtype))
    y = loop(
        b,
        [x],
        [TensorType((5,), dtype)],
        {"i": (5, 2, "par")},
        [("i-1",)],
        [("i",)],
        lambda inner, xb: [xb],
        pads=[pad],
    )
    b.add(Return(y.result))
    y = run_tile(module, [np.ones(3, {"f16": "f2", "i32": "i4", "i1": "?"}[dtype])])[0]
    assert list(y) == [reads, 1, 1, 1, reads]


def test_views_are_strided_windows_of_storage():
    """A transpose and a slice of a column-major tensor, and an expand."""
    module, b, (x,) = program(TensorType((4, 6), "f32", "1,0"))
    transposed = b.add(tile.View(x, result_types=[TensorType((6, 4), "f32")], strides=(4, 1), offset=0)).result
    sliced = b.add(tile.View(x, result_types=[TensorType((2, 3), "f32")], strides=(2, 8), offset=5)).result
    spread = b.add(tile.View(x, result_types=[TensorType((3, 4), "f32")], strides=(0, 1), offset=8)).result
    b.add(Return(transposed, sliced, spread))
    verify(module)
    x = floats(4, 6, dtype="f4")
    got = run_tile(module, [x])
    np.testing.assert_array_equal(got[0], x.T)
    np.testing.assert_array_equal(got[1], x[1::2, 1::2])
    np.testing.assert_array_equal(got[2], np.broadcast_to(x[:, 2], (3, 4)))


def copy_into(b, x, into, out, size, cut):
    """Copies the vector x into `into` at `out`."""
    return loop(
        b, [x], [into.type], {"i": (size, cut, "par")}, [("i",)], [(out,)], lambda inner, xb: [xb], into=[into]
    ).result


def test_parts_of_a_tensor_and_what_nobody_wrote():
    module, b, (x,) = program(TensorType((5,), "f16"))
    whole = b.add(tile.Empty(result_types=[TensorType((12,), "f16")])).result
    first = copy_into(b, x, whole, "i", 5, 2)
    second = copy_into(b, x, first, "i+6", 5, 3)
    b.add(Return(second))
    verify(module)
    y, x = run_tile(module, [np.arange(5, dtype="f2")])[0], np.arange(5)
    np.testing.assert_array_equal(y, [*x, np.nan, *x, np.nan])


def test_an_argument_that_is_written_keeps_the_callers_array():
    module, b, (state, x) = program(TensorType((8,), "f32"), TensorType((2,), "f32"))
    b.add(Return(copy_into(b, x, state, "i+3", 2, 2)))
    state, x = np.zeros(8, "f4"), np.ones(2, "f4")
    assert list(run_tile(module, [state, x])[0]) == [0, 0, 0, 1, 1, 0, 0, 0]
    assert not state.any()


def test_stores_outside_are_dropped():
    module, b, (x,) = program(TensorType((6,), "f32"))
    whole = b.add(tile.Empty(result_types=[TensorType((5,), "f32")])).result
    b.add(Return(copy_into(b, x, whole, "i-1", 6, 4)))
    np.testing.assert_array_equal(run_tile(module, [np.arange(6, dtype="f4")])[0], [1, 2, 3, 4, 5])


def test_scatter_writes_its_base_in_place():
    module, b, (base, rows, value) = program(
        TensorType((6, 3), "f32"), TensorType((2,), "i64"), TensorType((2, 3), "f32")
    )
    y = loop(b, [base, rows, value], [base.type], {}, [(":6", ":3"), (":2",), (":2", ":3")], [(":6", ":3")],
             lambda inner, *blocks: [inner.add(tile.ScatterRows(*blocks, axis=0)).result],
             into=[base], spaces=["dram", "ane.l2", "ane.l2"])  # fmt: skip
    b.add(Return(y.result))
    verify(module)
    x, v = floats(6, 3, dtype="f4"), floats(2, 3, dtype="f4")
    expected = x.copy()
    expected[[4, 1]] = v
    np.testing.assert_array_equal(run_tile(module, [x, np.array([4, 1]), v])[0], expected)


@pytest.mark.parametrize("tiles", [(5, 4), (4, 16), (13, 3)])
def test_attention_a_block_of_keys_at_a_time(tiles):
    """Running maximum, sum and weighted total, rescaled at each step; causal by position."""
    m, n, d = 13, 16, 8
    module, b, (q, k, v) = program(*(TensorType((s, d), "f32") for s in (m, n, n)))

    def build(inner, qb, kb, vb, high, total, weighted):
        def add(cls, *operands, **attributes):
            return inner.add(cls(*operands, **attributes)).result

        s = add(tile.Causal, add(tile.Matmul, qb, kb, transpose_b=True), row="m", column="n")
        top = add(tile.on_blocks("maximum"), high, add(tile.Reduce, s, kind="max", axes=(1,)))
        p = add(tile.on_blocks("exp"), add(tile.on_blocks("sub"), s, top))
        shrink = add(tile.on_blocks("exp"), add(tile.on_blocks("sub"), high, top))
        scaled = add(tile.on_blocks("mul"), total, shrink)
        total = add(tile.Reduce, p, scaled, kind="sum", axes=(1,))
        weighted = add(tile.Matmul, p, vb, add(tile.on_blocks("mul"), weighted, shrink))
        inner.add(tile.Last(top, total, weighted))
        return [add(tile.on_blocks("div"), weighted, total)]

    y = loop(b, [q, k, v], [q.type], {"m": (m, tiles[0], "par"), "n": (n, tiles[1], "red")},
             [("m", ":8"), ("n", ":8"), ("n", ":8")], [("m", ":8")], build,
             accs=[("m", "0"), ("m", "0"), ("m", ":8")], inits=[-3e38, 0.0, 0.0])  # fmt: skip
    b.add(Return(y.result))
    verify(module)
    arrays = [floats(s, d, dtype="f4") for s in (m, n, n)]
    expected = fn.scaled_dot_product_attention(*map(torch.tensor, arrays), is_causal=True, scale=1.0)
    np.testing.assert_allclose(run_tile(module, arrays)[0], expected.numpy(), 1e-4, 1e-5)


def test_sources_and_parameters():
    module, b, (x,) = program(TensorType((3,), "f32"))
    w = b.add(graph.Parameter(result_types=[TensorType((2, 3), "f32", "1,0")], key="w")).result
    c = b.add(graph.Constant(result_types=[TensorType((3,), "f32")], value=(1, 2, 3))).result
    i = b.add(graph.Iota(result_types=[TensorType((3,), "i64")])).result
    flat = b.add(tile.View(w, result_types=[TensorType((6,), "f32")], strides=(1,))).result
    b.add(Return(w, flat, c, i, x))
    module.parameters["w"] = lambda arith: np.arange(6, dtype="f4").reshape(2, 3)
    w, flat, c, i, _ = run_tile(module, [floats(3, dtype="f4")])
    np.testing.assert_array_equal(w, [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(flat, [0, 3, 1, 4, 2, 5])
    assert list(c) == [1, 2, 3] and list(i) == [0, 1, 2]


def test_a_block_above_its_type_is_an_error():
    module, b, (x,) = program(TensorType((8,), "f32"))

    def build(inner, xb):
        return [inner.add(tile.on_blocks("neg")(xb, result_types=[TileType((3,), "f32", "reg")])).result]

    b.add(Return(loop(b, [x], [x.type], {"i": (8, 4, "par")}, [("i",)], [("i",)], build).result))
    with pytest.raises(InterpretError, match=r"'tile.neg' .*gave a block of \(4,\), above its type"):
        run_tile(module, [floats(8, dtype="f4")])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], r"takes 1 inputs \(x0\), not 0"),
        ([np.zeros((2, 2), "f4")], r"'x0' has shape \(2, 2\), the program takes tensor<3xf32>"),
        ([np.zeros(3, "i4")], "'x0' is int32"),
    ],
)
def test_inputs_that_do_not_fit(inputs, message):
    module, b, (x,) = program(TensorType((3,), "f32"))
    b.add(Return(x))
    with pytest.raises(InterpretError, match=message):
        run_tile(module, inputs)


def test_unknown_arith_and_bf16():
    module, b, (x,) = program(TensorType((3,), "bf16"))
    b.add(Return(x))
    with pytest.raises(InterpretError, match="'native' or 'f32', not 'f64'"):
        run_tile(module, [np.zeros(3, "f4")], arith="f64")
    with pytest.raises(InterpretError, match="numpy has no bf16; run with arith 'f32'"):
        run_tile(module, [np.zeros(3, "f4")])
    assert run_tile(module, [np.ones(3, "f4")], arith="f32")[0].dtype == np.float32
