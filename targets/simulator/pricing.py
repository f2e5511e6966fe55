"""What an exec costs: the time, MACs and in-place traffic of its body, at full tiles and at every edge that occurs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tilewright.compiler.dialects import soc, tile
from tilewright.compiler.dialects.graph import WholeOp
from tilewright.compiler.ir import Block, IRError, Operation, TileType, Value, bytes_of
from tilewright.targets.engines.base import Engine, Work
from tilewright.targets.engines.demand import densities

from .timing import SimulationError

Extents = Mapping[str, int]  # points of each dim in the tile at hand


@dataclass(frozen=True, slots=True)
class BodyOp:
    """One body op at the actual sizes."""

    work: Work
    unit: str
    macs: int


@dataclass(frozen=True, slots=True)
class Price:
    """One run of a body. `read` and `write` are bytes of DRAM buffers that it uses in place."""

    ps: int
    macs: int
    read: int
    write: int
    ops: tuple[BodyOp, ...]


def buffer_block(value: Value, extents: Extents) -> tuple[int, ...]:
    """Shape of what a buffer holds now. A buffer without access holds its whole type."""
    buffer = value.op
    if isinstance(buffer, soc.Buffer) and buffer.access:
        return buffer.block.block(extents)
    return value.type.shape


class Pricer:
    """Prices execs on one engine. Bodies of the same ops on the same sizes are priced once."""

    def __init__(self, engine: Engine, line_bytes: int):
        self.engine, self.line = engine, line_bytes
        self.known: dict[Any, int] = {}

    def table(
        self,
        op: soc.Exec,
        edges: Sequence[tuple[str, int, int]],
        extents: Extents,
        occurs: set[int],
        sizes: Extents | None = None,
    ) -> list[Price | None]:
        """The price for each edge mask; None where it never `occurs`. `edges[i]` is the dim of bit i with its full and
        its last tile, `extents` what the other dims have, `sizes` what each has in the whole loop, for engines that
        price by kernel. Raises SimulationError for work that has no price."""
        body = _Body(op)
        if self.engine.by_kernel and sizes is not None:
            body.whole = [(w.inputs, w.output) for w, _ in body.works(sizes)]
        uses = body.dims
        found: dict[tuple[int, ...], Price] = {}
        prices: list[Price | None] = []
        for mask in range(1 << len(edges)):
            if mask not in occurs:
                prices.append(None)
                continue
            now = dict(extents)
            for i, (dim, full, last) in enumerate(edges):
                now[dim] = last if mask >> i & 1 else full
            key = tuple(now[d] for d in uses)
            if key not in found:
                found[key] = self._price(op, body, now)
            prices.append(found[key])
        return prices

    def _price(self, op: soc.Exec, body: _Body, extents: Extents) -> Price:
        unit, works = op.unit.name, body.works(extents)
        key = (unit, tuple(_signature(w) for w, _ in works))
        if key not in self.known:
            self.known[key] = self._ask(op, unit, [w for w, _ in works])
        ops = tuple(BodyOp(w, self.engine.bounding_unit(w.op), macs) for w, macs in works)
        read, write = body.in_place(self.line)
        return Price(self.known[key], sum(o.macs for o in ops), read, write, ops)

    def _ask(self, op: soc.Exec, unit: str, works: list[Work]) -> int:
        named = f"{', '.join(w.op.name for w in works)} on @{unit} ({op.location})"
        if not works:
            raise SimulationError(f"soc.exec on @{unit} ({op.location}) has nothing in it that could be priced")
        try:
            ps = self.engine.exec_ps(unit, works)
        except (ValueError, KeyError, NotImplementedError) as error:
            raise SimulationError(f"engine {self.engine.name} cannot price {named}: {error}") from error
        if not isinstance(ps, int) or ps <= 0:
            raise SimulationError(f"engine {self.engine.name} prices {named} at {ps!r} ps")
        return ps


def _signature(work: Work) -> tuple[Any, ...]:
    attributes = tuple(sorted(work.op.attributes.items()))
    return work.op.name, attributes, work.inputs, work.output, work.dtype, work.whole, densities(work.op)


class _Body:
    """A copy of an exec's body whose types are set to the sizes at hand, so that each op works out its own shape."""

    def __init__(self, op: soc.Exec):
        self.op = op
        self.block = Block([a.type for a in op.body.args])
        mapping: dict[Value, Value] = dict(zip(op.body.args, self.block.args, strict=True))
        self.pairs: list[tuple[Operation, Operation]] = []
        self.whole: list[tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]] = []  # of each work, once it is known
        for original in op.body:
            copy = self.block.append(original.clone(mapping))
            if isinstance(original, tile.Last):
                raise SimulationError(f"soc.exec ({op.location}) holds tile.last, which belongs to tile.loop")
            if isinstance(original, tile.Constant):  # one number: it takes whatever shape it meets
                copy.result.type = TileType((1,) * copy.result.type.rank, copy.result.type.dtype, "reg")
            elif not isinstance(original, tile.Yield):
                self.pairs.append((original, copy))

    @property
    def dims(self) -> list[str]:
        """The dims that the sizes of this body depend on, in order of first use."""
        values = itertools.chain(self.op.inputs, self.op.outputs)
        buffers = [v.op for v in values if isinstance(v.op, soc.Buffer)]
        return list(dict.fromkeys(d for b in buffers for a in b.block.axes for d in a.dims))

    def works(self, extents: Extents) -> list[tuple[Work, int]]:
        """The work and the MACs of each op, and the work of moving each block that the body passes on as it came."""
        for arg, value in zip(self.block.args, self.op.inputs, strict=True):
            arg.type = TileType(buffer_block(value, extents), arg.type.dtype, arg.type.space, arg.type.density)
        works = []
        for original, copy in self.pairs:
            try:
                types = copy.infer()
            except IRError as error:
                raise SimulationError(f"blocks do not fit together at an edge: {error}") from error
            for result, kind in zip(copy.results, types, strict=True):
                result.type = kind
            work = _work(original, [v.type for v in copy.operands], copy.result.type)
            works.append((work, copy.macs()))  # type: ignore[attr-defined]
        for value, output in zip(self.op.body.terminator.operands, self.op.outputs, strict=True):
            if value.op is None and value.type.space == "dram":
                continue  # a tensor by reference: nothing moves
            if value.op is None or isinstance(value.op, tile.Constant):
                kind = TileType(buffer_block(output, extents), value.type.dtype, "reg")
                works.append((_work(_move(value), [kind], kind), 0))
        if self.whole:
            works = [(replace(w, whole=whole), macs) for (w, macs), whole in zip(works, self.whole, strict=True)]
        return works

    def in_place(self, line: int) -> tuple[int, int]:
        """Bytes read from and written to DRAM buffers by the ops themselves, in whole lines a row."""
        read = write = 0
        for _, copy in self.pairs:
            for i, v in enumerate(copy.operands):
                if v.type.space != "dram":
                    continue
                if copy.name == "tile.gather" and i == 0:
                    axis, indices = copy.axis, copy.operands[1].type  # type: ignore[attr-defined]
                    rows = math.prod(v.type.shape[:axis]) * indices.elements
                    read += rows * _lines(bytes_of(math.prod(v.type.shape[axis + 1 :]), v.type.dtype), line)
                elif copy.name == "tile.grouped_matmul" and i == 1:
                    used = copy.groups_read  # type: ignore[attr-defined]
                    read += used * _lines(v.type.bytes // v.type.shape[0], line)
                elif copy.name == "tile.scatter" and i == 0:
                    axis, value = copy.axis, copy.operands[2].type  # type: ignore[attr-defined]
                    rows = math.prod(value.shape[: axis + 1])
                    write += rows * _lines(bytes_of(math.prod(value.shape[axis + 1 :]), value.dtype), line)
                else:
                    read += _lines(v.type.bytes, line)
            if isinstance(copy, WholeOp):
                write += _lines(copy.result.type.bytes, line)
        return read, write


def _lines(size: int, line: int) -> int:
    return -(-size // line) * line


def _work(op: Operation, inputs: list[TileType], output: TileType) -> Work:
    return Work(op, tuple(t.shape for t in inputs), output.shape, inputs[0].dtype if inputs else output.dtype)


def _move(value: Value) -> Operation:
    """What a block costs that a body only passes on: a cast to the dtype that it has."""
    return tile.on_blocks("cast")(Value(value.type, Block(), 0), to=value.type.dtype)
