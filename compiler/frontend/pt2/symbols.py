"""Expressions over symbolic sizes, such as `Mul(Integer(2), Symbol('s80', integer=True))`, without eval or sympify."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

MAX_LENGTH = 4096  # characters
MAX_POWER = 64
LIMIT = 2**63


class NoValue(Exception):  # noqa: N818 - reads as what is wrong
    """The text is no expression over known symbols; says why."""


def power(base: Any, exponent: Any) -> Any:
    """base ** exponent, where the result has a bounded size."""
    if abs(base) > LIMIT or not 0 <= exponent <= MAX_POWER:
        raise NoValue("a power that is too large")
    return base**exponent


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Integer": lambda n: n,
    "Add": lambda *xs: sum(xs),
    "Mul": lambda *xs: math.prod(xs),
    "Pow": power,
    "PowByNatural": power,
    "Min": min,
    "Max": max,
    "Mod": operator.mod,
    "PythonMod": operator.mod,
    "FloorDiv": operator.floordiv,
    "CleanDiv": operator.floordiv,
    "CeilDiv": lambda a, b: -(-a // b),
}


def evaluate(text: str, symbols: Mapping[str, int]) -> int:
    """The value of an expression in sympy's `srepr` form. Raises NoValue."""
    if len(text) > MAX_LENGTH:
        raise NoValue("an expression that is too long")
    try:
        return _value(ast.parse(text, mode="eval").body, symbols)
    except NoValue:
        raise
    except (SyntaxError, ValueError, TypeError, ArithmeticError, RecursionError, MemoryError) as error:
        raise NoValue(f"no expression over sizes ({type(error).__name__})") from None


def _value(node: ast.expr, symbols: Mapping[str, int]) -> int:
    match node:
        case ast.Constant(value=int(value)) if not isinstance(value, bool):
            result = value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(value))):
            result = -value
        case ast.Call(func=ast.Name(id="Symbol"), args=[ast.Constant(value=str(name))]):
            if name not in symbols:
                raise NoValue(f"the size {ascii(name)[:40]} is not known")
            result = symbols[name]
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS:
            result = FUNCTIONS[name](*(_value(a, symbols) for a in args))
        case _:
            raise NoValue("no expression over sizes")
    if not isinstance(result, int) or abs(result) >= LIMIT:
        raise NoValue("a size that is too large")
    return result


def symbol_names(text: str) -> list[str]:
    """The symbols in an expression, in order; empty where it is none."""
    if len(text) > MAX_LENGTH:
        return []
    try:
        nodes = ast.walk(ast.parse(text, mode="eval"))
        calls = [n for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "Symbol"]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    return [
        c.args[0].value
        for c in calls
        if c.args and isinstance(c.args[0], ast.Constant) and isinstance(c.args[0].value, str)
    ]
