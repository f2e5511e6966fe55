"""Sparse tensors: what they take, what may read them, and their text."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tilewright.compiler.dialects import graph, tile
from tilewright.compiler.ir import Block, IRError, MemRefType, ParseError, TensorType, TileType, bytes_of, parse

QUARTER = Fraction(1, 4)
shapes = st.lists(st.integers(1, 50), min_size=1, max_size=3).map(tuple)


def values(*types):
    return Block(types).args


@given(shapes, st.sampled_from(["f16", "f32", "i8", "ui4"]), st.data())
def test_a_sparse_tensor_takes_its_mask_and_its_numbers(shape, dtype, data):
    elements = TensorType(shape, dtype).elements
    count = data.draw(st.integers(0, elements))
    kind = TensorType(shape, dtype, density=Fraction(count, elements))
    assert kind.nonzeros == count
    bits = elements + 8 * bytes_of(8 * count, dtype) // 8
    assert kind.bytes == -(-bits // 8)
    assert TileType(shape, dtype, "ane.wbuf", kind.density).bytes == kind.bytes


def test_blocks_have_their_share():
    kind = TensorType((7, 64), "f16", density=QUARTER)
    assert [kind.bytes_for(n) for n in (0, 1, 2, 8, 64)] == [0, 1, 2, 5, 40]


PROGRAM = """\
func.func @main(%x: tensor<3x8xf16>) -> tensor<3x4xf16> {
  %w = graph.parameter {key = "w"} : tensor<8x4xf16, "density 3/32">
  %v = graph.transpose %w {permutation = [1, 0]} : tensor<4x8xf16, "density 3/32">
  %u = graph.reshape %v {to = [2, 2, 8]} : tensor<2x2x8xf16, "density 3/32">
  %1 = graph.reshape %u {to = [4, 8]} : tensor<4x8xf16, "density 3/32">
  %2 = graph.to_dense %1 : tensor<4x8xf16>
  %3 = graph.matmul %x, %2 {transpose_b = true} : tensor<3x4xf16>
  func.return %3
}
"""
LOOP = """\
func.func @main(%x: tensor<4x8xf16, "density 1/4">) -> tensor<4x8xf16> {
  %y = tile.loop on @ane (m: par 4 by 2, n: par 8 by 8)
      ins(%a = %x[m, n] : !tile.tile<2x8xf16, "ane.wbuf density 1/4"> buffers 2)
      outs([m, n] in "ane.l2") {
    %0 = tile.to_dense %a : !tile.tile<2x8xf16, "reg">
    tile.yield %0
  } : tensor<4x8xf16>
  func.return %y
}
"""


def test_views_of_a_sparse_tensor_are_sparse_and_go_through_text(roundtrip):
    roundtrip(parse(PROGRAM))
    roundtrip(parse(LOOP))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (TensorType((4, 8), "f16", density=QUARTER), 'tensor<4x8xf16, "density 1/4">'),
        (TensorType((4, 8), "f16", "1,0", QUARTER), 'tensor<4x8xf16, "1,0 density 1/4">'),
        (TensorType((4, 8), "f16", None, Fraction(0)), 'tensor<4x8xf16, "density 0/1">'),
        (TileType((4, 8), "f16", "ane.wbuf", QUARTER), '!tile.tile<4x8xf16, "ane.wbuf density 1/4">'),
        (
            MemRefType((4, 8), "f16", (8, 1), 0, "dram", QUARTER),
            'memref<4x8xf16, strided<[8, 1], offset: 0>, "dram density 1/4">',
        ),
    ],
)
def test_types_and_their_text(kind, text):
    assert str(kind) == text
    (read,) = parse(f"func.func @main(%x: {text}) {{\n  func.return\n}}").main.body.args
    assert read.type == kind and (read.type.density, read.type.bytes) == (kind.density, kind.bytes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('tensor<4x8xf16, "density 5/4">', "a density is a part of all elements, not 5/4"),
        ('tensor<4x8xf16, "0,2 density 1/4">', "is no order of the 2 axes"),
        ('tensor<4x8xf16, "density 1/0">', "is no order of the 2 axes"),
    ],
)
def test_what_is_no_sparse_type(text, message):
    with pytest.raises(ParseError, match=message):
        parse(f"func.func @main(%x: {text}) {{\n  func.return\n}}")


SPARSE, DENSE = TensorType((4, 8), "f16", density=QUARTER), TensorType((4, 8), "f16")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: graph.ToDense(*values(DENSE)), "takes a sparse tensor"),
        (
            lambda: graph.Matmul(*values(DENSE, SPARSE), transpose_b=True),
            "is sparse; make it dense with graph.to_dense",
        ),
        (lambda: graph.ELEMENTWISE["relu"](*values(SPARSE)), "is sparse"),
        (lambda: graph.Slice(*values(SPARSE), starts=(0, 0), sizes=(2, 8), steps=(1, 1)), "is sparse"),
        (
            lambda: tile.on_blocks("transpose")(*values(TileType((4, 8), "f16", "reg", QUARTER)), permutation=(1, 0)),
            "sparse",
        ),
        (lambda: TensorType((4,), "f16", density=Fraction(3, 2)), "not 3/2"),
        (
            lambda: parse(LOOP.replace('8xf16, "density 1/4"', '8xf16, "density 1/2"')),
            "a block is as sparse as its tensor",
        ),
        (lambda: parse(PROGRAM.replace('2x2x8xf16, "density 3/32"', "2x2x8xf16")), "but the operands give"),
    ],
)
def test_what_does_not_fit_says_why(make, message):
    with pytest.raises((IRError, ValueError), match=message):
        make()
