"""The cycle-level backend: what a soc program costs on a target.

    simulate(module, target, fidelity="cycle") -> Timing

One program, three fidelities. `cycle` walks it command by command; `analytic` works out each task's time from its
loops without walking them; `roofline` is what no machine with these peaks can beat. The steps: flatten (text to arrays,
prices), residency (what reaches DRAM), then one of cycle, analytic, roofline, then energy.
"""

from __future__ import annotations

from typing import Any

from tilewright.compiler.ir import Module
from tilewright.compiler.ir.garbage import without_collection

from . import analytic, cycle, energy, flatten, residency, roofline
from .energy import Energy
from .timing import SimulationError, TaskTiming, Timing

__all__ = ["FIDELITIES", "Energy", "SimulationError", "TaskTiming", "Timing", "simulate"]

FIDELITIES = ("roofline", "analytic", "cycle")


def simulate(module: Module, target: Any, fidelity: str = "cycle", trace: bool = False) -> Timing:
    """Times a soc-level module on a target.

    With `trace`, the timing has a slice for each command (cycle only). Raises SimulationError for work that has no
    price, for a program that this machine cannot run, and if the books do not balance; ValueError for an unknown
    fidelity.
    """
    if fidelity not in FIDELITIES:
        raise ValueError(f"unknown fidelity '{fidelity}'; there are {', '.join(FIDELITIES)}")
    with without_collection():
        program = flatten.flatten(module, target)
        residency.lay_out(program, target.memory)
        if fidelity == "cycle":
            timing = cycle.run(program, trace)
        else:
            timing = analytic.run(program) if fidelity == "analytic" else roofline.run(program)
        timing.energy = energy.spent(program, timing, target.memory.energy)
        return timing
