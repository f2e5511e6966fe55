"""The commands of a soc program, each made ready once: what it touches at a point of its loops, and what it does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from tilewright.compiler.dialects import soc, tile
from tilewright.compiler.ir import Value

from .blocks import Body, Window, fits, pad_value
from .memory import ChipBlock, Memory, Point, Region, buffer_of, dram_region
from .numerics import Arith, Array, error, numpy_dtype


class Touch(NamedTuple):
    """One read or write of memory by a command."""

    buffer: soc.Buffer
    region: Region
    itemsize: int
    writes: bool


class Frame:
    """The loops around a command: dims and trip counts, outermost first."""

    def __init__(self, loops: Sequence[soc.For], arith: Arith, scale: int):
        self.dims = [f.dim for f in loops]
        self.trips = [f.trips for f in loops]
        self.arith: Arith = arith
        self.scale = scale

    def block(self, memref: Value) -> ChipBlock:
        return ChipBlock(buffer_of(memref), self.dims, self.trips, self.arith, self.scale)

    def at(self, point: Point) -> dict[str, int]:
        return dict(zip(self.dims, point.starts, strict=True))


class CopyPlan:
    """Moves the block of a tensor that the access gives; outside the tensor, loads read the pad and stores drop."""

    def __init__(self, op: soc.Copy, frame: Frame):
        self.op, self.frame, self.unit = op, frame, op.unit.name
        self.kind = "load" if op.loads else "store"
        far, near = (op.source, op.target) if op.loads else (op.target, op.source)
        self.buffer, self.near = buffer_of(far), frame.block(near)
        self.tensor = dram_region(far, frame.arith, frame.scale)
        self.dtype = numpy_dtype(far.type.dtype, frame.arith)
        if self.dtype != self.near.dtype:
            raise error(op, f"copies between {far.type} and {near.type}, which differ in dtype")
        try:
            self.window = Window(op.block, frame.dims)
        except KeyError as missing:
            raise error(op, f"reads the dim {missing} outside its loop") from None
        self.pad = None if op.pad == tile.NONE else pad_value(op.pad, self.dtype)

    def _regions(self, point: Point) -> tuple[Region, Region, tuple[slice, ...] | None]:
        """The part inside the tensor, the block on chip, and which part of the block that is (None: all)."""
        first, size = self.window.at(point.starts, point.extents)
        near = self.near.shape(point) or tuple(size)
        if near != tuple(size):
            raise error(self.op, f"moves a block of {tuple(size)} where {near} is expected, at {self.frame.at(point)}")
        shape, strides, offset = self.tensor.shape, self.tensor.strides, self.tensor.offset
        part, inside = [], True
        low_high = []
        for a, n, bound, stride in zip(first, size, shape, strides, strict=True):
            low, high = max(a, 0), min(a + n, bound)
            inside = inside and high - low == n
            high = max(high, low)
            offset += low * stride if high > low else 0
            part.append(high - low)
            low_high.append(slice(low - a, high - a))
        if not inside and self.pad is None and self.kind == "load":
            raise error(
                self.op,
                f"[{self.window.access}] reads from {tuple(first)} a block of {tuple(size)} of a tensor {shape} "
                f"at {self.frame.at(point)}, and has no padding",
            )
        far = Region("dram", offset, tuple(part), strides)
        return far, self.near.region(point, near), None if inside else tuple(low_high)

    def touches(self, point: Point) -> list[Touch]:
        far, near, part = self._regions(point)
        if part is not None and self.kind == "store":
            first = sum(s.start * t for s, t in zip(part, near.strides, strict=True))
            near = near._replace(offset=near.offset + first, shape=far.shape)
        item, loads = self.dtype.itemsize, self.kind == "load"
        return [Touch(self.buffer, far, item, not loads), Touch(self.near.buffer, near, item, loads)]

    def execute(self, memory: Memory, point: Point) -> None:
        far_region, near_region, part = self._regions(point)
        far, near = memory.array(far_region, self.dtype), memory.array(near_region, self.dtype)
        if self.kind == "load":
            if part is not None:
                near.fill(self.pad)
                near = near[part]
            near[...] = far
        else:
            far[...] = near if part is None else near[part]


class ExecPlan:
    """Reads blocks, runs a body on them and writes what it yields."""

    kind = "exec"

    def __init__(self, op: soc.Exec, frame: Frame):
        self.op, self.frame, self.unit = op, frame, op.unit.name
        self.body = Body(op.body, frame.arith)
        self.reads = [self._operand(v) for v in op.inputs]
        self.writes = [self._operand(v) for v in op.outputs]
        self.inits = op.inits or (tile.NONE,) * op.reads
        self.reductions = [i for i, d in enumerate(frame.dims) if d in op.reductions]

    def _operand(self, value: Value) -> tuple[soc.Buffer, ChipBlock | None, Region | None, np.dtype[Any]]:
        """(buffer, block on chip, whole tensor in dram, dtype): one of the two in the middle."""
        dtype = numpy_dtype(value.type.dtype, self.frame.arith)
        if value.type.space != "dram":
            return buffer_of(value), self.frame.block(value), None, dtype
        return buffer_of(value), None, dram_region(value, self.frame.arith, self.frame.scale), dtype

    def _first(self, point: Point) -> bool:
        return all(point.indices[i] == 0 for i in self.reductions)

    def touches(self, point: Point) -> list[Touch]:
        first = self._first(point)
        reads = [o for o, init in zip(self.reads, self.inits, strict=True) if not (first and init != tile.NONE)]
        found = []
        for operands, writes in ((reads, False), (self.writes, True)):
            for buffer, block, whole, dtype in operands:
                if block is not None:
                    whole = block.region(point, block.shape(point) or block.largest)
                assert whole is not None
                found.append(Touch(buffer, whole, dtype.itemsize, writes))
        return found

    def execute(self, memory: Memory, point: Point) -> None:
        values: list[Any] = [None] * self.body.slots
        first = self._first(point)
        for i, (buffer, block, whole, dtype) in enumerate(self.reads):
            if block is None:
                assert whole is not None
                values[i] = memory.array(whole, dtype)
                continue
            shape = block.shape(point)
            if shape is None:  # as it was written
                shape = memory.shapes.get((buffer, block.slot(point)), block.largest)
            if first and self.inits[i] != tile.NONE:
                values[i] = np.full(shape, pad_value(self.inits[i], dtype), dtype)
            else:
                values[i] = memory.array(block.region(point, shape), dtype)
        for i, (largest, dtype) in enumerate(self.body.arguments):
            if values[i].dtype != dtype or not fits(values[i].shape, largest):
                raise error(self.op, f"reads {values[i].dtype}{values[i].shape}, not {self.op.body.args[i].type}")
        self.body.run(values, 0, len(self.body.steps), self.frame.at(point))
        results = [values[slot] for slot in self.body.yields]
        if len(results) > 1:  # a view of memory that another result is about to overwrite
            results = [r if r.flags.owndata else r.copy() for r in results]
        for operand, value in zip(self.writes, results, strict=True):
            self._write(memory, point, operand, value)

    def _write(self, memory: Memory, point: Point, operand: Any, value: Array) -> None:
        buffer, block, whole, dtype = operand
        if block is not None:
            shape = block.shape(point)
            if shape is None:
                shape = value.shape
                memory.shapes[buffer, block.slot(point)] = shape
            whole = block.region(point, shape)
        if value.shape != whole.shape or value.dtype != dtype:
            raise error(
                self.op,
                f"yields {value.dtype}{value.shape} for a block of {dtype}{whole.shape} at {self.frame.at(point)}",
            )
        memory.array(whole, dtype)[...] = value


Plan = CopyPlan | ExecPlan


def make_plan(op: soc.Copy | soc.Exec, loops: Sequence[soc.For], arith: Arith, scale: int) -> Plan:
    frame = Frame(loops, arith, scale)
    return CopyPlan(op, frame) if isinstance(op, soc.Copy) else ExecPlan(op, frame)
