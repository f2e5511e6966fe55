"""`tilewright explore`: the same program on a grid of hardware parameters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import (
    DimOption,
    Dtype,
    DtypeOption,
    EnginesOption,
    Fidelity,
    FidelityOption,
    SourceArg,
    TargetOption,
    TrustOption,
    parse_settings,
)
from .output import Progress, check_output, console, write_file

if TYPE_CHECKING:
    from rich.table import Table
    from tilewright.compiler.explore import Point, Result


def explore(
    source: SourceArg,
    target: TargetOption,
    settings: Annotated[
        list[str],
        typer.Option("--set", metavar="PARAMETER=V,V,...", help="Values to try. Repeat it for the product of several."),
    ],
    output: Annotated[str, typer.Option("-o", "--output", metavar="FILE", help="The results.")] = "explore.parquet",
    fidelity: FidelityOption = Fidelity.CYCLE,
    engines: EnginesOption = None,
    dtype: DtypeOption = Dtype.F16,
    dim: DimOption = None,
    trust: TrustOption = False,
) -> None:
    """Cost the program at every point of a grid; print the table and save it as parquet."""
    from tilewright.compiler.explore import explore as run_grid
    from tilewright.compiler.explore import grid, save, targets_at

    from .program import load_hardware, load_program

    check_output(output)
    progress = Progress()
    points = grid(parse_settings(settings))
    hardware, usable = load_hardware(target, engines)
    targets_at(hardware, points)  # a bad value is an error before the model is loaded
    program = load_program(source, dtype.value, dim, progress, trust=trust)

    def show(index: int, point: Point) -> None:
        progress.show(f"point {index + 1} of {len(points)}: {', '.join(f'{k}={v}' for k, v in point.items())}")

    with progress.phase("explore", f"{len(points)} points"):
        results = run_grid(program.module, hardware, points, engines=usable, fidelity=fidelity.value, observer=show)
    write_file(Path(output), lambda temporary: save(results, temporary))
    console().print(_table(results))
    typer.echo(f"{len(results)} points in {output}", err=True)


def _table(results: Sequence[Result]) -> Table:
    """One row a point: parameters, latency, energy, traffic, and the share of the latency in which each unit works."""
    from tilewright.compiler.report import format_bytes, format_pj, format_ps, make_table

    units = sorted({unit for r in results for unit in r.busy})
    table = make_table(
        *(f">{name}" for name in results[0].point),
        *(">latency", ">energy", ">DRAM read", ">DRAM written"),
        *(f">{u}" for u in units),
    )
    for r in results:
        busy = (f"{100 * r.busy[u]:.1f}%" if u in r.busy else "-" for u in units)
        traffic = (format_bytes(r.dram_read_bytes), format_bytes(r.dram_write_bytes))
        energy = "-" if r.energy_pj is None else format_pj(r.energy_pj)
        table.add_row(*r.point.values(), format_ps(r.latency_ps), energy, *traffic, *busy)
    return table
