"""Types of values. Immutable, hashable, and each knows its own text."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import NamedTuple

FLOAT_BITS = {"f16": 16, "bf16": 16, "f32": 32, "f64": 64}
INT_BITS = {"i1": 8, "i8": 8, "ui8": 8, "i16": 16, "i32": 32, "i64": 64}  # a bool takes a byte in memory
PACKED_BITS = {"ui1": 1, "ui2": 2, "ui3": 3, "i4": 4, "ui4": 4, "ui5": 5, "ui6": 6}  # several elements share a byte
DTYPE_BITS = {**FLOAT_BITS, **INT_BITS, **PACKED_BITS}


def is_float(dtype: str) -> bool:
    return dtype in FLOAT_BITS


def is_integer(dtype: str) -> bool:
    """Numbers, that is; i1 is a truth value."""
    return (dtype in INT_BITS and dtype != "i1") or dtype in PACKED_BITS


def int_range(dtype: str) -> tuple[int, int]:
    """The least and the greatest value of an integer dtype."""
    bits = DTYPE_BITS[dtype]
    return (0, (1 << bits) - 1) if dtype.startswith("u") else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def bytes_of(elements: int, dtype: str) -> int:
    """What so many elements take in memory. They follow each other bit by bit, in the order of the layout and without
    gaps (one of 3, 5 or 6 bits may straddle two bytes); a tensor or a block ends at a whole byte."""
    return -(-elements * DTYPE_BITS[dtype] // 8)


class Type:
    """Base of all types. Subclasses set `text`, which is the MLIR spelling and also decides equality."""

    __slots__ = ("_hash", "text")
    text: str

    def _seal(self, text: str) -> None:
        self.text = text
        self._hash = hash(text)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Type) and self.text == other.text)

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return self.text


class ShapedType(Type):
    """Something with a static shape (elements per axis) and an element dtype.

    `density`, of a sparse tensor or block, is the part of its elements that may be other than zero: it is stored as a
    mask of a bit an element and the numbers that are not zero, one after the other. A block has its share of them.
    None: every element is stored.
    """

    __slots__ = ("__dict__", "dtype", "shape")
    shape: tuple[int, ...]
    dtype: str
    density: Fraction | None = None

    @property
    def rank(self) -> int:
        return len(self.shape)

    @cached_property
    def elements(self) -> int:
        return math.prod(self.shape)

    @cached_property
    def bytes(self) -> int:
        return self.bytes_for(self.elements)

    @property
    def bits(self) -> int | Fraction:
        """What an element takes in memory, on average over a sparse tensor."""
        bits = DTYPE_BITS[self.dtype]
        return bits if self.density is None else 1 + bits * self.density

    def bytes_for(self, elements: int) -> int:
        """What so many of its elements take in memory."""
        return bytes_of(elements, self.dtype) if self.density is None else math.ceil(elements * self.bits / 8)

    @property
    def nonzeros(self) -> int:
        """How many of its elements may be other than zero."""
        return self.elements if self.density is None else math.floor(self.elements * self.density)

    def _dims(self) -> str:
        return "".join(f"{d}x" for d in self.shape) + self.dtype


_DENSITY = re.compile(r"(?:(.*) )?density (\d+)/([1-9]\d*)")


def read_storage(text: str) -> tuple[str, Fraction | None]:
    """(place, density) of the string in a type that says how it is stored: `ane.wbuf`, `ane.wbuf density 1/4`."""
    match = _DENSITY.fullmatch(text)
    return (match[1] or "", Fraction(int(match[2]), int(match[3]))) if match else (text, None)


def _storage(place: str, density: Fraction | None) -> str:
    if density is None:
        return place
    if not 0 <= density <= 1:
        raise ValueError(f"a density is a part of all elements, not {density}")
    return f"{place} density {density.numerator}/{density.denominator}".lstrip()


class TensorType(ShapedType):
    """`tensor<4x8xf16>`, or `tensor<4x8xf16, "1,0">` with a layout; `tensor<4x8xf16, "density 1/4">` is sparse.

    The layout lists the axes from the slowest to the fastest in memory. Neither changes the logical shape.
    """

    __slots__ = ("layout",)

    def __init__(self, shape: tuple[int, ...], dtype: str, layout: str | None = None, density: Fraction | None = None):
        self.shape, self.dtype, self.layout, self.density = tuple(shape), dtype, layout, density
        storage = _storage(layout or "", density)
        self._seal(f'tensor<{self._dims()}, "{storage}">' if storage else f"tensor<{self._dims()}>")

    @property
    def order(self) -> tuple[int, ...]:
        """Axes from slowest to fastest."""
        return tuple(range(self.rank)) if self.layout is None else tuple(int(a) for a in self.layout.split(","))

    def with_layout(self, layout: str | None) -> TensorType:
        return TensorType(self.shape, self.dtype, layout, self.density)

    def with_shape(self, shape: tuple[int, ...]) -> TensorType:
        return TensorType(shape, self.dtype)

    def with_dtype(self, dtype: str) -> TensorType:
        return TensorType(self.shape, dtype, self.layout, self.density)


@lru_cache(maxsize=65536)
def dense_tensor(shape: tuple[int, ...], dtype: str) -> TensorType:
    """`TensorType(shape, dtype)`, made once: a program repeats few types many times."""
    return TensorType(shape, dtype)


class TileType(ShapedType):
    """`!tile.tile<64x128xf16, "ane.l2">`: a block of a tensor in a memory space. The shape is the largest block.

    `!tile.tile<64x128xf16, "ane.wbuf density 1/4">` is one of a sparse tensor.
    """

    __slots__ = ("space",)

    def __init__(self, shape: tuple[int, ...], dtype: str, space: str, density: Fraction | None = None):
        self.shape, self.dtype, self.space, self.density = tuple(shape), dtype, space, density
        self._seal(f'!tile.tile<{self._dims()}, "{_storage(space, density)}">')


class MemRefType(ShapedType):
    """`memref<4x8xf16, strided<[8, 1], offset: 0>, "dram">`: elements at an address. Strides and offset in elements.

    `memref<4x8xf16, strided<[8, 1], offset: 0>, "dram density 1/4">` holds a sparse tensor or block.
    """

    __slots__ = ("offset", "space", "strides")

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: str,
        strides: tuple[int, ...],
        offset: int,
        space: str,
        density: Fraction | None = None,
    ):
        self.shape, self.dtype, self.space, self.density = tuple(shape), dtype, space, density
        self.strides, self.offset = tuple(strides), offset
        inner = ", ".join(str(s) for s in strides)
        storage = _storage(space, density)
        self._seal(f'memref<{self._dims()}, strided<[{inner}], offset: {offset}>, "{storage}">')


class TokenType(Type):
    """`!soc.token`: the completion of a command."""

    __slots__ = ()

    def __init__(self) -> None:
        self._seal("!soc.token")


class FunctionType(Type):
    """`(tensor<4xf16>) -> tensor<4xf16>`"""

    __slots__ = ("inputs", "outputs")

    def __init__(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]):
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        outs = ", ".join(map(str, outputs))
        self._seal(f"({', '.join(map(str, inputs))}) -> {outs if len(outputs) == 1 else f'({outs})'}")


class Symbol(NamedTuple):
    """`@ane.mac`: an attribute that names a unit or an engine."""

    name: str

    def __str__(self) -> str:
        return f"@{self.name}"


TOKEN = TokenType()


def contiguous_strides(shape: tuple[int, ...], order: tuple[int, ...] | None = None) -> tuple[int, ...]:
    """Strides in elements of a dense tensor whose axes lie in memory in `order`, slowest first."""
    strides = [0] * len(shape)
    step = 1
    for axis in reversed(order if order is not None else range(len(shape))):
        strides[axis] = step
        step *= shape[axis]
    return tuple(strides)
