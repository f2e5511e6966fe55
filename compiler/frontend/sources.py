"""Sources: a built-in example, a Python callable, or a file of IR text, as a module of any level."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from .specialise import dims_of, example_inputs, specialise
from .user_code import call, close, find_callable, load_file, sizes

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
    dims: dict[str, int] = field(default_factory=dict)  # the sizes that were bound, and the keywords that were given
    assumptions: tuple[str, ...] = ()  # what a cost of the program rests on beyond it


def load(
    source: str,
    dtype: str = "f16",
    dims: Mapping[str, int] | None = None,
    weights: bool = True,
    progress: Callable[[str], object] = lambda phase: None,
) -> Loaded:
    """Loads `path/file.py:callable`, the name of an example, or an IR file.

    The callable returns (model, args), (model, args, kwargs), (model, args, kwargs, dynamic_shapes) or an
    ExportedProgram. `dims` are keywords of the callable and the sizes that the program leaves open, by the names of
    their torch.export.Dims (torch's own, such as s27, for one without a name); an open size that has the name of a
    keyword is by default that keyword's value. `dtype` ("f16" or "f32") is what the model's floats become; an
    ExportedProgram keeps its own. Without `weights` a callable that takes `device` makes its model on the meta device:
    enough for costs, not for running. `progress` is told each phase as it starts: "export", "import". Raises a
    SourceError; IR text that does not parse raises the parser's own error.
    """
    return next(load_each(source, [dims or {}], dtype, weights, progress))


def load_each(
    source: str,
    bindings: Sequence[Mapping[str, int]],
    dtype: str = "f16",
    weights: bool = True,
    progress: Callable[[str], object] = lambda phase: None,
) -> Iterator[Loaded]:
    """`load` at each binding of the dims in turn. Exports again only where a keyword changes that is no open size."""
    if source.endswith(IR_SUFFIXES):
        yield from (_load_text(source, dims, progress) for dims in bindings)
        return
    path, name, kind = _locate(source)
    function = find_callable(load_file(path), path, name)
    label = name if kind == "example" else f"{path}:{name}"
    exports: list[Exported] = []
    for dims in bindings:
        exported = next((e for e in exports if e.serves(dims)), None)
        export_s = 0.0
        if exported is None:
            progress("export")
            start = time.perf_counter()
            exported = _export(kind, name, function, label, dims, dtype, weights)
            exports.append(exported)
            export_s = time.perf_counter() - start
        progress("import")
        yield exported.bind(dims, export_s)


@dataclass(slots=True)
class Exported:
    """A source whose model is exported: one export serves every binding of the sizes that it leaves open."""

    kind: str
    name: str
    model: torch.nn.Module | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    program: ExportedProgram
    keywords: dict[str, int]  # that the callable was called with, and its defaults

    def serves(self, dims: Mapping[str, int]) -> bool:
        """Whether these dims differ from those of the export only in open sizes."""
        open_dims = dims_of(self.program)
        return all(n in open_dims or self.keywords.get(n) == v for n, v in dims.items())

    def bind(self, dims: Mapping[str, int], export_s: float = 0.0) -> Loaded:
        """The module at these sizes. Raises a SourceError."""
        start = time.perf_counter()
        open_dims = dims_of(self.program)
        bound = {n: self.keywords[n] for n in open_dims if n in self.keywords}
        bound |= {n: v for n, v in dims.items() if n in open_dims or n not in self.keywords}
        program = specialise(self.program, bound)
        module = import_program(program)
        import_s = time.perf_counter() - start
        args, kwargs = example_inputs(self.program, self.args, self.kwargs, bound)
        used = {n: v for n, v in (self.keywords | bound).items() if n in dims or n in bound}
        return Loaded(self.kind, self.name, module, self.model, args, kwargs, program, export_s, import_s, used)


def _export(
    kind: str, name: str, function: Callable[..., Any], label: str, dims: Mapping[str, int], dtype: str, weights: bool
) -> Exported:
    made = call(function, label, dims, None if weights else "meta")
    defaults = {n: p.default for n, p in sizes(function).items() if isinstance(p.default, int)}
    keywords = {n: dims.get(n, default) for n, default in defaults.items()}
    keywords |= {n: dims[n] for n in sizes(function) if n in dims}
    if made.program is not None:
        model: Any = made.program.module(check_guards=False)
        return Exported(kind, name, model, made.args, made.kwargs, made.program, keywords)
    assert made.model is not None
    model, args, kwargs = convert(made.model, made.args, made.kwargs, dtype)
    return Exported(kind, name, model, args, kwargs, export(model, args, kwargs, made.dynamic_shapes), keywords)


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
