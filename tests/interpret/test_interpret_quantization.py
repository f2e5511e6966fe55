"""What the ops on compressed tensors compute, against PyTorch and against plain loops."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tilewright.compiler.dialects import graph, tile
from tilewright.compiler.interpret import InterpretError, evaluate, parameter_array
from tilewright.compiler.ir import Block, Module, TensorType, TileType, int_range

PACKED = ["i4", "ui4", "ui1", "ui2", "ui3", "ui5", "ui6", "i8", "ui8"]


def run(cls, *operands, arith="native", **attributes):
    """`operands` are pairs of an array and its dtype's name."""
    on_blocks = cls.name.startswith("tile.")
    types = [TileType(a.shape, d, "reg") if on_blocks else TensorType(a.shape, d) for a, d in operands]
    return evaluate(cls(*Block(types).args, **attributes), [a for a, _ in operands], arith)[0]


def integers(rng, shape, dtype):
    low, high = int_range(dtype)
    return rng.integers(low, high + 1, shape).astype(np.int8 if dtype.startswith("i") else np.uint8)


def blocks(shape, block):
    """(elements, entry) of each element, by plain loops."""
    for at in itertools.product(*map(range, shape)):
        yield at, tuple(i // b for i, b in zip(at, block, strict=True))


cases = st.lists(st.tuples(st.integers(1, 7), st.integers(1, 9)), min_size=1, max_size=3)


@settings(max_examples=60, deadline=None)
@given(cases, st.sampled_from(PACKED), st.sampled_from([None, "i8", "f32"]), st.integers(0, 99))
def test_dequantize_is_a_scale_and_a_zero_a_block(sizes, dtype, zero_dtype, seed):
    rng = np.random.default_rng(seed)
    shape, block = zip(*sizes, strict=True)
    counts = graph.block_counts(shape, block)
    q, scale = integers(rng, shape, dtype), rng.standard_normal(counts).astype(np.float32)
    zero = None if zero_dtype is None else rng.integers(-8, 8, counts).astype("i1" if zero_dtype == "i8" else "f4")
    operands = [(q, dtype), (scale, "f32"), *([] if zero is None else [(zero, zero_dtype)])]
    y = run(graph.Dequantize, *operands, block=block, to="f32")
    for at, entry in blocks(shape, block):
        assert y[at] == (np.float32(q[at]) - np.float32(0 if zero is None else zero[entry])) * scale[entry]


@settings(max_examples=60, deadline=None)
@given(cases, st.sampled_from(["ui1", "ui2", "ui3", "ui4", "ui6", "ui8"]), st.integers(0, 99))
def test_lookup_reads_the_palette_of_its_block(sizes, dtype, seed):
    rng = np.random.default_rng(seed)
    shape, block = zip(*sizes, strict=True)
    index = integers(rng, shape, dtype)
    table = rng.standard_normal((*graph.block_counts(shape, block), int_range(dtype)[1] + 1)).astype(np.float16)
    y = run(graph.Lookup, (index, dtype), (table, "f16"), block=block)
    assert y.dtype == np.float16
    for at, entry in blocks(shape, block):
        assert y[at] == table[(*entry, index[at])]


def test_an_index_without_an_entry_is_an_error():
    index, table = np.array([[0, 3]], np.uint8), np.zeros((1, 1, 3), np.float16)
    with pytest.raises(InterpretError, match="index 3 is outside a palette of 3"):
        run(graph.Lookup, (index, "ui2"), (table, "f16"), block=(1, 2))


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_quantize_rounds_halves_to_even_as_torch(axis, inverse):
    rng = np.random.default_rng(1)
    x = (rng.integers(-600, 600, (5, 7)) / 4).astype(np.float32)
    count = 1 if axis is None else x.shape[axis]
    scale = np.exp2(rng.integers(-2, 1, count)).astype(np.float32)
    zero = rng.integers(-9, 9, count).astype(np.int32)
    shape = (1, 1) if axis is None else tuple(n if a == axis else 1 for a, n in enumerate(x.shape))
    block = tuple(1 if a == axis else n for a, n in enumerate(x.shape))
    operands = [(x, "f32"), ((1 / scale if inverse else scale).astype("f4").reshape(shape), "f32")]
    q = run(graph.Quantize, *operands, (zero.reshape(shape), "i32"), block=block, to="i8", inverse=inverse)
    if axis is None:
        expected = torch.fake_quantize_per_tensor_affine(torch.tensor(x), float(scale[0]), int(zero[0]), -128, 127)
    else:
        parameters = torch.tensor(scale), torch.tensor(zero), axis
        expected = torch.fake_quantize_per_channel_affine(torch.tensor(x), *parameters, -128, 127)
    y = run(graph.Dequantize, (q, "i8"), (scale.astype("f4").reshape(shape), "f32"), (zero.reshape(shape), "i32"),
            block=block, to="f32")  # fmt: skip
    np.testing.assert_array_equal(y, expected.numpy())


def test_quantize_keeps_within_its_limits():
    x = np.array([-9.0, -1.5, 0.5, 1.5, 9.0], np.float32)
    one = (np.ones(1, np.float32), "f32")
    assert run(graph.Quantize, (x, "f32"), one, block=(5,), to="i4").tolist() == [-8, -2, 0, 2, 7]
    assert run(graph.Quantize, (x, "f32"), one, block=(5,), to="i8", low=-1, high=1).tolist() == [-1, -1, 0, 1, 1]


def test_a_block_of_a_tile_may_be_a_part_of_a_group():
    """A tile of 2 within groups of 4 meets one scale; one of 6 of a last, smaller tile meets two."""
    q = np.arange(6, dtype=np.int8)[None]
    for n, scales in ((2, [3.0]), (6, [3.0, 5.0])):
        scale = np.array([scales], np.float32)
        y = run(tile.on_blocks("dequantize"), (q[:, :n], "i8"), (scale, "f32"), block=(1, 4), to="f32")
        np.testing.assert_array_equal(y[0], q[0, :n] * np.repeat(scale[0], 4)[:n])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 300), st.sampled_from(["i8", "ui8"]), st.integers(0, 99))
def test_integers_are_summed_in_i32(m, n, k, dtype, seed):
    rng = np.random.default_rng(seed)
    a, b = integers(rng, (m, k), dtype), integers(rng, (n, k), "i8")
    y = run(graph.Matmul, (a, dtype), (b, "i8"), transpose_b=True, to="i32")
    assert y.dtype == np.int32
    np.testing.assert_array_equal(y, a.astype(np.int32) @ b.astype(np.int32).T)


def test_integer_convolution_against_torch():
    rng = np.random.default_rng(2)
    x, w = integers(rng, (2, 6, 7, 5), "i8"), integers(rng, (4, 3, 3, 2), "i8")
    attributes = {"strides": (2, 1), "padding": (1, 1, 0, 1), "groups": 2}
    y = run(graph.Conv, (x, "i8"), (w, "i8"), **attributes, to="i32")
    padded = torch.nn.functional.pad(torch.tensor(x).double(), (0, 1, 1, 1))
    expected = torch.nn.functional.conv2d(padded, torch.tensor(w).double(), stride=(2, 1), groups=2)
    np.testing.assert_array_equal(y, expected.numpy().astype(np.int32))


def test_without_a_dtype_integer_products_stay_in_theirs():
    a = np.array([[100, 100]], np.int8)
    assert run(graph.Matmul, (a, "i8"), (a, "i8"), transpose_b=True).tolist() == [[32]]  # 20000 modulo 256


def test_a_cast_to_a_packed_dtype_keeps_the_low_bits():
    x = np.array([-9, -8, 7, 8, 17], np.int8)
    assert run(graph.Cast, (x, "i8"), to="i4").tolist() == [7, -8, 7, -8, 1]
    assert run(graph.Cast, (x, "i8"), to="ui3").tolist() == [7, 0, 7, 0, 1]


def test_a_parameter_must_fit_its_packed_dtype():
    module = Module()
    module.parameters["w"] = np.array([7, 8], np.int8)
    with pytest.raises(InterpretError, match="'w' holds 7 to 8, which tensor<2xi4> does not"):
        parameter_array(module, "w", TensorType((2,), "i4"))
    assert parameter_array(module, "w", TensorType((2,), "ui4")).tolist() == [7, 8]
