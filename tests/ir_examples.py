"""The examples in the docstrings of ops and dialects, as whole modules.

An example is one of these:

- a paragraph that is a program: it begins with `func.func` or `"builtin.module"`;
- a code span that is one op, whose free values are declared in a second span: "`%y = graph.relu %x : tensor<4xf16>` with
  `%x: tensor<4xf16>`". It becomes a function; an op that makes a block becomes the body of a loop with one step;
- a code span that is one op of a program of the same file, and is read there.
"""

from __future__ import annotations

import inspect
import re
from textwrap import dedent
from typing import NamedTuple

from tilewright.compiler.dialects import graph, soc, tile
from tilewright.compiler.ir import Operation, core


class Example(NamedTuple):
    name: str  # of the op or the file that shows it
    level: str  # graph, tile or soc
    text: str


_ONE_OP = re.compile(r"`((?:%[\w, %]+ = )?{name}\b[^`]*)`(?:\s+with `([^`]*)`)?".replace("{name}", "(?:NAME)"))
_ARGUMENT = re.compile(r"(%\w+): (!?[\w.]+<[^>]*>)")


def programs(doc: str) -> list[str]:
    """The paragraphs that are programs."""
    paragraphs = [dedent(p).strip() for p in inspect.cleandoc(doc).split("\n\n")]
    return [p for p in paragraphs if p.startswith(("func.func", '"builtin.module"'))]


def one_op(doc: str, name: str) -> tuple[str, str] | None:
    """The code span that is this op, and the one that declares its values."""
    pattern = _ONE_OP.pattern.replace("NAME", re.escape(name))
    match = re.search(pattern, inspect.cleandoc(doc))
    return None if match is None else (squeeze(match[1]), squeeze(match[2] or ""))


def squeeze(text: str) -> str:
    return " ".join(text.split())


def wrap(op: str, arguments: str) -> str:
    """A module around one op."""
    args = _ARGUMENT.findall(arguments)
    result, kind = op.split(" = ")[0], op.rsplit(" : ")[1]
    if not kind.startswith("!tile.tile"):
        return function(arguments, kind, f"  {op}\n  func.return {result}")
    tensors = ", ".join(f"{name}_: {tensor(t)}" for name, t in args)
    ins = ", ".join(f"{name} = {name}_{whole(t)} : {t}" for name, t in args)
    loop = f'  %r = tile.loop on @ane () {f"ins({ins})" if ins else ""} outs({whole(kind)} in "ane.l2") {{\n'
    return function(
        tensors, tensor(kind), f"{loop}    {op}\n    tile.yield {result}\n  }} : {tensor(kind)}\n  func.return %r"
    )


def function(arguments: str, result: str, body: str) -> str:
    return f"func.func @main({arguments}) -> {result} {{\n{body}\n}}"


def tensor(block: str) -> str:
    return f"tensor<{block[block.index('<') + 1 : block.index(',')]}>"


def whole(block: str) -> str:
    """The access of all of a tensor."""
    sizes = block[block.index("<") + 1 : block.index(",")].split("x")[:-1]
    return f"[{', '.join(f':{n}' for n in sizes)}]"


def _collect() -> tuple[list[Example], list[str]]:
    """The examples, and the ops that have none."""
    files = {"graph": graph, "tile": tile, "soc": soc, "func": core, "builtin": core}
    examples, missing = [], []
    in_file: dict[str, list[str]] = {}
    for dialect, file in files.items():
        classes = [cls for name, cls in sorted(Operation.registry.items()) if name.startswith(f"{dialect}.")]
        docs = {dialect: file.__doc__ or "", **{cls.name: cls.__doc__ or "" for cls in classes}}
        level = dialect if dialect in ("tile", "soc") else "graph"
        for name, doc in docs.items():
            found = programs(doc)
            in_file.setdefault(dialect, []).extend(found)
            examples += [Example(name, level, text) for text in found]
    for name, cls in sorted(Operation.registry.items()):
        dialect = name.partition(".")[0]
        if dialect not in files:
            continue
        doc = cls.__doc__ or ""
        span = one_op(doc, name)
        context = any(span and span[0] in squeeze(p) for p in in_file[dialect])
        if span and not context and " = " in span[0]:
            examples.append(Example(name, dialect, wrap(*span)))
        elif (
            not context
            and not programs(doc)
            and not any(re.search(rf"\b{re.escape(name)}\b", p) for p in programs(files[dialect].__doc__ or ""))
        ):
            missing.append(name)
    return examples, missing


EXAMPLES, WITHOUT_EXAMPLE = _collect()
