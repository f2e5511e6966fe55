"""The ops that have a pretty form of their own: what stands between their results and their region.

Each form says which ops it fits; the printer writes the others in the generic form, so a form never has to lose
anything. The grammar (grammar.lark) has the same forms under the same names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .core import Block, Func, Operation, Return, Value
from .literals import BARE_NAME, bare_or_quoted, format_attribute
from .types import TOKEN, MemRefType, Symbol, TileType

if TYPE_CHECKING:
    from .printer import Printer

NONE = "none"  # an absent entry of an attribute that lists one value for each operand
_AXIS = re.compile(r"[\w+*:-](?:[\w +*:-]|/(?!/))*(?<! )", re.ASCII)  # an axis of an access: 2*oh-1:3


class Form:
    """One pretty form. `shows_types`: the result types stand at the end."""

    shows_types = False

    def fits(self, op: Any) -> bool:
        """Whether this form says everything about the op."""
        raise NotImplementedError

    def head(self, p: Printer, op: Any, indent: str) -> str:
        """The text up to the region, with the names of the region's arguments defined."""
        raise NotImplementedError


# ---------------------------------------------------------------- what can be said without quotes


def _are(kind: type, *values: Any) -> bool:
    return all(type(v) is kind for v in values)


def _is_name(value: Any) -> bool:
    return type(value) is str and BARE_NAME.fullmatch(value) is not None


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_access(value: Any) -> bool:
    return type(value) is tuple and all(type(a) is str and _AXIS.fullmatch(a) for a in value)


def _all_tokens(values: Sequence[Value]) -> bool:
    return all(v.type == TOKEN for v in values)


def _gives_token(op: Operation) -> bool:
    return len(op.results) == 1 and _all_tokens(op.results)


def _one_region(op: Operation) -> bool:
    return len(op.regions) == 1


def _symbol(value: Symbol) -> str:
    return f"@{bare_or_quoted(value.name)}"


def _access(axes: Sequence[str]) -> str:
    return f"[{', '.join(axes)}]"


def _tuple(op: Operation, name: str) -> Any:
    return op.attributes.get(name, ())


# ---------------------------------------------------------------- func and graph


class FuncForm(Form):
    """`func.func @main(%x: tensor<4xf16>) -> tensor<4xf16> attributes {aliases = [0, 0]} {`"""

    def fits(self, op: Func) -> bool:
        ends = _one_region(op) and isinstance(op.body.last, Return)
        return ends and not op.operands and not op.results and type(op.attributes.get("sym_name")) is str

    def head(self, p: Printer, op: Func, indent: str) -> str:
        args = ", ".join([f"{p.define(a)}: {a.type}" for a in op.args])
        results = ", ".join([str(v.type) for v in op.outputs])
        if len(op.outputs) > 1:
            results = f"({results})"
        attributes = p.attributes(op, ("sym_name",))
        return (
            f"func.func {_symbol(Symbol(op.sym_name))}({args})"
            f"{f' -> {results}' if results else ''}{f' attributes{attributes}' if attributes else ''}"
        )


class FuseForm(Form):
    """`%y = graph.fuse(%a = %x, %b = %w) {engine = @ane} { ... } : tensor<4xf16>`"""

    shows_types = True

    def fits(self, op: Operation) -> bool:
        return _one_region(op) and [a.type for a in op.body.args] == [v.type for v in op.operands]

    def head(self, p: Printer, op: Operation, indent: str) -> str:
        return f"graph.fuse({_bindings(p, op.body, op.operands)}){p.attributes(op)}"


def _bindings(p: Printer, block: Block, operands: Sequence[Value]) -> str:
    """`%inside = %outside, ...`"""
    outside = [p.use(v) for v in operands]
    return ", ".join([f"{p.define(a)} = {v}" for a, v in zip(block.args, outside, strict=True)])


# ---------------------------------------------------------------- tile


class LoopForm(Form):
    """A tile.loop; the head of dialects/tile.py shows one."""

    shows_types = True
    ATTRIBUTES = (
        *("engine", "dims", "sizes", "tiles", "reductions", "ins", "pads", "buffers", "accs", "inits"),
        *("outs", "out_spaces", "out_buffers", "into"),
    )

    def fits(self, op: Operation) -> bool:
        get: Any = op.attributes.get
        lists = [get("dims"), get("sizes"), get("tiles"), get("ins"), get("pads"), get("buffers")]
        lists += [get("outs"), get("out_spaces"), get("out_buffers"), get("accs", ()), get("inits", ())]
        if not (_one_region(op) and _are(Symbol, get("engine")) and _are(tuple, *lists)):
            return False
        dims, sizes, tiles, ins, pads, buffers, outs, out_spaces, out_buffers, accs, inits = lists
        reductions, into = get("reductions", 0), get("into", 0)
        return (
            _are(int, *sizes, *tiles, *buffers, *out_buffers, reductions, into)
            and _are(str, *out_spaces)
            and all(map(_is_name, dims))
            and all(map(_is_access, (*ins, *accs, *outs)))
            and all(v == NONE or _is_number(v) for v in pads)
            and all(map(_is_number, inits))
            and len(dims) == len(sizes) == len(tiles)
            and 0 <= reductions <= len(dims)
            and len(ins) == len(pads) == len(buffers) == len(op.operands) - into
            and len(accs) == len(inits) == len(op.body.args) - len(ins)
            and len(outs) == len(out_spaces) == len(out_buffers) == len(op.results)
            and into in (0, len(outs))
        )

    def head(self, p: Printer, op: Any, indent: str) -> str:
        first = len(op.dims) - op.reductions
        dims = ", ".join(
            f"{name}: {'par' if i < first else 'red'} {size} by {tile}"
            for i, (name, size, tile) in enumerate(zip(op.dims, op.sizes, op.tiles, strict=True))
        )
        operands = [p.use(v) for v in op.operands]
        destinations = operands[len(op.ins) :] or [""] * len(op.outs)
        args = [(p.define(a), a.type) for a in op.body.args]
        ins = [
            f"{arg} = {value}{_access(access)} : {kind}{_buffers(slots)}{'' if pad == NONE else f' pad {_number(pad)}'}"
            for (arg, kind), value, access, pad, slots in zip(args, operands, op.ins, op.pads, op.buffers, strict=False)
        ]
        accs = [
            f"{arg} = {_number(init)} {_access(access)} : {kind}"
            for (arg, kind), init, access in zip(args[len(ins) :], op.inits, op.accs, strict=True)
        ]
        outs = [
            f"{value}{_access(access)} in {format_attribute(space)}{_buffers(slots)}"
            for value, access, space, slots in zip(destinations, op.outs, op.out_spaces, op.out_buffers, strict=True)
        ]
        text = f"tile.loop on {_symbol(op.engine)} ({dims})"
        for keyword, lines in (("ins", ins), ("accs", accs), ("outs", outs)):
            if lines:
                start = f"\n{indent}    {keyword}("
                text += start + f",\n{' ' * (len(start) - 1)}".join(lines) + ")"
        return text + p.attributes(op, self.ATTRIBUTES)


def _buffers(slots: int) -> str:
    return "" if slots == 1 else f" buffers {slots}"


def _number(value: float) -> str:
    return format_attribute(value)


# ---------------------------------------------------------------- soc


class LaunchForm(Form):
    """`%l = soc.launch async [%t] on @ane { ... }`"""

    def fits(self, op: Operation) -> bool:
        plain = _one_region(op) and not op.body.args
        return plain and _gives_token(op) and _are(Symbol, op.attributes.get("engine"))

    def head(self, p: Printer, op: Any, indent: str) -> str:
        return f"soc.launch async [{p.uses(op.operands)}] on {_symbol(op.engine)}{p.attributes(op, ('engine',))}"


class TaskForm(Form):
    """`%t = soc.task async [%u] (%start) {label = "matmul", macs = 64} { ... }`"""

    def fits(self, op: Operation) -> bool:
        return _one_region(op) and _gives_token(op) and [a.type for a in op.body.args] == [TOKEN]

    def head(self, p: Printer, op: Operation, indent: str) -> str:
        return f"soc.task async [{p.uses(op.operands)}] ({p.define(op.body.args[0])}){p.attributes(op)}"


class ForForm(Form):
    """`%r0, %r1 = soc.for m = 512 by 64 iter(%f0 = %start, %f1 = %start) { ... }`"""

    ATTRIBUTES = ("dim", "size", "tile")

    def fits(self, op: Operation) -> bool:
        get: Any = op.attributes.get
        plain = _one_region(op) and len(op.operands) == len(op.body.args) == len(op.results)
        tokens = plain and _all_tokens((*op.operands, *op.body.args, *op.results))
        return tokens and _is_name(get("dim")) and _are(int, get("size"), get("tile"))

    def head(self, p: Printer, op: Any, indent: str) -> str:
        carried = f" iter({_bindings(p, op.body, op.operands)})" if op.operands else ""
        return f"soc.for {op.dim} = {op.size} by {op.tile}{carried}{p.attributes(op, self.ATTRIBUTES)}"


class CopyForm(Form):
    """`%c = soc.copy async [%t] %x[m, k] to %xb on @ane.load {pad = 0.0}`: the access stands at the side in dram."""

    ATTRIBUTES = ("unit", "access")

    def fits(self, op: Operation) -> bool:
        if len(op.operands) < 2 or op.regions or not _gives_token(op):
            return False
        spaces = [v.type.space for v in op.operands[:2] if isinstance(v.type, MemRefType)]
        named = _are(Symbol, op.attributes.get("unit")) and _is_access(op.attributes.get("access"))
        return named and len(spaces) == 2 and spaces.count("dram") == 1

    def head(self, p: Printer, op: Any, indent: str) -> str:
        source, target = p.use(op.operands[0]), p.use(op.operands[1])
        if op.operands[0].type.space == "dram":
            source += _access(op.access)
        else:
            target += _access(op.access)
        after = p.uses(op.operands[2:])
        return f"soc.copy async [{after}] {source} to {target} on {_symbol(op.unit)}{p.attributes(op, self.ATTRIBUTES)}"


class ExecForm(Form):
    """`%e = soc.exec async [%c] on @ane.mac (%a = %xb, %b = %wb, %s = %acc init 0.0) to (%acc) { ... }`

    A block is the whole of its buffer unless a type says otherwise: `%a = %xb : !tile.tile<..>`.
    """

    def fits(self, op: Operation) -> bool:
        get: Any = op.attributes.get
        reads, writes = get("reads"), get("writes")
        if not (_one_region(op) and _gives_token(op) and _are(Symbol, get("unit")) and _are(int, reads, writes)):
            return False
        return reads == len(op.body.args) and writes >= 0 and reads + writes <= len(op.operands)

    def head(self, p: Printer, op: Any, indent: str) -> str:
        outside = [p.use(v) for v in op.operands]
        inits = self.inits(op)
        reads = []
        for i, arg in enumerate(op.body.args):
            kind = "" if arg.type == block_of(op.operands[i].type) else f" : {arg.type}"
            init = "" if not inits or inits[i] == NONE else f" init {_number(inits[i])}"
            reads.append(f"{p.define(arg)} = {outside[i]}{init}{kind}")
        end = op.reads + op.writes
        skip = ("unit", "reads", "writes", *(("inits",) if inits else ()))
        return (
            f"soc.exec async [{', '.join(outside[end:])}] on {_symbol(op.unit)} ({', '.join(reads)})"
            f" to ({', '.join(outside[op.reads : end])}){p.attributes(op, skip)}"
        )

    def inits(self, op: Operation) -> Sequence[Any]:
        """What to write beside the inputs; nothing where that could not say it all."""
        inits = _tuple(op, "inits")
        plain = type(inits) is tuple and len(inits) == len(op.body.args)
        if not plain or not all(v == NONE or _is_number(v) for v in inits) or all(v == NONE for v in inits):
            return ()
        return inits


def block_of(buffer: Any) -> TileType | None:
    """The type of the block that a buffer holds."""
    if not isinstance(buffer, MemRefType):
        return None
    return TileType(buffer.shape, buffer.dtype, buffer.space, buffer.density)


FORMS: dict[str, Form] = {
    "func.func": FuncForm(),
    "graph.fuse": FuseForm(),
    "tile.loop": LoopForm(),
    "soc.launch": LaunchForm(),
    "soc.task": TaskForm(),
    "soc.for": ForForm(),
    "soc.copy": CopyForm(),
    "soc.exec": ExecForm(),
}
