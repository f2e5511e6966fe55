"""Workloads as programs: their MACs, bytes and what simpler models say, by hand."""

import pytest
from tilewright.compiler.dialects.graph import GraphOp
from tilewright.compiler.ir import parse
from tilewright.compiler.pipeline import compile_module, copy_module
from tilewright.compiler.validate.baselines import closed_form_s, moved_bytes, needs, roofline_s
from tilewright.compiler.validate.build import build, io_bytes
from tilewright.targets import load_target
from tilewright.targets.simulator import simulate
from tilewright.targets.validation.workloads import (
    ArrayProduct,
    Attention,
    Conv,
    Elementwise,
    Embedding,
    EncoderBlock,
    FeedForward,
    GatedActivation,
    Gemm,
    LayerNorm,
    Rotary,
    SelfAttention,
    Softmax,
)

MACS = [  # each worked out by hand
    (Gemm(3, 4, 5, "f16"), 60),
    (Gemm(3, 4, 5, "f16", batch=7, weight=False), 420),
    (Gemm(3, 4, 5, "f32", transposed=True, bias=True), 60),
    (Conv(2, 3, 4, 8, 8, 3, 1, 1, "f16"), 2 * 4 * 64 * 27),
    (Conv(1, 4, 4, 8, 8, 3, 1, 1, "f16", depth=3), 3 * 4 * 64 * 36),
    (Softmax(4, 8, "f16"), 0),
    (LayerNorm(4, 8, "f16"), 0),
    (LayerNorm(4, 8, "f16", rms=True), 0),
    (Elementwise("gelu", (32,), "f16"), 0),
    (Elementwise("pow", (4, 8), "f16", 2, scalar=True), 0),
    (Attention(2, 4, 4, 8, 16, 32, "f16"), 2 * 4 * 8 * 16 * 64),
    (Attention(2, 8, 2, 1, 16, 32, "f16"), 2 * 8 * 16 * 64),
    (SelfAttention(16, 32, 4, "f16"), 4 * 16 * 32 * 32 + 2 * 4 * 16 * 16 * 8),
    (FeedForward(4, 8, 16, True, "f16"), 3 * 4 * 8 * 16),
    (FeedForward(4, 8, 16, False, "f16"), 2 * 4 * 8 * 16),
    (GatedActivation(4, 8, "f16"), 0),
    (Embedding(4, 64, 8, "f16"), 0),
    (Rotary(4, 4, 2, 8, "f16"), 0),
    (EncoderBlock(16, 32, 4, "f32"), 12 * 16 * 32 * 32 + 2 * 16 * 16 * 32),
]


@pytest.mark.parametrize(("workload", "macs"), MACS, ids=lambda w: type(w).__name__)
def test_macs(workload, macs):
    module = build(workload)
    assert sum(op.macs() for op in module.main.body if isinstance(op, GraphOp)) == macs
    target = load_target("m4")
    compile_module(module, target, ("gpu",))
    timing = simulate(module, target)
    assert timing.macs == macs and timing.latency_ps > 0


def test_what_is_no_single_op_is_not_built():
    with pytest.raises(TypeError, match="ArrayProduct is not built"):
        build(ArrayProduct(1, 1, 1, 8, 8, "os"))


@pytest.mark.parametrize(
    ("workload", "moved"),
    [
        (Gemm(3, 4, 5, "f16"), 2 * (12 + 20 + 15)),
        (Elementwise("add", (8,), "f32", 2), 3 * 32),
        (Elementwise("add", (8,), "f32", 2, scalar=True), 2 * 32),
        (Embedding(4, 64, 8, "f16"), 2 * 64 + 4 * 8),  # four rows there and back, and their numbers
        (Attention(1, 8, 2, 1, 16, 32, "f16"), 2 * (8 * 32 + 2 * 2 * 16 * 32 + 8 * 32)),
    ],
)
def test_bytes_that_must_move(workload, moved):
    ops = [o for o in build(workload).main.body if isinstance(o, GraphOp) and o.results and o.operands]
    assert [moved_bytes(o) for o in ops] == [moved]


def test_inputs_and_results_are_what_a_harness_copies():
    assert io_bytes(build(Gemm(3, 4, 5, "f16"))) == 2 * (12 + 15)
    assert io_bytes(build(Gemm(3, 4, 5, "f16", weight=False))) == 2 * (12 + 20 + 15)


@pytest.mark.parametrize("workload", [Gemm(512, 1024, 2048, "f16"), Elementwise("relu", (1 << 20,), "f16")])
def test_baselines_by_hand(workload):
    target = load_target("m4")
    gpu = target.engines["gpu"]
    (need,) = needs(build(workload), target, ("gpu",))
    if isinstance(workload, Gemm):
        assert need.compute_s == pytest.approx(
            workload.m * workload.k * workload.n / gpu.peak_macs("f16") / gpu.clock_hz
        )
    assert need.memory_s == pytest.approx(moved_bytes(need.op) / target.memory.dram_bytes_per_s)
    slow, fast = sorted((need.compute_s, need.memory_s), reverse=True)
    assert roofline_s([need]) == slow
    assert closed_form_s([need], target) == pytest.approx(slow + 0.5 * fast + gpu.launch_ps * 1e-12)


def test_no_program_beats_its_roofline():
    target = load_target("m4")
    for workload, _ in MACS:
        module = build(workload)
        least = roofline_s(needs(copy_module(module), target, ("gpu",)))
        compile_module(module, target, ("gpu",))
        assert least <= simulate(module, target).latency_ps * 1e-12


def test_a_group_that_picks_rows_reads_those():
    module = parse(
        "func.func @main(%t: tensor<64x8xf16>, %i: tensor<4xi64>, %p: tensor<4x8xf16>) -> tensor<4x8xf16> {\n"
        "  %0 = graph.gather %t, %i {axis = 0} : tensor<4x8xf16>\n  %1 = graph.add %0, %p : tensor<4x8xf16>\n"
        "  func.return %1\n}\n"
    )
    compile_module(module, load_target("m4"), ("cpu",), "graph")
    (group,) = (o for o in module.main.body if isinstance(o, GraphOp))
    assert group.name == "graph.fuse"
    assert moved_bytes(group) == 64 + 4 * 8 + 64 + 64  # rows, their numbers, what is added, the result
