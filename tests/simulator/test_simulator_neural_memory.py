"""Tensors that stay on chip between tasks, weights that come before their task, and weights that the cache retains."""

from __future__ import annotations

from typing import Any

import pytest
from soc_programs import GB, FakeTarget, Program, chain, matmul_task
from tilewright.compiler.ir import Module
from tilewright.targets.simulator import Timing, simulate

SIZE = 64 * 64 * 2  # bytes of each tensor and each weight of the chain
COUNT = 5
FIDELITIES = ("roofline", "analytic", "cycle")


def five(fidelity: str = "cycle", **engine: Any) -> Timing:
    target = FakeTarget().with_engine(**engine)
    return simulate(chain(COUNT, 64, 64, (64, 64, 64)), target, fidelity)


def test_temporaries_that_fit_pass_no_memory():
    kept = five(kept_bytes=2 * SIZE, in_place=True)
    assert [t.bytes for t in kept.tasks] == [2 * SIZE, SIZE, SIZE, SIZE, 2 * SIZE]
    assert [t.bytes for t in five(kept_bytes=SIZE - 1, in_place=True).tasks] == [3 * SIZE] * COUNT


def test_a_task_that_reads_and_writes_needs_room_for_both():
    """With room for one tensor, every second one stays."""
    kept = five(kept_bytes=SIZE, in_place=True)
    assert sum(t.bytes for t in kept.tasks) == (2 + COUNT + 2 * (COUNT - 1 - 2)) * SIZE


@pytest.mark.parametrize("fidelity", FIDELITIES)
def test_what_stays_is_used_where_it_lies(fidelity: str):
    """The tasks in the middle take what their weights and their products take, however slow the copies are."""
    slow, fast = (
        five(fidelity, kept_bytes=2 * SIZE, in_place=True, load_rate=100 * GB, store_rate=rate)
        for rate in (GB, 100 * GB)
    )
    assert [t.span_ps for t in slow.tasks[:-1]] == [t.span_ps for t in fast.tasks[:-1]]
    assert slow.tasks[-1].span_ps > fast.tasks[-1].span_ps


def test_results_and_what_another_engine_reads_stay_nowhere():
    p = Program()
    x, w = p.dram(64, 64), p.dram(64, 64, role="parameter")
    y, z = p.dram(64, 64, role="temporary"), p.dram(64, 64, role="output")
    with p.launch("ane"):
        matmul_task(p, x, w, y, (64, 64, 64))
    with p.launch("gpu", *p.launches):
        matmul_task(p, y, w, z, (64, 64, 64))
    target = FakeTarget().with_engine(kept_bytes=1 << 20, in_place=True)
    target = target.with_engine("gpu", kept_bytes=1 << 20, in_place=True)
    assert [t.bytes for t in simulate(p.module(), target).tasks] == [3 * SIZE, 3 * SIZE]


def test_weights_come_while_the_task_before_works():
    """A weight takes 82 us to load and a product 262 us: only the first task waits for its weight."""
    late = five(kept_bytes=2 * SIZE, in_place=True)
    early = five(kept_bytes=2 * SIZE, in_place=True, ahead_bytes=SIZE)
    load_ps = SIZE * 10
    assert late.latency_ps - early.latency_ps == pytest.approx((COUNT - 1) * load_ps, rel=0.02)
    assert [t.bytes for t in late.tasks] == [t.bytes for t in early.tasks]
    assert late.macs == early.macs


def test_only_weights_that_fit_come_early():
    none = five(kept_bytes=2 * SIZE, in_place=True)
    assert five(kept_bytes=2 * SIZE, in_place=True, ahead_bytes=SIZE - 1).latency_ps == none.latency_ps


def tiled(ahead: int, fidelity: str = "cycle") -> Timing:
    target = FakeTarget().with_engine(kept_bytes=2 * SIZE, in_place=True, ahead_bytes=ahead)
    return simulate(chain(COUNT, 64, 64, (16, 32, 32)), target, fidelity)


@pytest.mark.parametrize("ahead", [0, SIZE // 4, SIZE, 100 * SIZE])
def test_fidelities_agree_on_weights_that_come_early(ahead: int):
    bound, worked_out, walked = (tiled(ahead, f) for f in FIDELITIES)
    for least, task in zip(bound.tasks, walked.tasks, strict=True):
        assert least.span_ps <= task.span_ps
    assert worked_out.latency_ps == pytest.approx(walked.latency_ps, rel=0.25)
    assert walked.latency_ps <= tiled(0).latency_ps


def weights_twice(retained: float, slc_bytes: int) -> int:
    module: Module = chain(2, 64, 64, (64, 64, 64))
    target = FakeTarget().with_memory(slc_retained=retained, slc_bytes=slc_bytes)
    return simulate(module, target).dram_read_bytes


def test_the_cache_retains_weights_where_activations_leave_room():
    assert weights_twice(0.0, 1 << 20) == 3 * SIZE
    assert weights_twice(1.0, 1 << 20) == SIZE  # the input alone
    # two tensors are alive in each task; of the third's room both weights keep a half
    assert weights_twice(1.0, 3 * SIZE) == 2 * SIZE
    assert weights_twice(0.5, 4 * SIZE) == 2 * SIZE
