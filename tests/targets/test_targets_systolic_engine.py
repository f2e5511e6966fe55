"""The engine with systolic arrays: prices for everything, the roofline below them, and what its memory does."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from target_blocks import block, conv, elementwise, examples, matmul, work
from tilewright.compiler.dialects import graph, tile
from tilewright.compiler.ir import Block, Operation, TensorType
from tilewright.compiler.pipeline import compile_module
from tilewright.compiler.validate.build import build
from tilewright.targets import Target, TargetError, load_target
from tilewright.targets.description import SOCS
from tilewright.targets.engines import PricedEngine, Work
from tilewright.targets.simulator import simulate
from tilewright.targets.validation.workloads import Attention, Gemm, Softmax

V3, V6E = load_target("tpu_v3"), load_target("tpu_v6e")
ENGINES = [V3.engines["tpu"], V6E.engines["tpu"]]
SIZE, TILE = st.integers(1, 700), st.integers(16, 512)
engines = st.sampled_from(ENGINES)


def price(engine: PricedEngine, *ops: Operation) -> int:
    return engine.exec_ps(engine.unit_of(ops[0]), [work(op) for op in ops])


def latency_s(workload: object, target: Target, fidelity: str = "cycle") -> float:
    module = build(workload)
    compile_module(module, target, (), "soc")
    return simulate(module, target, fidelity).latency_ps * 1e-12


def cuts(size: int, by: int) -> list[int]:
    return [min(by, size - start) for start in range(0, size, by)]


# ---------------------------------------------------------------- prices and bounds


@pytest.mark.parametrize("engine", ENGINES, ids=["v3", "v6e"])
@pytest.mark.parametrize("dtype", ["bf16", "f32", "f64", "i64"])
def test_every_body_op_has_a_price_above_its_bound(engine: PricedEngine, dtype: str) -> None:
    for name, op in examples(dtype).items():
        if op.operands:
            macs = getattr(op, "macs", lambda: 0)()
            least = engine.roofline_ps(op, macs, op.results[0].type.elements, op.operands[0].type.dtype)
            assert 0 <= least <= price(engine, op), name


@settings(max_examples=60, deadline=None)
@given(engines, SIZE, SIZE, SIZE, TILE, TILE, TILE)
def test_no_cut_of_a_product_beats_the_roofline(engine, m: int, k: int, n: int, tm: int, tk: int, tn: int) -> None:
    op = matmul(m, k, n, "bf16")
    total = sum(
        engine.exec_ps(engine.unit_of(op), [Work(op, ((a, b), (b, c)), (a, c), "bf16")])
        for a, b, c in itertools.product(cuts(m, tm), cuts(k, tk), cuts(n, tn))
    )
    assert total >= engine.roofline_ps(op, m * k * n, m * n, "bf16")


@settings(max_examples=60, deadline=None)
@given(engines, st.lists(st.sampled_from(["relu", "exp", "gelu", "silu", "neg"]), min_size=1, max_size=5), SIZE, SIZE)
def test_bounds_of_a_chain_add_up(engine, names: list[str], m: int, n: int) -> None:
    value, chain = block((m, n), "f32"), []
    for name in names:
        chain.append(tile.on_blocks(name)(value))
        value = chain[-1].result
    assert price(engine, *chain) >= sum(engine.roofline_ps(op, 0, m * n, "f32") for op in chain)


@pytest.mark.parametrize(
    "workload",
    [Gemm(33, 700, 129, "bf16"), Gemm(1, 1, 1, "bf16"), Softmax(7, 1001, "f32"), Gemm(2048, 768, 3072, "bf16")],
)
@pytest.mark.parametrize("target", [V3, V6E], ids=["v3", "v6e"])
def test_odd_sizes_and_the_order_of_fidelities(workload: object, target: Target) -> None:
    assert 0 < latency_s(workload, target, "roofline") <= latency_s(workload, target)


@pytest.mark.parametrize("workload", [Gemm(8, 4096, 6144, "bf16"), Gemm(2048, 8192, 10240, "bf16")])
def test_more_bandwidth_is_never_slower(workload: object) -> None:
    times = [latency_s(workload, V6E.override("memory.bandwidth", f"{n}GB/s")) for n in (400, 820, 1640, 3280)]
    assert times == sorted(times, reverse=True) and times[0] > times[-1]


def test_published_peaks() -> None:
    v3, v6e = ENGINES
    assert 2 * v6e.peak_macs("bf16") * v6e.clock_hz == pytest.approx(918e12, rel=0.001)
    assert 2 * v6e.peak_macs("i8") * v6e.clock_hz == pytest.approx(1836e12, rel=0.001)
    assert 2 * 2 * v3.peak_macs("bf16") * v3.clock_hz == pytest.approx(123e12, rel=0.01), "two cores a chip"


# ---------------------------------------------------------------- what the arrays do


def test_columns_and_rows_are_padded_to_whole_folds() -> None:
    v3, v6e = ENGINES
    assert price(v6e, matmul(1024, 384, 512, "bf16")) == price(v6e, matmul(1024, 512, 512, "bf16"))
    assert price(v6e, matmul(1024, 512, 385, "bf16")) == price(v6e, matmul(1024, 512, 512, "bf16"))
    assert price(v3, conv(64, 64, (56, 56), (3, 3), dtype="f32")) == price(
        v3, conv(128, 128, (56, 56), (3, 3), dtype="f32")
    )


def test_short_streams_wait_for_the_weights() -> None:
    _, v6e = ENGINES
    assert price(v6e, matmul(8, 4096, 1024, "bf16")) > 0.9 * price(v6e, matmul(128, 4096, 1024, "bf16"))
    assert price(v6e, matmul(1024, 4096, 1024, "bf16")) > 6 * price(v6e, matmul(128, 4096, 1024, "bf16"))


def test_a_depthwise_convolution_stays_off_the_arrays() -> None:
    for engine in ENGINES[1:]:
        assert price(engine, conv(256, 256, (16, 16), (3, 3), groups=256)) < price(
            engine, conv(256, 256, (16, 16), (3, 3))
        )


def test_scores_have_arrays_of_their_own_where_the_target_says_so() -> None:
    v3, v6e = ENGINES
    alone = tile.Matmul(block((512, 64), "f32"), block((512, 64), "f32"), transpose_b=True)
    added = tile.Matmul(block((512, 64)), block((64, 512)), block((512, 512), "f32", "tpu.acc"))
    assert (v3.unit_of(alone), v3.unit_of(added), v6e.unit_of(alone)) == ("tpu.scores", "tpu.mxu", "tpu.mxu")
    assert price(v3, alone) > v3.exec_ps("tpu.mxu", [work(alone)])


# ---------------------------------------------------------------- the compiler's habits


def tensor(*shape: int, dtype: str = "bf16"):
    return Block([TensorType(shape, dtype)]).args[0]


def test_blocks_are_no_larger_than_the_kernels_windows() -> None:
    _, v6e = ENGINES
    product = graph.Matmul(tensor(4096, 512), tensor(512, 4096))
    assert v6e.largest(product) == {"m": 1024, "n": 1024}
    q, kv = tensor(2, 8, 4, 64, 128), tensor(2, 8, 1, 64, 128)
    assert v6e.largest(graph.Attention(q, kv, kv, scale=1.0)) == {"m": 512, "n": 512, "b0": 1, "b1": 1, "b2": 1}
    assert v6e.largest(graph.Relu(tensor(4, 4))) == {}


def test_operands_of_products_are_wanted_whole_but_for_a_single_row() -> None:
    _, v6e = ENGINES
    assert v6e.resident(graph.Matmul(tensor(64, 512), tensor(512, 64))) == (0, 1)
    assert v6e.resident(graph.Matmul(tensor(1, 512), tensor(512, 64))) == ()
    assert v6e.resident(graph.Matmul(tensor(64, 512, dtype="f64"), tensor(512, 64, dtype="f64"))) == ()
    assert v6e.resident(graph.Relu(tensor(64, 512))) == ()
    assert load_target("m4").engines["cpu"].resident(graph.Matmul(tensor(64, 512), tensor(512, 64))) == ()


def test_attention_that_fuses_moves_no_scores() -> None:
    fused, spelled = (Attention(1, 256, 256, 512, 512, 64, "bf16", materialised=m) for m in (False, True))
    traffic = []
    for workload in (fused, spelled):
        module = build(workload)
        compile_module(module, V6E, (), "soc")
        traffic.append(simulate(module, V6E).dram_read_bytes)
    assert traffic[1] >= traffic[0] + 256 * 512 * 512 * 2, "scores of 128 MiB in bf16 find no room"


# ---------------------------------------------------------------- the engine that takes all


def test_the_fallback_is_declared_or_the_last_engine(tmp_path: Path) -> None:
    assert (V3.fallback, load_target("m4").fallback) == ("tpu", "cpu")
    text = (SOCS / "tpu_v6e.toml").read_text()
    path = tmp_path / "t.toml"
    path.write_text(text.replace('fallback = "tpu"\n', ""))
    assert load_target(path).fallback == "tpu"
    path.write_text(text.replace('fallback = "tpu"', 'fallback = "tpy"'))
    with pytest.raises(TargetError, match="fallback: there is no engine 'tpy'; did you mean 'tpu'"):
        load_target(path)


def test_the_tensor_processor_takes_everything() -> None:
    for op in (
        graph.Cumsum(tensor(4, 8, dtype="i64"), axis=1),
        graph.Relu(tensor(4, dtype="f64")),
        graph.Gather(tensor(9, 8), tensor(3, dtype="i64"), axis=0),
        elementwise("relu", (4, 4)),
    ):
        assert all(engine.refuses(op) is None for engine in ENGINES)
