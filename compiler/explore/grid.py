"""The same program on every point of a grid of hardware parameters.

    target = load_target("m4")
    points = grid({"ane.cores": ["8", "16"], "memory.bandwidth": ["60e9", "120e9"]})
    results = explore(module, target, points)

The program stands at the graph level (or where its file left it); each point compiles a copy of it, because its tiles
follow the hardware.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from tilewright.compiler.ir import Module
from tilewright.compiler.pipeline import compile_module, copy_module

Point = dict[str, str]


@dataclass(frozen=True, slots=True)
class Result:
    """What one point costs. `busy` is the share of the latency in which each unit works, from 0 to 1."""

    point: Point
    latency_ps: int
    macs: int
    dram_read_bytes: int
    dram_write_bytes: int
    busy: dict[str, float]
    energy_pj: int | None = None  # None: not known

    def row(self) -> dict[str, Any]:
        """The result as one flat row: parameters, then figures; what is not known is left out."""
        figures = {
            "latency_ps": self.latency_ps,
            "macs": self.macs,
            "dram_read_bytes": self.dram_read_bytes,
            "dram_write_bytes": self.dram_write_bytes,
            **({} if self.energy_pj is None else {"energy_pj": self.energy_pj}),
        }
        return {**self.point, **figures, **{f"busy.{unit}": busy for unit, busy in self.busy.items()}}


def grid(settings: Mapping[str, Sequence[str]]) -> list[Point]:
    """Every combination of the settings' values, the last setting varying fastest."""
    return [dict(zip(settings, values, strict=True)) for values in itertools.product(*settings.values())]


def targets_at(target: Any, points: Sequence[Point]) -> list[Any]:
    """The target with each point's parameters set. Raises TargetError for a bad parameter or value."""
    return [reduce(lambda t, change: t.override(*change), point.items(), target) for point in points]


def explore(
    module: Module,
    target: Any,
    points: Sequence[Point],
    *,
    engines: Sequence[str] = (),
    fidelity: str = "cycle",
    observer: Callable[[int, Point], None] | None = None,
) -> list[Result]:
    """Compiles a copy of `module` for each point and simulates it. `observer` hears of each point before it is run.

    Every point's target is made first, so that a bad parameter or value is an error before any work is done.
    """
    from tilewright.targets.simulator import simulate

    results = []
    for index, (point, at) in enumerate(zip(points, targets_at(target, points), strict=True)):
        if observer is not None:
            observer(index, point)
        program = copy_module(module)
        compile_module(program, at, engines, "soc")
        timing = simulate(program, at, fidelity=fidelity)
        busy = {unit: ps / max(timing.latency_ps, 1) for unit, ps in sorted(timing.unit_busy_ps.items())}
        traffic = timing.dram_read_bytes, timing.dram_write_bytes
        energy = timing.energy.total_pj if timing.energy else None
        results.append(Result(point, timing.latency_ps, timing.macs, *traffic, busy, energy))
    return results


def save(results: Sequence[Result], path: Path) -> None:
    """Writes one row a point to a parquet file."""
    import pyarrow
    import pyarrow.parquet

    rows = [r.row() for r in results]
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    for name in dict.fromkeys(name for r in results for name in r.point):
        columns[name] = _numbers(columns[name])
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


def _numbers(texts: list[Any]) -> list[Any]:
    """A parameter's values as numbers where all of them are, so that they can be plotted; else as they were written."""
    for kind in (int, float):
        try:
            return [kind(text) for text in texts]
        except ValueError:
            continue
    return texts
