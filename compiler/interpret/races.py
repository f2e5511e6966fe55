"""Finds races in a soc program, in two ways that know nothing of each other.

conflicts.py holds every access against what is ordered before it: exact, whatever the data. Here the program is also
executed in several orders that its tokens allow, and memory is compared bit for bit with that of program order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from tilewright.compiler.ir import Module

from .conflicts import Conflict, describe, find_conflicts
from .memory import Memory, buffer_bytes, buffers_in
from .numerics import Arith, Array
from .soc import execute

# the first ones break most: units that run ahead, slots refilled early, results read late
ADVERSARIAL = ("youngest_first", "loads_first", "stores_late", "loads_late", "stores_first")


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that another legal order made different from program order."""

    order: str
    what: str

    def __str__(self) -> str:
        return f"order '{self.order}' changes {self.what}"


@dataclass
class RaceReport:
    """What a check found; true where there is no race."""

    conflicts: list[Conflict] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)

    def __bool__(self) -> bool:
        return not self.conflicts and not self.differences

    def __str__(self) -> str:
        return "\n".join(map(str, [*self.conflicts, *self.differences])) or "no races"


def check_races(module: Module, inputs: Sequence[Array], orders: int = 4, arith: Arith = "native") -> RaceReport:
    """Conflicts, and what differs when `orders` legal orders (adversarial ones, then random) are executed."""
    report = RaceReport(find_conflicts(module, arith=arith))
    expected, memory = execute(module, inputs, arith, "program", 0)
    for i in range(orders):
        random = i >= len(ADVERSARIAL)
        order, seed = ("random", i - len(ADVERSARIAL)) if random else (ADVERSARIAL[i], 0)
        outputs, after = execute(module, inputs, arith, order, seed)
        name = f"random, seed {seed}" if random else order
        for j, (a, b) in enumerate(zip(expected, outputs, strict=True)):
            if a.tobytes() != b.tobytes():
                report.differences.append(Difference(name, f"output {j}"))
        report.differences += [Difference(name, what) for what in _different_buffers(module, memory, after)]
    return report


def _different_buffers(module: Module, a: Memory, b: Memory) -> list[str]:
    found = []
    for buffer in buffers_in(module):
        space, low = buffer.result.type.space, buffer.address * a.scale
        part = slice(low, low + buffer_bytes(buffer) * a.scale)
        if not np.array_equal(a.spaces[space][part], b.spaces[space][part]):
            found.append(describe(buffer))
    return found
