"""What a step of a fused attention costs on tensor processors, and how their vector unit pads what it works on."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from target_blocks import block, elementwise, matmul, work
from tilewright.compiler.dialects import tile
from tilewright.compiler.ir import Block, Operation, Value
from tilewright.compiler.pipeline import compile_module
from tilewright.compiler.validate.build import build
from tilewright.targets import Target, load_target
from tilewright.targets.engines import PricedEngine
from tilewright.targets.simulator import simulate
from tilewright.targets.validation.workloads import Attention

V3, V6E = load_target("tpu_v3"), load_target("tpu_v6e")
engines = st.sampled_from([V3.engines["tpu"], V6E.engines["tpu"]])
SIZE = st.integers(1, 700)


def step(rows: int, keys: int, dim: int, heads: int = 1) -> list[Operation]:
    """Scores, a softmax without its maximum, and the product with the values, as the body of a loop."""
    body = Block()

    def add(op: Operation) -> Value:
        return body.append(op).result

    scores = add(tile.Matmul(block((heads, rows, dim), "bf16"), block((heads, keys, dim), "bf16"), transpose_b=True))
    weights = add(tile.on_blocks("exp")(scores))
    narrow = add(tile.on_blocks("cast")(weights, to="bf16"))
    add(tile.Matmul(narrow, block((heads, keys, dim), "bf16"), block((heads, rows, dim), "f32", "tpu.acc")))
    return list(body)


def price(engine: PricedEngine, ops: list[Operation], unit: str = "") -> int:
    return engine.exec_ps(unit or engine.unit_of(ops[0]), [work(op) for op in ops])


def latency_s(workload: Attention, target: Target) -> float:
    module = build(workload)
    compile_module(module, target, (), "soc")
    return simulate(module, target).latency_ps * 1e-12


# ---------------------------------------------------------------- a step


def test_a_step_is_one_command_where_no_arrays_are_set_aside_for_scores() -> None:
    ops = step(512, 512, 128)
    assert {V6E.engines["tpu"].unit_of(op) for op in ops} == {"tpu.mxu"}
    assert [V3.engines["tpu"].unit_of(op) for op in ops] == ["tpu.scores", "tpu.vpu", "tpu.vpu", "tpu.mxu"]
    assert V6E.engines["tpu"].unit_of(elementwise("exp", (8, 128))) == "tpu.vpu"


@settings(max_examples=60, deadline=None)
@given(SIZE, SIZE, st.integers(1, 256), st.integers(1, 8))
def test_a_step_takes_no_less_than_its_parts_and_no_more_than_all_of_them(
    rows: int, keys: int, dim: int, heads: int
) -> None:
    engine = V6E.engines["tpu"]
    ops = step(rows, keys, dim, heads)
    scores, *chain, product = ops
    whole = price(engine, ops)
    apart = price(engine, [scores]) + price(engine, chain, "tpu.vpu") + price(engine, [product])
    skew = engine.ps(2 * 2 * (heads - 1) * 512)  # of heads that follow each other, two products each
    assert max(price(engine, [op]) for op in (scores, product)) <= whole <= apart + skew
    assert whole >= price(engine, chain, "tpu.vpu")
    for op in ops:
        least = engine.roofline_ps(op, getattr(op, "macs", lambda: 0)(), op.results[0].type.elements, "bf16")
        assert least <= whole


def test_each_head_of_a_step_fills_and_drains_the_arrays() -> None:
    engine = V6E.engines["tpu"]
    one, eight = (price(engine, step(4, 512, 128, heads)) for heads in (1, 8))
    assert 6 * one < eight < 8 * one
    together = engine.exec_ps("tpu.mxu", [work(matmul(4, 128, 512, "bf16", (8,)))])
    assert together < 4 * engine.exec_ps("tpu.mxu", [work(matmul(4, 128, 512, "bf16"))]), "a batch alone does not"


@settings(max_examples=40, deadline=None)
@given(engines, st.integers(2, 8), st.integers(1, 64), SIZE, SIZE)
def test_products_with_the_same_matrix_are_one_stream(
    engine: PricedEngine, shared: int, rows: int, depth: int, columns: int
) -> None:
    grouped = tile.Matmul(block((2, shared, rows, depth), "bf16"), block((2, 1, depth, columns), "bf16"))
    folded = tile.Matmul(block((2, shared * rows, depth), "bf16"), block((2, depth, columns), "bf16"))
    assert engine.exec_ps("tpu.mxu", [work(grouped)]) == engine.exec_ps("tpu.mxu", [work(folded)])


def test_weights_of_few_rows_come_in_sooner() -> None:
    engine = V6E.engines["tpu"]
    times = [price(engine, [matmul(8, depth, 4096, "bf16")]) for depth in (32, 64, 128, 256)]
    assert times == sorted(times) and times[0] < times[-1]


# ---------------------------------------------------------------- the whole attention


def test_keys_that_are_read_again_come_in_whole_if_they_fit() -> None:
    def read(heads: int, queries: int, keys: int) -> float:
        module = build(Attention(1, heads, heads, queries, keys, 128, "bf16"))
        moved = sum(v.type.bytes for v in module.main.args)
        compile_module(module, V6E, (), "soc")
        return simulate(module, V6E).dram_read_bytes / moved

    assert read(8, 2048, 2048) == pytest.approx(1.0)
    assert read(8, 256, 2048) == pytest.approx(1.0), "read once"
    assert read(256, 2048, 2048) > 2.5, "read for each of four blocks of queries"


def test_a_step_waits_for_its_blocks_where_the_kernel_has_one_buffer() -> None:
    ahead = V6E.override("tpu.vmem.buffers", "2")
    decode = Attention(1, 8, 8, 1, 8192, 128, "bf16")
    loads = 2 * 8 * 8192 * 128 * 2 / (1640e9 * 0.905)
    assert latency_s(decode, V6E) - latency_s(decode, ahead) == pytest.approx(loads, rel=0.25)


@pytest.mark.parametrize("target", [V3, V6E], ids=["v3", "v6e"])
def test_more_keys_queries_or_heads_take_longer(target: Target) -> None:
    base = (1, 4, 4, 512, 1024, 128)
    times = [latency_s(Attention(*sizes, "bf16"), target) for sizes in (base, (1, 4, 4, 512, 2048, 128))]
    times += [latency_s(Attention(*sizes, "bf16"), target) for sizes in ((1, 8, 8, 512, 2048, 128),)]
    times += [latency_s(Attention(*sizes, "bf16"), target) for sizes in ((1, 8, 8, 2048, 2048, 128),)]
    assert times == sorted(times) and len(set(times)) == len(times)


# ---------------------------------------------------------------- the vector unit


@settings(max_examples=60, deadline=None)
@given(engines, st.integers(1, 300), st.integers(1, 300), st.sampled_from(["relu", "exp", "add"]))
def test_the_vector_unit_works_on_whole_registers(engine: PricedEngine, m: int, n: int, name: str) -> None:
    operands = 2 if name == "add" else 1
    register = engine.lanes * engine.sublanes
    padded = -(-m * n // register) * register
    ragged = price(engine, [elementwise(name, *[(m, n)] * operands, dtype="f32")])
    whole = price(engine, [elementwise(name, *[(padded // 128, 128)] * operands, dtype="f32")])
    assert ragged <= whole
    assert price(engine, [elementwise(name, *[(1, 1)] * operands, dtype="f32")]) == price(
        engine, [elementwise(name, *[(1, 2)] * operands, dtype="f32")]
    )


@settings(max_examples=40, deadline=None)
@given(engines, st.integers(1, 512), st.integers(1, 2048))
def test_a_row_reduced_over_lanes_costs_a_register_of_rows(engine: PricedEngine, rows: int, columns: int) -> None:
    op = tile.on_blocks("softmax")(block((rows, columns), "f32"), axis=1)
    more = tile.on_blocks("softmax")(block((-(-rows // 8) * 8, columns), "f32"), axis=1)
    assert price(engine, [op]) <= price(engine, [more])


@settings(max_examples=40, deadline=None)
@given(engines, st.integers(1, 64), st.integers(1, 64), st.sampled_from(["add", "mul", "sub"]))
def test_wide_integers_cost_several_operations(engine: PricedEngine, m: int, n: int, name: str) -> None:
    narrow, wide = (price(engine, [elementwise(name, (m, n), (m, n), dtype=d)]) for d in ("i32", "i64"))
    assert narrow < wide


@pytest.mark.parametrize("heads", [(4, 4), (12, 4)])
def test_attention_of_grouped_queries_can_be_spelled_out(heads: tuple[int, int]) -> None:
    traffic = []
    for materialised in (False, True):
        module = build(Attention(64, *heads, 512, 512, 128, "bf16", materialised=materialised))
        compile_module(module, V6E, (), "soc")
        traffic.append(simulate(module, V6E).dram_write_bytes)
    scores = 64 * heads[0] * 512 * 512 * 2
    assert traffic[1] - traffic[0] == pytest.approx(2 * scores, rel=0.01), "scores and their softmax find no room"
