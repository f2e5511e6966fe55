"""What the model says of a workload on a target, and what simpler models say of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from tilewright.compiler.ir import IRError, Module
from tilewright.compiler.pipeline import InternalError, copy_module, run_passes
from tilewright.passes import PassContext, PassError, default_pipeline
from tilewright.passes.fuse import Fuse
from tilewright.targets import Target, list_targets, load_target
from tilewright.targets.engines import UnpricedError
from tilewright.targets.engines.systolic import scalesim_cycles
from tilewright.targets.simulator import SimulationError, Timing, simulate
from tilewright.targets.validation.workloads import ArrayProduct, Generation, Network, Programs, Workload

from . import baselines
from .build import build, io_bytes


class NotPriced(Exception):  # noqa: N818 - reads as what is wrong
    """Why a workload has no price: no such target or engine, no definition of the network, work that has no price."""


@dataclass(frozen=True, slots=True)
class Job:
    """A workload on a target. Equal jobs have equal prices."""

    target: str
    engines: tuple[str, ...]
    settings: tuple[tuple[str, str], ...]
    workload: Workload
    target_file: str = ""  # of a target that does not ship
    eager: bool = False  # ops are not fused


@dataclass(frozen=True, slots=True)
class Price:
    """Seconds (of an array's product: cycles). `causes` says what the model's time is for, in seconds by cause. The
    program has `tasks` tasks, each of which costs its engine `task_s` besides its work."""

    model: float
    roofline: float
    closed_form: float
    regime: str
    io_bytes: int = 0
    causes: Mapping[str, float] = field(default_factory=dict)
    wall_s: float = 0.0
    tasks: int = 0
    task_s: float = 0.0
    calls: tuple[tuple[Price, int], ...] = ()  # of a program that is launched in several, each with how often


Provider = Callable[[Any], Module]  # of the module of a network or of a language model; raises NotPriced

REGIMES = ("launch", "memory", "mixed", "compute")
CLEAR = 2.0  # how much longer one side must be than the other to count as the bound


def regime(compute_s: float, memory_s: float, launch_s: float) -> str:
    """What bounds a program, by its roofline: the launch where that is longer than both sides, compute or memory where
    that side is at least twice the other, mixed in between."""
    if launch_s > max(compute_s, memory_s):
        return "launch"
    if compute_s >= CLEAR * memory_s:
        return "compute"
    return "memory" if memory_s >= CLEAR * compute_s else "mixed"


class Pricer:
    """Prices jobs. `networks` gives the module of a Network or Generation; the last is kept."""

    def __init__(self, networks: Provider, fidelity: str = "cycle"):
        self.fidelity = fidelity
        self.targets: dict[Any, Target] = {}
        self.network = lru_cache(maxsize=1)(networks)

    def price(self, job: Job) -> Price:
        """Raises NotPriced."""
        started = time.perf_counter()
        if isinstance(job.workload, Programs):
            return self.price_each(job, job.workload)
        if isinstance(job.workload, ArrayProduct):
            return array_price(job.workload, started)
        target = self.target(job)
        unknown = [e for e in job.engines if e not in target.engines]
        if unknown:
            raise NotPriced(f"target '{target.name}' has no engine '{unknown[0]}'")
        module = self.module(job.workload)
        try:
            return self.run(module, target, job, started)
        except (PassError, SimulationError, UnpricedError, IRError, InternalError) as error:
            raise NotPriced(f"{type(error).__name__}: {str(error).splitlines()[0]}") from error

    def price_each(self, job: Job, programs: Programs) -> Price:
        """Several programs, each launched by itself: their prices add up."""
        parts: list[tuple[Price, int]] = []
        for call in programs.calls:
            engines = (call.engine,) if call.engine else job.engines
            parts.append((self.price(replace(job, workload=call.network, engines=engines)), call.times))
        spent: dict[str, float] = {}
        for p, times in parts:
            for cause, seconds in p.causes.items():
                spent[cause] = spent.get(cause, 0.0) + seconds * times
        model, roofline, simple, copied = (
            sum(getattr(p, name) * times for p, times in parts)
            for name in ("model", "roofline", "closed_form", "io_bytes")
        )
        wall = sum(p.wall_s for p, _ in parts)
        return Price(model, roofline, simple, parts[0][0].regime, copied, spent, wall, calls=tuple(parts))

    def target(self, job: Job) -> Target:
        key = (job.target_file or job.target, job.settings)
        if key not in self.targets:
            if not job.target_file and job.target not in list_targets():
                raise NotPriced(f"there is no target '{job.target}'")
            target = load_target(job.target_file or job.target)
            for path, value in job.settings:
                target = target.override(path, value)
            self.targets[key] = target
        return self.targets[key]

    def module(self, workload: Workload) -> Module:
        """A module of one's own, at the graph level."""
        if isinstance(workload, (Network, Generation)):
            return copy_module(self.network(workload))
        return build(workload)

    def run(self, module: Module, target: Target, job: Job, started: float) -> Price:
        copied = io_bytes(module)
        context = PassContext(target=target, engines=job.engines)
        to_graph = default_pipeline("graph")
        run_passes(module, [p for p in to_graph if not (job.eager and isinstance(p, Fuse))], context)
        needs = baselines.needs(module, target, job.engines)
        launch_s = needs[0].engine.launch_ps * 1e-12 if needs else 0.0
        bound = regime(sum(n.compute_s for n in needs), sum(n.memory_s for n in needs), launch_s)
        by_layers = isinstance(job.workload, Network) and job.engines[:1] == ("ane",)
        simple = baselines.layers_s(needs) if by_layers else baselines.closed_form_s(needs, target)
        roofline = baselines.roofline_s(needs)
        run_passes(module, default_pipeline("soc")[len(to_graph) :], context)
        timing = simulate(module, target, self.fidelity)
        seconds = timing.latency_ps * 1e-12
        wall = time.perf_counter() - started
        task_s = needs[0].engine.task_ps * 1e-12 if needs else 0.0
        return Price(seconds, roofline, simple, bound, copied, causes(timing), wall, len(timing.tasks), task_s)


def array_price(w: ArrayProduct, started: float) -> Price:
    """An array without double buffering, in cycles. The roofline is the multiply-accumulates over the elements; the
    closed form adds what is padded."""
    cycles = scalesim_cycles(w.m, w.n, w.k, w.rows, w.columns, w.dataflow)
    elements = w.rows * w.columns
    held = {"ws": (w.k, w.n), "is": (w.k, w.m), "os": (w.m, w.n)}[w.dataflow]
    folds = -(-held[0] // w.rows) * -(-held[1] // w.columns)
    stream = w.m * w.n * w.k / (held[0] * held[1])
    ideal = w.m * w.n * w.k / elements
    wall = time.perf_counter() - started
    return Price(float(cycles), ideal, folds * stream, "compute", causes={"matrix": float(cycles)}, wall_s=wall)


def causes(timing: Timing) -> dict[str, float]:
    """Where the latency goes, in seconds by the simulator's causes; "idle" where no engine has a task. Of tasks at the
    same time, the one that started first is charged."""
    shares: dict[str, float] = {}
    reached = 0
    for task in timing.tasks:
        exposed = max(0, task.end_ps - max(task.start_ps, reached))
        reached = max(reached, task.end_ps)
        span = sum(task.breakdown.values())
        for cause, ps in task.breakdown.items():
            shares[cause] = shares.get(cause, 0.0) + ps * exposed / span * 1e-12
    idle = timing.latency_ps * 1e-12 - sum(shares.values())
    if idle > 1e-12:
        shares["idle"] = shares.get("idle", 0.0) + idle
    return dict(sorted(shares.items()))
