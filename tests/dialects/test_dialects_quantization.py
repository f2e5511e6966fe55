"""Packed element types and the ops on compressed tensors: sizes, shapes, accesses, errors and text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tilewright.compiler.dialects import graph
from tilewright.compiler.dialects.access import Access, Axis, identity, parse_axis
from tilewright.compiler.ir import DTYPE_BITS, Block, IRError, TensorType, TileType, bytes_of, int_range, parse
from tilewright.compiler.ir.types import PACKED_BITS


def values(*types):
    return Block([TensorType(shape, dtype) for shape, dtype in types]).args


# ---------------------------------------------------------------- packed types


@given(st.lists(st.integers(0, 50), max_size=3).map(tuple), st.sampled_from(sorted(DTYPE_BITS)))
def test_a_tensor_takes_its_bits_rounded_up_to_a_byte(shape, dtype):
    kind = TensorType(shape, dtype)
    assert 0 <= 8 * kind.bytes - kind.elements * DTYPE_BITS[dtype] < 8
    assert TileType(shape, dtype, "ane.l2").bytes == kind.bytes == bytes_of(kind.elements, dtype)


def test_sizes_of_packed_tensors():
    assert [bytes_of(n, "i4") for n in (0, 1, 2, 3)] == [0, 1, 1, 2]
    assert [bytes_of(11, d) for d in ("ui1", "ui2", "ui3", "ui4", "ui6", "ui8")] == [2, 3, 5, 6, 9, 11]


def test_ranges_of_integers():
    assert int_range("i4") == (-8, 7)
    assert int_range("ui6") == (0, 63)
    assert int_range("i8") == (-128, 127)


@pytest.mark.parametrize("dtype", sorted(PACKED_BITS))
def test_packed_types_are_read_by_mlir(dtype, roundtrip):
    roundtrip(parse(f"func.func @main(%x: tensor<3x5x{dtype}>) -> tensor<3x5x{dtype}> {{\n  func.return %x\n}}"))


# ---------------------------------------------------------------- a divided access


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 40))
def test_blocks_of_a_divided_axis_meet_where_tiles_do(group, times, size):
    """Tiles that are multiples of the group, or divide it, read each entry of their points, and no other."""
    axis = Axis((("k", 1),), divisor=group)
    assert parse_axis(str(axis)) == axis
    for tile in {group * times, *(t for t in range(1, group + 1) if group % t == 0)}:
        for start in range(0, size, tile):
            extent = min(tile, size - start)
            entries = sorted({(start + i) // group for i in range(extent)})
            assert entries == list(range(axis.start({"k": start}), axis.start({"k": start}) + axis.size({"k": extent})))


def test_only_a_dim_may_be_divided():
    assert str(parse_axis("k/32+1:2")) == "k/32+1:2"
    for text in ("k+n/2", "2*k+1/2", "k/0", "3/2"):
        with pytest.raises(ValueError, match="'"):
            parse_axis(text)


def test_the_entries_of_blocks_beside_the_axes_of_a_weight():
    q, scale = values(((8, 4, 3), "i8"), ((2, 4, 2), "f16"))
    op = graph.Dequantize(q, scale, block=(4, 1, 2), to="f16")
    beside = op.entry_access(1, Access((*identity(("o", "c")).axes, Axis(extent=3))))
    assert str(beside) == "o/4, c, :2"
    assert op.entry_access(1, Access((Axis((("g", 2), ("o", 1))), *identity(("c", "s")).axes))) is None


def test_a_palette_is_read_whole():
    index, table = values(((8, 6), "ui2"), ((2, 1, 4), "f16"))
    structure = graph.Lookup(index, table, block=(4, 6)).structure()
    assert [str(a) for a in structure.operands] == ["d0, d1", "d0/4, 0, :4"]


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("cls", "types", "attributes", "message"),
    [
        (graph.Dequantize, [((4, 6), "f16"), ((1, 1), "f16")], {"block": (4, 6), "to": "f16"}, "takes an integer"),
        (graph.Dequantize, [((4, 6), "i4"), ((1, 1), "f16")], {"block": (4,), "to": "f16"}, "one entry of at least 1"),
        (graph.Dequantize, [((4, 6), "i4"), ((1, 1), "f16")], {"block": (4, 0), "to": "f16"}, "at least 1"),
        (graph.Dequantize, [((4, 6), "i4"), ((4, 1), "f16")], {"block": (1, 4), "to": "f16"}, r"take \[4, 2\]"),
        (graph.Quantize, [((4, 6), "f32"), ((1, 1), "f32")], {"block": (4, 6), "to": "f16"}, "takes a float"),
        (graph.Quantize, [((4, 6), "f32"), ((1, 1), "f32")], {"block": (4, 6), "to": "i8", "high": 200}, "-128 to 127"),
        (graph.Lookup, [((4, 6), "i8"), ((1, 1, 4), "f16")], {"block": (4, 6)}, "unsigned integers, not i8"),
        (graph.Lookup, [((4, 6), "ui2"), ((1, 1, 5), "f16")], {"block": (4, 6)}, "palette of 5 entries"),
        (graph.Lookup, [((4, 6), "ui2"), ((1, 4), "f16")], {"block": (4, 6)}, "the entries of a block"),
        (graph.Matmul, [((4, 6), "i8"), ((6, 4), "ui8")], {}, "operands are i8 and ui8"),
        (graph.Matmul, [((4, 6), "f16"), ((6, 4), "f16")], {"to": "i32"}, "sums integers"),
        (graph.Matmul, [((4, 6), "i8"), ((6, 4), "i8")], {"to": "i8"}, "into i32 or i64"),
    ],
)
def test_what_does_not_fit_says_why(cls, types, attributes, message):
    with pytest.raises(IRError, match=message):
        cls(*values(*types), **attributes)


# ---------------------------------------------------------------- text

PROGRAM = """\
func.func @main(%x: tensor<4x64xf16>, %q: tensor<8x64xi4>, %s: tensor<8x2xf16>, %i: tensor<8x64xui3>,
    %t: tensor<2x1x8xf16>, %w: tensor<8x64xi8>, %sx: tensor<4x1xf32>)
    -> (tensor<4x8xf16>, tensor<4x8xf16>, tensor<4x8xi32>) {
  %0 = graph.dequantize %q, %s {block = [1, 32], to = "f16"} : tensor<8x64xf16>
  %1 = graph.matmul %x, %0 {transpose_b = true} : tensor<4x8xf16>
  %2 = graph.lookup %i, %t {block = [4, 64]} : tensor<8x64xf16>
  %3 = graph.matmul %x, %2 {transpose_b = true} : tensor<4x8xf16>
  %4 = graph.quantize %x, %sx {block = [1, 64], to = "ui8", low = 0, high = 255, inverse = true} : tensor<4x64xui8>
  %5 = graph.matmul %4, %w {transpose_b = true, to = "i32"} : tensor<4x8xi32>
  func.return %1, %3, %5
}
"""


def test_a_quantised_program_goes_through_text(roundtrip):
    roundtrip(parse(PROGRAM))
