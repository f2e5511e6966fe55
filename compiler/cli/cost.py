"""`tilewright cost`: what a program costs on a target, op by op."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import DimOption, Dtype, DtypeOption, EnginesOption, Fidelity, FidelityOption, SourceArg, TargetOption
from .output import Progress, console, write_text


def cost(
    source: SourceArg,
    target: TargetOption,
    fidelity: FidelityOption = Fidelity.CYCLE,
    engines: EnginesOption = None,
    dtype: DtypeOption = Dtype.F16,
    dim: DimOption = None,
    json: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE|-", help="Write the report as JSON; - prints it and nothing else."),
    ] = None,
) -> None:
    """Print the latency, what each engine does, the DRAM traffic, what bounds it, and the costliest ops."""
    from tilewright.compiler.report import build_report, print_report

    from .program import load_hardware, load_program, simulate_program

    progress = Progress()
    hardware, usable = load_hardware(target, engines)
    program = load_program(source, dtype.value, dim, progress)
    timing = simulate_program(program.module, hardware, usable, fidelity.value, progress)
    report = build_report(
        timing,
        model=program.name,
        target=hardware.name,
        fidelity=fidelity.value,
        phases={f"{phase}_s": seconds for phase, seconds in progress.seconds.items()},
    )
    if json is not None:
        write_text(json, report.to_json())
    if json != "-":
        print_report(report, console())
