"""Each kernel against PyTorch eager, on odd shapes and every dtype that it takes."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tilewright.compiler.dialects import graph, tile
from tilewright.compiler.dialects.elementwise import SCALARS
from tilewright.compiler.interpret import InterpretError, evaluate
from tilewright.compiler.interpret.kernels import KERNELS, edge_shape
from tilewright.compiler.interpret.scalars import FUNCTIONS
from tilewright.compiler.ir import Block, TensorType, TileType
from torch.nn import functional as fn

NAMES = {
    "f16": "f2",
    "f32": "f4",
    "f64": "f8",
    "i1": "?",
    "i8": "i1",
    "ui8": "u1",
    "i16": "i2",
    "i32": "i4",
    "i64": "i8",
}
NAMES = {np.dtype(code): name for name, code in NAMES.items()}
TOLERANCE = {"f16": (2e-3, 2e-3), "f32": (2e-5, 2e-5), "f64": (1e-10, 1e-10)}
RNG = np.random.default_rng(0)


def build(cls, arrays, **attributes):
    def make(a):
        dtype = NAMES[a.dtype]
        return TileType(a.shape, dtype, "reg") if cls.name.startswith("tile.") else TensorType(a.shape, dtype)

    return cls(*Block([make(a) for a in arrays]).args, **attributes)


def run(cls, *arrays, arith="native", at=None, **attributes):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return evaluate(build(cls, arrays, **attributes), arrays, arith, at)[0]


def floats(*shape, dtype="f4", scale=1.0):
    return (RNG.standard_normal(shape) * scale).astype(dtype)


def t(x):
    return torch.from_numpy(np.ascontiguousarray(x)).reshape(x.shape)


def close(got, expected, loosen=1.0):
    expected = expected.numpy() if isinstance(expected, torch.Tensor) else expected
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    if got.dtype.kind == "f":
        rtol, atol = TOLERANCE[NAMES[got.dtype]]
        np.testing.assert_allclose(got.astype("f8"), expected.astype("f8"), rtol * loosen, atol * loosen)
    else:
        np.testing.assert_array_equal(got, expected)


def half(reference):
    """A reference computed in f32 and rounded once."""
    return reference.half()


def test_every_op_of_both_levels_has_a_kernel():
    skip = {"parameter", "fuse", "yield", "loop", "view", "empty", "last"}
    ops = {
        cls.name.partition(".")[2] for cls in [*graph.GraphOp.registry.values()] if cls.name[:5] in ("graph", "tile.")
    }
    assert ops - skip == set(KERNELS)
    assert set(FUNCTIONS) == set(SCALARS)


# ---------------------------------------------------------------- elementwise

TORCH_UNARY = {
    "neg": torch.neg, "abs": torch.abs, "sign": torch.sign, "floor": torch.floor, "ceil": torch.ceil,
    "round": torch.round, "trunc": torch.trunc, "reciprocal": torch.reciprocal, "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt, "exp": torch.exp, "log": torch.log, "log1p": torch.log1p, "expm1": torch.expm1,
    "exp2": torch.exp2, "log2": torch.log2, "sin": torch.sin, "cos": torch.cos, "erf": torch.erf, "relu": fn.relu,
    "sigmoid": torch.sigmoid, "tanh": torch.tanh, "silu": fn.silu, "gelu": fn.gelu,
    "gelu_tanh": lambda x: fn.gelu(x, approximate="tanh"), "softplus": fn.softplus, "mish": fn.mish,
    "hardswish": fn.hardswish, "hardsigmoid": fn.hardsigmoid, "isnan": torch.isnan, "logical_not": torch.logical_not,
}  # fmt: skip
TORCH_BINARY = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div, "pow": torch.pow,
    "mod": torch.remainder, "floordiv": torch.floor_divide, "maximum": torch.maximum, "minimum": torch.minimum,
    "eq": torch.eq, "ne": torch.ne, "lt": torch.lt, "le": torch.le, "gt": torch.gt, "ge": torch.ge,
    "logical_and": torch.logical_and, "logical_or": torch.logical_or, "logical_xor": torch.logical_xor,
}  # fmt: skip
BITWISE = {
    "bitwise_and": torch.bitwise_and, "bitwise_or": torch.bitwise_or, "bitwise_xor": torch.bitwise_xor,
}  # fmt: skip
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 20.5, -20.5, 88.0, -88.0])


def cls_of(name):
    return graph.ELEMENTWISE[name]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("name", TORCH_UNARY)
def test_unary_floats(name, dtype):
    x = np.concatenate([SPECIAL, RNG.standard_normal(1009) * 4]).astype(dtype)
    if name == "gelu":
        x = x[x != np.inf]  # torch's vectorised gelu gives NaN there, its scalar one inf
    reference = TORCH_UNARY[name](t(x).float() if dtype == "f2" else t(x))
    close(run(cls_of(name), x), half(reference) if dtype == "f2" and reference.dtype == torch.float32 else reference)


@pytest.mark.parametrize("name", ["neg", "abs", "sign", "floor", "ceil", "round", "trunc", "relu", "logical_not"])
@pytest.mark.parametrize("dtype", ["i1", "u1", "i4", "i8"])
def test_unary_integers(name, dtype):
    info = np.iinfo(dtype)
    x = np.array([0, 1, 2, 3, info.max, info.min, info.min + 1], dtype)
    close(run(cls_of(name), x), TORCH_UNARY[name](t(x)))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("name", TORCH_BINARY)
def test_binary_floats(name, dtype):
    grid = [SPECIAL.astype(dtype)[:, None], SPECIAL.astype(dtype)[None, :]]
    for a, b in (grid, (floats(7, 1, 5, dtype=dtype), floats(3, 1, dtype=dtype, scale=3))):
        ta, tb = (t(v).float() if dtype == "f2" else t(v) for v in (a, b))
        reference = TORCH_BINARY[name](ta, tb)
        close(
            run(cls_of(name), a, b), half(reference) if dtype == "f2" and reference.is_floating_point() else reference
        )


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "i4", "i8"])
@pytest.mark.parametrize("name", [*TORCH_BINARY, *BITWISE])
def test_binary_integers(name, dtype):
    info = np.iinfo(dtype)
    a = np.array([-7, -6, -1, 0, 1, 5, 7, 100, info.max, info.min] if info.min else [0, 1, 5, 7, 100, info.max], dtype)
    b = np.array([-3, -1, 1, 2, 3, 7] if info.min else [1, 2, 3, 7], dtype)
    function = {**TORCH_BINARY, **BITWISE}[name]
    if name == "div":
        function = lambda p, q: torch.div(p, q, rounding_mode="trunc")  # noqa: E731
    if name in ("div", "floordiv", "mod"):  # torch leaves min / -1 undefined
        a = a[a != info.min] if info.min else a
    close(run(cls_of(name), a[:, None], b), function(t(a[:, None]), t(b)))


def test_bools():
    a, b = np.array([[True], [False]]), np.array([True, False])
    for name in ("add", "mul", "maximum", "minimum", "eq", "logical_and", "bitwise_xor", "bitwise_or"):
        close(run(cls_of(name), a, b), {**TORCH_BINARY, **BITWISE}[name](t(a), t(b)))
    close(run(cls_of("bitwise_not"), b), torch.bitwise_not(t(b)))
    close(
        run(cls_of("bitwise_not"), np.array([5, -3], "i4")), torch.bitwise_not(torch.tensor([5, -3], dtype=torch.int32))
    )


def test_rank_zero_stays_an_array():
    y = run(cls_of("add"), np.array(1.5, "f2"), np.array(2.0, "f2"))
    assert isinstance(y, np.ndarray) and y.shape == () and y.dtype == np.float16


@pytest.mark.parametrize("to", ["f16", "f32", "i32", "i64", "ui8", "i1"])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i4", "i8", "u1", "?"])
def test_cast(dtype, to):
    kinds = {"f16": torch.float16, "f32": torch.float32, "i32": torch.int32, "i64": torch.int64, "ui8": torch.uint8}
    x = np.array([0, 1, 2.7, 99.5, 3.49, 200, 17]).astype(dtype)
    close(run(graph.Cast, x, to=to), t(x).to(kinds.get(to, torch.bool)))
    if dtype in ("f4", "f8"):
        x = np.array([-1.5, -0.4, -200.9, 300.7]).astype(dtype)
        close(run(graph.Cast, x, to=to), t(x).to(kinds.get(to, torch.bool)))


@pytest.mark.parametrize("to", ["i8", "i16", "i32", "i64", "ui8"])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_cast_of_what_no_integer_holds(dtype, to):
    kinds = {"i8": torch.int8, "i16": torch.int16, "i32": torch.int32, "i64": torch.int64, "ui8": torch.uint8}
    with np.errstate(over="ignore"):
        x = np.array([np.nan, np.inf, -np.inf, 3e9, -3e9, 70000, 2.0**40, 3e9 + 7]).astype(dtype)
    close(run(graph.Cast, x, to=to), t(x).to(kinds[to]))


def test_f32_arith_does_not_round():
    x = floats(5, 7)
    assert run(cls_of("mul"), x, x, arith="f32").dtype == np.float32
    op = build(graph.Cast, [x], to="f16")
    np.testing.assert_array_equal(evaluate(op, [x], "f32")[0], x)


def test_clamp_leaky_elu_where():
    x = np.concatenate([SPECIAL, RNG.standard_normal(31) * 3]).astype("f4")
    close(run(graph.Clamp, x, low=-1.0, high=0.7), t(x).clamp(-1.0, 0.7))
    close(run(graph.Clamp, x, low=-1.0), t(x).clamp(min=-1.0))
    close(run(graph.Clamp, x, high=1), t(x).clamp(max=1))
    close(run(graph.Clamp, np.arange(-5, 5), low=-2, high=3), torch.arange(-5, 5).clamp(-2, 3))
    close(run(graph.LeakyRelu, x, slope=0.1), fn.leaky_relu(t(x), 0.1))
    close(run(graph.Elu, x, alpha=0.7), fn.elu(t(x), 0.7))
    c = RNG.random((3, 1)) > 0.5
    a, b = floats(3, 4, dtype="f2"), floats(4, dtype="f2")
    close(run(graph.Where, c, a, b), torch.where(t(c), t(a), t(b)))


# ---------------------------------------------------------------- contractions


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize(
    ("a", "b"),
    [((1, 1), (1, 1)), ((7, 5), (5, 3)), ((2, 3, 7, 5), (5, 3)), ((2, 1, 7, 5), (3, 5, 2)), ((4, 1, 13), (13, 1))],
)
def test_matmul(a, b, dtype):
    a, b = floats(*a, dtype=dtype), floats(*b, dtype=dtype)
    up = (lambda x: t(x).float()) if dtype == "f2" else t
    down = half if dtype == "f2" else (lambda x: x)
    reference = up(a) @ up(b)
    close(run(graph.Matmul, a, b), down(reference))
    close(run(graph.Matmul, a, np.ascontiguousarray(b.swapaxes(-1, -2)), transpose_b=True), down(reference))
    bias = floats(b.shape[-1], dtype=dtype)
    close(run(graph.Matmul, a, b, bias), down(reference + up(bias)))


def test_matmul_on_blocks_accumulates_in_f32():
    a, b, acc = floats(7, 5, dtype="f2"), floats(5, 3, dtype="f2"), floats(7, 3)
    y = run(tile.Matmul, a, b, acc)
    close(y, t(a).float() @ t(b).float() + t(acc))


CONVS = [  # x, w, strides, padding, dilations, groups
    ((1, 3, 13, 11), (8, 3, 3, 3), (1, 1), (1, 1), (1, 1), 1),
    ((2, 4, 9, 7), (5, 4, 1, 1), (1, 1), (0, 0), (1, 1), 1),
    ((2, 4, 9, 7), (6, 4, 1, 1), (2, 2), (0, 0), (1, 1), 1),
    ((1, 3, 23, 23), (4, 3, 7, 7), (2, 2), (3, 3), (1, 1), 1),
    ((2, 6, 9, 9), (6, 1, 3, 3), (1, 1), (1, 1), (1, 1), 6),
    ((1, 6, 9, 8), (12, 1, 3, 5), (2, 1), (1, 2), (1, 1), 6),
    ((1, 8, 9, 9), (12, 2, 3, 3), (1, 1), (1, 1), (2, 2), 4),
    ((3, 4, 17), (5, 4, 3), (2,), (1,), (1,), 1),
    ((1, 2, 5, 6, 7), (4, 2, 2, 3, 2), (1, 2, 1), (0, 1, 1), (1, 1, 2), 1),
    ((1, 1, 1, 1), (1, 1, 1, 1), (1, 1), (0, 0), (1, 1), 1),
]


@pytest.mark.parametrize("dtype", ["f2", "f4"])
@pytest.mark.parametrize("case", CONVS)
def test_conv(case, dtype):
    x, w, strides, padding, dilations, groups = case
    x, w, bias = floats(*x, dtype=dtype), floats(*w, dtype=dtype, scale=0.3), floats(w[0], dtype=dtype)
    function = {3: fn.conv1d, 4: fn.conv2d, 5: fn.conv3d}[x.ndim]
    reference = function(t(x).float(), t(w).float(), t(bias).float(), strides, padding, dilations, groups)
    flat = tuple(p for p in padding for _ in range(2))
    y = run(graph.Conv, x, w, bias, strides=strides, padding=flat, dilations=dilations, groups=groups)
    close(y, half(reference) if dtype == "f2" else reference)


@pytest.mark.parametrize("case", CONVS)
def test_conv_on_blocks(case):
    x, w, strides, padding, dilations, groups = case
    x, w = floats(*x, dtype="f2"), floats(*w, dtype="f2", scale=0.3)
    function = {3: fn.conv1d, 4: fn.conv2d, 5: fn.conv3d}[x.ndim]
    reference = function(t(x).float(), t(w).float(), None, strides, padding, dilations, groups)
    halo = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])
    acc = floats(*reference.shape)
    y = run(tile.Conv, halo, w, acc, strides=strides, dilations=dilations, grouped=groups > 1)
    close(y, reference + t(acc))


def test_conv_pads_each_side_on_its_own():
    x, w = floats(1, 2, 6, 6), floats(3, 2, 3, 3)
    y = run(graph.Conv, x, w, strides=(2, 2), padding=(0, 1, 2, 0))
    close(y, fn.conv2d(fn.pad(t(x), (2, 0, 0, 1)), t(w), stride=2))


def test_conv_in_slabs_gives_the_same(monkeypatch):
    from tilewright.compiler.interpret import contractions

    x, w = floats(1, 5, 19, 17), floats(6, 5, 3, 3)
    whole = run(graph.Conv, x, w, strides=(1, 1), padding=(1, 1, 1, 1))
    monkeypatch.setattr(contractions, "_PIECE_BYTES", 1 << 14)
    close(run(graph.Conv, x, w, strides=(1, 1), padding=(1, 1, 1, 1)), whole)
    q, k, v = floats(2, 29, 8), floats(2, 31, 8), floats(2, 31, 5)
    pieces = run(graph.Attention, q, k, v, scale=0.3, causal=True)
    monkeypatch.undo()
    close(run(graph.Attention, q, k, v, scale=0.3, causal=True), pieces)


@pytest.mark.parametrize("dtype", ["f2", "f4"])
@pytest.mark.parametrize("causal", [False, True])
def test_attention(dtype, causal):
    q, k, v = floats(2, 3, 13, 8, dtype=dtype), floats(2, 3, 17, 8, dtype=dtype), floats(2, 3, 17, 5, dtype=dtype)
    reference = fn.scaled_dot_product_attention(t(q).float(), t(k).float(), t(v).float(), is_causal=causal, scale=0.25)
    close(run(graph.Attention, q, k, v, scale=0.25, causal=causal), half(reference) if dtype == "f2" else reference)


def test_attention_with_a_mask():
    q, k, v = floats(2, 3, 5, 8), floats(2, 3, 7, 8), floats(2, 3, 7, 4)
    for shape in ((2, 1, 5, 7), (5, 7), (2, 1, 1, 7), (7,)):
        mask = np.where(RNG.random(shape) > 0.5, 0, -np.inf).astype("f4")
        reference = fn.scaled_dot_product_attention(t(q), t(k), t(v), t(mask).expand(2, 3, 5, 7), scale=0.3)
        close(run(graph.Attention, q, k, v, mask, scale=0.3), reference)


def test_attention_with_grouped_queries():
    q, k, v = floats(2, 2, 3, 5, 8), floats(2, 2, 1, 7, 8), floats(2, 2, 1, 7, 8)
    y = run(graph.Attention, q, k, v, scale=0.3)
    reference = fn.scaled_dot_product_attention(
        t(q).reshape(2, 6, 5, 8), t(k)[:, :, 0], t(v)[:, :, 0], scale=0.3, enable_gqa=True
    )
    close(y.reshape(2, 6, 5, 8), reference)


def test_causal_on_blocks_knows_where_it_lies():
    s = floats(4, 6)
    y = run(tile.Causal, s, row="m", column="n", at={"m": 8, "n": 6})
    expected = s.copy()
    for i in range(4):
        for j in range(6):
            if 6 + j > 8 + i:
                expected[i, j] = -np.inf
    np.testing.assert_array_equal(y, expected)


# ---------------------------------------------------------------- reductions and norms

REDUCE = {"sum": torch.sum, "mean": torch.mean, "max": torch.amax, "min": torch.amin}


REDUCE_CASES = [(k, d) for k in REDUCE for d in ("f2", "f4", "i4", "i8") if k != "mean" or d[0] == "f"]


@pytest.mark.parametrize(("kind", "dtype"), REDUCE_CASES)
@pytest.mark.parametrize("axes", [(0,), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_reduce(kind, axes, keepdims, dtype):
    x = floats(5, 7, 3, dtype=dtype, scale=4)
    x64 = t(x).float() if dtype == "f2" else t(x)
    reference = REDUCE[kind](x64, axes, keepdim=keepdims).to(t(x).dtype)
    close(run(graph.Reduce, x, kind=kind, axes=axes, keepdims=keepdims), reference, 2)


def test_reduce_prod_bools_nan_and_wrap():
    x = floats(5, 3)
    close(run(graph.Reduce, x, kind="prod", axes=(1,)), t(x).prod(1))
    b = RNG.random((4, 3)) > 0.5
    close(run(graph.Reduce, b, kind="max", axes=(1,)), t(b).any(1))
    close(run(graph.Reduce, b, kind="prod", axes=(1,)), t(b).all(1))
    x[2, 1] = np.nan
    close(run(graph.Reduce, x, kind="max", axes=(1,)), t(x).amax(1))
    big = np.full((3,), 2**31 - 1, "i4")
    close(run(graph.Reduce, big, kind="sum", axes=(0,)), t(big).sum(0, dtype=torch.int32))


def test_reduce_on_blocks_combines():
    x, acc = floats(4, 5, dtype="f2"), floats(4, 1)
    close(run(tile.Reduce, x, acc, kind="sum", axes=(1,)), t(x).float().sum(1, True) + t(acc))
    close(run(tile.Reduce, x, acc, kind="max", axes=(1,)), torch.maximum(t(x).float().amax(1, True), t(acc)))
    close(run(tile.Reduce, x, kind="min", axes=(0,)), t(x).amin(0, True))


@pytest.mark.parametrize("dtype", ["f2", "f4"])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("log", [False, True])
def test_softmax(axis, log, dtype):
    x = floats(3, 5, 7, dtype=dtype, scale=10)
    function = fn.log_softmax if log else fn.softmax
    close(run(graph.Softmax, x, axis=axis, log=log), function(t(x), axis))


def test_softmax_of_a_row_of_minus_infinity():
    x = np.array([[-np.inf, -np.inf], [-np.inf, 1.0]], "f4")
    close(run(graph.Softmax, x, axis=1), fn.softmax(t(x), 1))


@pytest.mark.parametrize("dtype", ["f2", "f4"])
def test_norms(dtype):
    x = floats(3, 5, 7, dtype=dtype, scale=2)
    w, b = floats(7, dtype=dtype), floats(7, dtype=dtype)
    close(run(graph.LayerNorm, x, w, b, eps=1e-5), fn.layer_norm(t(x), (7,), t(w), t(b), 1e-5), 2)
    close(run(graph.LayerNorm, x, rank=2, eps=1e-5), fn.layer_norm(t(x), (5, 7), None, None, 1e-5), 2)
    reference = fn.rms_norm(t(x).float(), (7,), t(w).float(), 1e-5).to(t(x).dtype)
    close(run(graph.RmsNorm, x, w, eps=1e-5), reference)
    x = floats(2, 6, 5, 3, dtype=dtype)
    w, b = floats(6, dtype=dtype), floats(6, dtype=dtype)
    split = [v.reshape(3, 2, 1, 1) for v in (w, b)]
    y = run(graph.GroupNorm, x.reshape(2, 3, 2, 5, 3), *split, eps=1e-5).reshape(x.shape)
    close(y, fn.group_norm(t(x), 3, t(w), t(b), 1e-5), 2)
    mean, var = floats(6, dtype=dtype), np.abs(floats(6, dtype=dtype)) + np.dtype(dtype).type(0.1)
    reference = fn.batch_norm(*(t(v).float() for v in (x, mean, var, w, b)), eps=1e-5).to(t(x).dtype)
    close(run(graph.BatchNorm, x, w, b, mean, var, eps=1e-5), reference, 2)


@pytest.mark.parametrize("dtype", ["f4", "i4", "i8"])
def test_cumsum_and_argmax(dtype):
    x = floats(5, 7, 3, dtype=dtype, scale=3)
    for axis in range(3):
        close(run(graph.Cumsum, x, axis=axis), t(x).cumsum(axis, dtype=t(x).dtype))
        close(run(graph.Argmax, x, axis=axis), t(x).argmax(axis, keepdim=True))
    ties = np.array([[1, 3, 3, np.nan, 5, np.nan]], "f2")
    close(run(graph.Argmax, ties, axis=1), t(ties).argmax(1, keepdim=True))


@pytest.mark.parametrize("dtype", ["f2", "f4", "i4"])
def test_pool(dtype):
    x = floats(2, 3, 13, 11, dtype=dtype, scale=5)
    y = run(graph.Pool, x, kind="max", kernel=(3, 2), strides=(2, 1), padding=(1, 1, 0, 0))
    padded = fn.pad(t(x).float(), (0, 0, 1, 1), value=-torch.inf)
    close(y, fn.max_pool2d(padded, (3, 2), (2, 1)).to(t(x).dtype))
    y = run(graph.Pool, x, kind="max", kernel=(2, 3), strides=(1, 2), padding=(0,) * 4, dilations=(3, 2))
    close(y, fn.max_pool2d(t(x).float(), (2, 3), (1, 2), 0, (3, 2)).to(t(x).dtype))
    y = run(graph.Pool, x, kind="sum", kernel=(2, 2), strides=(2, 2), padding=(0,) * 4)
    close(y, (fn.avg_pool2d(t(x).float(), 2) * 4).to(t(x).dtype))
    y = run(tile.Pool, x, kind="max", kernel=(3, 3), strides=(1, 1), dilations=(1, 1))
    close(y, fn.max_pool2d(t(x).float(), 3, 1).to(t(x).dtype))
    x = floats(2, 3, 17)
    close(run(graph.Pool, x, kind="max", kernel=(5,), strides=(3,), padding=(2, 2)), fn.max_pool1d(t(x), 5, 3, 2))


@pytest.mark.parametrize("dtype", ["f2", "f4"])
@pytest.mark.parametrize("size", [(14, 22), (5, 31), (1, 1), (7, 11), (3, 40)])
def test_resize(size, dtype):
    x = floats(2, 3, 7, 11, dtype=dtype)
    for mode, align in (("nearest", False), ("bilinear", False), ("bilinear", True)):
        flag = {"align_corners": align} if mode == "bilinear" else {}
        close(
            run(graph.Resize, x, size=size, mode=mode, align_corners=align),
            fn.interpolate(t(x), size, mode=mode, **flag),
        )


@pytest.mark.parametrize("factor", [2.0, 1.7, 0.6, 3.3])
def test_resize_by_a_factor(factor):
    x = floats(1, 2, 7, 11)
    for mode in ("nearest", "bilinear"):
        reference = fn.interpolate(t(x), scale_factor=factor, mode=mode)
        y = run(graph.Resize, x, size=tuple(reference.shape[2:]), mode=mode, scales=(factor, factor))
        close(y, reference)


# ---------------------------------------------------------------- data movement


@pytest.mark.parametrize("dtype", ["f2", "i8", "?"])
def test_movement(dtype):
    x = (RNG.standard_normal((3, 5, 7)) * 9).astype(dtype)
    tx = t(x)
    close(run(graph.Reshape, x, to=(7, 15)), tx.reshape(7, 15))
    close(run(graph.Transpose, x, permutation=(2, 0, 1)), tx.permute(2, 0, 1))
    close(run(graph.Slice, x, starts=(1, 0, 2), sizes=(2, 3, 3), steps=(1, 2, 2)), tx[1:3, 0:5:2, 2:8:2])
    close(run(graph.Slice, x, starts=(1, 0, 2), sizes=(0, 3, 3), steps=(1, 2, 2)), tx[1:1, 0:5:2, 2:8:2])
    close(run(graph.Expand, x[:, :1], to=(2, 3, 4, 7)), tx[:, :1].expand(2, 3, 4, 7))
    close(run(graph.Concat, x, x[:, :2], axis=1), torch.cat([tx, tx[:, :2]], 1))
    close(run(graph.Pad, x, padding=(1, 0, 0, 2, 3, 3), value=1), fn.pad(tx, (3, 3, 0, 2, 1, 0), value=1))
    close(run(graph.Pad, x, padding=(-1, 2, 0, -2, 0, 0), value=1), fn.pad(tx, (0, 0, 0, -2, -1, 2), value=1))
    indices = np.array([[2, 0], [1, 2]])
    close(run(graph.Gather, x, indices, axis=0), tx[t(indices)])
    close(run(graph.Gather, x, indices, axis=1), tx[:, t(indices)])
    value = x[:2, :2] * x[:2, :2]
    y = tx.clone()
    y[0:3:2, 1:3] = t(value)
    close(run(graph.Update, x, value, starts=(0, 1, 0), steps=(2, 1, 1)), y)
    y = tx.clone()
    y[:, torch.tensor([4, 1])] = tx[:, :2]
    before = x.copy()
    close(run(graph.Scatter, x, np.array([4, 1]), x[:, :2], axis=1), y)
    np.testing.assert_array_equal(x, before)


def test_scatter_on_blocks_writes_in_place():
    x, value = floats(4, 3), floats(2, 3)
    y = run(tile.ScatterRows, x, np.array([3, 1]), value, axis=0)
    assert y is x
    np.testing.assert_array_equal(x[[3, 1]], value)


def test_sources():
    op = graph.Constant(result_types=[TensorType((2, 2), "f16")], value=(1, 2, 3, 4))
    np.testing.assert_array_equal(evaluate(op, [])[0], np.array([[1, 2], [3, 4]], "f2"))
    op = graph.Constant(result_types=[TensorType((), "f16")], value=1e9)
    assert evaluate(op, [])[0] == np.inf
    op = graph.Iota(result_types=[TensorType((4,), "i64")], start=2**40 + 1, step=3)
    np.testing.assert_array_equal(evaluate(op, [])[0], 2**40 + 1 + 3 * np.arange(4))


# ---------------------------------------------------------------- edges and errors


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_an_edge_tile_reshapes_as_the_rows_of_the_whole(data):
    """Splitting or joining axes of a block that is cut on its outer axis is reshaping the whole and cutting that."""
    rows, a, b = (data.draw(st.integers(1, 6)) for _ in range(3))
    cut = data.draw(st.integers(1, rows))
    ones = data.draw(st.lists(st.integers(0, 3), max_size=2))
    split = [rows, a, b]
    for i in ones:
        split.insert(i, 1)
    whole = np.arange(rows * a * b).reshape(rows * a, b)
    edge = whole[: cut * a]
    shape = edge_shape(whole.shape, split, edge.shape)
    np.testing.assert_array_equal(edge.reshape(shape), whole.reshape(split)[tuple(slice(n) for n in shape)])
    assert edge_shape(split, whole.shape, shape) == edge.shape


def test_an_edge_tile_that_is_no_block_is_refused():
    with pytest.raises(ValueError, match="cannot be reshaped"):
        edge_shape((4, 6), (24,), (4, 5))
    with pytest.raises(ValueError, match="cannot be reshaped"):
        edge_shape((24,), (4, 6), (23,))
    assert edge_shape((24,), (4, 6), (18,)) == (3, 6)
    assert edge_shape((1, 4, 6), (4, 1, 6), (1, 3, 6)) == (3, 1, 6)


def test_errors_name_the_op():
    with pytest.raises(InterpretError, match=r"'graph.gather' .*out of bounds"):
        run(graph.Gather, floats(3, 4), np.array([3]), axis=0)
    with pytest.raises(InterpretError, match="bicubic"):
        run(graph.Resize, floats(1, 1, 3, 4), size=(2, 2), mode="bicubic")


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(1, 11), st.integers(1, 4), st.integers(1, 3),
    st.integers(1, 2), st.integers(0, 3),
)  # fmt: skip
def test_any_conv(b, c, o, n, kernel, stride, dilation, pad):
    if n + 2 * pad < (kernel - 1) * dilation + 1:
        return
    x, w = floats(b, c, n, n + 1), floats(o, c, kernel, kernel)
    y = run(graph.Conv, x, w, strides=(stride,) * 2, padding=(pad,) * 4, dilations=(dilation,) * 2)
    close(y, fn.conv2d(t(x), t(w), None, stride, pad, dilation), 3)
