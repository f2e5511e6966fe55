"""The cost report: the JSON that `tilewright cost --json` writes, and how it is made from a simulation.

Times are integer picoseconds, traffic is bytes. Two runs of the same program give the same report, `phases` aside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = "tilewright.cost/1"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class DramBytes(_Strict):
    read: int
    write: int


class DramUse(_Strict):
    """How long DRAM was busy, in picoseconds of all channels together, and with what: `data` on the pins, `rows` that
    waited to be opened, `sharing` between streams (rows closed, the bus turned around), `refresh`, and `controller`, by
    which measured streams differ from the device's rules (see tilewright.targets.simulator.timing)."""

    busy_ps: int
    parts: dict[str, int]
    accesses: int  # lines of 64 B
    activates: int


class EngineUse(_Strict):
    """`busy_ps` is the time in which the engine had a task; `units` says how long each of its units worked."""

    busy_ps: int
    units: dict[str, int]


class Phases(_Strict):
    """Wall-clock seconds of the tool itself."""

    export_s: float = 0.0
    import_s: float = 0.0
    passes_s: float = 0.0
    simulate_s: float = 0.0


class OpEnergy(_Strict):
    """Picojoules of one task, which the parts add up to (see tilewright.targets.simulator.energy)."""

    total_pj: int
    parts: dict[str, int]


class EngineEnergy(OpEnergy):
    """Picojoules of an engine's tasks, with the traffic in memory that they cause. The power is over the time in which
    it had a task."""

    average_w: float


class ParameterSource(_Strict):
    """A parameter of the target, and where it comes from."""

    value: float
    unit: str
    source: str
    confidence: str


class EnergyCost(_Strict):
    """Picojoules of the whole run. `parts` adds up to the total: the tasks' parts, and `memory`, which the memory draws
    however little it moves; `engines` has the tasks' parts by engine. `sources` are the parameters of the target that
    this follows from.

    Where the target does not say all that the program asks for, `missing` names it, and no energy is known.
    """

    total_pj: int | None
    average_w: float | None
    parts: dict[str, int]
    engines: dict[str, EngineEnergy]
    sources: dict[str, ParameterSource]
    missing: list[str]


class OpCost(_Strict):
    """One task of the program, in order of its start. `bytes` is what its copies moved.

    `bound` is the unit or the cause that held it back for most of its span; `breakdown` says where the whole span went,
    in picoseconds by cause ("matrix", "vector", "dram", "launch", ...: see tilewright.targets.simulator).
    """

    id: int
    name: str
    module: str
    source: str
    engine: str
    start_ps: int
    end_ps: int
    macs: int
    bytes: int
    bound: str
    breakdown: dict[str, int]
    energy: OpEnergy | None = None  # None: not known
    dram: DramUse | None = None  # None: it uses no DRAM, or only a rate is known of it


class Handed(_Strict):
    """A task that runs on another engine than the first that was asked for, and why."""

    id: int
    name: str
    module: str
    engine: str
    reason: str


class Unpriced(_Strict):
    """Work that no engine could price. The simulator refuses such a program, so a report of one it ran has none."""

    name: str
    module: str
    source: str
    macs: int
    bytes: int


class CostReport(_Strict):
    """What a program costs on a target."""

    schema_: str = Field(default=SCHEMA, alias="schema")
    tool: str
    model: str
    target: str
    fidelity: str
    dims: dict[str, int] = {}  # the sizes that were bound
    assumptions: list[str] = []  # what the cost rests on beyond the program, such as how tokens are routed
    latency_ps: int
    macs: int
    dram_bytes: DramBytes
    dram: DramUse | None = None  # None: only a rate is known of it
    engines: dict[str, EngineUse]
    energy: EnergyCost
    phases: Phases
    ops: list[OpCost]
    handed: list[Handed]
    unpriced: list[Unpriced]

    def to_json(self) -> str:
        """The JSON text, ending in a newline."""
        return self.model_dump_json(by_alias=True, indent=2) + "\n"

    @property
    def idle_ps(self) -> int:
        """Time in which no engine had a task: launches, waits between them, and the last copies."""
        return self.latency_ps - sum(exposed_ps(self))


def reports_json(reports: Sequence[CostReport]) -> str:
    """The JSON text of one report, or an array of several, ending in a newline."""
    if len(reports) == 1:
        return reports[0].to_json()
    return "[\n" + ",\n".join(r.to_json().rstrip("\n") for r in reports) + "\n]\n"


def build_report(
    timing: Any,
    *,
    model: str,
    target: str,
    fidelity: str,
    phases: Mapping[str, float],
    dims: Mapping[str, int] | None = None,
    assumptions: Sequence[str] = (),
) -> CostReport:
    """Makes the report of a `Timing` (tilewright.targets.simulator)."""
    tasks = timing.tasks
    engines = _engine_use(timing)
    energies = [OpEnergy(total_pj=sum(parts.values()), parts=parts) for parts in timing.energy.tasks]
    ops = [
        OpCost(
            id=i,
            name=t.label,
            module=t.location.module,
            source=t.location.source,
            engine=t.engine,
            start_ps=t.start_ps,
            end_ps=t.end_ps,
            macs=t.macs,
            bytes=t.bytes,
            bound=t.bound,
            breakdown={cause: ps for cause, ps in t.breakdown.items() if ps},
            energy=energies[i] if energies else None,
            dram=_dram(t.dram),
        )
        for i, t in enumerate(tasks)
    ]
    handed = [
        Handed(id=i, name=t.label, module=t.location.module, engine=t.engine, reason=t.reason)
        for i, t in enumerate(tasks)
        if t.reason
    ]
    return CostReport(
        tool=f"tilewright {version('tilewright')}",
        model=model,
        target=target,
        fidelity=fidelity,
        dims=dict(dims or {}),
        assumptions=list(assumptions),
        latency_ps=timing.latency_ps,
        macs=timing.macs,
        dram_bytes=DramBytes(read=timing.dram_read_bytes, write=timing.dram_write_bytes),
        dram=_dram(timing.dram),
        engines=engines,
        energy=_energy(timing, engines),
        phases=Phases(**{name: round(seconds, 6) for name, seconds in phases.items()}),
        ops=ops,
        handed=handed,
        unpriced=[],
    )


def _dram(use: Any) -> DramUse | None:
    if not use.accesses:
        return None
    return DramUse(busy_ps=use.busy_ps, parts=use.parts, accesses=use.accesses, activates=use.activates)


def _engine_use(timing: Any) -> dict[str, EngineUse]:
    """Busy time of each engine that did anything, and of its units, by name."""
    spans: dict[str, list[tuple[int, int]]] = {}
    for t in timing.tasks:
        spans.setdefault(t.engine, []).append((t.start_ps, t.end_ps))
    use = {name: EngineUse(busy_ps=covered_ps(spans[name]), units={}) for name in sorted(spans)}
    for unit, busy in sorted(timing.unit_busy_ps.items()):
        engine = unit.partition(".")[0]
        if engine in use:
            use[engine].units[unit] = busy
    return use


def _energy(timing: Any, use: dict[str, EngineUse]) -> EnergyCost:
    spent = timing.energy
    by_engine: dict[str, Counter[str]] = {}
    for task, parts in zip(timing.tasks, spent.tasks, strict=not spent.missing):
        by_engine.setdefault(task.engine, Counter()).update(parts)
    engines = {}
    for name, parts in sorted(by_engine.items()):
        total = sum(parts.values())
        watts = total / max(use[name].busy_ps, 1)  # pJ/ps
        engines[name] = EngineEnergy(total_pj=total, parts=dict(parts), average_w=watts)
    return EnergyCost(
        total_pj=spent.total_pj,
        average_w=None if spent.total_pj is None else spent.total_pj / max(timing.latency_ps, 1),
        parts={} if spent.missing else spent.parts,
        engines=engines,
        sources={
            path: ParameterSource(value=q.value, unit=q.unit, source=q.source, confidence=q.confidence)
            for path, q in spent.sources.items()
        },
        missing=list(spent.missing),
    )


def covered_ps(spans: list[tuple[int, int]]) -> int:
    """Length of the union of the spans."""
    total = reached = 0
    for start, end in sorted(spans):
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total


def exposed_ps(report: CostReport) -> list[int]:
    """How much of the latency each op is charged for: the time in which it ran and no op that started before it did.

    These and `idle_ps` add up to the latency, also where engines run side by side.
    """
    exposed, reached = [0] * len(report.ops), 0
    for i, op in sorted(enumerate(report.ops), key=lambda pair: (pair[1].start_ps, pair[0])):
        exposed[i] = max(0, op.end_ps - max(op.start_ps, reached))
        reached = max(reached, op.end_ps)
    return exposed
