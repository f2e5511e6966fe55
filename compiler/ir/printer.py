"""Writes the IR as text, in two forms that the one parser reads.

The pretty form is for people:   `%3 = graph.conv %1, %2 {strides = [2, 2]} : tensor<1x32x28x28xf16>`
The generic form is MLIR's own:  `%3 = "graph.conv"(%1, %2) {strides = [2, 2]} : (..., ...) -> tensor<1x32x28x28xf16>`

Values keep their names where these are unique among the values in sight, and are numbered otherwise. Attributes that
equal their declared default are not written. A few ops have a pretty form of their own (forms.py); an op that does not
fit its own form, and any other op with regions, is written in the generic form.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from .core import Block, Func, Module, Operation, Return, Value, attribute
from .forms import FORMS, Form
from .literals import bare_or_quoted, format_attribute, format_location, quote
from .location import UNKNOWN
from .types import FunctionType

REGISTERED = ("builtin.module", "func.func", "func.return")  # MLIR knows these; it wants a prefix on what is ours
PREFIX = "tilewright."
ARGUMENT_NAMES = "arguments.names"  # a function's, so that they survive in MLIR, which drops the names of values

_VALUE_NAME = re.compile(r"[A-Za-z_$.-][\w$.-]*", re.ASCII)
_NOT_IN_VALUE_NAME = re.compile(r"[^\w$.-]", re.ASCII)


def print_op(op: Operation, generic: bool = False, locations: bool = False, names: bool = True) -> str:
    """The text of an op and all that is in it, ending without a newline.

    generic: MLIR's generic form instead of the pretty one.
    locations: also where each op comes from, as `loc("node"("module.path"("file.py":12:0)))`.
    names: False numbers all values, so that texts can be compared whatever the values are called.
    """
    printer = Printer(generic, locations, names)
    if isinstance(op, Module) and printer.is_bare(op):
        printer.ops(op.body, "")
    else:
        printer.op(op, "")
    return "\n".join(printer.lines)


@cache
def _default_texts(cls: type[Operation], generic: bool) -> dict[str, str]:
    """The text of each declared default, empty for None."""
    return {
        name: "" if d.default is None else format_attribute(d.default, generic)
        for name, d in cls.attribute_defs.items()
        if d.default is not attribute.REQUIRED
    }


class Printer:
    """Collects lines. The forms of forms.py are written with its methods."""

    def __init__(self, generic: bool, locations: bool, names: bool):
        self.generic, self.locations, self.keep_names = generic, locations, names
        self.lines: list[str] = []
        self.texts: dict[Value, str] = {}  # value -> %name
        self.taken: dict[str, None] = {}  # names in sight, in order of definition
        self.counter = 0

    def is_bare(self, module: Module) -> bool:
        """Whether the pretty form can leave out the module around the functions."""
        first = module.body.first
        return not (self.generic or module.attributes or isinstance(first, Module) or self.tail(module))

    # ------------------------------------------------------------ values

    def define(self, value: Value) -> str:
        """Gives a value its name in the text."""
        if not (value.name and self.keep_names):
            text = f"%{self.counter}"
            self.counter += 1
        else:
            text = f"%{self._unique(value.name)}"
        self.texts[value] = text
        return text

    def define_results(self, results: Sequence[Value]) -> str:
        """`%y`, `%y, %z`, or `%0:2` for values without names, which are then %0#0 and %0#1."""
        if len(results) == 1 or (self.keep_names and any(r.name for r in results)):
            return ", ".join([self.define(r) for r in results])
        group = f"%{self.counter}"
        self.counter += 1
        for i, r in enumerate(results):
            self.texts[r] = f"{group}#{i}"
        return f"{group}:{len(results)}"

    def _unique(self, name: str) -> str:
        if not _VALUE_NAME.fullmatch(name):
            name = _NOT_IN_VALUE_NAME.sub("_", name)
            name = name if _VALUE_NAME.fullmatch(name) else f"_{name}"
        unique, n = name, 0
        while unique in self.taken:
            n += 1
            unique = f"{name}_{n}"
        self.taken[unique] = None
        return unique

    def use(self, value: Value) -> str:
        """The text of an operand; one from outside the printed op gets its name when it is met."""
        return self.texts.get(value) or self.define(value)

    def uses(self, values: Sequence[Value]) -> str:
        return ", ".join([self.use(v) for v in values])

    # ------------------------------------------------------------ parts of an op

    def attributes(self, op: Operation, skip: Sequence[str] = ()) -> str:
        """` {name = value, ...}` for what differs from the defaults, or nothing. MLIR sorts attributes by name."""
        if not op.attributes:
            return ""
        generic = self.generic
        defaults = _default_texts(type(op), generic)
        parts = []
        for name in sorted(op.attributes) if generic else op.attributes:
            if name not in skip:
                value = op.attributes[name]
                text = "" if value is None and defaults.get(name) == "" else format_attribute(value, generic)
                if text != defaults.get(name):
                    parts.append(f"{bare_or_quoted(name)} = {text}")
        return f" {{{', '.join(parts)}}}" if parts else ""

    def tail(self, op: Operation) -> str:
        """Where the op comes from, if asked for. MLIR would make a location up where none is written."""
        if not self.locations or (op.location == UNKNOWN and not self.generic):
            return ""
        return f" {format_location(op.location)}"

    def types(self, op: Operation) -> str:
        """` : type, type` of the results, or nothing."""
        return f" : {', '.join([r.type.text for r in op.results])}" if op.results else ""

    # ------------------------------------------------------------ lines

    def ops(self, block: Block, indent: str) -> None:
        op = block.first
        while op is not None:
            self.op(op, indent)
            op = op.next

    def op(self, op: Operation, indent: str) -> None:
        start = f"{indent}{self.define_results(op.results)} = " if op.results else indent
        form = None if self.generic else FORMS.get(op.name)
        if form is not None and form.fits(op):
            self._own_form(op, start, indent, form)
        elif self.generic or op.regions or form is not None:
            self._generic_form(op, start, indent)
        else:
            operands = f" {self.uses(op.operands)}" if op.operands else ""
            self.lines.append(f"{start}{op.name}{operands}{self.attributes(op)}{self.types(op)}{self.tail(op)}")

    def _own_form(self, op: Operation, start: str, indent: str, form: Form) -> None:
        saved = self._enter()
        self.lines.append(f"{start}{form.head(self, op, indent)}")
        if op.regions:
            self.lines[-1] += " {"
            self.ops(op.body, indent + "  ")
            self.lines.append(f"{indent}}}")
        self._leave(saved)
        self.lines[-1] += f"{self.types(op) if form.shows_types else ''}{self.tail(op)}"

    def _generic_form(self, op: Operation, start: str, indent: str) -> None:
        properties, regions = "", ""
        if isinstance(op, Func) and op.regions:
            properties = f" <{{function_type = {function_type(op)}, sym_name = {quote(op.sym_name)}}}>"
        self.lines.append(f'{start}"{op.name}"({self.uses(op.operands)}){properties}')
        for block in op.regions:
            self.lines[-1] += f"{regions or ' ('}{{"
            regions = ", "
            saved = self._enter()
            if block.args or block.first is None:
                args = ", ".join([f"{self.define(a)}: {a.type.text}" for a in block.args])
                self.lines.append(f"{indent}^bb0{f'({args})' if args else ''}:")
            self.ops(block, indent + "  ")
            self.lines.append(f"{indent}}}")
            self._leave(saved)
        attributes = self._registered_attributes(op) if op.name in REGISTERED else self.attributes(op)
        operand_types = ", ".join([v.type.text for v in op.operands])
        result_types = ", ".join([r.type.text for r in op.results])
        if len(op.results) != 1:
            result_types = f"({result_types})"
        self.lines[-1] += f"{')' if regions else ''}{attributes} : ({operand_types}) -> {result_types}{self.tail(op)}"

    def _registered_attributes(self, op: Operation) -> str:
        """MLIR wants a prefix on attributes that it does not know on ops that it does; and it drops names of values."""
        values = {PREFIX + name: value for name, value in op.attributes.items() if name != "sym_name"}
        if isinstance(op, Func) and any(a.name for a in op.args):
            printer = Printer(generic=True, locations=False, names=True)
            values[ARGUMENT_NAMES] = tuple(printer.define(a)[1:] if a.name else "" for a in op.args)
        parts = [f"{bare_or_quoted(name)} = {format_attribute(values[name], generic=True)}" for name in sorted(values)]
        return f" {{{', '.join(parts)}}}" if parts else ""

    def _enter(self) -> tuple[int, int]:
        return self.counter, len(self.taken)

    def _leave(self, saved: tuple[int, int]) -> None:
        """Names and numbers of a region go out of sight at its end."""
        self.counter, count = saved
        while len(self.taken) > count:
            self.taken.popitem()


def function_type(func: Func) -> FunctionType:
    """Read off the arguments and the return."""
    returned = func.body.last.operands if isinstance(func.body.last, Return) else ()
    return FunctionType(tuple(a.type for a in func.args), tuple(v.type for v in returned))
