"""Two branches of a compiled program, each bound by memory, on two engines of a real target at once."""

from __future__ import annotations

import pytest
from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Block, Func, Module, Return, Symbol, TensorType
from tilewright.compiler.pipeline import run_passes
from tilewright.passes import PassContext, parse_pipeline
from tilewright.targets import load_target
from tilewright.targets.simulator import Timing, simulate

WIDTH = 8192


def branches(*engines: str) -> Module:
    """A product of one row with weights of 128 MiB on each of these engines."""
    block = Block([TensorType((1, WIDTH), "f16")], ["x"])
    results = []
    for i, engine in enumerate(engines):
        kind = TensorType((WIDTH, WIDTH), "f16")
        w = block.append(graph.Parameter(key=f"w{i}", result_types=[kind])).result
        product = block.append(graph.Matmul(block.args[0], w, transpose_b=True))
        product.attributes["engine"] = Symbol(engine)
        results.append(product.result)
    block.append(Return(*results))
    module = Module()
    module.body.append(Func(sym_name="main", regions=[block]))
    return module


def cost(chip: str, *engines: str) -> Timing:
    module, target = branches(*engines), load_target(chip)
    passes = parse_pipeline("tile,double-buffer,allocate,lower-to-soc")
    run_passes(module, passes, PassContext(target=target))
    return simulate(module, target)


@pytest.mark.parametrize("chip", ["m1", "m4"])
def test_engines_slow_each_other_down_at_dram(chip: str) -> None:
    """They ask for more than there is: both take longer, and all bytes pass the pins."""
    memory = load_target(chip).memory
    alone = {e: cost(chip, e).tasks[0] for e in ("gpu", "ane")}
    both = cost(chip, "gpu", "ane")
    found = {t.engine: t for t in both.tasks}
    gpu, ane = found["gpu"], found["ane"]
    assert ane.start_ps == gpu.start_ps == 0
    moved = sum(t.dram_read_bytes + t.dram_write_bytes for t in both.tasks)
    assert moved > 1.9 * WIDTH * WIDTH * 2
    assert both.latency_ps >= moved / memory.dram_bytes_per_s * 1e12
    assert both.latency_ps > 1.1 * max(t.span_ps for t in alone.values())
    assert both.latency_ps < sum(t.span_ps for t in alone.values())
    assert gpu.span_ps > 1.2 * alone["gpu"].span_ps
    assert ane.span_ps > 1.02 * alone["ane"].span_ps


def test_engines_leave_each_other_alone_where_memory_is_fast_enough() -> None:
    """M1 Max has more bandwidth than its Neural Engine and CPU ask for together."""
    alone = {e: cost("m1max", e).tasks[0].span_ps for e in ("cpu", "ane")}
    both = {t.engine: t.span_ps for t in cost("m1max", "cpu", "ane").tasks}
    assert both == {e: pytest.approx(ps, rel=0.001) for e, ps in alone.items()}
