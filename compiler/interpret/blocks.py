"""What the tile and the soc interpreter share: windows of tensors, and bodies of ops on blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tilewright.compiler.dialects import tile
from tilewright.compiler.dialects.access import Access
from tilewright.compiler.ir import Block, Operation, Value

from .kernels import evaluate
from .numerics import Arith, Array, error, numpy_dtype

Point = Sequence[int]  # a number for each dim


class Window:
    """An access, made ready for a fixed order of dims: where its block starts and how large it is."""

    __slots__ = ("access", "axes")

    def __init__(self, access: Access, dims: Sequence[str]):
        """Raises KeyError for a dim of the access that is not among `dims`."""
        index = {d: i for i, d in enumerate(dims)}
        self.access = access
        self.axes = [(tuple((index[d], c) for d, c in a.terms), a.offset, a.extent, a.divisor) for a in access.axes]

    def at(self, starts: Point, extents: Point) -> tuple[list[int], list[int]]:
        """(first element, elements) of each axis, for a tile of `extents` points from `starts`."""
        first, size = [], []
        for terms, offset, extent, divisor in self.axes:
            for d, c in terms:
                offset += c * starts[d] // divisor
                extent += c * (extents[d] - 1) // divisor
            first.append(offset)
            size.append(extent)
        return first, size


def read_block(array: Array, first: Sequence[int], size: Sequence[int], pad: Any) -> Array:
    """The block of `array`: a view where it is inside, else a copy in which what is outside reads `pad`.

    Raises IndexError where the block leaves the array and `pad` is "none".
    """
    inside = True
    for a, n, bound in zip(first, size, array.shape, strict=True):
        if a < 0 or a + n > bound:
            inside = False
    if inside:
        return array[tuple([slice(a, a + n) for a, n in zip(first, size, strict=True)])]
    if pad == tile.NONE:
        raise IndexError(
            f"reads elements {tuple(first)} to {tuple(a + n - 1 for a, n in zip(first, size, strict=True))}"
        )
    block = np.full(size, pad_value(pad, array.dtype), array.dtype)
    target, source = _overlap(array.shape, first, size)
    block[target] = array[source]
    return block


def write_block(array: Array, first: Sequence[int], block: Array) -> None:
    """Writes `block` into `array`; what lies outside is dropped."""
    source, target = _overlap(array.shape, first, block.shape)
    array[target] = block[source]


def _overlap(
    bounds: Sequence[int], first: Sequence[int], size: Sequence[int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where block and array meet: slices of the block, slices of the array."""
    low = [max(a, 0) for a in first]
    high = [max(b, min(a + n, bound)) for a, n, bound, b in zip(first, size, bounds, low, strict=True)]
    in_block = tuple(slice(b - a, e - a) for a, b, e in zip(first, low, high, strict=True))
    return in_block, tuple(slice(b, e) for b, e in zip(low, high, strict=True))


def pad_value(pad: float, dtype: np.dtype[Any]) -> Any:
    """`pad` as a number of `dtype`: an infinity becomes an integer's least or greatest value."""
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return int(min(max(pad, info.min), info.max))
    return pad


def unwritten(shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """Memory that nobody wrote: all bits set, which is NaN in every float."""
    array = np.empty(shape, dtype)
    if dtype.kind == "b":
        array.fill(True)
    else:
        array.reshape(-1).view(np.uint8).fill(0xFF)
    return array


class Body:
    """The ops of a region on blocks, with their values in numbered slots: arguments first, then results in order."""

    __slots__ = ("arguments", "arith", "carried", "slots", "split", "steps", "yields")

    def __init__(self, block: Block, arith: Arith):
        self.arith: Arith = arith
        self.arguments = [(a.type.shape, numpy_dtype(a.type.dtype, arith)) for a in block.args]
        index: dict[Value, int] = {a: i for i, a in enumerate(block.args)}
        self.steps: list[tuple[Operation, tuple[int, ...], int, tuple[int, ...]]] = []
        self.split = 0  # how many steps come before tile.last
        self.carried: tuple[int, ...] = ()
        for op in block:
            operands = tuple(index[v] for v in op.operands)
            if isinstance(op, tile.Last):
                self.split, self.carried = len(self.steps), operands
            elif isinstance(op, tile.Yield):
                self.yields = operands
            elif isinstance(op, tile.TileOp):
                index[op.result] = len(index)
                self.steps.append((op, operands, index[op.result], op.result.type.shape))
            else:
                raise error(op, "does not compute on blocks")
        self.slots = len(index)

    def run(self, values: list[Any], first: int, last: int, at: Mapping[str, int]) -> None:
        """Runs steps `first` to `last` on the slots. Raises InterpretError for a block above its declared shape."""
        for op, operands, slot, largest in self.steps[first:last]:
            block = evaluate(op, [values[i] for i in operands], self.arith, at)[0]
            if not fits(block.shape, largest):
                raise error(op, f"gave a block of {block.shape}, above its type {op.result.type}, at {dict(at)}")
            values[slot] = block


def fits(shape: tuple[int, ...], largest: tuple[int, ...]) -> bool:
    if shape == largest:
        return True
    return len(shape) == len(largest) and all(n <= m for n, m in zip(shape, largest, strict=True))
