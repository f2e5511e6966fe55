"""Sources: a built-in example, a Python callable, or a file of IR text, as a module of any level."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tilewright.compiler.ir import Module
from torch.export import ExportedProgram

from .errors import NoSuchSource, UnknownDim
from .examples import EXAMPLES, example_file
from .export import convert, export
from .importer import import_program
from .user_code import call, close, find_callable, load_file

IR_SUFFIXES = (".mlir", ".tw")


@dataclass(slots=True)
class Loaded:
    """A source that has become a module. A source of IR text has no model, arguments or exported program."""

    kind: str  # "example", "callable" or "ir"
    name: str
    module: Module
    model: torch.nn.Module | None = None
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    program: ExportedProgram | None = None
    export_s: float = 0.0  # calling the source and exporting the model
    import_s: float = 0.0  # making the module, or parsing it


def load(
    source: str,
    dtype: str = "f16",
    dims: Mapping[str, int] | None = None,
    weights: bool = True,
    progress: Callable[[str], object] = lambda phase: None,
) -> Loaded:
    """Loads `path/file.py:callable`, the name of an example, or an IR file.

    `dtype` ("f16" or "f32") is what the model's floats become. `dims` are keywords of the callable. Without `weights`
    a callable that takes `device` makes its model on the meta device: enough for costs, not for running. `progress` is
    told each phase as it starts: "export", "import". Raises a SourceError; IR text that does not parse raises the
    parser's own error.
    """
    if source.endswith(IR_SUFFIXES):
        return _load_text(source, dims or {}, progress)
    path, name, kind = _locate(source)
    progress("export")
    start = time.perf_counter()
    function = find_callable(load_file(path), path, name)
    label = name if kind == "example" else f"{path}:{name}"
    model, args, kwargs = call(function, label, dims or {}, None if weights else "meta")
    model, args, kwargs = convert(model, args, kwargs, dtype)
    program = export(model, args, kwargs)
    exported = time.perf_counter()
    progress("import")
    module = import_program(program)
    end = time.perf_counter()
    return Loaded(kind, name, module, model, args, kwargs, program, exported - start, end - exported)


def _locate(source: str) -> tuple[Path, str, str]:
    """File, callable and kind of a source that is not IR text."""
    if source in EXAMPLES:
        return example_file(source), source, "example"
    file, colon, name = source.rpartition(":")
    if colon and file.endswith(".py"):
        return Path(file), name, "callable"
    if source.endswith(".py"):
        raise NoSuchSource(f"'{source}' needs the callable in it that makes the model: {source}:NAME")
    raise NoSuchSource(
        f"'{source}' is no source{close(source, EXAMPLES)}; give path/file.py:callable, "
        f"an IR file ({', '.join('*' + s for s in IR_SUFFIXES)}) or an example: {', '.join(EXAMPLES)}"
    )


def _load_text(source: str, dims: Mapping[str, int], progress: Callable[[str], object]) -> Loaded:
    from tilewright.compiler.ir.parser import parse

    path = Path(source)
    if not path.is_file():
        siblings = (p.name for s in IR_SUFFIXES for p in path.parent.glob(f"*{s}"))
        raise NoSuchSource(f"no such file: {path}{close(path.name, siblings)}")
    if dims:
        raise UnknownDim(f"{path} has no dims to set: the sizes in IR text are fixed")
    progress("import")
    start = time.perf_counter()
    module = parse(path.read_text(), str(path))
    return Loaded("ir", path.stem, module, import_s=time.perf_counter() - start)
