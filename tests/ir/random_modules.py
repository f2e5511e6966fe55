"""Random modules for property tests: ops without meaning, with any attributes, regions, names and locations."""

from __future__ import annotations

import struct
from typing import Any

from hypothesis import strategies as st
from tilewright.compiler.dialects import graph, soc, tile
from tilewright.compiler.ir import (
    DTYPE_BITS,
    TOKEN,
    Block,
    Func,
    FunctionType,
    Location,
    MemRefType,
    Module,
    Operation,
    Return,
    Symbol,
    TensorType,
    TileType,
    attribute,
    operand,
    result,
)


class Leaf(Operation, name="test.leaf"):
    __slots__ = ()
    values = operand(variadic=True)
    outputs = result(variadic=True)
    same = attribute(float, 1.0)


class One(Leaf, name="test.one"):
    __slots__ = ()
    region_count = 1


class Two(Leaf, name="test.two"):
    __slots__ = ()
    region_count = 2


# ---------------------------------------------------------------- parts

sizes = st.integers(0, 4096)
shapes = st.lists(sizes, max_size=4).map(tuple)
dtypes = st.sampled_from(sorted(DTYPE_BITS))
spaces = st.sampled_from(["dram", "ane.l2", "gpu.tg"])
tokens = st.just(TOKEN)


@st.composite
def tensors(draw: Any) -> TensorType:
    shape = draw(shapes)
    order = draw(st.permutations(range(len(shape))))
    return TensorType(shape, draw(dtypes), ",".join(map(str, order)) if shape and draw(st.booleans()) else None)


@st.composite
def memrefs(draw: Any, spaces: Any = spaces) -> MemRefType:
    shape = draw(shapes)
    strides = draw(st.lists(sizes, min_size=len(shape), max_size=len(shape)))
    return MemRefType(shape, draw(dtypes), tuple(strides), draw(sizes), draw(spaces))


tiles = st.builds(TileType, shapes, dtypes, spaces)
types = st.one_of(tensors(), memrefs(), tiles, tokens)
function_types = st.builds(FunctionType, st.lists(types, max_size=2).map(tuple), st.lists(types, max_size=2).map(tuple))
symbols = st.builds(Symbol, st.one_of(st.sampled_from(["ane", "ane.mac", "a b"]), st.text(min_size=1, max_size=5)))
floats = st.one_of(st.floats(), st.sampled_from([1e-05, 1e300, 5e-324, -0.0, 0.1, 1e22, 1e16]))
integers = st.one_of(st.integers(-9, 9), st.integers(), st.sampled_from([2**63, 2**63 - 1, -(2**63), -(2**63) - 1]))
scalars = st.one_of(st.booleans(), integers, floats, st.text(max_size=9), symbols, types, function_types)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=8)
names = st.one_of(st.none(), st.sampled_from(["x", "x_1", "state.k", "-", "_0", "$"]), st.text(max_size=4))
attribute_names = st.one_of(st.sampled_from(["label", "engine", "same", "a.b", "x y"]), st.text(min_size=1, max_size=4))
attributes = st.dictionaries(attribute_names, values, max_size=4)
texts = st.one_of(st.just(""), st.sampled_from(["layer.0", "conv2d", "net.py"]), st.text(max_size=4))


@st.composite
def locations(draw: Any) -> Location:
    file = draw(texts)
    line, column = (draw(st.integers(0, 2**31)), draw(st.integers(0, 99))) if file else (0, 0)
    return Location(file, line, column, draw(texts), draw(texts))


# ---------------------------------------------------------------- ops


@st.composite
def blocks(draw: Any, visible: list[Any], depth: int, args: Any = None) -> Block:
    kinds = draw(st.lists(types, max_size=3)) if args is None else args
    block = Block(kinds, [draw(names) for _ in kinds])
    inner = [*visible, *block.args]
    for _ in range(draw(st.integers(0, 3))):
        op = block.append(draw(ops(inner, depth)))
        inner += op.results
    return block


def choose(draw: Any, visible: list[Any], least: int = 0, most: int = 3) -> list[Any]:
    return draw(st.lists(st.sampled_from(visible), min_size=least, max_size=most)) if visible else []


@st.composite
def ops(draw: Any, visible: list[Any], depth: int) -> Operation:
    """An op of the tests, or one with a form of its own, which it may fit or not."""
    cls = draw(st.sampled_from([Leaf, One, Two, *FORMED])) if depth else Leaf
    if cls in FORMED:
        operands, kinds, regions, given = draw(FORMED[cls](visible, depth - 1))
    else:
        operands, kinds, given = choose(draw, visible), draw(st.lists(types, max_size=3)), {}
        regions = [draw(blocks(visible, depth - 1)) for _ in range(cls.region_count)]
    op = cls(*operands, result_types=kinds, regions=regions, location=draw(locations()))
    op.attributes = {**given, **draw(attributes)}
    for value in op.results:
        value.name = draw(names)
    return op


axis = st.sampled_from(["m", "2*oh-1:3", ":8", "0"])
dim = st.sampled_from(["m", "k"])
numbers = st.one_of(st.integers(-3, 3), floats)
optional_numbers = st.one_of(st.just("none"), numbers)
small = st.integers(0, 3)


def of_length(element: Any, n: int) -> Any:
    return st.lists(element, min_size=n, max_size=n).map(tuple)


def mostly(draw: Any, usual: Any) -> Any:
    """The strategy `usual`, or now and then any text, which no form can hold without quotes."""
    return st.text(max_size=3) if draw(st.integers(0, 5)) == 5 else usual


@st.composite
def fuse(draw: Any, visible: list[Any], depth: int) -> Any:
    operands = choose(draw, visible)
    return operands, draw(st.lists(types, max_size=2)), [draw(blocks(visible, depth, [v.type for v in operands]))], {}


@st.composite
def loop(draw: Any, visible: list[Any], depth: int) -> Any:
    operands = choose(draw, visible)
    into = draw(st.integers(0, len(operands)))
    ins, outs = len(operands) - into, into or draw(small)
    accs, rank = draw(small), draw(small)
    axes = st.lists(mostly(draw, axis), max_size=3).map(tuple)
    dims = mostly(draw, dim)
    given = {
        "engine": draw(symbols),
        **{name: draw(of_length(kind, rank)) for name, kind in (("dims", dims), ("sizes", sizes), ("tiles", sizes))},
        "reductions": draw(st.integers(0, rank)),
        **{name: draw(of_length(kind, ins)) for name, kind in (("ins", axes), ("pads", optional_numbers))},
        "buffers": draw(of_length(small, ins)),
        **{name: draw(of_length(kind, accs)) for name, kind in (("accs", axes), ("inits", numbers))},
        **{name: draw(of_length(kind, outs)) for name, kind in (("outs", axes), ("out_spaces", st.text(max_size=3)))},
        "out_buffers": draw(of_length(small, outs)),
        "into": into,
    }
    args = draw(st.lists(types, min_size=ins + accs, max_size=ins + accs))
    return operands, draw(st.lists(types, min_size=outs, max_size=outs)), [draw(blocks(visible, depth, args))], given


@st.composite
def launch(draw: Any, visible: list[Any], depth: int) -> Any:
    args = draw(st.sampled_from([[], [], [TOKEN]]))
    region = draw(blocks(visible, depth, args))
    return choose(draw, visible), [TOKEN], [region], {"engine": draw(symbols)}


@st.composite
def task(draw: Any, visible: list[Any], depth: int) -> Any:
    region = draw(blocks(visible, depth, [TOKEN]))
    return choose(draw, visible), [TOKEN], [region], {}


@st.composite
def for_(draw: Any, visible: list[Any], depth: int) -> Any:
    operands = choose(draw, [v for v in visible if v.type == TOKEN])
    region = draw(blocks(visible, depth, [TOKEN] * len(operands)))
    return (
        operands,
        [TOKEN] * len(operands),
        [region],
        {"dim": draw(mostly(draw, dim)), "size": draw(sizes), "tile": draw(sizes)},
    )


@st.composite
def copy(draw: Any, visible: list[Any], depth: int) -> Any:
    buffers = [v for v in visible if isinstance(v.type, MemRefType)]
    operands = choose(draw, buffers, least=2, most=2) + choose(draw, visible)
    access = draw(st.lists(mostly(draw, axis), max_size=3))
    return operands, [TOKEN], [], {"unit": draw(symbols), "access": tuple(access)}


@st.composite
def exec_(draw: Any, visible: list[Any], depth: int) -> Any:
    operands = choose(draw, visible)
    reads = draw(st.integers(0, len(operands)))
    writes = draw(st.integers(0, len(operands) - reads))
    args = [
        TileType(v.type.shape, v.type.dtype, v.type.space)
        if isinstance(v.type, MemRefType) and draw(st.booleans())
        else draw(types)
        for v in operands[:reads]
    ]
    given = {"unit": draw(symbols), "reads": reads, "writes": writes, "inits": draw(of_length(optional_numbers, reads))}
    return operands, [TOKEN], [draw(blocks(visible, depth, args))], given


FORMED: dict[type[Operation], Any] = {
    graph.Fuse: fuse,
    tile.Loop: loop,
    soc.Launch: launch,
    soc.Task: task,
    soc.For: for_,
    soc.Copy: copy,
    soc.Exec: exec_,
}


@st.composite
def modules(draw: Any, depth: int = 2) -> Module:
    module = Module(location=draw(locations()))
    module.attributes = draw(attributes)
    for name in draw(st.lists(st.sampled_from(["main", "a b", "é"]), max_size=2, unique=True)):
        kinds = draw(st.lists(types, max_size=3))
        buffers = [draw(memrefs(st.just("dram"))), draw(memrefs(st.just("ane.l2")))]
        body = draw(blocks([], depth, [*kinds, *buffers, TOKEN]))
        returned = choose(draw, [*body.args, *(r for op in body for r in op.results)])
        body.append(Return(*returned, location=draw(locations())))
        module.body.append(Func(regions=[body], location=draw(locations()), **{**draw(attributes), "sym_name": name}))
    return module


# ---------------------------------------------------------------- equality


def exact(value: Any) -> Any:
    """Equal only for values that are the same: 1, 1.0 and True differ, and all bits of a float count."""
    if isinstance(value, tuple) and not isinstance(value, Symbol):
        return tuple(exact(v) for v in value)
    if isinstance(value, float):
        return "float", struct.pack(">d", value)
    return type(value).__name__, value


def structure(op: Operation, numbers: dict[Any, int] | None = None) -> Any:
    """All that an op holds, but for the names of values; an attribute that is absent has its default."""
    seen: dict[Any, int] = {} if numbers is None else numbers
    defaults = {name: d.default for name, d in op.attribute_defs.items() if d.default is not attribute.REQUIRED}
    held = {name: exact(value) for name, value in {**defaults, **op.attributes}.items()}
    operands = [seen[v] for v in op.operands]
    regions = []
    for block in op.regions:
        for a in block.args:
            seen[a] = len(seen)
        regions.append(([a.type for a in block.args], [structure(inner, seen) for inner in block]))
    for r in op.results:
        seen[r] = len(seen)
    return op.name, operands, [r.type for r in op.results], held, op.location, regions
