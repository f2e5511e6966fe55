"""Reads the IR's text, in both forms (printer.py), and checks it.

One pass: the LALR parser (grammar.lark) calls a method of `_Rules` as each rule ends, and the op is built there. The
head of an op with a region opens the block that the ops after it go to. Mistakes are told with their place:

    net.mlir:2:8: unknown op 'graph.cnv'; did you mean 'graph.conv'?
      %3 = graph.cnv %1, %2 {strides = [2, 2]} : tensor<1x32x28x28xf16>
           ^^^^^^^^^
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from itertools import zip_longest
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, NoReturn

from lark import Lark, Token, Transformer, UnexpectedInput, v_args

from .core import Block, Func, IRError, Module, Operation, Return, Value, VerifyError
from .forms import FORMS, NONE, block_of
from .garbage import without_collection
from .literal_parser import GRAMMAR, LiteralReader, read_access, read_number, read_string, read_symbol
from .printer import ARGUMENT_NAMES, PREFIX, REGISTERED, function_type
from .syntax_errors import Fault, explain, parse_error, show, span
from .text_builder import OpName, TextBuilder
from .types import TOKEN, FunctionType, Type
from .verifier import verify

MAX_TEXT = 64 << 20  # characters: some 600,000 ops
MAX_DIGITS = 1000
_LONG_NUMBER = re.compile(rf"[0-9]{{{MAX_DIGITS + 1},}}")


def parse(text: str, file: str = "<text>", check: bool = True) -> Module:
    """The module that the text spells: functions, or one `builtin.module` around them.

    Raises ParseError for text that is no program, and VerifyError (unless `check` is false) for a program that breaks
    the IR's rules; both show file, line and column. The dialects of the ops in the text must have been imported.
    """
    _check_limits(text, file)
    with _LOCK, without_collection():
        builder = _parser().read(text, file)
    top = builder.block
    module = top.first.detach() if isinstance(top.first, Module) and len(top) == 1 else Module(regions=[top])
    if check:
        _verify(module, builder.tokens, text, file)
    return module


def read_file(path: str | Path) -> str:
    """The text of a file that may hold a program. Raises OSError, or IRError for what is no text or too long."""
    with open(path, "rb") as file:
        data = file.read(MAX_TEXT + 1)
    try:
        return data.decode("utf-8") if len(data) <= MAX_TEXT else _too_long(str(path))
    except UnicodeDecodeError as error:
        raise IRError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from None


def _too_long(file: str) -> NoReturn:
    raise IRError(f"{file} has more than {MAX_TEXT:,} characters, which is the limit")


def _check_limits(text: str, file: str) -> None:
    """Refuses what Python itself could not read, or only in hours."""
    if len(text) > MAX_TEXT:
        _too_long(file)
    if digits := _LONG_NUMBER.search(text):
        message = f"a number of {digits.end() - digits.start():,} digits; the limit is {MAX_DIGITS:,}"
        raise parse_error(Fault(message, digits.start(), digits.end()), text, file)


def _verify(module: Module, tokens: dict[Operation, Token], text: str, file: str) -> None:
    try:
        verify(module)
    except VerifyError as error:
        if error.op not in tokens:
            raise
        token = tokens[error.op]
        message = f"'{error.op.name}': {error.reason}"
        located = VerifyError(show(Fault(message, *span(token)), text, file))
        located.op, located.reason = error.op, error.reason
        raise located from None


class _Parser:
    """Lark with the rules' methods built in; made once, for one text at a time."""

    def __init__(self) -> None:
        self.rules = _Rules()
        self.literals = LiteralReader()
        self.lark = Lark(GRAMMAR, parser="lalr", transformer=self.rules)

    def read(self, text: str, file: str) -> TextBuilder:
        self.literals.forget()
        self.rules.b = builder = TextBuilder(self.literals)
        try:
            self.lark.parse(text)
        except UnexpectedInput as error:
            raise parse_error(explain(error, self.lark, text, self.literals.parse), text, file) from None
        except Fault as fault:
            raise parse_error(fault, text, file) from None
        return builder


_LOCK = Lock()
_parser = cache(_Parser)


class _Head(NamedTuple):
    """The head of an op with a form of its own."""

    name: OpName
    operands: Sequence[Value]
    attributes: dict[str, Any]
    returned: FunctionType | None = None  # what a function says that it is


def _head(name: OpName, operands: Sequence[Value], given: dict[str, Any], **said: Any) -> _Head:
    """`said` are the attributes that the form itself says, `given` are the rest."""
    twice = given.keys() & said.keys()
    if twice:
        raise Fault(f"the form says '{min(twice)}' already; leave it out of the attributes", *span(name.token))
    return _Head(name, operands, {**said, **given})


@v_args(inline=True)
class _Rules(Transformer):
    """What the parser does at the end of each rule; every public method is a rule or a token of the grammar."""

    b: TextBuilder

    def many(self, *items: Any) -> tuple[Any, ...]:
        return items

    several = many

    def OP(self, token: Token) -> OpName:  # noqa: N802 - named as the terminal
        return self.b.op_name(token, token.value)

    FUNC = FUSE = LOOP = LAUNCH = TASK = FOR = COPY = EXEC = OP

    def GENERIC(self, token: Token) -> OpName:  # noqa: N802
        return self.b.op_name(token, token[1 : token.rindex('"')])

    def region(self, *_: None) -> Block:
        return self.b.close()

    def block_head(self, label: Token | None, arguments: Sequence[Any] | None) -> None:
        arguments = arguments or ()
        self.b.open([a[0] for a in arguments], [self.b.type(a[1]) for a in arguments])

    # ------------------------------------------------------------ ops

    def plain(self, results, name, operands, attributes, types, location) -> None:
        if name.cls.region_count:
            raise Fault(f"'{name.token}' has a region; write it in the generic form", *span(name.token))
        b = self.b
        b.add(results, name, b.operands(operands), b.attributes(attributes), b.types(types), location)

    def generic(self, results, name, operands, properties, regions, attributes, types, location) -> None:
        b = self.b
        kind: FunctionType = b.literals.read("signature", types)
        values = b.operands(operands)
        if [v.type for v in values] != list(kind.inputs):
            actual = ", ".join(str(v.type) for v in values)
            raise Fault(f"the operands of '{name.cls.name}' are ({actual})", *span(types))
        given = b.attributes(properties, attributes)
        declared = given.pop("function_type", None) if name.cls is Func else None
        if name.cls.name in REGISTERED:
            names = given.pop(ARGUMENT_NAMES, ())
            given = {key.removeprefix(PREFIX): value for key, value in given.items()}
            if name.cls is Func and regions:  # a name such as %arg0 is MLIR's, not ours
                for argument, text in zip_longest(regions[0].args, names):
                    if argument is None:
                        raise Fault(f"'{ARGUMENT_NAMES}' has more names than there are arguments", *span(name.token))
                    argument.name = text or None
        b.add(results, name, values, given, kind.outputs, location, regions or ())
        if declared is not None:
            self._check_returned(declared, name)

    def formed(self, results, head: _Head, region: Block, types, location) -> None:
        name = head.name
        shows_types = FORMS[name.cls.name].shows_types
        if types is not None and not shows_types:
            raise Fault(f"the types of the results of '{name.token}' are known; leave them out", *span(types))
        kinds = self.b.types(types) if shows_types else None
        self.b.add(results, name, head.operands, head.attributes, kinds, location, [region])
        if head.returned is not None:
            self._check_returned(head.returned, name)

    def copied(self, results, head: _Head, location) -> None:
        self.b.add(results, head.name, head.operands, head.attributes, None, location)

    def _check_returned(self, declared: FunctionType, name: OpName) -> None:
        """What a function says that it is, against its arguments and its return."""
        func = self.b.block.last
        if isinstance(func, Func) and func.regions and isinstance(func.body.last, Return):
            actual = function_type(func)
            if actual != declared:
                raise Fault(f"the function is declared as {declared}, but is {actual}", *span(name.token))

    # ------------------------------------------------------------ heads of forms

    def func_form(self, name, symbol, arguments, returned, attributes) -> _Head:
        arguments = arguments or ()
        types = [self.b.type(a[1]) for a in arguments]
        self.b.open([a[0] for a in arguments], types)
        head = _head(name, (), self.b.attributes(attributes), sym_name=read_symbol(symbol).name)
        return head._replace(
            returned=FunctionType(tuple(types), () if returned is None else self.b.literals.read("returns", returned))
        )

    def fuse_form(self, name, bindings, attributes) -> _Head:
        return _head(name, self.b.bind(bindings or ()), self.b.attributes(attributes))

    def loop_form(self, name, symbol, dims, inputs, accumulators, outputs, attributes) -> _Head:
        b = self.b
        dims, inputs, accumulators, outputs = dims or (), inputs or (), accumulators or (), outputs or ()
        kinds = [kind for _, kind, _, _ in dims]
        for kind, ordered in zip(kinds, sorted(kinds), strict=True):
            if kind != ordered:
                raise Fault("reductions come after the parallel dims", *span(kind))
        operands = [b.operand(value) for _, value, *_ in inputs]
        destinations = [b.operand(value) for value, *_ in outputs if value is not None]
        if destinations and len(destinations) != len(outputs):
            raise Fault("either each of the outs names the tensor to write into, or none does", *span(name.token))
        blocks = [*((i[0], i[3]) for i in inputs), *((a[0], a[3]) for a in accumulators)]
        b.open([arg for arg, _ in blocks], [b.type(kind) for _, kind in blocks])
        return _head(
            name,
            operands + destinations,
            b.attributes(attributes),
            engine=read_symbol(symbol),
            dims=tuple(str(dim) for dim, *_ in dims),
            sizes=tuple(int(size) for *_, size, _ in dims),
            tiles=tuple(int(tile) for *_, tile in dims),
            reductions=kinds.count("red"),
            ins=tuple(read_access(i[2]) for i in inputs),
            pads=tuple(NONE if pad is None else read_number(pad) for *_, pad in inputs),
            buffers=tuple(int(slots or 1) for *_, slots, _ in inputs),
            accs=tuple(read_access(access) for _, _, access, _ in accumulators),
            inits=tuple(read_number(init) for _, init, *_ in accumulators),
            outs=tuple(read_access(access) for _, access, *_ in outputs),
            out_spaces=tuple(read_string(space) for *_, space, _ in outputs),
            out_buffers=tuple(int(slots or 1) for *_, slots in outputs),
            into=len(destinations),
        )

    def launch_form(self, name, after, symbol, attributes) -> _Head:
        operands = self.b.operands(after)
        self.b.open((), ())
        return _head(name, operands, self.b.attributes(attributes), engine=read_symbol(symbol))

    def task_form(self, name, after, start, attributes) -> _Head:
        operands = self.b.operands(after)
        self.b.open([start], [TOKEN])
        return _head(name, operands, self.b.attributes(attributes))

    def for_form(self, name, dim, size, tile, bindings, attributes) -> _Head:
        operands = self.b.bind(bindings or ())
        return _head(name, operands, self.b.attributes(attributes), dim=str(dim), size=int(size), tile=int(tile))

    def copy_form(self, name, after, source, source_access, target, target_access, symbol, attributes) -> _Head:
        b = self.b
        operands = [b.operand(source), b.operand(target), *b.operands(after)]
        sides = [(source_access, operands[0]), (target_access, operands[1])]
        said = [(access, value) for access, value in sides if access is not None]
        if len(said) != 1 or getattr(said[0][1].type, "space", None) != "dram":
            raise Fault("the side in dram, and only that one, says which block: '%x[m, k]'", *span(name.token))
        access = read_access(said[0][0])
        return _head(name, operands, b.attributes(attributes), unit=read_symbol(symbol), access=access)

    def exec_form(self, name, after, symbol, reads, writes, attributes) -> _Head:
        b = self.b
        reads = reads or ()
        inputs = [b.operand(value) for _, value, _, _ in reads]
        outputs = b.operands(writes)
        operands = [*inputs, *outputs, *b.operands(after)]
        b.open([r[0] for r in reads], [self._block(r, v) for r, v in zip(reads, inputs, strict=True)])
        inits = {}
        if any(init is not None for _, _, init, _ in reads):
            inits["inits"] = tuple(NONE if init is None else read_number(init) for _, _, init, _ in reads)
        given, unit = b.attributes(attributes), read_symbol(symbol)
        return _head(name, operands, given, unit=unit, reads=len(inputs), writes=len(outputs), **inits)

    def _block(self, read: Sequence[Any], value: Value) -> Type:
        """The type of the block that soc.exec reads: as written, or the whole of the buffer."""
        _, token, _, kind = read
        whole = self.b.type(kind) if kind is not None else block_of(value.type)
        if whole is None:
            raise Fault(f"{token} is {value.type}, not a buffer", *span(token))
        return whole
