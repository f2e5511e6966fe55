"""Reads what stands inside coarse tokens: attributes, types and locations; the inverse of literals.py and types.py."""

from __future__ import annotations

import re
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

from lark import Lark, Token, Transformer, UnexpectedInput, v_args

from .location import UNKNOWN, Location
from .near_match import near
from .syntax_errors import Fault, explain, span
from .types import DTYPE_BITS, TOKEN, FunctionType, MemRefType, Symbol, TensorType, TileType, Type, read_storage

GRAMMAR = Path(__file__).with_name("grammar.lark").read_text(encoding="utf-8")


MAX_DEPTH = 64  # of lists in lists
_BRACKET = re.compile(r'[\[\]]|"(?:[^"\\]|\\.)*"')
_SHAPE = re.compile(r"((?:\d+x)*)(\w+)")
_ESCAPE = re.compile(rb'\\(?:([0-9A-Fa-f]{2})|([nt"\\]))')
_ESCAPED = {b"n": b"\n", b"t": b"\t", b'"': b'"', b"\\": b"\\"}


def read_string(token: str) -> str:
    """The string that a literal stands for."""
    text = token[1:-1]
    if "\\" not in text:
        return text
    raw = text.encode("utf-8", "surrogatepass")
    raw = _ESCAPE.sub(lambda m: bytes.fromhex(m[1].decode()) if m[1] else _ESCAPED[m[2]], raw)
    return raw.decode("utf-8", "surrogatepass")


def read_number(token: str) -> int | float:
    """An int or a float. Hexadecimal digits typed f64 are the bits of a float."""
    text, _, kind = token.partition(":")
    text = text.strip()
    if text.startswith("0x"):
        return struct.unpack(">d", int(text, 16).to_bytes(8, "big"))[0] if "f64" in kind else int(text, 16)
    return float(text) if any(c in text for c in ".eEn") else int(text)


def read_symbol(token: str) -> Symbol:
    return Symbol(read_string(token[1:]) if token[1] == '"' else token[1:])


def read_access(token: str) -> tuple[str, ...]:
    """`[m, 2*k-1:3]`: the text of each axis."""
    text = token[1:-1].strip()
    return tuple(axis.strip() for axis in text.split(",")) if text else ()


class LiteralReader:
    """Reads a token's text by one of the rules attributes, types, returns, signature and location, once a text."""

    starts = ("attributes", "types", "returns", "signature", "location")

    def __init__(self) -> None:
        self.lark = Lark(GRAMMAR, parser="lalr", start=list(self.starts), transformer=_Rules())
        self.forget()

    def read(self, rule: str, token: Token) -> Any:
        """Raises Fault with a position in the text that the token comes from."""
        text = token.value  # a plain str: a Token would be compared in Python
        value = self.memo[rule].get(text)
        if value is None:
            try:
                value = self.memo[rule][text] = self.parse(rule, text)
            except Fault as fault:
                raise fault.moved(span(token)[0]) from None
        return value

    def forget(self) -> None:
        self.memo: dict[str, dict[str, Any]] = {rule: {} for rule in self.starts}

    def parse(self, rule: str, text: str) -> Any:
        """Raises Fault with a position in `text`."""
        _check_depth(text)
        try:
            return self.lark.parse(text, start=rule)
        except UnexpectedInput as error:
            raise explain(error, self.lark, text, self.parse) from None


@v_args(inline=True)
class _Rules(Transformer):
    """What each rule of the grammar's second half gives; every public method is one."""

    # ------------------------------------------------------------ lists

    def many(self, *items: Any) -> tuple[Any, ...]:
        return items

    several = many

    # ------------------------------------------------------------ attributes

    def attributes(self, *pairs: tuple[Token, Any]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for token, value in pairs:
            name = read_string(token) if token.type == "STRING" else str(token)
            if name in values:
                raise Fault(f"the attribute '{name}' is given twice", *span(token))
            values[name] = value
        return values

    def number(self, token: Token) -> int | float:
        return read_number(token)

    def true(self) -> bool:
        return True

    def false(self) -> bool:
        return False

    def string(self, token: Token) -> str:
        return read_string(token)

    def symbol(self, token: Token) -> Symbol:
        return read_symbol(token)

    def array(self, *values: Any) -> tuple[Any, ...]:
        return () if values == (None,) else values

    # ------------------------------------------------------------ types

    def tensor(self, shape: Token, layout: Token | None) -> TensorType:
        dims, dtype = _dims(shape)
        if layout is None:
            return TensorType(dims, dtype)
        order, density = _storage(layout)
        if density is not None and not order:
            return TensorType(dims, dtype, None, density)
        if sorted(order.split(",")) != sorted(str(i) for i in range(len(dims))):
            message = f"the layout {layout} is no order of the {len(dims)} axes, slowest first"
            raise Fault(message, *span(layout))
        return TensorType(dims, dtype, order, density)

    def tile(self, shape: Token, space: Token) -> TileType:
        return TileType(*_dims(shape), *_storage(space))

    def memref(self, shape: Token, strides: tuple[Token, ...] | None, offset: Token | None, space: Token) -> MemRefType:
        dims, dtype = _dims(shape)
        steps = tuple(int(s) for s in strides or ())
        if len(steps) != len(dims):
            raise Fault(f"{len(steps)} strides for {len(dims)} axes", *span(shape))
        return MemRefType(dims, dtype, steps, int(offset or 0), *_storage(space))

    def token(self) -> Type:
        return TOKEN

    def returns(self, types: Type | tuple[Type, ...] | None) -> tuple[Type, ...]:
        return (types,) if isinstance(types, Type) else types or ()

    def function_type(self, inputs: tuple[Type, ...] | None, outputs: tuple[Type, ...]) -> FunctionType:
        return FunctionType(inputs or (), outputs)

    # ------------------------------------------------------------ locations

    def location(self, *parts: Token | Location | None) -> Location:
        """A node's name or nothing, and what is known of its module and file."""
        inner = parts[-1] if parts and isinstance(parts[-1], Location) else UNKNOWN
        return inner._replace(node=read_string(parts[0])) if parts and isinstance(parts[0], Token) else inner

    def module(self, name: Token, file: Location | None) -> Location:
        return (file or UNKNOWN)._replace(module=read_string(name))

    def file(self, name: Token, line: Token, column: Token) -> Location:
        return Location(read_string(name), int(line), int(column))


def _check_depth(text: str) -> None:
    """Values are printed, compared and hashed by recursion."""
    if text.count("[") <= MAX_DEPTH:
        return
    depth = 0
    for match in _BRACKET.finditer(text):
        depth += {"[": 1, "]": -1}.get(match.group(), 0)
        if depth > MAX_DEPTH:
            raise Fault(f"lists are nested more than {MAX_DEPTH} deep", match.start())


def _storage(token: Token) -> tuple[str, Fraction | None]:
    place, density = read_storage(read_string(token))
    if density is not None and density > 1:
        raise Fault(f"a density is a part of all elements, not {density}", *span(token))
    return place, density


def _dims(token: Token) -> tuple[tuple[int, ...], str]:
    match = _SHAPE.fullmatch(token)
    assert match is not None
    dims, dtype = match.groups()
    if dtype not in DTYPE_BITS:
        hint = near(dtype, DTYPE_BITS) or f"; known are {', '.join(DTYPE_BITS)}"
        start, end = span(token)
        raise Fault(f"unknown element type '{dtype}'{hint}", start + match.start(2), end)
    return tuple(int(d) for d in dims.split("x")[:-1]), dtype
