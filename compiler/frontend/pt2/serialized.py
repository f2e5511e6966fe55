"""The parsed JSON of an archive's program: which one it is, its symbolic sizes bound, its stored tensors found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from tilewright.compiler.ir.near_match import near

from ..errors import UnknownDim
from ..retyping import main_float
from . import schema
from .archive import TRUST, Archive, printable, shown
from .symbols import NoValue, symbol_names
from .tensors import Geometry, Retype, Store, parse


class Serialized:
    """A program as the archive has it, with sizes bound to `dims`. Raises BadArchive or UnknownDim."""

    def __init__(self, archive: Archive, wanted: torch.dtype, dims: Mapping[str, int], *, real: bool):
        self.archive = archive
        name = _model_name(archive)
        version = parse(archive, f"models/{name}.json", schema.Versioned).schema_version
        if version.major != schema.MAJOR:
            raise archive.bad(
                f"it has version {version.major}.{version.minor} of torch's export schema, and version {schema.MAJOR} "
                f"can be read: save it with the installed torch, {torch.__version__}"
            )
        program = parse(archive, f"models/{name}.json", schema.Program)
        self.graph, self.signature = program.graph_module.graph, program.graph_module.signature
        specs, inputs = self.signature.input_specs, self.graph.inputs
        if len(specs) != len(inputs):
            raise archive.bad(f"its signature has {len(specs)} inputs, and its graph {len(inputs)}")
        self.inputs = list(zip(specs, inputs, strict=True))
        self.weights = Store(archive, "weights", name, real=real)
        self.constants = Store(archive, "constants", name, real=real)
        shapes = {name: [_size(s) for s in m.sizes] for name, m in self._user_tensors().items()}
        ranges = {k: (r.min_val, r.max_val) for k, r in program.range_constraints.items()}
        self.symbols = bind(archive.path, dims, shapes, ranges)
        self.retype = Retype(self._main_float(), wanted)

    def declared(self, name: str) -> schema.TensorMeta:
        if name not in self.graph.tensor_values:
            raise self.archive.bad(f"the type of the input {name} is missing")
        return self.graph.tensor_values[name]

    def geometry(self, name: str) -> Geometry:
        """Type, shape and strides of an input."""
        try:
            return Geometry(self.archive, f"the input {name}", self.declared(name), self.symbols)
        except NoValue as error:
            raise self.archive.bad(f"the size of the input {name} cannot be told: {error}. {TRUST}") from None

    def _user_tensors(self) -> dict[str, schema.TensorMeta]:
        pairs = ((s, i) for s, i in self.inputs if s.kind == "user_input" and i.kind == "as_tensor")
        return {i.value.name: self.declared(i.value.name) for _, i in pairs}

    def _main_float(self) -> torch.dtype | None:
        stored = [*self.weights.geometry.values(), *self.constants.geometry.values()]
        inputs = ((self.geometry(name).dtype, 1) for name in self._user_tensors())
        return main_float((g.dtype, g.bytes) for g in stored) or main_float(inputs)


def _model_name(archive: Archive) -> str:
    programs = [n for n in archive.names if n.startswith("models/") and n.endswith(".json")]
    if len(programs) > 1:
        raise archive.bad(f"it holds several programs ({', '.join(map(shown, programs[:8]))}): save one of them alone")
    if not programs and "serialized_exported_program.json" in archive:
        raise archive.bad(f"an older torch wrote it, with pickled weights: save it anew, or {TRUST}")
    if not programs:
        raise archive.bad("it holds no program that torch.export.save wrote, or it is cut off")
    if "byteorder" in archive and archive.data("byteorder", check=True).tobytes() != b"little":
        raise archive.bad("its weights are not in little-endian order")
    return programs[0].removeprefix("models/").removesuffix(".json")


def bind(
    path: Path,
    dims: Mapping[str, int],
    shapes: Mapping[str, list[int | str]],
    ranges: Mapping[str, tuple[int | None, int | None]],
) -> dict[str, int]:
    """Values for all symbols in the inputs' sizes, which are numbers or expressions. Raises UnknownDim.

    `ranges` are what the program was exported for.
    """
    named = {name: [n for s in sizes if isinstance(s, str) for n in symbol_names(s)] for name, sizes in shapes.items()}
    symbols = list(dict.fromkeys(n for names in named.values() for n in names))
    for name in dims:
        if name not in symbols:
            has = f"it has {', '.join(map(_plain, symbols))}" if symbols else "all its sizes are fixed"
            raise UnknownDim(f"{path} has no dim '{name}'{near(name, symbols)}; {has}")
    missing = [_plain(n) for n in symbols if n not in dims]
    if missing:
        inputs = [f"{name} is [{', '.join(map(_size_text, shapes[name]))}]" for name, names in named.items() if names]
        options = " ".join(f"--dim {n}=N" for n in missing)
        raise UnknownDim(f"{path} has sizes that are not set: give {options}, where the input {'; '.join(inputs)}")
    for name, value in dims.items():
        low, high = ranges.get(name, (None, None))
        if value < (low or 0) or (high is not None and value > high):
            most = f" to {high}" if high is not None else ""
            raise UnknownDim(f"{path} was exported for {name} from {low or 0}{most}, and {value} is outside")
    return dict(dims)


def _size(size: schema.Size) -> int | str:
    return size.value if size.kind == "as_int" else size.value.expr_str


def _size_text(size: int | str) -> str:
    """A number or a symbol; `?` where the size follows from symbols."""
    if isinstance(size, int):
        return str(size)
    names = symbol_names(size)
    return _plain(names[0]) if names and size.startswith("Symbol(") else "?"


def _plain(name: str) -> str:
    return printable(name, 40)
