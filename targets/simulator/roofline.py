"""The roofline fidelity: no overheads, no waiting. A task takes as long as its busiest resource at its peak.

This is a lower bound of the cycle fidelity for each task, and so for the whole program.
"""

from __future__ import annotations

import math

from tilewright.compiler.dialects import tile
from tilewright.targets.engines.base import Work

from .machine import NANO
from .pricing import BodyOp
from .program import Program, TaskInfo
from .schedule import place
from .timing import TaskTiming, Timing, collect, largest


def run(program: Program) -> Timing:
    shares = [peaks(program, task) for task in program.tasks]
    spans = [max(s.values(), default=0) for s in shares]
    times = place(program, spans, [(0, 0)] * len(spans))
    tasks = []
    for task, share, (start, end) in zip(program.tasks, shares, times, strict=True):
        bound = largest(share)
        tasks.append(
            TaskTiming(
                label=task.op.label,
                location=task.op.location,
                engine=program.engines[task.engine].name,
                reason=task.op.reason,
                start_ps=start,
                end_ps=end,
                macs=task.op.macs,
                bytes=task.bytes,
                dram_read_bytes=task.dram_read,
                dram_write_bytes=task.dram_write,
                unit_busy_ps={u: ps for u, ps in share.items() if u in program.units and ps},
                bound=bound,
                breakdown={bound: end - start} if end > start else {},
                dram=task.dram,
            )
        )
    return collect(tasks, max((end for _, end in times), default=0))[0]


def peaks(program: Program, task: TaskInfo) -> dict[str, int]:
    """The least time that each unit, the engine's port, the SLC and DRAM need for a task's work."""
    hardware = program.hardware
    need: dict[str, int] = {}
    for c in task.commands:
        unit = program.units[c.unit]
        if c.total_bytes:
            late = c.total_bytes - c.ahead_bytes
            need[unit] = need.get(unit, 0) + late * NANO // int(hardware.units[c.unit]["rate"])
    for unit, ps in compute_ps(program, task).items():
        need[unit] = max(need.get(unit, 0), ps)
    ahead = sum(c.ahead_bytes for c in task.commands)  # may have come before the task began
    need["port"] = (task.bytes - ahead) * NANO // int(hardware.engines[task.engine]["port_rate"])
    need["slc"] = (task.bytes - ahead) * NANO // int(hardware.memory_rate[0])
    need["dram"] = max(0, task.dram_read + task.dram_write - ahead) * NANO // int(hardware.memory_rate[1])
    return need


def compute_ps(program: Program, task: TaskInfo) -> dict[str, int]:
    """The least time that each compute unit needs: the bounds of its ops, over all their blocks, add up."""
    engine = program.engines[task.engine]
    need: dict[str, int] = {}
    for c in task.commands:
        work: dict[int, tuple[BodyOp, int, int]] = {}  # place in the body -> (op, MACs, elements)
        for price, times in c.prices:
            for i, o in enumerate(price.ops):
                _, macs, elements = work.get(i, (o, 0, 0))
                work[i] = o, macs + o.macs * times, elements + _elements(o.work) * times
        unit = program.units[c.unit]
        for o, macs, elements in work.values():
            need[unit] = need.get(unit, 0) + engine.roofline_ps(o.work.op, macs, elements, o.work.dtype)
    return need


def _elements(work: Work) -> int:
    """What an engine's bound is asked about: elements of the result, or of the operand that is reduced to it."""
    return math.prod(work.inputs[0] if isinstance(work.op, (tile.Reduce, tile.on_blocks("argmax"))) else work.output)
