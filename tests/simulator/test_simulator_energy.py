"""Energy: parts add up, follow what a program does, and not how long it takes, static power aside."""

from __future__ import annotations

from dataclasses import replace

import pytest
from soc_programs import GB, FakeTarget, Program, chain, matmul, matmul_task, relu
from tilewright.compiler.ir import Module
from tilewright.targets.engines.base import EngineEnergy
from tilewright.targets.memory import MemoryEnergy
from tilewright.targets.simulator import (
    FIDELITIES,
    Energy,
    SimulationError,
    Timing,
    flatten,
    residency,
    roofline,
    simulate,
)
from tilewright.targets.simulator.energy import PARTS, spent

BY_TIME = {"static", "memory"}


def quantity(value: float, unit: str) -> dict[str, object]:
    return {"value": value, "unit": unit, "source": "a test", "confidence": "assumed"}


def engine_energy(mac: float = 2, vector: float = 3, local: float = 5, launch: float = 7, static: float = 11):
    """pJ/MAC, pJ/op, pJ/B, nJ, W."""
    return EngineEnergy.model_validate(
        {
            "mac": {"f16": quantity(mac, "pJ/MAC")},
            "vector": quantity(vector, "pJ/op"),
            "local": quantity(local, "pJ/B"),
            "launch": quantity(launch, "nJ"),
            "static": quantity(static, "W"),
        }
    )


def memory_energy(slc: float = 13, dram: float = 17, static: float = 19):
    """pJ/B, pJ/B, W."""
    return MemoryEnergy.model_validate(
        {"slc": quantity(slc, "pJ/B"), "dram": quantity(dram, "pJ/B"), "static": quantity(static, "W")}
    )


def target(engine: EngineEnergy | None = None, memory: MemoryEnergy | None = None) -> FakeTarget:
    engine, memory = engine or engine_energy(), memory or memory_energy()
    hardware = {"launch_ps": 3_000_000, "task_ps": 100_000, "setup_ps": 50_000, "energy": engine}
    return FakeTarget().with_engine("ane", **hardware).with_engine("gpu", **hardware).with_memory(energy=memory)


def energy_of(module: Module, hardware: FakeTarget, fidelity: str = "cycle") -> tuple[Energy, Timing]:
    timing = simulate(module, hardware, fidelity)
    assert timing.energy is not None and not timing.energy.missing
    return timing.energy, timing


def two_engines() -> Module:
    p = Program()
    for engine in ("ane", "gpu"):
        x = p.dram(100, 96)
        with p.launch(engine):
            for i in range(3):
                y = p.dram(100, 96, role="output")
                matmul_task(p, x, p.dram(96, 96, role="parameter"), y, (32, 48, 40), f"{engine} {i}")
                x = y
    return p.module()


@pytest.mark.parametrize("fidelity", FIDELITIES)
def test_one_task_by_hand(fidelity: str) -> None:
    """y = relu(x @ w) on 64 x 64: what each part counts."""
    energy, timing = energy_of(chain(1, 64, 64, (64, 64, 64)), target(), fidelity)
    (task,) = timing.tasks
    elements = 64 * 64
    assert energy.tasks == [
        {
            "mac": 2 * elements * 64,
            "vector": 3 * 2 * elements,  # a cast and a relu
            "local": 5 * 3 * elements * 2,  # x, w and y in f16
            "launch": 7000,
            "slc": 13 * 3 * elements * 2,
            "dram": 17 * (timing.dram_read_bytes + timing.dram_write_bytes),
            "static": 11 * (task.span_ps - (0 if fidelity == "roofline" else 3_000_000)),
        }
    ]
    assert timing.dram_read_bytes + timing.dram_write_bytes == 3 * elements * 2
    assert energy.memory_pj == 19 * timing.latency_ps
    assert energy.total_pj == sum(energy.tasks[0].values()) + energy.memory_pj


@pytest.mark.parametrize("fidelity", FIDELITIES)
def test_parts_add_up_and_only_static_power_follows_the_fidelity(fidelity: str) -> None:
    module, hardware = two_engines(), target()
    energy, timing = energy_of(module, hardware, fidelity)
    assert list(energy.parts) == [*PARTS, "memory"]
    assert energy.total_pj == sum(sum(t.values()) for t in energy.tasks) + energy.memory_pj
    assert energy.parts["mac"] == 2 * timing.macs
    assert energy.parts["slc"] == 13 * sum(t.bytes for t in timing.tasks)
    assert energy.parts["launch"] == 2 * 7000
    cycle, _ = energy_of(module, hardware)
    assert {p: pj for p, pj in energy.parts.items() if p not in BY_TIME} == {
        p: pj for p, pj in cycle.parts.items() if p not in BY_TIME
    }


def test_an_engine_without_a_task_draws_nothing() -> None:
    energy, timing = energy_of(two_engines(), target())
    powered = sum(t.span_ps - t.breakdown.get("launch", 0) for t in timing.tasks)
    assert energy.parts["static"] == 11 * powered < 11 * 2 * timing.latency_ps


@pytest.mark.parametrize("fidelity", FIDELITIES)
def test_what_stays_on_chip_costs_its_memory_and_nothing_beyond(fidelity: str) -> None:
    module = chain(5, 64, 64, (64, 64, 64))
    tensor, between = 64 * 64 * 2, 2 * 4  # bytes; four temporaries are written and read
    hardware = target()
    away, _ = energy_of(module, hardware, fidelity)
    kept, timing = energy_of(module, hardware.with_engine(kept_bytes=2 * tensor, in_place=True), fidelity)
    assert kept.parts["local"] == away.parts["local"]
    assert kept.parts["slc"] == 13 * sum(t.bytes for t in timing.tasks)
    assert away.parts["slc"] - kept.parts["slc"] == 13 * between * tensor


def test_more_work_costs_more() -> None:
    small, _ = energy_of(chain(1, 64, 64, (64, 64, 64)), target())
    large, _ = energy_of(chain(1, 128, 64, (64, 64, 64)), target())
    assert large.parts["mac"] == 2 * small.parts["mac"] and large.parts["vector"] == 2 * small.parts["vector"]
    assert all(large.parts[part] > small.parts[part] for part in ("local", "slc", "dram"))
    assert large.parts["launch"] == small.parts["launch"]


def test_a_slower_memory_costs_static_power_alone() -> None:
    module = two_engines()
    fast, slow = (energy_of(module, target().with_memory(dram_bytes_per_s=g * GB))[0].parts for g in (100, 5))
    changed = {part for part in fast if slow[part] > fast[part]}
    assert changed == BY_TIME and all(slow[p] == fast[p] for p in fast if p not in BY_TIME)


@pytest.mark.parametrize("part", [*PARTS, "memory"])
def test_each_parameter_scales_its_part_alone(part: str) -> None:
    module = two_engines()
    before, _ = energy_of(module, target())
    if part in ("slc", "dram", "memory"):
        name, old = {"slc": ("slc", 13), "dram": ("dram", 17), "memory": ("static", 19)}[part]
        hardware = target(memory=memory_energy(**{name: 2 * old}))
    else:
        old = {"mac": 2, "vector": 3, "local": 5, "launch": 7, "static": 11}[part]
        hardware = target(engine_energy(**{part: 2 * old}))
    after, _ = energy_of(module, hardware)
    assert after.parts == before.parts | {part: 2 * before.parts[part]} and before.parts[part] > 0


def test_what_is_not_known_is_named() -> None:
    module = two_engines()
    hardware = target().with_engine("gpu", energy=None)
    assert simulate(module, hardware).energy == Energy(missing=("gpu.energy",))
    hardware = FakeTarget().with_engine("gpu")
    energy = simulate(module, hardware).energy
    assert energy is not None and energy.missing == ("ane.energy", "gpu.energy", "memory.energy")
    assert energy.total_pj is None


def test_a_dtype_without_a_figure_is_named() -> None:
    p = Program()
    x, w = p.dram(8, 8, dtype="bf16"), p.dram(8, 8, dtype="bf16", role="parameter")
    with p.launch("ane"), p.task(macs=512) as task:
        a, b = p.buffer("", 8, 8, dtype="bf16"), p.buffer("", 8, 8, dtype="bf16")
        c = p.buffer("", 8, 8, dtype="f32")
        loaded = [p.load(x, ":8, :8", a, *task.args), p.load(w, ":8, :8", b, *task.args)]
        task.yields(p.exec("mac", [a, b], [c], matmul, *loaded))
    energy = simulate(p.module(), target()).energy
    assert energy is not None and energy.missing == ("ane.energy.mac.bf16",)


def test_an_unused_engine_may_be_unknown() -> None:
    p = Program()
    x, y = p.dram(8, 8), p.dram(8, 8, role="output")
    with p.launch("ane"), p.task() as task:
        a, b = p.buffer("", 8, 8), p.buffer("", 8, 8)
        done = p.exec("vec", [a], [b], relu, p.load(x, ":8, :8", a, *task.args))
        task.yields(p.store(b, y, ":8, :8", done))
    energy, _ = energy_of(p.module(), target().with_engine("gpu", energy=None))
    assert energy.parts["vector"] == 3 * 64 and "ane.energy.vector" in energy.sources
    assert not any(path.startswith(("gpu", "ane.energy.mac")) for path in energy.sources)


def test_books_that_differ_are_an_error() -> None:
    hardware = target()
    program = flatten.flatten(chain(1, 64, 64, (64, 64, 64)), hardware)
    residency.lay_out(program, hardware.memory)
    timing = roofline.run(program)
    timing.tasks[0] = replace(timing.tasks[0], macs=1)
    with pytest.raises(SimulationError, match="MACs: energy is counted for 262144, time for 1"):
        spent(program, timing, hardware.memory.energy)
