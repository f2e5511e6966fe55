"""Sources, as a module: an example, a Python callable, a .pt2 archive, a transformers configuration, or IR text."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tilewright.compiler.dialects.graph import GroupedMatmul
from tilewright.compiler.ir import Module
from tilewright.compiler.ir.near_match import near
from torch.export import ExportedProgram

from .config_source import config_callable, is_config
from .errors import BadArchive, NoSuchSource, SourceError, UnknownDim, no_such_file
from .examples import EXAMPLES, example_file
from .export import convert, export, quiet, write_traceback
from .importer import import_program
from .specialise import dims_of, example_inputs, specialise
from .user_code import call, find_callable, load_file, sizes

IR_SUFFIXES = (".mlir", ".tw")
ARCHIVE_SUFFIX = ".pt2"


@dataclass(slots=True)
class Loaded:
    """A source that has become a module. A source of IR text has no model, arguments or exported program."""

    kind: str  # "example", "callable", "config", "archive" or "ir"
    name: str
    module: Module
    model: torch.nn.Module | None = None
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    program: ExportedProgram | None = None
    export_s: float = 0.0  # calling the source and exporting the model
    import_s: float = 0.0  # making the module, or parsing it
    dims: dict[str, int] = field(default_factory=dict)  # the sizes that were bound, and the keywords that were given
    assumptions: tuple[str, ...] = field(init=False)  # what a cost of the program rests on beyond it

    def __post_init__(self) -> None:
        grouped = [op for op in self.module.walk() if isinstance(op, GroupedMatmul)]
        sizes = {(op.shape(0)[0], op.shape(1)[0], op.groups_read) for op in grouped}
        self.assumptions = tuple(
            f"routing is balanced: the {rows} rows of a grouped_matmul (tokens times experts a token) spread evenly "
            f"over {used} of {groups} experts, and the weights of those {used} are read"
            for rows, groups, used in sorted(sizes)
        )


def load(
    source: str,
    dtype: str = "f16",
    dims: Mapping[str, int] | None = None,
    weights: bool = True,
    progress: Callable[[str], object] = lambda phase: None,
    trust: bool = False,
) -> Loaded:
    """Loads `path/file.py:callable`, the name of an example, a .pt2 archive, a config.json, or an IR file.

    The callable returns (model, args), (model, args, kwargs), (model, args, kwargs, dynamic_shapes) or an
    ExportedProgram. `dims` are keywords of the callable and the sizes that the program leaves open, by the names of
    their torch.export.Dims (torch's own, such as s27, for one without a name); an open size that has the name of a
    keyword is by default that keyword's value. `dtype` ("f16" or "f32") is what the model's floats become; an
    ExportedProgram keeps its own. Without `weights` a callable that takes `device` makes its model on the meta device:
    enough for costs, not for running. An archive's main float type becomes `dtype`; it is read without running code
    from it, or, with `trust`, by torch's own loader. `progress` is told each phase as it starts: "export", "import".
    Raises a SourceError; IR text that does not parse raises the parser's own error.
    """
    return next(load_each(source, [dims or {}], dtype, weights, progress, trust))


def load_each(
    source: str,
    bindings: Sequence[Mapping[str, int]],
    dtype: str = "f16",
    weights: bool = True,
    progress: Callable[[str], object] = lambda phase: None,
    trust: bool = False,
) -> Iterator[Loaded]:
    """`load` at each binding of the dims in turn. Exports again only where a keyword changes that is no open size."""
    if source.endswith(IR_SUFFIXES):
        yield from (_load_text(source, dims, progress) for dims in bindings)
        return
    if source.endswith(ARCHIVE_SUFFIX):
        yield from (_load_archive(Path(source), dims, dtype, weights, progress, trust) for dims in bindings)
        return
    kind, name, function, label = _callable(source)
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


def _callable(source: str) -> tuple[str, str, Callable[..., Any], str]:
    """Kind, name, function and label for messages of a source whose model is exported."""
    if source not in EXAMPLES and is_config(source):
        function, label, name = config_callable(source)
        return "config", name, function, label
    path, name, kind = _locate(source)
    function = find_callable(load_file(path), path, name)
    return kind, name, function, name if kind == "example" else f"{path}:{name}"


def _locate(source: str) -> tuple[Path, str, str]:
    """File, callable and kind of a source in Python."""
    if source in EXAMPLES:
        return example_file(source), source, "example"
    file, colon, name = source.rpartition(":")
    if colon and file.endswith(".py"):
        return Path(file), name, "callable"
    if source.endswith(".py"):
        raise NoSuchSource(f"'{source}' needs the callable in it that makes the model: {source}:NAME")
    if source.endswith(".onnx"):
        raise NoSuchSource(
            f"'{source}': ONNX is not supported; export the PyTorch model that it was made from: "
            "torch.export.save(torch.export.export(model, args), 'model.pt2'), and give model.pt2"
        )
    if source.endswith((".pt", ".pth", ".bin", ".ckpt", ".safetensors")):
        raise NoSuchSource(
            f"'{source}' holds weights, not a program: give path/file.py:callable that makes the model, a .pt2 archive "
            "that torch.export.save wrote, or the transformers config.json beside the weights"
        )
    if Path(source).is_dir():
        raise NoSuchSource(f"the folder '{source}' holds no config.json of transformers")
    raise NoSuchSource(
        f"'{source}' is no source{near(source, EXAMPLES)}; give path/file.py:callable, a .pt2 archive, a transformers "
        f"config.json, an IR file ({', '.join('*' + s for s in IR_SUFFIXES)}) or an example: {', '.join(EXAMPLES)}"
    )


def _load_archive(
    path: Path, dims: Mapping[str, int], dtype: str, weights: bool, progress: Callable[[str], object], trust: bool
) -> Loaded:
    from .pt2 import read_program, trusted_program  # it takes a second, which other sources need not wait

    progress("export")
    start = time.perf_counter()
    read = (trusted_program if trust else read_program)(path, dtype, dims, real=weights)
    done = time.perf_counter()
    progress("import")
    try:
        with quiet():
            module = import_program(read.program)
    except SourceError:
        raise
    except Exception as error:  # what a file says is no fault of the tool's
        why = [f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}", *getattr(error, "__notes__", ())]
        text = f"{path} cannot be imported: {'; '.join(why)}\n  all of it: {write_traceback(error)}"
        raise BadArchive(text) from error
    end = time.perf_counter()
    return Loaded(
        "archive", path.stem, module, read.model, read.args, {}, read.program, done - start, end - done, dict(dims)
    )


def _load_text(source: str, dims: Mapping[str, int], progress: Callable[[str], object]) -> Loaded:
    from tilewright.compiler.ir.parser import parse, read_file

    path = Path(source)
    if not path.is_file():
        raise no_such_file(path, f"*{path.suffix}")
    if dims:
        raise UnknownDim(f"{path} has no dims to set: the sizes in IR text are fixed")
    progress("import")
    start = time.perf_counter()
    module = parse(read_file(path), str(path))
    return Loaded("ir", path.stem, module, import_s=time.perf_counter() - start)
