"""Builds ops from the tokens of a text: which names are in sight, which block is open, and where each op stands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from lark import Token

from .core import Block, Operation, Value
from .literal_parser import LiteralReader
from .near_match import near
from .syntax_errors import Fault, span
from .types import Type

_OPERAND = re.compile(r"%[\w$.#-]+")
_RESULT = re.compile(r"(%[\w$.-]+)(?::(\d+))?")

MAX_DEPTH = 64  # of regions in regions, which are checked and printed by recursion


class OpName(NamedTuple):
    """An op's name in the text."""

    cls: type[Operation]
    token: Token


class TextBuilder:
    """One program being read. `block` is the innermost open block; every mistake is a Fault."""

    def __init__(self, literals: LiteralReader) -> None:
        self.literals = literals
        self.block = Block()
        self.tokens: dict[Operation, Token] = {}  # the name of each op, where it stands
        self._values: dict[str, Value] = {}  # those in sight
        self._defined: list[str] = []  # their names in order, for the end of a region
        self._scopes: list[tuple[Block, int]] = []
        self._latest = (0, 1)  # where the last op's name stands

    # ------------------------------------------------------------ values

    def operands(self, token: Token | None) -> list[Value]:
        """`%x, %y`"""
        if token is None:
            return []
        names = [name.strip() for name in token.split(",")] if "," in token else [token.value]
        try:
            return [self._values[name] for name in names]
        except KeyError:
            match = next(m for m in _OPERAND.finditer(token) if m.group() not in self._values)
            message = f"{match.group()} is not defined before it is used{near(match.group(), self._values)}"
            start, _ = span(token)
            raise Fault(message, start + match.start(), start + match.end()) from None

    def operand(self, token: Token) -> Value:
        """`%x`"""
        values = self.operands(token)
        if len(values) != 1:
            raise Fault("expected one value", *span(token))
        return values[0]

    def _define(self, name: str, value: Value, token: Token) -> None:
        if name in self._values:
            raise Fault(f"{name} is already defined{self._line_of(self._values[name])}", *span(token))
        self._values[name] = value
        self._defined.append(name)
        if not name[1:].isdigit():
            value.name = name[1:]

    def _line_of(self, value: Value) -> str:
        token = self.tokens.get(value.owner) if isinstance(value.owner, Operation) else None
        return f" in line {token.line}" if token else ""

    def _define_results(self, token: Token, op: Operation) -> None:
        """`%x, %y =` or MLIR's `%r:2 =`, whose values are %r#0 and %r#1."""
        text = token.value[:-1].rstrip()
        results = op.results
        if len(results) == 1 and "," not in text and ":" not in text:
            self._define(text, results[0], token)
            return
        names = []
        for name, count in _RESULT.findall(text):
            names += [f"{name}#{i}" for i in range(int(count))] if count else [name]
        if len(names) != len(results):
            message = f"'{op.name}' has {len(results)} results for {len(names)} names"
            hint = "" if results else "; the types of the results stand after ':'"
            raise Fault(message + hint, *span(token))
        for name, value in zip(names, results, strict=True):
            self._define(name, value, token)
            base, _, index = name[1:].partition("#")
            if index:
                value.name = None if base.isdigit() else f"{base}_{index}"

    # ------------------------------------------------------------ parts of an op

    def op_name(self, token: Token, name: str) -> OpName:
        self._latest = span(token)
        cls = Operation.registry.get(name)
        if cls is None:
            dialect = name.partition(".")[0]
            hint = near(name, Operation.registry)
            if not any(known.startswith(f"{dialect}.") for known in Operation.registry):
                hint = hint or f"; no dialect '{dialect}' is loaded"
            start = span(token)[0] + token.startswith('"')
            raise Fault(f"unknown op '{name}'{hint}", start, start + len(name))
        return OpName(cls, token)

    def types(self, token: Token | None) -> tuple[Type, ...]:
        return () if token is None else self.literals.read("types", token)

    def type(self, token: Token) -> Type:
        types = self.types(token)
        if len(types) != 1:
            raise Fault("expected one type", *span(token))
        return types[0]

    def attributes(self, *tokens: Token | None) -> dict[str, Any]:
        given: dict[str, Any] = {}
        for token in tokens:
            if token is not None:
                given.update(self.literals.read("attributes", token))
        return given

    # ------------------------------------------------------------ ops

    def add(
        self,
        results: Token | None,
        name: OpName,
        operands: Sequence[Value],
        attributes: dict[str, Any],
        types: Sequence[Type] | None,
        location: Token | None,
        regions: Sequence[Block] = (),
    ) -> None:
        """Appends an op to the open block. Without `types` the op infers them."""
        op = name.cls(*operands, result_types=types, regions=regions)
        op.attributes = attributes
        self.tokens[op] = name.token
        if location is not None:
            op.location = self.literals.read("location", location)
        self.block.append(op)
        if results is not None:
            self._define_results(results, op)

    def open(self, names: Sequence[Token], types: Sequence[Type]) -> None:
        """Starts a block, whose ops follow in the text; `names` are `%x` or `%x =`."""
        if len(self._scopes) >= MAX_DEPTH:
            raise Fault(f"regions are nested more than {MAX_DEPTH} deep", *self._latest)
        self._scopes.append((self.block, len(self._defined)))
        self.block = Block(types)
        for token, value in zip(names, self.block.args, strict=True):
            name = token.removesuffix("=").rstrip()
            if not _OPERAND.fullmatch(name) or "#" in name:
                raise Fault("expected the name of one value", *span(token))
            self._define(name, value, token)

    def bind(self, bindings: Sequence[tuple[Token, Token]]) -> list[Value]:
        """`%inside = %outside, ...`: starts a block whose arguments have the operands' types."""
        operands = [self.operand(outside) for _, outside in bindings]
        self.open([inside for inside, _ in bindings], [v.type for v in operands])
        return operands

    def close(self) -> Block:
        """Ends the innermost block; what it defines goes out of sight."""
        closed = self.block
        self.block, count = self._scopes.pop()
        for name in self._defined[count:]:
            del self._values[name]
        del self._defined[count:]
        return closed
