"""The roofline is a bound: however an op is cut into blocks, they cost at least what it says of the whole."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from target_blocks import block, conv, elementwise, examples, matmul, work
from tilewright.compiler.dialects import tile
from tilewright.compiler.ir import Operation
from tilewright.targets import load_target
from tilewright.targets.engines import PricedEngine, Work

CHIPS = ("m1", "m4", "a100", "l4", "mi210")
ENGINES = [engine for name in CHIPS for engine in load_target(name).engines.values()]
SIZE, TILE, CHANNELS = st.integers(1, 300), st.integers(1, 128), st.integers(1, 200)
engines = st.sampled_from(ENGINES)


def cuts(size: int, by: int) -> Iterator[int]:
    for start in range(0, size, by):
        yield min(by, size - start)


def bound(engine: PricedEngine, op: Operation, macs: int, elements: int) -> int:
    return engine.roofline_ps(op, macs, elements, op.operands[0].type.dtype)


@settings(max_examples=150, deadline=None)
@given(engines, SIZE, SIZE, SIZE, st.integers(16, 300), st.integers(16, 300), st.integers(16, 300))
def test_matmul(engine: PricedEngine, m: int, k: int, n: int, tm: int, tk: int, tn: int) -> None:
    op = matmul(m, k, n)
    total = sum(
        engine.exec_ps(engine.unit_of(op), [Work(op, ((a, b), (b, c)), (a, c), "f16")])
        for a, b, c in itertools.product(cuts(m, tm), cuts(k, tk), cuts(n, tn))
    )
    assert total >= bound(engine, op, m * k * n, m * n)


@settings(max_examples=100, deadline=None)
@given(engines, CHANNELS, CHANNELS, st.integers(1, 40), st.integers(16, 64), st.sampled_from([1, 3, 5]))
def test_conv(engine: PricedEngine, channels: int, out: int, size: int, by: int, kernel: int) -> None:
    op = conv(channels, out, (size, size), (kernel, kernel))
    total = sum(
        engine.exec_ps(engine.unit_of(op), [work(conv(c, o, (s, size), (kernel, kernel)))])
        for c, o, s in itertools.product(cuts(channels, by), cuts(out, by), cuts(size, by))
    )
    assert total >= bound(engine, op, op.macs(), op.result.type.elements)  # type: ignore[attr-defined]


@settings(max_examples=60, deadline=None)
@given(engines, st.integers(1, 400), st.integers(1, 40), st.integers(8, 128))
def test_depthwise(engine: PricedEngine, channels: int, size: int, by: int) -> None:
    op = conv(channels, channels, (size, size), (3, 3), groups=max(channels, 2))
    parts = [conv(c, c, (size, size), (3, 3), groups=c) for c in cuts(channels, by)]
    total = sum(engine.exec_ps(engine.unit_of(op), [work(p)]) for p in parts)
    assert total >= bound(engine, op, op.macs(), op.result.type.elements)  # type: ignore[attr-defined]


UNARY = ["relu", "exp", "gelu", "silu", "hardswish", "sqrt", "neg", "mish"]
CHAINS = st.lists(st.sampled_from([*UNARY, "bias", "residual", "cast"]), min_size=1, max_size=6)


@settings(max_examples=150, deadline=None)
@given(engines, st.sampled_from([*UNARY, "add", "div", "pow"]), SIZE, SIZE, TILE, TILE, st.booleans())
def test_elementwise(engine: PricedEngine, name: str, m: int, n: int, tm: int, tn: int, vector: bool) -> None:
    binary = name not in UNARY
    op = elementwise(name, (m, n), *([(1, n) if vector else (m, n)] if binary else []))
    total = 0
    for a, b in itertools.product(cuts(m, tm), cuts(n, tn)):
        inputs = ((a, b), *([(1, b) if vector else (a, b)] if binary else []))
        total += engine.exec_ps(engine.unit_of(op), [Work(op, inputs, (a, b), "f16")])
    assert total >= bound(engine, op, 0, m * n)


@settings(max_examples=100, deadline=None)
@given(engines, st.sampled_from(["softmax", "layer_norm", "rms_norm", "argmax", "sum", "max"]), SIZE, SIZE, TILE)
def test_rows(engine: PricedEngine, name: str, m: int, n: int, by: int) -> None:
    if name in ("sum", "max"):
        op: Operation = tile.Reduce(block((m, n)), kind=name, axes=(1,))
    else:
        op = elementwise(name, (m, n), **({"axis": 1} if name in ("softmax", "argmax") else {"eps": 1e-5}))
    columns = op.results[0].type.shape[1]
    total = sum(
        engine.exec_ps(engine.unit_of(op), [Work(op, ((rows, n),), (rows, columns), "f16")]) for rows in cuts(m, by)
    )
    assert total >= bound(engine, op, 0, m * n)
    assert total >= bound(engine, op, 0, m * columns)


@settings(max_examples=150, deadline=None)
@given(engines, CHAINS, SIZE, SIZE, st.booleans())
def test_bounds_of_a_chain_add_up(engine: PricedEngine, names: list[str], m: int, n: int, accumulated: bool) -> None:
    value = block((m, n), "f32" if accumulated else "f16")
    chain: list[Operation] = []
    for name in names:
        if name == "cast":
            op = tile.on_blocks("cast")(value, to="f16")
        elif name in ("bias", "residual"):
            op = tile.on_blocks("add")(value, block((1, n) if name == "bias" else (m, n), value.type.dtype))
        else:
            op = tile.on_blocks(name)(value)
        chain.append(op)
        value = op.result
    total = engine.exec_ps(engine.unit_of(chain[0]), [work(op) for op in chain])
    assert total >= sum(bound(engine, op, 0, m * n) for op in chain)


@pytest.mark.parametrize("name", list(examples()))
def test_every_op_alone(name: str) -> None:
    op = examples()[name]
    if not op.operands:
        return
    macs = getattr(op, "macs", lambda: 0)()
    for engine in ENGINES:
        least = bound(engine, op, macs, op.results[0].type.elements)
        assert 0 <= least <= engine.exec_ps(engine.unit_of(op), [work(op)])
