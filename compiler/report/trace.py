"""A Chrome/Perfetto trace of a simulation: a process for each engine, a lane for its tasks and one for each unit."""

from __future__ import annotations

import json
from typing import Any

TASKS_LANE = 0


def trace_json(timing: Any, *, model: str, target: str, fidelity: str) -> str:
    """The trace of a `Timing` made with `trace=True`, as JSON text. Times are microseconds, as the format asks."""
    units = sorted(timing.unit_busy_ps)
    engines = sorted({unit.partition(".")[0] for unit in units} | {t.engine for t in timing.tasks})
    process = {name: i + 1 for i, name in enumerate(engines)}
    lane = {unit: (process[unit.partition(".")[0]], i + 1) for i, unit in enumerate(units)}
    events: list[dict[str, Any]] = []
    for name, pid in process.items():
        events += [_name("process_name", pid, TASKS_LANE, name), _name("thread_name", pid, TASKS_LANE, "tasks")]
    events += [_name("thread_name", pid, tid, unit) for unit, (pid, tid) in lane.items()]
    for t in timing.tasks:
        details = {
            "module": t.location.module,
            "source": t.location.source,
            "macs": t.macs,
            "bytes": t.bytes,
            "bound": t.bound,
        }
        if t.dram.accesses:
            details |= {f"dram_{part}_ps": ps for part, ps in t.dram.parts.items()}
            details["dram_activates"] = t.dram.activates
        if t.reason:
            details["reason"] = t.reason
        events.append(_span(t.label, process[t.engine], TASKS_LANE, t.start_ps, t.end_ps) | {"args": details})
    for unit, start, end, task in timing.slices:
        label = timing.tasks[task].label if 0 <= task < len(timing.tasks) else unit
        events.append(_span(label, *lane[unit], start, end))
    about = {"model": model, "target": target, "fidelity": fidelity, "latency_ps": timing.latency_ps}
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ns", "otherData": about}, separators=(",", ":"))


def _name(what: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": pid, "tid": tid, "args": {"name": name}}


def _span(name: str, pid: int, tid: int, start_ps: int, end_ps: int) -> dict[str, Any]:
    return {"ph": "X", "name": name, "pid": pid, "tid": tid, "ts": start_ps / 1e6, "dur": (end_ps - start_ps) / 1e6}
