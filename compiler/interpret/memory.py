"""The byte memories that a soc program runs on, and where in them each operand of a command lies.

Under arith "f32" 16-bit floats take 4 bytes, so every address and slot doubles: buffers that are apart stay apart. So
they do for integers of less than a byte, which numpy holds in one each, and for sparse tensors, which it holds with
their zeros.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from tilewright.compiler.dialects import soc
from tilewright.compiler.ir import MemRefType, Module, Value, contiguous_strides

from .blocks import Window
from .kernels import iota
from .numerics import Arith, Array, check_inputs, error, numpy_dtype, to_dtype
from .parameters import parameter_array


class Point(NamedTuple):
    """Where the loops around a command stand, outermost first: iteration, first point and points of the tile."""

    indices: tuple[int, ...] = ()
    starts: tuple[int, ...] = ()
    extents: tuple[int, ...] = ()

    def inner(self, index: int, start: int, extent: int) -> Point:
        return Point((*self.indices, index), (*self.starts, start), (*self.extents, extent))


class Region(NamedTuple):
    """Elements in a space: offset and strides in bytes."""

    space: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def buffer_of(memref: Value) -> soc.Buffer:
    """The buffer behind a memref, which may be a view of it."""
    op = memref.op
    return op.x.op if isinstance(op, soc.View) else op  # type: ignore[return-value]


def scale_of(module: Module, arith: Arith) -> int:
    """What addresses are multiplied by: how much larger an element is in numpy than in the program, at most."""
    stored = {(b.result.type.dtype, b.result.type.bits) for b in buffers_in(module)}
    return max((math.ceil(8 * numpy_dtype(d, arith).itemsize / bits) for d, bits in stored), default=1)


def buffers_in(module: Module) -> list[soc.Buffer]:
    return [op for op in module.main.walk() if isinstance(op, soc.Buffer)]


def buffer_bytes(buffer: soc.Buffer) -> int:
    """From the buffer's address to its end, all slots included, in the program's own bytes."""
    kind: MemRefType = buffer.result.type
    if kind.space == "dram":
        reach = kind.offset + sum((n - 1) * s for n, s in zip(kind.shape, kind.strides, strict=True)) + 1
        return kind.bytes_for(reach) if kind.elements else 0
    return (buffer.slots - 1) * buffer.slot_bytes + kind.bytes


class Memory:
    """One array of bytes a space, all bits set (NaN in every float) where nobody wrote."""

    def __init__(self, module: Module, arith: Arith):
        self.arith: Arith = arith
        self.scale = scale_of(module, arith)
        sizes: dict[str, int] = {}
        for buffer in buffers_in(module):
            space = buffer.result.type.space
            sizes[space] = max(sizes.get(space, 0), (buffer.address + buffer_bytes(buffer)) * self.scale)
        self.spaces = {space: np.full(size, 0xFF, np.uint8) for space, size in sizes.items()}
        self.shapes: dict[tuple[soc.Buffer, int], tuple[int, ...]] = {}  # of blocks that no access describes

    def array(self, region: Region, dtype: np.dtype[Any]) -> Array:
        """A view of the memory."""
        space, offset, shape, strides = region
        return np.ndarray(shape, dtype, self.spaces[space], offset, strides)

    def tensor(self, memref: Value) -> Array:
        """A view of a whole tensor in dram."""
        return self.array(dram_region(memref, self.arith, self.scale), numpy_dtype(memref.type.dtype, self.arith))

    def fill(self, module: Module, inputs: Sequence[Array]) -> None:
        """Puts inputs, parameters, constants and iotas where the program expects them."""
        buffers = [b for b in buffers_in(module) if b.result.type.space == "dram"]
        given = sorted((b for b in buffers if b.role == "input"), key=lambda b: b.index)
        names = module.main.attributes.get("inputs", ())
        types = [(names[b.index] if b.index < len(names) else f"#{b.index}", b.result.type) for b in given]
        arrays = check_inputs(types, inputs, self.arith)
        for buffer, array in zip(given, arrays, strict=True):
            self.tensor(buffer.result)[...] = array
        for buffer in buffers:
            kind: MemRefType = buffer.result.type
            dtype = numpy_dtype(kind.dtype, self.arith)
            with np.errstate(all="ignore"):
                if buffer.role == "parameter":
                    self.tensor(buffer.result)[...] = parameter_array(module, buffer.key, kind, self.arith)
                elif buffer.role == "constant":
                    value = np.reshape(buffer.value, kind.shape) if isinstance(buffer.value, tuple) else buffer.value
                    self.tensor(buffer.result)[...] = to_dtype(value, dtype)
                elif buffer.role == "iota":
                    start, step = buffer.value
                    self.tensor(buffer.result)[...] = to_dtype(iota(start, step, kind.elements), dtype)


def dram_region(memref: Value, arith: Arith, scale: int) -> Region:
    """Where a whole tensor lies. Raises InterpretError for a view that leaves its buffer."""
    kind: MemRefType = memref.type
    buffer = buffer_of(memref)
    item = numpy_dtype(kind.dtype, arith).itemsize
    reach = kind.offset + sum((n - 1) * s for n, s in zip(kind.shape, kind.strides, strict=True))
    if kind.elements and (reach < 0 or kind.bytes_for(reach + 1) > buffer_bytes(buffer)):
        raise error(memref.op or buffer, f"reaches element {reach}, outside {buffer.result.type}")
    offset = buffer.address * scale + kind.offset * item
    return Region("dram", offset, kind.shape, tuple(s * item for s in kind.strides))


class ChipBlock:
    """The block of an engine's buffer at a point of the loops."""

    def __init__(self, buffer: soc.Buffer, dims: Sequence[str], trips: Sequence[int], arith: Arith, scale: int):
        kind: MemRefType = buffer.result.type
        self.buffer, self.space, self.largest = buffer, kind.space, kind.shape
        self.dtype = numpy_dtype(kind.dtype, arith)
        self.address, self.slot_bytes = buffer.address * scale, buffer.slot_bytes * scale
        self.order = tuple(sorted(range(kind.rank), key=lambda a: -kind.strides[a]))  # stable: slowest first
        if buffer.depth > len(trips):
            raise error(buffer, f"changes with {buffer.depth} loops, but is used inside {len(trips)}")
        self.trips = tuple(trips[: buffer.depth])
        try:
            self.window = Window(buffer.block, dims) if buffer.access else None
        except KeyError as missing:
            raise error(buffer, f"is used outside the loop over {missing}") from None

    def slot(self, point: Point) -> int:
        """The running count of iterations of the outermost loops, modulo the slots."""
        count = 0
        for index, trips in zip(point.indices, self.trips, strict=False):
            count = count * trips + index
        return count % self.buffer.slots

    def shape(self, point: Point) -> tuple[int, ...] | None:
        """The block's shape here; None where no access describes it."""
        if self.window is None:
            return None if self.largest else ()
        return tuple(self.window.at(point.starts, point.extents)[1])

    def region(self, point: Point, shape: tuple[int, ...]) -> Region:
        strides = contiguous_strides(shape, self.order)
        item = self.dtype.itemsize
        offset = self.address + self.slot(point) * self.slot_bytes
        return Region(self.space, offset, shape, tuple([s * item for s in strides]))
