"""The command `tilewright`: one file a command. This file maps errors to messages and exit codes.

Exit codes: 0 done; 1 a mistake in what was asked for, or a mismatch; 2 wrong usage; 3 a fault of the tool's own.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from . import compile as compile_
from . import cost, explore, models, opt, run, targets, trace, validate

app = typer.Typer(
    name="tilewright",
    help="Compiles a PyTorch model for a Neural Engine, GPU and CPU on one memory, and says what each cycle is for.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("cost")(cost.cost)
app.command("run")(run.run)
app.command("compile")(compile_.compile_)
app.command("opt")(opt.opt)
app.command("trace")(trace.trace)
app.command("explore")(explore.explore)
app.command("models")(models.models)
app.command("validate")(validate.validate)
app.add_typer(targets.app, name="targets")

OK, FAILED, USAGE, INTERNAL = 0, 1, 2, 3
INTERRUPTED = 130  # 128 and the signal's number, as a shell reports it

UsageError: Any = typer.BadParameter.__base__  # click's, from wherever this version of typer keeps click

# Errors whose message is written for the user. By name, so that no command imports what it does not need.
USER_ERRORS = {
    "tilewright.compiler.frontend.errors.SourceError",
    "tilewright.compiler.ir.core.IRError",
    "tilewright.compiler.pipeline.LevelError",
    "tilewright.passes.base.PassError",
    "tilewright.targets.description.TargetError",
    "tilewright.targets.simulator.timing.SimulationError",
    "tilewright.targets.validation.reading.TableError",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code; never raises for a mistake or for a fault of its own."""
    try:
        code = app(args=None if argv is None else list(argv), prog_name="tilewright", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else OK
    except typer.Exit as stop:
        return stop.exit_code
    except UsageError as error:
        error.show()
        return USAGE
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered has nowhere to go
        return FAILED
    except Exception as error:
        return _report(error)
    finally:
        if argv is None:  # the process ends: a last search for cycles among torch's objects would take it a second
            gc.freeze()


def _report(error: Exception) -> int:
    """Prints the one message for `error` and returns the exit code."""
    names = {f"{cls.__module__}.{cls.__qualname__}" for cls in type(error).__mro__}
    if names & USER_ERRORS:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    if isinstance(error, OSError) and error.strerror is not None:  # a file, a full disk
        place = f"{error.filename}: " if error.filename is not None else ""
        print(f"error: {place}{error.strerror}", file=sys.stderr)
        return FAILED
    if isinstance(error, MemoryError):
        print("error: there is not enough memory for this program", file=sys.stderr)
        return FAILED
    if "tilewright.compiler.pipeline.InternalError" in names:
        print(f"internal error: {error}", file=sys.stderr)  # names its own file
        return INTERNAL
    with tempfile.NamedTemporaryFile("w", prefix="tilewright-", suffix=".txt", delete=False) as file:
        file.write("".join(traceback.format_exception(error)))
    print(f"internal error: {str(error) or type(error).__name__}\nthe details: {Path(file.name)}", file=sys.stderr)
    return INTERNAL
