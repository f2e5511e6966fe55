"""Mistakes in the IR's text, told with file, line, column, the line itself and a caret."""

from __future__ import annotations

import re
from collections.abc import Callable

from lark import Lark, Token, UnexpectedInput
from lark.lexer import PatternStr

from .core import IRError

WIDTH = 160  # characters of a line that are shown on either side of a mistake


class ParseError(IRError):
    """The text is no program; `str()` shows the place. `line` and `column` count from 1."""

    def __init__(self, message: str, file: str, line: int, column: int, shown: str):
        super().__init__(shown)
        self.message, self.file, self.line, self.column = message, file, line, column


class Fault(Exception):  # noqa: N818 - never leaves this package
    """A mistake at characters [start, end) of the text at hand, on its way to become a ParseError."""

    def __init__(self, message: str, start: int, end: int | None = None):
        super().__init__(message)
        self.message, self.start, self.end = message, start, start + 1 if end is None else end

    def moved(self, by: int) -> Fault:
        """The same mistake, in a text that has `by` characters before this one."""
        return Fault(self.message, self.start + by, self.end + by)


def span(token: Token) -> tuple[int, int]:
    """Where a token begins and ends, for a Fault."""
    return token.start_pos or 0, token.end_pos or 0


def parse_error(fault: Fault, text: str, file: str) -> ParseError:
    line, column = _place(text, fault.start)
    return ParseError(fault.message, file, line, column, show(fault, text, file))


def show(fault: Fault, text: str, file: str) -> str:
    """`file:line:column: message`, the source line (of a long one, what is near), and carets under the mistake."""
    line, column = _place(text, fault.start)
    before = text[max(fault.start - column + 1, fault.start - WIDTH) : fault.start]
    source = before + text[fault.start : fault.start + WIDTH].partition("\n")[0]
    carets = "^" * max(1, min(fault.end - fault.start, len(source) - len(before)))
    blank = "".join("\t" if c == "\t" else " " for c in before)
    return f"{file}:{line}:{column}: {fault.message}\n  {source}\n  {blank}{carets}"


def _place(text: str, position: int) -> tuple[int, int]:
    return text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)


# ---------------------------------------------------------------- what was expected

FIRST_OF_OP = {
    *("RESULTS", "OP", "GENERIC"),
    *("FUNC", "FUSE", "LOOP", "LAUNCH", "TASK", "FOR", "COPY", "EXEC"),
}
DESCRIPTIONS = {  # of tokens, in the order in which an op has them
    "RESULTS": "'%name ='",
    "VALUES": "operands such as '%x, %y'",
    "PROPERTIES": "properties such as '<{name = 1}>'",
    "ATTRIBUTES": "attributes such as '{axis = 1}'",
    "TYPES": "types such as ': tensor<4x8xf16>'",
    "SIGNATURE": "a type such as ': (tensor<4xf16>) -> tensor<4xf16>'",
    "RETURNS": "result types such as '-> tensor<4xf16>'",
    "SHAPE": "a shape and an element type such as '4x8xf16'",
    "ACCESS": "an access such as '[m, 2*k-1:3]'",
    "SYMBOL": "a symbol such as '@ane.mac'",
    "KIND": "'par' or 'red'",
    "STRING": "a string",
    "INT": "an integer",
    "NUMBER": "a number",
    "NAME": "a name",
    "WORD": "a name",
    "LABEL": "a block label such as '^bb0'",
    "LOCATION": "a location such as 'loc(\"x.py\":1:0)'",
    "OP": "an op",
    "$END": "the end of the text",
}
INNER = {  # coarse tokens, and the rule that says what is inside
    "ATTRIBUTES": "attributes",
    "PROPERTIES": "attributes",
    "TYPES": "types",
    "SIGNATURE": "signature",
    "RETURNS": "returns",
    "LOCATION": "location",
}
_WORD = re.compile(r'[%@#!^]?[\w.$]+|"[^"\n]*"|\S')


def explain(error: UnexpectedInput, lark: Lark, text: str, parse_inner: Callable[[str, str], object]) -> Fault:
    """What lark's error means. A mistake inside a coarse token is found by reading that token from its start.

    parse_inner: reads a text by one of the INNER rules; raises Fault.
    """
    expected = _accepted(error)
    at_end = getattr(getattr(error, "token", None), "type", "") == "$END"
    start = len(text.rstrip()) if at_end else error.pos_in_stream or 0
    line = text[start:].partition("\n")[0]
    inside = [_inside(rule, line, parse_inner) for rule in sorted({INNER[t] for t in expected & INNER.keys()})]
    faults = [fault for fault in inside if fault is not None]
    if faults:
        return max(faults, key=lambda fault: fault.start).moved(start)
    wanted = ", ".join(_describe(expected, lark))
    wanted = " or ".join(wanted.rsplit(", ", 1))
    if at_end:
        return Fault(f"expected {wanted} before the end", max(start - 1, 0))
    match = _WORD.match(text, start)
    word = match.group() if match else text[start]
    if len(word) > WIDTH:
        return Fault(f"unexpected {word[:WIDTH]!r}...; expected {wanted}", start, start + len(word))
    missing_comma = word.startswith("%") and re.search(r"%[\w$.-]+[ \t]+$", text[:start])
    hint = "; operands are separated by ','" if missing_comma and "VALUES" not in expected else ""
    return Fault(f"unexpected {word!r}; expected {wanted}{hint}", start, start + len(word))


def _accepted(error: UnexpectedInput) -> set[str]:
    """The tokens that could stand here."""
    interactive = getattr(error, "interactive_parser", None)
    if interactive is not None:
        return set(interactive.accepts())
    return set(getattr(error, "allowed", None) or getattr(error, "expected", None) or ())


def _inside(rule: str, line: str, parse_inner: Callable[[str, str], object]) -> Fault | None:
    """The mistake in what begins like a token of this kind; None if it does not even begin like one, or is fine."""
    try:
        parse_inner(rule, line)
    except Fault as fault:
        starts_well = fault.start > 0 and "the end of the text" not in fault.message
        return fault if starts_well else None
    return None


def _describe(expected: set[str], lark: Lark) -> list[str]:
    if "OP" in expected:
        expected = expected - FIRST_OF_OP | {"OP"}
    words = [text for name, text in DESCRIPTIONS.items() if name in expected]
    for name in sorted(expected - DESCRIPTIONS.keys()):
        pattern = lark.get_terminal(name).pattern
        words.append(repr(pattern.value) if isinstance(pattern, PatternStr) else name)
    return list(dict.fromkeys(words))
