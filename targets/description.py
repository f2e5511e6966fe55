"""Reads a SoC file: TOML in, a `Target` out, or one clear error.

    name = "m4"
    title = "Apple M4"
    inherits = "m1"            # optional: another target's name, or a path; tables merge, parameters are replaced

    fallback = "cpu"           # the engine that takes what all others refuse; without this line, the one listed last

    [memory]                   # see targets/memory
    [memory.energy]            # optional, as [ane.energy]: without it the report says that energy is not known
    [ane]                      # any further table is an engine; `kind` says which model (targets/engines)
    kind = "neural"
    cores = { value = 16, unit = "cores", source = "...", confidence = "A" }

Every parameter is a table of value, unit, source and confidence (A: the maker's own, B: open raw data, C: community,
assumed: with the reason as its source).
"""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from tilewright.compiler.ir.near_match import near
from tilewright.targets.engines import ENGINES, PricedEngine
from tilewright.targets.engines.pricing import EngineParameters
from tilewright.targets.memory import Memory, MemoryParameters
from tilewright.targets.parameter import Measure, Names, Quantity

SOCS = Path(__file__).parent / "socs"
_HEAD = ("name", "title", "inherits", "fallback")
MAX_BYTES = 1 << 20  # of a file
SHOWN = 200  # characters of a wrong value in a message
_FIELDS = ("value", "unit", "source", "confidence")


class TargetError(Exception):
    """A target that cannot be found, read or changed; the message says where, what is wrong, and what is expected."""


@dataclass(frozen=True)
class Target:
    """A virtual SoC: engines on one memory. Make one with `load_target`, change one with `override`."""

    name: str
    title: str
    engines: dict[str, PricedEngine]
    memory: Memory
    fallback: str  # the engine that takes what all others refuse
    sections: dict[str, BaseModel]  # the parsed tables by name: "memory", then the engines
    tables: dict[str, Any]  # as read, after inheritance
    origin: str = ""  # the name or the file that loads it again; nothing loads one that was changed

    def parameters(self) -> Iterator[tuple[str, Quantity | Names]]:
        """(dotted path, parameter), in the order of the schema."""
        for name, section in self.sections.items():
            yield from section.parameters(f"{name}.")  # type: ignore[attr-defined]

    def parameter(self, path: str) -> Quantity | Names:
        """Raises TargetError for an unknown path, with the nearest one."""
        known = dict(self.parameters())
        if path not in known:
            raise TargetError(f"target '{self.name}' has no parameter '{path}'{near(path, known)}")
        return known[path]

    def override(self, path: str, text: str) -> Target:
        """A new target with one parameter changed: `override("memory.bandwidth", "120GB/s")`.

        A bare number is in the base unit (B, B/s, Hz, s, or the count itself); SI and binary prefixes may stand alone
        (`120G`, `2Mi`). Names are separated by commas. Raises TargetError.
        """
        old = self.parameter(path)
        origin = f"{path}={text}"
        change: dict[str, Any] = {"source": f"set by hand; {self.name} has {old}", "confidence": "assumed"}
        if isinstance(old, Names):
            change |= {"value": [t.strip() for t in text.split(",") if t.strip()], "unit": old.unit}
        else:
            try:
                change["value"], change["unit"] = old.measure.parse(text)
            except ValueError as error:
                raise TargetError(f"{origin}: {error}") from None
        tables = copy.deepcopy(self.tables)
        table = tables
        *parents, last = path.split(".")
        for key in parents:
            table = table[key]
        table[last] = change
        return _build(tables, origin)


def list_targets() -> list[str]:
    """Names of the targets that come with the package."""
    return sorted(p.stem for p in SOCS.glob("*.toml"))


def load_target(name: str | Path) -> Target:
    """A target by name, or from a TOML file. Raises TargetError."""
    path = _find(name, None)
    origin = str(name) if path.parent == SOCS else str(path.resolve())
    return replace(_build(_read(path, ()), str(path)), origin=origin)


def _find(name: str | Path, beside: Path | None) -> Path:
    """The file of a target: a built-in name, or a path (of a parent: relative to the file that names it)."""
    text = str(name)
    if text in list_targets():
        return SOCS / f"{text}.toml"
    path = beside / text if beside else Path(text)
    if path.suffix == ".toml" or path.is_file():
        if path.is_file():
            return path
        raise TargetError(f"no target file {path}")
    known = list_targets()
    raise TargetError(f"no target '{text}'{near(text, known)} Targets: {', '.join(known)}; or give a .toml file")


def _read(path: Path, children: tuple[Path, ...]) -> dict[str, Any]:
    """The tables of a file over those that it inherits."""
    path = path.resolve()
    if path in children:
        raise TargetError(f"{path}: inherits from itself: {' -> '.join(p.stem for p in (*children, path))}")
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise TargetError(f"{path}: has more than {MAX_BYTES:,} bytes, which is the limit")
        tables = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, or a number of thousands of digits
        raise TargetError(f"{path}: no valid TOML: {str(error)[:SHOWN]}") from None
    except OSError as error:
        raise TargetError(f"{path}: {error.strerror}") from None
    parent = tables.pop("inherits", None)
    if parent is None:
        return tables
    if not isinstance(parent, str):
        raise TargetError(f"{path}: inherits: expected the name of a target or a path, not {_shown(parent)}")
    try:
        base = _read(_find(parent, path.parent), (*children, path))
    except TargetError as error:
        raise TargetError(f"{path}: inherits: {error}") from None
    return _merge(base, tables)


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Tables merge; a parameter or a plain value is replaced whole."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and "value" not in {**old, **value}:
            value = _merge(old, value)
        merged[key] = value
    return merged


def _build(tables: dict[str, Any], origin: str) -> Target:
    """Validates the tables and makes the models. `origin` is the file, or the change that was asked for."""
    for key in ("name", "title"):
        if not isinstance(tables.get(key), str):
            raise TargetError(f'{origin}: {key}: is missing; expected {key} = "..."')
    if "memory" not in tables:
        raise TargetError(f"{origin}: memory: the table is missing")
    sections: dict[str, Any] = {"memory": _section(MemoryParameters, tables["memory"], "memory", origin)}
    kinds: dict[str, str] = {}
    for name, table in tables.items():
        if name in _HEAD or name == "memory":
            continue
        kinds[name] = _kind(name, table, origin)
        body = {k: v for k, v in table.items() if k != "kind"}
        sections[name] = _section(ENGINES[kinds[name]].Parameters, body, name, origin)
    memory = Memory.of(sections["memory"])
    _check_ports(set(kinds), set(memory.port_bytes_per_s), origin)
    engines = {name: _engine(kind, name, sections[name], memory, origin) for name, kind in kinds.items()}
    return Target(tables["name"], tables["title"], engines, memory, _fallback(tables, kinds, origin), sections, tables)


def _kind(name: str, table: Any, origin: str) -> str:
    if not isinstance(table, dict):
        hint = near(name, (*_HEAD, "memory"))
        raise TargetError(f"{origin}: {name}: unknown key{hint}; expected {', '.join(_HEAD)} or a table")
    kind = table.get("kind")
    if kind not in ENGINES:
        found = f"'{kind}' is no kind of engine{near(str(kind), ENGINES)}" if "kind" in table else "is missing"
        hint = near(name, ("memory",))
        raise TargetError(f"{origin}: {name}.kind: {found}; expected one of {', '.join(ENGINES)}{hint}")
    return kind


def _engine(kind: str, name: str, parameters: Any, memory: Memory, origin: str) -> PricedEngine:
    try:
        return ENGINES[kind](name, parameters, memory)
    except ValueError as error:  # what an engine needs of another table
        raise TargetError(f"{origin}: {name}.{error}") from None


def _fallback(tables: dict[str, Any], engines: Iterable[str], origin: str) -> str:
    *_, last = engines
    name = tables.get("fallback", last)
    if name not in engines:
        raise TargetError(f"{origin}: fallback: there is no engine '{name}'{near(str(name), engines)}")
    return name


def _check_ports(engines: set[str], ports: set[str], origin: str) -> None:
    for name in sorted(engines ^ ports):
        if name in engines:
            example = _example("B/s")
            raise TargetError(f"{origin}: memory.fabric.ports.{name}: is missing; every engine needs a port {example}")
        raise TargetError(f"{origin}: memory.fabric.ports.{name}: there is no engine '{name}'{near(name, engines)}")


# ---------------------------------------------------------------- errors in the file's terms


def _section(model: type[Any], table: Any, name: str, origin: str) -> EngineParameters | MemoryParameters:
    try:
        return model.model_validate(table)
    except ValidationError as error:
        problems = error.errors()
        text = _explain(problems[0], model, name)
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise TargetError(f"{origin}: {text}{more}") from None


def _explain(problem: Any, model: type[BaseModel], name: str) -> str:
    parents, last = problem["loc"][:-1], next(reversed(problem["loc"]), name)
    path = ".".join(map(str, (name, *problem["loc"])))
    if problem["type"] == "extra_forbidden":
        at = _schema(model, parents)
        known = list(at.model_fields) if isinstance(at, type) and issubclass(at, BaseModel) else []
        return f"{path}: no such key{near(str(last), known)}; expected one of {', '.join(known)}"
    if problem["type"] == "missing":
        if last in _FIELDS:
            return f"{path}: is missing; a parameter has {', '.join(_FIELDS)}"
        return f"{path}: is missing; expected {_example(_schema(model, problem['loc']))}"
    if problem["type"] in ("model_type", "model_attributes_type", "dict_type"):
        return f"{path}: is {_shown(problem['input'])}; expected {_example(_schema(model, problem['loc']))}"
    message = problem["msg"].removeprefix("Value error, ")
    shown = "" if problem["type"] == "value_error" else f", not {_shown(problem['input'])}"
    return f"{path}: {message}{shown}"


def _shown(value: Any) -> str:
    """What a file has where something else belongs, for a message."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _schema(model: Any, path: Iterable[Any]) -> Any:
    """What the schema holds at a path: a section's class, an alias such as dict[str, X], or a parameter's measure."""
    at, metadata = model, ()
    for key in path:
        if get_origin(at) is dict:
            item = get_args(at)[1]
            at, metadata = item, getattr(item, "__metadata__", ())
        elif isinstance(at, type) and issubclass(at, BaseModel) and key in at.model_fields:
            at, metadata = at.model_fields[key].annotation, at.model_fields[key].metadata
            if get_args(at)[1:] == (type(None),):  # a section or parameter that may be missing
                at = get_args(at)[0]
                metadata = getattr(at, "__metadata__", metadata)
    return next((m for m in metadata if isinstance(m, Measure)), at)


def _example(expected: Any) -> str:
    if isinstance(expected, type) and issubclass(expected, Names):
        return '{ value = ["..."], unit = "...", source = "...", confidence = "..." }'
    if isinstance(expected, Measure):
        expected = expected.base
    if isinstance(expected, str):
        return f'{{ value = ..., unit = "{expected}", source = "...", confidence = "A|B|C|assumed" }}'
    return "a table"
