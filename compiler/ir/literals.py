"""The text of what is written inside an op: names, attribute values and locations."""

from __future__ import annotations

import math
import re
import struct
from functools import cache
from typing import Any

from .core import IRError
from .location import Location
from .types import Symbol, Type

BARE_NAME = re.compile(r"[A-Za-z_][\w$.]*", re.ASCII)
NAN_BITS = struct.pack(">d", math.nan)


def quote(text: str) -> str:
    """A string literal of MLIR: quotes, backslashes and what cannot be seen become `\\XX`, their bytes in UTF-8."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    escaped = "".join(c if c.isprintable() and c not in '"\\' else _hex_escape(c) for c in text)
    return f'"{escaped}"'


def _hex_escape(char: str) -> str:
    return "".join(f"\\{b:02X}" for b in char.encode("utf-8", "surrogatepass"))


@cache
def bare_or_quoted(name: str) -> str:
    """The name of an attribute or a symbol, in quotes where MLIR needs them."""
    return name if BARE_NAME.fullmatch(name) else quote(name)


def format_int(value: int) -> str:
    """Past 64 bits MLIR wants the width, and would wrap without it."""
    text = int.__repr__(value)
    return text if -(1 << 63) <= value < 1 << 63 else f"{text} : i{value.bit_length() + 1}"


def format_float(value: float, generic: bool) -> str:
    """The shortest text that reads back as the same bits. MLIR has no words for infinity and nan, only bits."""
    if math.isfinite(value):
        text = float.__repr__(value)
        return text if "." in text else text.replace("e", ".0e")
    bits = struct.pack(">d", value)
    if not generic and (value == value or bits == NAN_BITS):
        return float.__repr__(value)
    return f"0x{bits.hex().upper()} : f64"


def format_attribute(value: Any, generic: bool = False) -> str:
    """A bool, int, float, str, Symbol, Type, or a tuple of them. Raises IRError for anything else."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return format_int(value)
        case str():
            return quote(value)
        case float():
            return format_float(value, generic)
        case Symbol():
            return f"@{bare_or_quoted(value.name)}"
        case tuple():
            return f"[{', '.join([format_attribute(v, generic) for v in value])}]"
        case Type():
            return value.text
    raise IRError(f"an attribute may hold bool, int, float, str, Symbol, Type or tuples of them, not {value!r}")


def format_location(location: Location) -> str:
    """`loc("node"("module"("file":line:column)))` without the parts that are empty.

    A module without a node has the node "". A line or a column without a file says nothing and is not written.
    """
    names = [location.node] if location.node or location.module else []
    if location.module:
        names.append(location.module)
    text = f"{quote(location.file)}:{location.line}:{location.column}" if location.file else ""
    for name in reversed(names):
        text = f"{quote(name)}({text})" if text else quote(name)
    return f"loc({text or 'unknown'})"
