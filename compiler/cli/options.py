"""The options that commands share: how each is written, and how its text is read."""

from __future__ import annotations

import itertools
import math
import re
from enum import StrEnum
from typing import Annotated

import typer

MAX_SIZE = 2**31 - 1  # of a dim
MAX_ROWS = 1_000  # of one `cost`
MAX_POINTS = 100_000  # of one `explore`
SHOWN = 100  # characters of a bad option in a message


class Level(StrEnum):
    GRAPH = "graph"
    TILE = "tile"
    SOC = "soc"


class Fidelity(StrEnum):
    ROOFLINE = "roofline"
    ANALYTIC = "analytic"
    CYCLE = "cycle"


class Dtype(StrEnum):
    F16 = "f16"
    F32 = "f32"


class Arith(StrEnum):
    NATIVE = "native"
    F32 = "f32"


SourceArg = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="A built-in example (see `tilewright models`), path/file.py:callable that returns (model, args), "
        "(model, args, kwargs), (model, args, kwargs, dynamic_shapes) or an ExportedProgram, a .pt2 archive, a "
        "transformers config.json, or an IR file of any level.",
        show_default=False,
    ),
]
TargetOption = Annotated[
    str,
    typer.Option(
        "--target", help="A target's name (see `tilewright targets list`) or its TOML file.", show_default=False
    ),
]
EnginesOption = Annotated[
    str | None,
    typer.Option(
        "--engines",
        metavar="ane,gpu,cpu",
        help="Engines to use; by default all of the target's. The CPU takes what none of them can, and it is reported.",
        show_default=False,
    ),
]
FidelityOption = Annotated[Fidelity, typer.Option("--fidelity", help="How closely the hardware is modelled.")]
DtypeOption = Annotated[
    Dtype, typer.Option("--dtype", help="Floating-point type of weights and activations; sums are kept in f32.")
]
DimOption = Annotated[
    list[str] | None,
    typer.Option(
        "--dim", metavar="NAME=N", help="Sets a size of the model, such as seq=128. Repeatable.", show_default=False
    ),
]
DimListOption = Annotated[
    list[str] | None,
    typer.Option(
        "--dim",
        metavar="NAME=N,N,...",
        help="Sets a size of the model, such as seq=128. Several values, seq=128,512, give one row each from one "
        "export where the model leaves the size open. Repeatable, for the product of all.",
        show_default=False,
    ),
]
TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Read a .pt2 archive with torch's own loader, which can run code from the file. Without it none is run.",
    ),
]
OutputOption = Annotated[
    str | None, typer.Option("-o", "--output", metavar="FILE", help="The file to write.", show_default=False)
]
GenericOption = Annotated[bool, typer.Option("--generic", help="Print MLIR's generic form.")]
LocationsOption = Annotated[
    bool | None,
    typer.Option(
        "--locations/--no-locations",
        help="Print where each op comes from. By default only with -o.",
        show_default=False,
    ),
]


def parse_dims(texts: list[str] | None) -> dict[str, int]:
    """`["seq=128"]` as `{"seq": 128}`. Raises typer.BadParameter, naming what is wrong."""
    dims: dict[str, int] = {}
    for name, values in _dim_lists(texts).items():
        if len(values) > 1:
            raise typer.BadParameter(f"'{name}' takes one value here; `cost` takes several", param_hint="--dim")
        dims[name] = values[0]
    return dims


def parse_dim_lists(texts: list[str] | None) -> list[dict[str, int]]:
    """`["seq=128,512", "batch=2"]` as every combination, the last name fastest; `[{}]` for none."""
    lists = _dim_lists(texts)
    rows = math.prod(map(len, lists.values()))
    if rows > MAX_ROWS:
        raise typer.BadParameter(f"{rows:,} combinations; the limit is {MAX_ROWS:,}", param_hint="--dim")
    return [dict(zip(lists, point, strict=True)) for point in itertools.product(*lists.values())]


def _dim_lists(texts: list[str] | None) -> dict[str, list[int]]:
    dims: dict[str, list[int]] = {}
    for text in texts or ():
        name, equals, values = text.partition("=")
        numbers = values.split(",")
        if not name.isidentifier() or not equals or not all(map(_is_size, numbers)):
            wanted = f"NAME=N with a whole number N of at least 1 and at most {MAX_SIZE:,}"
            raise typer.BadParameter(f"'{shorten(text)}' is not {wanted}", param_hint="--dim")
        if name in dims:
            raise typer.BadParameter(f"'{name}' is given twice", param_hint="--dim")
        dims[name] = [int(n) for n in numbers]
    return dims


def _is_size(text: str) -> bool:
    return re.fullmatch("[0-9]{1,18}", text) is not None and 1 <= int(text) <= MAX_SIZE


def shorten(text: str) -> str:
    """The beginning of what somebody typed, for a message."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def parse_engines(text: str) -> tuple[str, ...]:
    """`"ane,cpu"` as `("ane", "cpu")`. Whether the target has them is checked against the target."""
    names = tuple(part.strip() for part in text.split(","))
    if not all(names) or len(set(names)) != len(names):
        raise typer.BadParameter(
            f"'{shorten(text)}' is not a list of different engines, such as ane,gpu", param_hint="--engines"
        )
    return names


def parse_settings(texts: list[str]) -> dict[str, list[str]]:
    """`["ane.cores=8,16"]` as `{"ane.cores": ["8", "16"]}`."""
    settings: dict[str, list[str]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        choices = [v.strip() for v in values.split(",")]
        if not name or not equals or not all(choices):
            raise typer.BadParameter(f"'{shorten(text)}' is not PARAMETER=VALUE,VALUE,...", param_hint="--set")
        if name in settings:
            raise typer.BadParameter(f"'{name}' is given twice", param_hint="--set")
        settings[name] = choices
    points = math.prod(map(len, settings.values()))
    if points > MAX_POINTS:
        raise typer.BadParameter(f"{points:,} points; the limit is {MAX_POINTS:,}", param_hint="--set")
    return settings
