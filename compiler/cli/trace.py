"""`tilewright trace`: a timeline of every unit, for Perfetto or Chrome."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import DimOption, Dtype, DtypeOption, EnginesOption, SourceArg, TargetOption, TrustOption
from .output import Progress, check_output, write_text

FIDELITY = "cycle"  # the only one that knows what a unit does when


def trace(
    source: SourceArg,
    target: TargetOption,
    output: Annotated[str, typer.Option("-o", "--output", metavar="FILE|-", help="The trace to write.")],
    engines: EnginesOption = None,
    dtype: DtypeOption = Dtype.F16,
    dim: DimOption = None,
    trust: TrustOption = False,
) -> None:
    """Write a Chrome/Perfetto trace: one process an engine, one lane a unit. Open it at ui.perfetto.dev."""
    from tilewright.compiler.report import trace_json

    from .program import load_hardware, load_program, simulate_program

    check_output(output)
    progress = Progress()
    hardware, usable = load_hardware(target, engines)
    program = load_program(source, dtype.value, dim, progress, trust=trust)
    timing = simulate_program(program.module, hardware, usable, FIDELITY, progress, trace=True)
    write_text(output, trace_json(timing, model=program.name, target=hardware.name, fidelity=FIDELITY))
    if output != "-":
        typer.echo(f"{output}: {len(timing.tasks)} tasks, {len(timing.slices)} slices", err=True)
