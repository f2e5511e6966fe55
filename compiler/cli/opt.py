"""`tilewright opt`: runs passes on IR text."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .options import EnginesOption, GenericOption, LocationsOption, OutputOption, parse_engines
from .output import check_output, write_text


def opt(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="IR text of any level; - reads stdin.")],
    passes: Annotated[
        str, typer.Option("--passes", help="The passes, in order: 'canonicalize,fuse{max_ops=3},...'.")
    ] = "",
    print_ir_after_all: Annotated[
        bool, typer.Option("--print-ir-after-all", help="Print the program to stderr after each pass.")
    ] = False,
    target: Annotated[str | None, typer.Option("--target", help="The target, for passes that need one.")] = None,
    engines: EnginesOption = None,
    load: Annotated[
        list[str] | None, typer.Option("--load", metavar="FILE.py", help="Python with passes of your own. Repeatable.")
    ] = None,
    output: OutputOption = None,
    generic: GenericOption = False,
    locations: LocationsOption = None,
) -> None:
    """Read IR text, run passes, and print what they make of it."""
    from tilewright.compiler.pipeline import check, run_passes
    from tilewright.passes import PassContext, parse_pipeline

    from .program import load_hardware, module_text, parse_file

    check_output(output)
    if load:
        from tilewright.compiler.frontend.user_code import load_file

        for path in load:
            load_file(Path(path))
    pipeline = parse_pipeline(passes)
    if target is None:
        context = PassContext(engines=parse_engines(engines) if engines is not None else ())
    else:
        hardware, usable = load_hardware(target, engines)
        context = PassContext(target=hardware, engines=usable)
    module = parse_file(file)
    check(module)
    run_passes(module, pipeline, context, print_after=sys.stderr if print_ir_after_all else None)
    write_text(output, module_text(module, generic=generic, locations=locations, output=output))
