"""`tilewright targets`: the virtual hardware that there is, and every parameter of it with its source."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .output import Progress, console, write_text

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


@app.command("measure-host")
def measure_host(
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE.toml", help="Where the target file goes.")
    ] = Path("host.toml"),
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads", min=1, metavar="N", help="The most threads; by default one a core.", show_default=False
        ),
    ] = None,
) -> None:
    """Measure this machine's CPU and memory with micro-benchmarks and write them as a target: a minute or two."""
    progress = Progress()
    progress.show("loading torch")
    from tilewright.targets.host import HostError, Options, describe, measure

    try:
        with progress.phase("measure", "the machine"):
            measured = measure(Options(threads), progress.show)
    except HostError as error:
        raise typer.BadParameter(str(error), param_hint="this machine") from None
    write_text(str(output), describe(measured))
    out = console()
    out.print(f"{measured.machine.cpu}, {measured.threads} threads: {output}")
    for name, probe in measured.probes.items():
        out.print(f"  {name}: {probe.value:.4g} ({probe.how}; half of the samples {100 * probe.spread:.0f} % above)")
    if measured.apart:
        out.print(
            "the cores lay apart for long: figures of several threads may be of cores that share no cache",
            style="yellow",
        )
    if restless := measured.restless():
        out.print(f"others used this machine, so that these may be off: {', '.join(restless)}", style="yellow")


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
