"""Expressions over symbolic sizes, evaluated with Python integers: sympy's trees node by node, a guard's text by its
syntax. No text is ever run."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import sympy

MAX_BITS = 4096  # of a power's result


class Unknown(Exception):  # noqa: N818 - reads as what is wrong
    """An expression without a value: `symbol` is the one that is not known, or `why` says what else is in the way."""

    def __init__(self, symbol: sympy.Symbol | None, why: str = ""):
        super().__init__(why or f"the value of {symbol} is not known")
        self.symbol = symbol


def _power(base: Any, exponent: Any) -> Any:
    if isinstance(base, int) and abs(base).bit_length() * max(exponent, 0) > MAX_BITS:
        raise Unknown(None, "a power that is too large")
    return base**exponent


def _sum(*parts: Any) -> Any:
    return sum(parts)


def _product(*parts: Any) -> Any:
    return math.prod(parts)


def _shift(direction: Callable[[int, int], int]) -> Callable[[int, int], int]:
    return lambda a, b: direction(a, min(b, MAX_BITS))


FUNCTIONS: dict[str, Callable[..., Any]] = {  # by the class of the sympy node; torch's own are in torch.utils._sympy
    "Add": _sum,
    "Mul": _product,
    "Pow": _power,
    "PowByNatural": _power,
    "FloatPow": _power,
    "Min": min,
    "Max": max,
    "Abs": abs,
    "Mod": operator.mod,
    "PythonMod": operator.mod,
    "FloorDiv": operator.floordiv,
    "CleanDiv": operator.floordiv,
    "CeilDiv": lambda a, b: -(-a // b),
    "IntTrueDiv": operator.truediv,
    "FloatTrueDiv": operator.truediv,
    "ModularIndexing": lambda a, b, c: a // b % c,
    "LShift": _shift(operator.lshift),
    "RShift": _shift(operator.rshift),
    "ToFloat": float,
    "TruncToInt": math.trunc,
    "TruncToFloat": lambda x: float(math.trunc(x)),
    "FloorToInt": math.floor,
    "CeilToInt": math.ceil,
    "floor": math.floor,
    "ceiling": math.ceil,
    "RoundToInt": round,
    "RoundDecimal": round,
    "Identity": lambda x: x,
    "Where": lambda condition, a, b: a if condition else b,
    "Equality": operator.eq,
    "Unequality": operator.ne,
    "StrictLessThan": operator.lt,
    "LessThan": operator.le,
    "StrictGreaterThan": operator.gt,
    "GreaterThan": operator.ge,
    "And": lambda *xs: all(xs),
    "Or": lambda *xs: any(xs),
    "Not": operator.not_,
}


def evaluate(expression: Any, values: Mapping[sympy.Symbol, int]) -> Any:
    """The number or truth value of a sympy expression. Raises Unknown."""
    if isinstance(expression, sympy.Symbol):
        if expression not in values:
            raise Unknown(expression)
        return values[expression]
    if isinstance(expression, sympy.Integer):
        return int(expression)
    if isinstance(expression, (sympy.Rational, sympy.Float)):
        return expression.p / expression.q if isinstance(expression, sympy.Rational) else float(expression)
    if isinstance(expression, sympy.logic.boolalg.BooleanAtom):
        return bool(expression)
    function = FUNCTIONS.get(type(expression).__name__)
    if function is None:
        raise Unknown(None, f"'{expression}' is no arithmetic on sizes")
    try:
        first = expression.args[0] if isinstance(expression, sympy.Mul) else None
        if isinstance(first, sympy.Rational) and not isinstance(first, sympy.Integer):  # s/2: exact
            part = math.prod(evaluate(a, values) for a in expression.args[1:])
            return part * first.p // first.q if part * first.p % first.q == 0 else part * first.p / first.q
        return function(*(evaluate(a, values) for a in expression.args))
    except (ArithmeticError, TypeError, ValueError) as error:
        raise Unknown(None, f"'{expression}' has no value: {error}") from None


# ---------------------------------------------------------------- the text of guards

_SIZE = re.compile(r"L(?P<path>(?:\[(?:'[^']*'|\d+)\])+)\.size\(\)\[(?P<axis>\d+)\]")
_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}
_COMPARE: dict[type, Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def holds(guard: str, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a guard such as `L['x'].size()[1] % 2 == 0` holds; `shapes` by the placeholders' names.

    Raises Unknown for a text that is no arithmetic on the sizes of inputs.
    """

    def size(match: re.Match[str]) -> str:
        name = "_".join(re.findall(r"[\w.]+", match["path"]))
        axis = int(match["axis"])
        if name not in shapes or axis >= len(shapes[name]):
            raise Unknown(None, f"it speaks of an input that is not there: {match[0]}")
        return str(shapes[name][axis])

    try:
        return bool(_value(ast.parse(_SIZE.sub(size, guard), mode="eval").body))
    except (SyntaxError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
        raise Unknown(None, str(error)) from None


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=int() | float() as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=x):
            return -_value(x)
        case ast.UnaryOp(op=ast.Not(), operand=x):
            return not _value(x)
        case ast.BoolOp(op=op, values=values):
            return (all if isinstance(op, ast.And) else any)(_value(v) for v in values)
        case ast.BinOp(left=a, op=op, right=b) if type(op) in _BINARY:
            return _BINARY[type(op)](_value(a), _value(b))
        case ast.Compare(left=first, ops=ops, comparators=rest) if all(type(op) in _COMPARE for op in ops):
            numbers = [_value(first), *map(_value, rest)]
            return all(_COMPARE[type(op)](a, b) for op, a, b in zip(ops, numbers, numbers[1:], strict=False))
        case ast.Call(func=ast.Name(id="max" | "min" as name), args=args, keywords=[]):
            return (max if name == "max" else min)(_value(a) for a in args)
    raise Unknown(None, f"'{ast.unparse(node)}' is no arithmetic on sizes")
