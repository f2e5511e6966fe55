"""The examples in the docstrings of ops and dialects, as whole modules.

An example is one of these:

- a paragraph that is a program: it begins with `func.func` or `"builtin.module"`;
- a code span that is one op, with a second span that declares its free values: "`%y = graph.relu %x : tensor<4xf16>`
  with `%x: tensor<4xf16>`". It becomes a function; an op that makes a block becomes the body of a loop with one step;
- a code span that is part of a program of the same file, where it is read.
"""

from __future__ import annotations

import inspect
import re
from textwrap import dedent
from types import ModuleType
from typing import NamedTuple

from tilewright.compiler.dialects import graph, soc, tile
from tilewright.compiler.ir import Operation, core


class Example(NamedTuple):
    name: str  # of the op or the dialect that shows it
    level: str  # graph, tile or soc
    text: str


def programs(doc: str | None) -> list[str]:
    """The paragraphs that are programs."""
    paragraphs = [dedent(p).strip() for p in inspect.cleandoc(doc or "").split("\n\n")]
    return [p for p in paragraphs if p.startswith(("func.func", '"builtin.module"'))]


def spans(doc: str | None, name: str) -> list[tuple[str, str]]:
    """The code spans that are an op of this name, and those that declare their values."""
    pattern = rf"`((?:%[\w, %]+ = )?{re.escape(name)}\b[^`]*)`(?:\s+with `([^`]*)`)?"
    return [(_on_one_line(op), _on_one_line(values)) for op, values in re.findall(pattern, inspect.cleandoc(doc or ""))]


def _on_one_line(text: str) -> str:
    return " ".join(text.split())


# ---------------------------------------------------------------- one op becomes a program

_VALUE = re.compile(r"(%\w+): (!?[\w.]+<[^>]*>)")


def program(op: str, values: str) -> str:
    """A function, or a function with a loop, around one op with one result."""
    result, kind = op.split(" = ")[0], op.rsplit(" : ")[1]
    if not kind.startswith("!tile.tile"):
        return _function(values, kind, f"  {op}\n  func.return {result}")
    blocks = _VALUE.findall(values)
    tensors = ", ".join(f"{name}_: {_tensor(block)}" for name, block in blocks)
    ins = ", ".join(f"{name} = {name}_{_whole(block)} : {block}" for name, block in blocks)
    head = f'tile.loop on @ane () {f"ins({ins})" if ins else ""} outs({_whole(kind)} in "ane.l2")'
    loop = f"  %r = {head} {{\n    {op}\n    tile.yield {result}\n  }} : {_tensor(kind)}"
    return _function(tensors, _tensor(kind), f"{loop}\n  func.return %r")


def _function(arguments: str, result: str, body: str) -> str:
    return f"func.func @main({arguments}) -> {result} {{\n{body}\n}}"


def _shape_and_dtype(block: str) -> str:
    return block[block.index("<") + 1 : block.index(",")]


def _tensor(block: str) -> str:
    density = re.search(r"density [\d/]+", block)
    return f'tensor<{_shape_and_dtype(block)}, "{density[0]}">' if density else f"tensor<{_shape_and_dtype(block)}>"


def _whole(block: str) -> str:
    """The access of all of a tensor."""
    return f"[{', '.join(f':{n}' for n in _shape_and_dtype(block).split('x')[:-1])}]"


# ---------------------------------------------------------------- all of them


def _collect(file: ModuleType, dialect: str, level: str) -> tuple[list[Example], list[str]]:
    """The examples of a dialect, and its ops that show none."""
    ops = {name: cls.__doc__ for name, cls in sorted(Operation.registry.items()) if name.startswith(f"{dialect}.")}
    docs = {dialect: file.__doc__, **ops}
    examples = [Example(name, level, text) for name, doc in docs.items() for text in programs(doc)]
    context = " ".join(_on_one_line(e.text) for e in examples)
    without = []
    for name, doc in ops.items():
        shown = spans(doc, name)
        alone = [s for s in shown if s[0] not in context]
        examples += [Example(name, level, program(*s)) for s in alone]
        if not shown and not programs(doc):
            without.append(name)
    return examples, without


EXAMPLES: list[Example] = []
WITHOUT_EXAMPLE: list[str] = []
for _file, _dialect, _level in (
    (core, "builtin", "graph"),
    (core, "func", "graph"),
    (graph, "graph", "graph"),
    (tile, "tile", "tile"),
    (soc, "soc", "soc"),
):
    _examples, _without = _collect(_file, _dialect, _level)
    EXAMPLES += _examples
    WITHOUT_EXAMPLE += _without
