"""The IR core: ops, values, types, locations, and their text."""

from .core import (
    Block,
    Builder,
    Func,
    IRError,
    Module,
    Operation,
    Return,
    Value,
    VerifyError,
    attribute,
    operand,
    result,
)
from .location import UNKNOWN, Location
from .parser import parse
from .printer import print_op
from .syntax_errors import ParseError
from .types import (
    DTYPE_BYTES,
    TOKEN,
    FunctionType,
    MemRefType,
    ShapedType,
    Symbol,
    TensorType,
    TileType,
    TokenType,
    Type,
    contiguous_strides,
    dense_tensor,
    is_float,
)
from .verifier import verify

__all__ = [
    "DTYPE_BYTES",
    "TOKEN",
    "UNKNOWN",
    "Block",
    "Builder",
    "Func",
    "FunctionType",
    "IRError",
    "Location",
    "MemRefType",
    "Module",
    "Operation",
    "ParseError",
    "Return",
    "ShapedType",
    "Symbol",
    "TensorType",
    "TileType",
    "TokenType",
    "Type",
    "Value",
    "VerifyError",
    "attribute",
    "contiguous_strides",
    "dense_tensor",
    "is_float",
    "operand",
    "parse",
    "print_op",
    "result",
    "verify",
]
