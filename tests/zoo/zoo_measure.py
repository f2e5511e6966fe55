"""Takes one entry of the zoo through every level, and says how far each is from eager."""

from __future__ import annotations

import importlib
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tilewright.compiler.cli.run import F16_TOLERANCE, F32_TOLERANCE, compare
from tilewright.compiler.frontend.eager import example_inputs, run_eager
from tilewright.compiler.frontend.errors import UnsupportedOps
from tilewright.compiler.frontend.export import convert, export
from tilewright.compiler.frontend.importer import import_program
from tilewright.compiler.frontend.sources import Loaded
from tilewright.compiler.interpret import run_graph, run_soc, run_tile
from tilewright.compiler.pipeline import compile_module
from tilewright.targets import load_target
from zoo_common import Entry

FAMILIES = ("text", "vision", "detection", "media", "diffusion", "series")
LEVELS = ("graph", "tile", "soc")
RUN = {"graph": run_graph, "tile": run_tile, "soc": run_soc}
NATIVE = "soc f16"


def entries() -> dict[str, Entry]:
    """Every entry, by `family:name`."""
    found = {}
    for family in FAMILIES:
        module = importlib.import_module(f"zoo_{family}")
        found |= {f"{family}:{name}": e for name, e in vars(module).items() if isinstance(e, Entry)}
    return found


@dataclass
class Row:
    """What was measured of one architecture. `errors`: the largest relative L2 error over its outputs."""

    name: str
    nodes: int = 0  # calls in the exported FX graph
    lowered: int = 0
    unsupported: Counter[str] = field(default_factory=Counter)
    errors: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    failure: str = ""
    f16: str = ""

    @property
    def coverage(self) -> float:
        """The share of the calls that have a lowering."""
        return self.lowered / self.nodes if self.nodes else 0.0

    @property
    def wrong(self) -> str:
        """What keeps the architecture from passing; empty where it passes."""
        if self.failure or self.coverage < 1:
            return self.failure or f"only {self.coverage:.1%} of the calls are lowered"
        limits = dict.fromkeys(LEVELS, F32_TOLERANCE) | ({} if self.f16 else {NATIVE: F16_TOLERANCE})
        errors = {level: self.errors.get(level, np.inf) for level in limits}
        over = (f"{k}: {e:.2e} > {limits[k]:.0e}" for k, e in errors.items() if not e <= limits[k])  # NaN is over, too
        return ", ".join(over)


class _Clock:
    """CPU seconds of this process since the last reading: what else the machine does is not counted."""

    def __init__(self) -> None:
        self.last = time.process_time()

    def __call__(self) -> float:
        now = time.process_time()
        self.last, since = now, now - self.last
        return since


def take_in(name: str, entry: Entry, row: Row) -> Loaded | None:
    """The entry as a module; None where an op has no lowering, which the row then holds."""
    clock = _Clock()
    model, args, kwargs = convert(*entry(), "f32" if entry.f16 else "f16")
    program = export(model, args, kwargs)
    row.nodes = row.lowered = sum(n.op == "call_function" for n in program.graph.nodes)
    row.seconds["export"] = clock()
    try:
        module = import_program(program)
    except UnsupportedOps as error:
        row.unsupported.update(f"{n.target} {n.why}".strip() for n in error.nodes)
        row.lowered -= len(error.nodes)
        row.failure = "unsupported: " + ", ".join(row.unsupported)
        return None
    row.seconds["import"] = clock()
    return Loaded("callable", name, module, model, args, kwargs, program)


def worst(outputs: Iterable[Any], expected: Iterable[Any]) -> float:
    errors = [compare("", got, want).relative_l2 for got, want in zip(outputs, expected, strict=True)]
    return float(np.max(errors))  # NaN where one is


def measure(name: str, entry: Entry, levels: tuple[str, ...] = LEVELS) -> Row:
    """Raises nothing: what goes wrong is the row's `failure`."""
    row = Row(name, f16=entry.f16)
    at = "export"
    try:
        loaded = take_in(name, entry, row)
        if loaded is None or not levels:
            return row
        clock = _Clock()
        at = "eager"
        inputs, expected = example_inputs(loaded), run_eager(loaded, "f32")
        row.seconds["eager"] = clock()
        for at in levels:
            compile_module(loaded.module, load_target("m4"), (), at)
            row.seconds[f"{at} compile"] = clock()
            row.errors[at] = worst(RUN[at](loaded.module, inputs, "f32"), expected)
            row.seconds[at] = clock()
        if "soc" in levels and not entry.f16:
            at = NATIVE
            row.errors[at] = worst(run_soc(loaded.module, inputs), expected)
            row.seconds[at] = clock()
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        row.failure = f"{at}: {type(error).__name__}: {lines[0][:240]}"
    return row
