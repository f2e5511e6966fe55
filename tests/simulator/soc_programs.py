"""A target with round numbers and short ways to write soc programs, for the simulator's tests.

One MAC, or one element of a vector op, takes 1 ps. A copy unit moves 1 byte in 10 ps (100 GB/s), and so does a port of
its engine, the SLC, and DRAM; what a test is about, it sets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tilewright.compiler.dialects import soc, tile
from tilewright.compiler.ir import (
    TOKEN,
    Block,
    Func,
    Location,
    MemRefType,
    Module,
    Operation,
    Return,
    Symbol,
    TileType,
    Value,
    contiguous_strides,
    verify,
)
from tilewright.targets.engines.base import CopyUnit, EngineEnergy, Space, Work
from tilewright.targets.memory import MemoryEnergy
from tilewright.targets.memory.dram.demand import Demand

GB = 1_000_000_000  # bytes a second; at 100 GB/s a byte takes 10 ps


@dataclass(frozen=True)
class FakeEngine:
    name: str = "ane"
    cores: int = 1
    launch_ps: int = 0
    task_ps: int = 0
    port_bytes_per_s: int | None = None
    packs_weights: bool = False
    rows_together: int = 1
    dram_bytes_per_s: int | None = None
    load_rate: int = 100 * GB
    store_rate: int = 100 * GB
    setup_ps: int = 0
    latency_ps: int = 0
    line_bytes: int = 1
    queued: bool = False
    in_place: bool = False
    kept_bytes: int = 0
    ahead_bytes: int = 0
    ahead_tasks: int = 8
    ahead_runs: int = 32
    exec_overhead_ps: int = 0
    by_kernel: bool = False
    energy: EngineEnergy | None = None

    def _copy(self, name: str, rate: int) -> CopyUnit:
        times = self.setup_ps, self.latency_ps
        return CopyUnit(f"{self.name}.{name}", rate, *times, self.line_bytes, self.queued, self.in_place)

    @property
    def loads(self) -> CopyUnit:
        return self._copy("load", self.load_rate)

    @property
    def weights(self) -> CopyUnit:
        return self._copy("weights", self.load_rate)

    @property
    def stores(self) -> CopyUnit:
        return self._copy("store", self.store_rate)

    @property
    def input_space(self) -> Space:
        return Space(f"{self.name}.l2", 1 << 20)

    weight_space = accumulator_space = input_space

    def refuses(self, op: Operation) -> str | None:
        return None

    def unit_of(self, op: Operation) -> str:
        return f"{self.name}.mac" if isinstance(op, (tile.Matmul, tile.Conv)) else f"{self.name}.vec"

    def bounding_unit(self, op: Operation) -> str:
        return self.unit_of(op)

    def buffers(self, ops: Iterable[Operation], wanted: int) -> int:
        return wanted

    def exec_ps(self, unit: str, work: Sequence[Work]) -> int:
        if unit not in (f"{self.name}.mac", f"{self.name}.vec"):
            raise ValueError(f"no unit {unit}")
        total = 0
        for w in work:
            k = w.inputs[0][-1] if isinstance(w.op, tile.Matmul) else 1
            total += math.prod(w.output) * k
        return total + self.exec_overhead_ps

    def vector_operations(self, work: Work) -> float:
        return math.prod(work.output)

    def granularity(self, op: Operation) -> dict[str, int]:
        return {}

    def roofline_ps(self, op: Operation, macs: int, elements: int, dtype: str) -> int:
        return macs or elements


@dataclass(frozen=True)
class FakeMemory:
    dram_bytes_per_s: int = 100 * GB
    efficiency: float = 1.0
    demand: Demand | None = None
    dram_latency_ps: int = 0
    slc_bytes: int = 1 << 20
    slc_policy: str = "cache"
    slc_bytes_per_s: int = 1000 * GB
    slc_latency_ps: int = 0
    slc_retained: float = 0.0
    slc_warm_bytes: int = 0
    line_bytes: int = 1
    port_rate: int = 1000 * GB
    energy: MemoryEnergy | None = None

    @property
    def port_bytes_per_s(self) -> dict[str, int]:
        return dict.fromkeys(("ane", "gpu", "cpu"), self.port_rate)


@dataclass(frozen=True)
class FakeTarget:
    engines: dict[str, FakeEngine] = field(default_factory=lambda: {"ane": FakeEngine()})
    memory: FakeMemory = field(default_factory=FakeMemory)

    def with_memory(self, **changes: Any) -> FakeTarget:
        return replace(self, memory=replace(self.memory, **changes))

    def with_engine(self, name: str = "ane", **changes: Any) -> FakeTarget:
        engine = replace(self.engines.get(name, FakeEngine(name)), **changes)
        return replace(self, engines={**self.engines, name: engine})


REAL = FakeTarget().with_engine(
    launch_ps=10_000_000,
    task_ps=1_000_000,
    setup_ps=50_000,
    queued=True,
    latency_ps=100_000,
    line_bytes=64,
    load_rate=60 * GB,
)


def two_engines(
    dram: int, slc: int, port: int, setup: int, latency: int, launch: int, line: int, room: int, ahead: int = 0
) -> FakeTarget:
    """A queued engine and one that is not, on one memory; rates in GB/s, times in picoseconds, sizes in bytes."""
    both = {"launch_ps": launch, "line_bytes": line}
    return (
        FakeTarget()
        .with_engine(setup_ps=setup, queued=True, latency_ps=latency, task_ps=launch // 3, ahead_bytes=ahead, **both)
        .with_engine("gpu", setup_ps=latency, latency_ps=setup, load_rate=30 * GB, **both)
        .with_memory(dram_bytes_per_s=dram * GB, slc_bytes_per_s=slc * GB, port_rate=port * GB, slc_bytes=room)
    )


class Program:
    """Builds a soc module; `module()` closes and verifies it."""

    def __init__(self) -> None:
        self.block = Block()
        self.here = self.block
        self.engine = ""
        self.launches: list[Value] = []
        self.results: list[Value] = []

    def add(self, op: Any) -> Any:
        return self.here.append(op)

    def dram(self, *shape: int, dtype: str = "f16", role: str = "input", order: tuple[int, ...] | None = None) -> Value:
        kind = MemRefType(shape, dtype, contiguous_strides(shape, order), 0, "dram")
        buffer = self.block.append(soc.Buffer(result_types=[kind], address=0, role=role))
        if role == "output":
            self.results.append(buffer.result)
        return buffer.result

    def view(self, x: Value, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> Value:
        kind = MemRefType(shape, x.type.dtype, strides, offset, "dram")
        return self.block.append(soc.View(x, result_types=[kind])).result

    def buffer(self, access: str, *shape: int, dtype: str = "f16", slots: int = 1) -> Value:
        """In the engine's space. `access` is "m, k"; `shape` its largest block."""
        kind = MemRefType(shape, dtype, contiguous_strides(shape), 0, f"{self.engine}.l2")
        axes = tuple(a.strip() for a in access.split(",")) if access else ()
        size = -(-kind.bytes // 64) * 64
        return self.add(soc.Buffer(result_types=[kind], address=0, access=axes, slots=slots, slot_bytes=size)).result

    def launch(self, engine: str, *after: Value) -> _Region:
        self.engine = engine
        return _Region(
            self, lambda body: soc.Launch(*after, regions=[body], engine=Symbol(engine)), [], self.launches.append
        )

    def task(self, label: str = "task", macs: int = 0, after: Sequence[Value] = (), reason: str = "") -> _Region:
        location = Location("model.py", 7, 0, "net", label)
        return _Region(
            self,
            lambda body: soc.Task(*after, regions=[body], label=label, macs=macs, reason=reason, location=location),
            [TOKEN],
        )

    def loop(self, dim: str, size: int, tile_size: int, *inits: Value) -> _Region:
        return _Region(
            self,
            lambda body: soc.For(*inits, regions=[body], dim=dim, size=size, tile=tile_size),
            [TOKEN] * len(inits),
        )

    def load(self, source: Value, access: str, target: Value, *after: Value, unit: str = "load") -> Value:
        axes = tuple(a.strip() for a in access.split(","))
        return self.add(soc.Copy(source, target, *after, unit=Symbol(f"{self.engine}.{unit}"), access=axes)).token

    def store(self, source: Value, target: Value, access: str, *after: Value) -> Value:
        axes = tuple(a.strip() for a in access.split(","))
        return self.add(soc.Copy(source, target, *after, unit=Symbol(f"{self.engine}.store"), access=axes)).token

    def exec(
        self,
        unit: str,
        inputs: Sequence[Value],
        outputs: Sequence[Value],
        body: Callable[..., list[Operation]],
        *after: Value,
    ) -> Value:
        """`body` takes the block arguments and gives the ops; the last op's result is yielded to each output."""
        block = Block([TileType(v.type.shape, v.type.dtype, v.type.space) for v in inputs])
        ops = body(*block.args)
        for op in ops:
            block.append(op)
        last = ops[-1].result if ops else block.args[0]
        block.append(tile.Yield(*[last] * len(outputs)))
        return self.add(
            soc.Exec(
                *inputs, *outputs, *after, regions=[block], unit=Symbol(f"{self.engine}.{unit}"), reads=len(inputs),
                writes=len(outputs),
            )
        ).token  # fmt: skip

    def wait(self, *tokens: Value) -> None:
        self.block.append(soc.Wait(*tokens))

    def module(self) -> Module:
        if self.launches:
            self.wait(*self.launches)
        self.block.append(Return(*self.results))
        module = Module()
        module.body.append(Func(regions=[self.block], sym_name="main"))
        verify(module)
        return module


class _Region:
    """`with p.loop(...) as (f0, f1): ...; p.end(tokens)`. After it, `.tokens` holds the op's results."""

    def __init__(self, program: Program, make: Callable[[Block], Any], args: list[Any], done: Any = None):
        self.program, self.make, self.done = program, make, done
        self.block = Block(args)
        self.ends: Sequence[Value] = ()
        self.tokens: Sequence[Value] = ()

    def __enter__(self) -> _Region:
        self.outer, self.program.here = self.program.here, self.block
        return self

    @property
    def args(self) -> list[Value]:
        return self.block.args

    def yields(self, *tokens: Value) -> None:
        self.ends = tokens

    def __exit__(self, *_: object) -> None:
        self.block.append(soc.Yield(*self.ends))
        self.program.here = self.outer
        op = self.outer.append(self.make(self.block))
        self.tokens = [r for r in op.results]
        if self.done:
            self.done(self.tokens[0])


def matmul(a: Value, b: Value, *acc: Value) -> list[Operation]:
    return [tile.Matmul(a, b, *acc)]


def relu(x: Value) -> list[Operation]:
    return [tile.on_blocks("relu")(x)]


def passed_on(x: Value) -> list[Operation]:
    return []


def matmul_task(p: Program, x: Value, w: Value, y: Value, tiles: tuple[int, int, int], label: str = "matmul") -> None:
    """`y = relu(x @ w)` as a task with double-buffered inputs and results and one accumulator."""
    (m, k), n = x.type.shape, w.type.shape[1]
    tm, tn, tk = tiles
    with p.task(label, macs=m * n * k) as task:
        (start,) = task.args
        xb = p.buffer("m, k", min(tm, m), min(tk, k), slots=2)
        wb = p.buffer("k, n", min(tk, k), min(tn, n), slots=2)
        acc = p.buffer("m, n", min(tm, m), min(tn, n), dtype="f32")
        yb = p.buffer("m, n", min(tm, m), min(tn, n), slots=2)
        with p.loop("m", m, tm, *[start] * 5) as rows:
            with p.loop("n", n, tn, *rows.args) as columns:
                f0, f1, free, s0, s1 = columns.args
                with p.loop("k", k, tk, f0, f1, free) as steps:
                    g0, g1, ready = steps.args
                    a = p.load(x, "m, k", xb, g0)
                    b = p.load(w, "k, n", wb, g0, unit="weights")
                    done = p.exec("mac", [xb, wb, acc], [acc], matmul, a, b, ready)
                    steps.yields(g1, done, done)
                out = p.exec("vec", [acc], [yb], rounded, steps.tokens[2], s0)
                stored = p.store(yb, y, "m, n", out)
                columns.yields(*steps.tokens[:2], out, s1, stored)
            rows.yields(*columns.tokens)
        task.yields(*rows.tokens)


def rounded(x: Value) -> list[Operation]:
    f16 = tile.on_blocks("cast")(x, to="f16")
    return [f16, tile.on_blocks("relu")(f16.result)]


def chain(count: int, m: int, n: int, tiles: tuple[int, int, int], engine: str = "ane") -> Module:
    """A network of `count` matmuls, each of which reads what the one before it wrote; one launch."""
    p = Program()
    x = p.dram(m, n)
    weights = [p.dram(n, n, role="parameter") for _ in range(count)]
    results = [p.dram(m, n, role="temporary" if i < count - 1 else "output") for i in range(count)]
    with p.launch(engine):
        for i, (w, y) in enumerate(zip(weights, results, strict=True)):
            matmul_task(p, x, w, y, tiles, f"matmul {i}")
            x = y
    return p.module()
