"""From what the command line names to a program on a target: what cost, run, compile, trace and explore share."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import typer
from tilewright.compiler.ir import IRError, Module
from tilewright.compiler.ir.near_match import near
from tilewright.compiler.ir.parser import MAX_TEXT, parse, read_file
from tilewright.compiler.ir.printer import print_op
from tilewright.compiler.pipeline import compile_module
from tilewright.targets import Target, load_target

from .options import parse_dims, parse_engines
from .output import Progress

if TYPE_CHECKING:
    from tilewright.compiler.frontend.sources import Loaded
    from tilewright.targets.simulator import Timing

DOING = {"export": "exporting the model", "import": "importing the program"}


def load_program(
    source: str,
    dtype: str,
    dims: list[str] | None,
    progress: Progress,
    *,
    weights: bool = False,
    trust: bool = False,
) -> Loaded:
    """Loads the SOURCE. Without `weights`, a callable that takes `device` makes a model that can be costed, not run."""
    return next(load_programs(source, dtype, [parse_dims(dims)], progress, weights=weights, trust=trust))


def load_programs(
    source: str,
    dtype: str,
    bindings: Sequence[Mapping[str, int]],
    progress: Progress,
    *,
    weights: bool = False,
    trust: bool = False,
) -> Iterator[Loaded]:
    """Loads the SOURCE at each binding of its dims in turn, from one export where they allow it."""
    progress.show("loading torch")
    from tilewright.compiler.frontend.sources import load_each

    programs = load_each(source, bindings, dtype, weights, lambda phase: progress.show(DOING[phase]), trust)
    while True:
        with progress.line():
            loaded = next(programs, None)
        if loaded is None:
            return
        progress.seconds |= {"export": loaded.export_s, "import": loaded.import_s}
        yield loaded


def load_hardware(target: str, engines: str | None) -> tuple[Target, tuple[str, ...]]:
    """The target, and which of its engines to use: those named, else all."""
    hardware = load_target(target)
    usable = parse_engines(engines) if engines is not None else tuple(hardware.engines)
    for name in usable:
        if name not in hardware.engines:
            has = f"it has {', '.join(hardware.engines)}"
            message = f"{hardware.name} has no engine '{name}'{near(name, hardware.engines)}; {has}"
            raise typer.BadParameter(message, param_hint="--engines")
    return hardware, usable


def compile_program(module: Module, target: Target, engines: tuple[str, ...], level: str, progress: Progress) -> None:
    """Takes the module down to `level`, in place."""
    with progress.phase("passes", "compiling"):
        compile_module(
            module, target, engines, level, observer=lambda record: progress.show(f"compiled: {record.name}")
        )


def simulate_program(
    module: Module, target: Target, engines: tuple[str, ...], fidelity: str, progress: Progress, *, trace: bool = False
) -> Timing:
    """Compiles the module, in place, and times it."""
    compile_program(module, target, engines, "soc", progress)
    with progress.phase("simulate", "simulating"):
        from tilewright.targets.simulator import simulate

        return simulate(module, target, fidelity=fidelity, trace=trace)


def parse_file(file: str) -> Module:
    """The module in an IR file, or on stdin where `file` is '-'."""
    if file != "-":
        return parse(read_file(file), file)
    try:
        return parse(sys.stdin.read(MAX_TEXT + 1), "<stdin>")
    except UnicodeDecodeError as error:
        raise IRError(f"<stdin> is not UTF-8 text: {error.reason} at byte {error.start}") from None


def module_text(module: Module, *, generic: bool, locations: bool | None, output: str | None) -> str:
    """The module as a file's text. Unless told, locations are kept in files and left out on a screen."""
    keep = output not in (None, "-") if locations is None else locations
    return print_op(module, generic=generic, locations=keep) + "\n"
