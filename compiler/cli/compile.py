"""`tilewright compile`: the program's text at a level."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import (
    DimOption,
    Dtype,
    DtypeOption,
    EnginesOption,
    GenericOption,
    Level,
    LocationsOption,
    OutputOption,
    SourceArg,
    TargetOption,
    TrustOption,
)
from .output import Progress, check_output, write_text


def compile_(
    source: SourceArg,
    target: TargetOption,
    emit: Annotated[Level, typer.Option("--emit", help="The level to print.")] = Level.SOC,
    generic: GenericOption = False,
    output: OutputOption = None,
    locations: LocationsOption = None,
    engines: EnginesOption = None,
    dtype: DtypeOption = Dtype.F16,
    dim: DimOption = None,
    trust: TrustOption = False,
) -> None:
    """Print the program as it stands at a level, after that level's passes."""
    from .program import compile_program, load_hardware, load_program, module_text

    check_output(output)
    progress = Progress()
    hardware, usable = load_hardware(target, engines)
    program = load_program(source, dtype.value, dim, progress, trust=trust)
    compile_program(program.module, hardware, usable, emit.value, progress)
    write_text(output, module_text(program.module, generic=generic, locations=locations, output=output))
