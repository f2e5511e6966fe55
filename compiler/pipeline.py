"""Runs passes: checks the program after each one, times it, counts its ops, and writes a reproducer when one breaks."""

from __future__ import annotations

import inspect
import os
import shlex
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from tilewright.compiler.dialects import LEGAL
from tilewright.compiler.ir import Func, Module, VerifyError, verify
from tilewright.compiler.ir.garbage import without_collection
from tilewright.compiler.ir.printer import print_op
from tilewright.passes import Pass, PassContext, PassError, default_pipeline
from tilewright.passes.base import REGISTRY

LEVELS = ("graph", "tile", "soc")


class InternalError(Exception):
    """The compiler's own fault. The file `reproducer` holds the program before the pass, and the command to run."""

    def __init__(self, message: str, reproducer: Path):
        super().__init__(message)
        self.reproducer = reproducer


class LevelError(Exception):
    """The program cannot be taken to the level that was asked for."""


@dataclass(frozen=True, slots=True)
class PassRecord:
    """What one pass did: its time in seconds (without the checks) and the number of ops before and after."""

    name: str
    seconds: float
    ops_before: int
    ops_after: int


Observer = Callable[[PassRecord], None]


def level_of(module: Module) -> str:
    """The lowest level that the module's ops belong to: "graph", "tile" or "soc"."""
    return _level({op.name for op in module.walk()})


def _level(names: Iterable[str]) -> str:
    dialects = {name.partition(".")[0] for name in names}
    return next((level for level in reversed(LEVELS) if level in dialects), "graph")


def check_legal(module: Module) -> None:
    """Raises VerifyError at the first op that does not belong to the module's level."""
    names = {op.name for op in module.walk()}
    level = _level(names)
    if all(name.startswith(LEGAL[level]) for name in names):
        return
    op = next(op for op in module.walk() if not op.name.startswith(LEGAL[level]))
    raise VerifyError(f"'{op.name}' ({op.location}) is not legal at the {level} level")


def check(module: Module) -> None:
    """Raises VerifyError where the module breaks a rule of the IR or of its level."""
    verify(module)
    check_legal(module)


def run_passes(
    module: Module,
    passes: Sequence[Pass],
    context: PassContext,
    *,
    verify: bool = True,
    print_after: TextIO | None = None,
    observer: Observer | None = None,
) -> list[PassRecord]:
    """Runs `passes` on `module`, in place, and says what each did.

    With `verify`, the module and its level's legality are checked after each pass. With `print_after`, the program is
    printed there after each pass. `observer` hears of each pass when it is done. A PassError (what the user asked for
    cannot be done) comes through as it is; any other error is the compiler's own and becomes an InternalError with a
    reproducer.
    """
    if passes:
        module.main  # noqa: B018 - raises IRError where there is no function to work on
    snapshot = copy_module(module)
    records: list[PassRecord] = []
    count = _count(module)
    with without_collection():
        for position, p in enumerate(passes):
            started = time.perf_counter()
            try:
                p.run(module, context)
                seconds = time.perf_counter() - started
                if verify:
                    check(module)
            except PassError:
                raise
            except Exception as error:
                path = _write_reproducer(snapshot, passes[:position], p, context, error)
                what = f"the pass '{p}' failed: {type(error).__name__}: {error}"
                raise InternalError(
                    f"{what}\nthe program before it, with the command that shows this: {path}", path
                ) from error
            before, count = count, _count(module)
            records.append(PassRecord(str(p), seconds, before, count))
            if print_after is not None:
                print_after.write(f"// after {p}\n{print_op(module)}\n\n")
            if observer is not None:
                observer(records[-1])
    return records


def compile_module(
    module: Module,
    target: Any,
    engines: Sequence[str] = (),
    level: str = "soc",
    *,
    observer: Observer | None = None,
) -> list[PassRecord]:
    """Takes `module`, in place, from the level it is at to `level` for `target`.

    `engines` says which may be used, most wanted first; empty, all of the target's. Raises LevelError if the module is
    below `level` already.
    """
    functions = sum(isinstance(op, Func) for op in module.body)
    if functions != 1:
        raise LevelError(f"the program has {functions} functions; one with one function can be compiled")
    start = level_of(module)
    if LEVELS.index(level) < LEVELS.index(start):
        raise LevelError(f"the program is at the {start} level already; it cannot go back to {level}")
    context = PassContext(target=target, engines=tuple(engines))
    return run_passes(module, default_pipeline(level, start), context, observer=observer)


def copy_module(module: Module) -> Module:
    """A copy that shares the data of the parameters."""
    return module.clone({})


def _count(module: Module) -> int:
    return sum(1 for _ in module.walk())


def _write_reproducer(
    snapshot: Module, done: Sequence[Pass], failed: Pass, context: PassContext, error: Exception
) -> Path:
    """Writes the program as it was before `failed`, with the command that shows the error, to a file of its own.

    Passes are deterministic, so running those that were done again on the snapshot gives that program; keeping a copy
    before each pass would cost every run for the sake of the rare one that fails.
    """
    for p in done:
        p.run(snapshot, context)
    with tempfile.NamedTemporaryFile("w", prefix="tilewright-", suffix=".mlir", delete=False) as file:
        command = ["tilewright", "opt", file.name, "--passes", str(failed)]
        if context.target is not None:
            command += ["--target", context.target.origin or context.target.name]
        if context.engines:
            command += ["--engines", ",".join(context.engines)]
        cls = type(failed)
        if REGISTRY.get(failed.name) is cls and not cls.__module__.startswith("tilewright."):  # of the user's own
            command += ["--load", os.path.abspath(inspect.getfile(cls))]
        details = "".join(traceback.format_exception(error))
        file.writelines(f"// {line}\n" for line in [shlex.join(command), *details.splitlines()])
        file.write(print_op(snapshot, locations=True) + "\n")
    return Path(file.name)
