"""`tilewright targets`: the virtual hardware that there is, and every parameter of it with its source."""

from __future__ import annotations

from typing import Annotated

import typer

from .output import console

app = typer.Typer(help="List the targets, or show one with the source of every parameter.", no_args_is_help=True)


@app.command("list")
def list_() -> None:
    """List the built-in targets."""
    from tilewright.compiler.report import make_table
    from tilewright.targets import list_targets, load_target

    table = make_table("target", "what it is", "engines")
    for name in list_targets():
        target = load_target(name)
        table.add_row(name, target.title, ", ".join(target.engines))
    console().print(table)


@app.command("show")
def show(
    name: Annotated[
        str, typer.Argument(metavar="TARGET", help="A target's name or its TOML file.", show_default=False)
    ],
) -> None:
    """Show every parameter of a target: its value, where it comes from, and how far to trust it."""
    from rich.text import Text
    from tilewright.compiler.report import make_table
    from tilewright.targets import load_target

    target = load_target(name)
    out = console()
    out.print(Text.assemble((target.name, "bold"), f": {target.title}"))
    table = make_table("parameter", ">value", "trust", "source")
    for path, parameter in target.parameters():
        table.add_row(path, str(parameter), parameter.confidence, parameter.source)
    out.print(table)
    out.print("trust: A the maker's own, B open raw data, C community, assumed: a stated assumption")
