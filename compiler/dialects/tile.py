"""The tile level: how the work is cut. One tile.loop owns the grid; its lines say every byte that moves.

    func.func @main(%x: tensor<512x512xf16>, %w: tensor<512x512xf16>) -> tensor<512x512xf16> {
      %y = tile.loop on @ane (m: par 512 by 64, n: par 512 by 128, k: red 512 by 128)
          ins(%xt = %x[m, k] : !tile.tile<64x128xf16, "ane.l2"> buffers 2,
              %wt = %w[n, k] : !tile.tile<128x128xf16, "ane.wbuf"> buffers 2)
          accs(%acc = 0.0 [m, n] : !tile.tile<64x128xf32, "ane.acc">)
          outs([m, n] in "ane.l2" buffers 2) {label = "matmul", macs = 134217728} {
        %0 = tile.matmul %xt, %wt, %acc {transpose_b = true} : !tile.tile<64x128xf32, "reg">
        tile.last %0
        %1 = tile.cast %0 {to = "f16"} : !tile.tile<64x128xf16, "reg">
        tile.yield %1
      } : tensor<512x512xf16>
      func.return %y
    }

An input that reads outside its tensor says what it finds there (`buffers 2 pad 0.0`), and a loop that writes into
tensors that are there names them (`outs(%d[m, n] in "ane.l2")`).

Dims run in the order given, the last fastest; reductions come last. A dim of size n cut by t has an edge tile of n mod
t. Body ops compute on blocks, and mean what the graph op of the same name means.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tilewright.compiler.ir import Operation, Symbol, TileType, attribute, operand, result

from . import graph
from .access import Access, parse_access

NONE = "none"  # an absent entry in an attribute list, which MLIR could not hold as None


class TileOp(Operation):
    """Base of body ops: computes on blocks held in a memory space."""

    __slots__ = ()
    takes_sparse: ClassVar[bool] = False

    def shape(self, index: int) -> tuple[int, ...]:
        return self._operands[index].type.shape

    def dtype(self, index: int = 0) -> str:
        return self._operands[index].type.dtype

    def infer(self) -> Sequence[TileType]:
        try:
            graph.check_dense(self)
            return [TileType(s, d, "reg") for s, d in self.shapes()]  # type: ignore[attr-defined]
        except (ValueError, IndexError) as error:
            self.fail(str(error))
            raise

    def verify(self) -> None:
        for r, expected in zip(self.results, self.infer(), strict=True):
            if (r.type.shape, r.type.dtype, r.type.density) != (expected.shape, expected.dtype, expected.density):
                self.fail(f"result is {r.type}, but the operands give {expected}")

    def macs(self) -> int:
        return 0


_BLOCKS = re.compile(r'tensor<([^,>]*)(?:, "(density [\d/]*)")?>')


def _as_block(tensor: re.Match[str]) -> str:
    return f'!tile.tile<{tensor[1]}, "reg{f" {tensor[2]}" if tensor[2] else ""}">'


def _on_blocks(cls: type[graph.GraphOp]) -> type[TileOp]:
    """The tile op that means, on a block, what the graph op means on a tensor."""
    short = cls.name.removeprefix("graph.")
    example = _BLOCKS.sub(_as_block, (cls.__doc__ or "").partition("\n\n")[2])
    doc = f"graph.{short} on a block.\n\n{example.replace('graph.', 'tile.')}"
    sparse = cls.takes_sparse and not cls.view
    members = {"__slots__": (), "__doc__": doc, "macs": cls.macs, "takes_sparse": sparse}
    return type(TileOp)(cls.__name__, (TileOp, cls), members, name=f"tile.{short}")  # type: ignore[call-overload,return-value]


_SAME = [
    *graph.ELEMENTWISE.values(),
    *(graph.Cast, graph.Clamp, graph.LeakyRelu, graph.Elu, graph.Where),
    *(graph.Softmax, graph.LayerNorm, graph.RmsNorm, graph.GroupNorm, graph.Cumsum, graph.Argmax, graph.Resize),
    *(graph.Scan, graph.Argsort, graph.PoolIndex),
    *(graph.Reshape, graph.Transpose, graph.Gather),
    *(graph.Dequantize, graph.Quantize, graph.Lookup, graph.ToDense),
    *graph.WholeOp.__subclasses__(),
]
ON_BLOCKS: dict[str, type[TileOp]] = {cls.name.removeprefix("graph."): _on_blocks(cls) for cls in _SAME}


def on_blocks(name: str) -> type[TileOp]:
    """The body op for the graph op `graph.<name>`. Raises KeyError if it has none."""
    return ON_BLOCKS[name]


class Constant(TileOp, name="tile.constant"):
    """One number, as a block of the given shape.

    `%c = tile.constant {value = 0.125} : !tile.tile<1x1xf32, "reg">`
    """

    __slots__ = ()
    y = result()
    value = attribute(object)

    def verify(self) -> None:
        """Any block type will do."""


class Matmul(TileOp, name="tile.matmul"):
    """`acc + a @ b`, in f32; integers in i32, or in the dtype `to`. Without acc, `a @ b`.

    With transpose_b, b is [.., n, k].

    `%y = tile.matmul %a, %b, %acc {transpose_b = true} : !tile.tile<64x128xf32, "reg">`
    with `%a: !tile.tile<64x32xf16, "ane.l2">, %b: !tile.tile<128x32xf16, "ane.wbuf">,
    %acc: !tile.tile<64x128xf32, "ane.acc">`
    """

    __slots__ = ()
    a = operand()
    b = operand()
    acc = operand(optional=True)
    y = result()
    transpose_b = attribute(bool, False)
    to = attribute(str, None)

    def shapes(self) -> list[tuple[tuple[int, ...], str]]:
        a, b = self.shape(0), self.shape(1)
        k, n = (b[-1], b[-2]) if self.transpose_b else (b[-2], b[-1])
        if a[-1] != k:
            raise ValueError(f"inner sizes differ: {a[-1]} and {k}")
        return [((*graph.broadcast(a[:-2], b[:-2]), a[-2], n), graph.accumulate_dtype(self.dtype(), self.to))]

    def macs(self) -> int:
        return self.result.type.elements * self.shape(0)[-1]


class Conv(TileOp, name="tile.conv"):
    """`acc + conv(x, w)` on a block whose halo is already in place, so there is no padding; in f32 (or as tile.matmul).

    `%y = tile.conv %x, %w, %acc {strides = [1, 1], dilations = [1, 1]} : !tile.tile<1x8x4x4xf32, "reg">`
    with `%x: !tile.tile<1x4x6x6xf16, "ane.l2">, %w: !tile.tile<8x4x3x3xf16, "ane.wbuf">,
    %acc: !tile.tile<1x8x4x4xf32, "ane.acc">`
    """

    __slots__ = ()
    x = operand()
    w = operand()
    acc = operand(optional=True)
    y = result()
    strides = attribute(tuple)
    dilations = attribute(tuple)
    grouped = attribute(bool, False)  # as many groups as fit: x channels over w's
    to = attribute(str, None)

    def shapes(self) -> list[tuple[tuple[int, ...], str]]:
        x, w = self.shape(0), self.shape(1)
        if x[1] != w[1] and not self.grouped:
            raise ValueError(f"{x[1]} channels meet a weight for {w[1]}")
        none = (0,) * (2 * len(self.strides))
        space = graph.window_sizes(x[2:], w[2:], self.strides, none, self.dilations)
        return [((x[0], w[0], *space), graph.accumulate_dtype(self.dtype(), self.to))]

    def macs(self) -> int:
        return self.result.type.elements * math.prod(self.shape(1)[1:])


class Reduce(TileOp, name="tile.reduce"):
    """Reduces `axes` of a block, keeping them with size 1, and combines with acc where there is one.

    `%y = tile.reduce %x, %acc {kind = "sum", axes = [1]} : !tile.tile<4x1xf32, "reg">`
    with `%x: !tile.tile<4x8xf32, "ane.l2">, %acc: !tile.tile<4x1xf32, "ane.acc">`
    """

    __slots__ = ()
    x = operand()
    acc = operand(optional=True)
    y = result()
    kind = attribute(str)
    axes = attribute(tuple)

    def shapes(self) -> list[tuple[tuple[int, ...], str]]:
        keep = tuple(1 if i in self.axes else n for i, n in enumerate(self.shape(0)))
        return [(keep, self.dtype() if self.acc is None else self.dtype(1))]


class Pool(TileOp, name="tile.pool"):
    """Sliding max or sum on a block whose halo is already in place.

    `%y = tile.pool %x {kind = "max", kernel = [3, 3], strides = [2, 2], dilations = [1, 1]}
    : !tile.tile<1x8x4x4xf16, "reg">`
    with `%x: !tile.tile<1x8x9x9xf16, "ane.l2">`
    """

    __slots__ = ()
    x = operand()
    y = result()
    kind = attribute(str)
    kernel = attribute(tuple)
    strides = attribute(tuple)
    dilations = attribute(tuple)

    def shapes(self) -> list[tuple[tuple[int, ...], str]]:
        x, r = self.shape(0), len(self.kernel)
        none = (0,) * (2 * r)
        return [((*x[:-r], *graph.window_sizes(x[-r:], self.kernel, self.strides, none, self.dilations)), self.dtype())]


class Causal(TileOp, name="tile.causal"):
    """Scores where the column's index, along the dim `column`, is past the row's become -inf.

    func.func @main(%x: tensor<128x128xf32>) -> tensor<128x128xf32> {
      %y = tile.loop on @ane (m: par 128 by 64, n: par 128 by 64)
          ins(%s = %x[m, n] : !tile.tile<64x64xf32, "ane.l2">)
          outs([m, n] in "ane.l2") {
        %0 = tile.causal %s {row = "m", column = "n"} : !tile.tile<64x64xf32, "reg">
        tile.yield %0
      } : tensor<128x128xf32>
      func.return %y
    }
    """

    __slots__ = ()
    s = operand()
    y = result()
    row = attribute(str)
    column = attribute(str)

    def shapes(self) -> list[tuple[tuple[int, ...], str]]:
        return [(self.shape(0), self.dtype())]


class ScatterRows(TileOp, name="tile.scatter"):
    """Writes rows of `value` into the destination, in place, at `indices` along `axis`; gives the destination.

    func.func @main(%cache: tensor<16x8xf16>, %at: tensor<3xi64>, %rows: tensor<3x8xf16>) -> tensor<16x8xf16>
        attributes {aliases = [0, 0]} {
      %y = tile.loop on @cpu ()
          ins(%base = %cache[:16, :8] : !tile.tile<16x8xf16, "dram">,
              %i = %at[:3] : !tile.tile<3xi64, "cpu.l2">,
              %value = %rows[:3, :8] : !tile.tile<3x8xf16, "cpu.l2">)
          outs(%cache[:16, :8] in "dram") {
        %0 = tile.scatter %base, %i, %value {axis = 0} : !tile.tile<16x8xf16, "dram">
        tile.yield %0
      } : tensor<16x8xf16>
      func.return %y
    }
    """

    __slots__ = ()
    base = operand()
    indices = operand()
    value = operand()
    y = result()
    axis = attribute(int)

    def infer(self) -> Sequence[TileType]:
        return [self._operands[0].type]


class Squeeze(TileOp, name="tile.squeeze"):
    """Drops axes of size 1.

    `%y = tile.squeeze %x {axes = [1]} : !tile.tile<4xf32, "reg">`
    with `%x: !tile.tile<4x1xf32, "reg">`
    """

    __slots__ = ()
    x = operand()
    y = result()
    axes = attribute(tuple)

    def shapes(self) -> list[tuple[tuple[int, ...], str]]:
        if any(self.shape(0)[a] != 1 for a in self.axes):
            raise ValueError(f"axes {self.axes} of {self.shape(0)} are not of size 1")
        return [(tuple(n for i, n in enumerate(self.shape(0)) if i not in self.axes), self.dtype())]


class Unsqueeze(TileOp, name="tile.unsqueeze"):
    """Adds axes of size 1, at these places of the result.

    `%y = tile.unsqueeze %x {axes = [1]} : !tile.tile<4x1xf32, "reg">`
    with `%x: !tile.tile<4xf32, "reg">`
    """

    __slots__ = ()
    x = operand()
    y = result()
    axes = attribute(tuple)

    def shapes(self) -> list[tuple[tuple[int, ...], str]]:
        sizes = iter(self.shape(0))
        rank = len(self.shape(0)) + len(self.axes)
        return [(tuple(1 if i in self.axes else next(sizes) for i in range(rank)), self.dtype())]


class Last(TileOp, name="tile.last"):
    """Carries the accumulators to the next reduction step; what follows runs after the last one.

    `tile.last %0`
    """

    __slots__ = ()
    values = operand(variadic=True)

    def infer(self) -> Sequence[TileType]:
        return ()


class Yield(TileOp, name="tile.yield"):
    """Ends a body and names its blocks, one for each result.

    `tile.yield %1`
    """

    __slots__ = ()
    values = operand(variadic=True)
    terminator = True

    def infer(self) -> Sequence[TileType]:
        return ()


@dataclass(frozen=True, slots=True)
class Grid:
    """The iteration space of a loop: parallel dims, then reductions; the last runs fastest."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    tiles: tuple[int, ...]
    reductions: int  # how many of the last dims reduce

    @property
    def trips(self) -> tuple[int, ...]:
        return tuple(-(-n // t) for n, t in zip(self.sizes, self.tiles, strict=True))

    @property
    def parallel(self) -> tuple[str, ...]:
        return self.names[: len(self.names) - self.reductions]

    def tile(self) -> dict[str, int]:
        return dict(zip(self.names, self.tiles, strict=True))

    def extents(self, at: dict[str, int]) -> dict[str, int]:
        """Points in the tile that starts at `at`: fewer on an edge."""
        return {d: min(t, n - at[d]) for d, n, t in zip(self.names, self.sizes, self.tiles, strict=True)}


class Loop(Operation, name="tile.loop"):
    """Walks a grid; the head of this file shows all of it.

    `%y = tile.loop on @ane (m: par 512 by 64, n: par 512 by 128, k: red 512 by 128)`

    Operands are the inputs, then `into` destinations (none, or one a result: the result is that tensor, updated in
    place). The region's arguments are a block for each input, then each accumulator. An input whose space is "dram" is
    passed whole, by reference. Attributes are lists, one entry for each input, accumulator or result.
    """

    __slots__ = ()
    region_count = 1
    tensors = operand(variadic=True)
    outputs = result(variadic=True)
    engine = attribute(Symbol)
    label = attribute(str, "")  # what the report calls it
    reason = attribute(str, "")  # why it is not on the engine that was asked for
    macs = attribute(int, 0)
    dims = attribute(tuple)
    sizes = attribute(tuple)
    tiles = attribute(tuple)
    reductions = attribute(int, 0)
    ins = attribute(tuple)  # access of each input: a tuple of axis texts
    pads = attribute(tuple)  # what each input reads out of bounds, or "none"
    buffers = attribute(tuple)  # slots of each input's buffer
    accs = attribute(tuple, ())
    inits = attribute(tuple, ())  # what each accumulator starts from
    acc_buffers = attribute(tuple, ())  # slots of each accumulator; one where not given
    outs = attribute(tuple)
    out_spaces = attribute(tuple)
    out_buffers = attribute(tuple)
    into = attribute(int, 0)  # how many operands at the end are destinations

    LISTS_PER_INPUT: ClassVar[tuple[str, ...]] = ("ins", "pads", "buffers")

    @property
    def grid(self) -> Grid:
        return Grid(self.dims, self.sizes, self.tiles, self.reductions)

    @property
    def inputs(self) -> Sequence[Any]:
        return self._operands[: len(self.ins)]

    @property
    def destinations(self) -> Sequence[Any]:
        return self._operands[len(self.ins) :]

    def in_access(self, i: int) -> Access:
        return parse_access(self.ins[i])

    def acc_access(self, i: int) -> Access:
        return parse_access(self.accs[i])

    def out_access(self, i: int) -> Access:
        return parse_access(self.outs[i])

    def verify(self) -> None:
        if len(self.operands) != len(self.ins) + self.into or self.into not in (0, len(self.results)):
            self.fail(f"has {len(self.operands)} operands for {len(self.ins)} inputs and {self.into} destinations")
        for name in self.LISTS_PER_INPUT:
            if len(getattr(self, name)) != len(self.ins):
                self.fail(f"'{name}' needs one entry for each of the {len(self.ins)} inputs")
        if not len(self.outs) == len(self.out_spaces) == len(self.out_buffers) == len(self.results):
            self.fail("'outs', 'out_spaces' and 'out_buffers' need one entry for each result")
        if len(self.accs) != len(self.inits) or len(self.body.args) != len(self.ins) + len(self.accs):
            self.fail("the region takes one block for each input and each accumulator")
        if not len(self.dims) == len(self.sizes) == len(self.tiles):
            self.fail("'dims', 'sizes' and 'tiles' differ in length")
        if any(t < 1 or t > max(n, 1) for n, t in zip(self.sizes, self.tiles, strict=True)):
            self.fail(f"tiles {self.tiles} do not fit sizes {self.sizes}")
        tile = self.grid.tile()
        accesses = [*self.ins, *self.accs]
        for i, (arg, access) in enumerate(zip(self.body.args, accesses, strict=True)):
            tensor = self.operands[i].type if i < len(self.ins) else None
            if tensor is not None and len(access) != tensor.rank:
                self.fail(f"input {i} has {tensor.rank} axes, its access {len(access)}")
            if tensor is not None and arg.type.density != tensor.density:
                self.fail(f"block {i} is {arg.type}, of {tensor}: a block is as sparse as its tensor")
            block = parse_access(access).block(tile)
            if arg.type.shape != block:
                self.fail(f"block {i} is {arg.type}, but [{', '.join(access)}] touches {block}")
        for access in (*self.outs, *(op.attributes["access"] for op in self.body if "access" in op.attributes)):
            parse_access(access).block(tile)
        last = [op for op in self.body if isinstance(op, Last)]
        if len(last) != (1 if self.accs else 0) or (last and len(last[0].operands) != len(self.accs)):
            self.fail("a loop with accumulators has one tile.last, with a value for each")
        end = self.body.last
        if not isinstance(end, Yield) or len(end.operands) != len(self.results):
            self.fail("the body ends in tile.yield of one block for each result")


class View(Operation, name="tile.view"):
    """Another view of the storage behind a tensor: element strides and offset into that storage. Moves nothing.

    The operand must own its storage: an argument, a source, or a loop's result.

    `%y = tile.view %x {strides = [1, 8]} : tensor<8x4xf16>`
    with `%x: tensor<4x8xf16>`
    """

    __slots__ = ()
    x = operand()
    y = result()
    strides = attribute(tuple)
    offset = attribute(int, 0)

    def verify(self) -> None:
        shape = self.result.type.shape
        if len(self.strides) != len(shape):
            self.fail(f"{len(self.strides)} strides for {self.result.type}")
        if isinstance(self.x.owner, View):
            self.fail("views of views must be composed")
        reach = self.offset + sum((n - 1) * s for n, s in zip(shape, self.strides, strict=True))
        if math.prod(shape) and not 0 <= reach < self.x.type.elements:
            self.fail(f"element {reach} is outside {self.x.type}")


class Empty(Operation, name="tile.empty"):
    """Storage with nothing in it yet, for loops that write parts of it.

    `%y = tile.empty : tensor<4x8xf16>`
    """

    __slots__ = ()
    y = result()
