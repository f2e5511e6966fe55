"""`tilewright cost`: what a program costs on a target, op by op."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import (
    DimListOption,
    Dtype,
    DtypeOption,
    EnginesOption,
    Fidelity,
    FidelityOption,
    SourceArg,
    TargetOption,
    TrustOption,
    parse_dim_lists,
)
from .output import Progress, check_output, console, write_text


def cost(
    source: SourceArg,
    target: TargetOption,
    fidelity: FidelityOption = Fidelity.CYCLE,
    engines: EnginesOption = None,
    dtype: DtypeOption = Dtype.F16,
    dim: DimListOption = None,
    trust: TrustOption = False,
    json: Annotated[
        str | None,
        typer.Option(
            "--json",
            metavar="FILE|-",
            help="Write the report as JSON; - prints it and nothing else. With several values of a --dim: an array of "
            "reports, in the order of the rows.",
        ),
    ] = None,
) -> None:
    """Print the latency, what each engine does, the DRAM traffic, what bounds it, and the costliest ops.

    With several values of a --dim: one row for each.
    """
    from tilewright.compiler.ir.garbage import without_collection
    from tilewright.compiler.report import build_report, print_comparison, print_report, reports_json

    from .program import load_hardware, load_programs, simulate_program

    check_output(json)
    progress = Progress()
    bindings = parse_dim_lists(dim)
    hardware, usable = load_hardware(target, engines)
    reports = []
    for program in load_programs(source, dtype.value, bindings, progress, trust=trust):
        with without_collection():
            timing = simulate_program(program.module, hardware, usable, fidelity.value, progress)
            report = build_report(
                timing,
                model=program.name,
                target=hardware.name,
                fidelity=fidelity.value,
                phases={f"{phase}_s": seconds for phase, seconds in progress.seconds.items()},
                dims=program.dims,
                assumptions=program.assumptions,
            )
        reports.append(report)
    if json is not None:
        write_text(json, reports_json(reports))
    if json != "-":
        out = console()
        print_comparison(reports, out) if len(reports) > 1 else print_report(reports[0], out)
