"""Products with sparse weights on the Neural Engine: layers as measured on M6, and what the roofline says of them."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from target_blocks import conv, matmul, sparse, work
from test_targets_neural_chains import M6, chain, us
from tilewright.compiler.ir import Operation
from tilewright.compiler.validate.storage import Sparse, store
from tilewright.targets import Target, load_target
from tilewright.targets.engines import PricedEngine

POINTWISE = 512, 512, (1, 128), (1, 1)
SQUARE = 512, 512, (16, 16), (3, 3)


@pytest.fixture(scope="module")
def m6(tmp_path_factory: pytest.TempPathFactory) -> Target:
    file: Path = tmp_path_factory.mktemp("targets") / "m6.toml"
    file.write_text(M6)
    return load_target(file)


def layer_us(engine: PricedEngine, product: Operation) -> float:
    """Of a layer whose operands are on chip."""
    ps = engine.exec_ps(engine.matrix_unit, [*([work(o)] if (o := product.operands[1].op) else []), work(product)])
    return (ps + engine.task_ps) * 1e-6


@pytest.mark.parametrize(
    ("shape", "zeros", "measured", "off"),
    [
        (POINTWISE, 75, 1.44, 0.05),  # sets the constant
        (POINTWISE, 50, 2.28, 0.05),
        (SQUARE, 90, 13.9, 0.12),
        (SQUARE, 75, 25.7, 0.08),
        (SQUARE, 50, 46.0, 0.16),  # whose weights do not fit the buffers twice: see the chain
    ],
)
def test_layers_as_measured(m6: Target, shape, zeros: int, measured: float, off: float) -> None:
    """us a layer, by what part of the weights is zero (751K compute_array.md, M6; three of them are rows of
    ane_microbench)."""
    density = Fraction(100 - zeros, 100)
    assert layer_us(m6.engines["ane"], sparse(conv(*shape), density)) == pytest.approx(measured, rel=off)


@pytest.mark.parametrize("zeros", [0, 50, 75, 90])
def test_weights_that_bound_a_layer_take_their_bytes(m6: Target, zeros: int) -> None:
    """C2048 on 32 pixels: 55.5 us with dense weights, and 31.3, 17.5 and 9.0 with fewer of them (the same table)."""
    taken, measured = [], {0: 55.5, 50: 31.3, 75: 17.5, 90: 9.0}
    for layers in (3, 7):
        module = chain(layers, 2048, (1, 32), (1, 1))
        if zeros:
            store(module, Sparse(zeros))
        taken.append(us(module, m6))
    assert (taken[1] - taken[0]) / 4 == pytest.approx(measured[zeros], rel=0.25)


def test_there_is_no_winograd_of_a_sparse_kernel(m6: Target) -> None:
    """3x3 with half of the weights takes longer than dense (46 and 42.5 us), with a tenth of them a third of it."""
    engine = m6.engines["ane"]
    dense, half, tenth = (layer_us(engine, sparse(conv(*SQUARE), d)) for d in (None, Fraction(1, 2), Fraction(1, 10)))
    plain = load_target("m4").override("ane.clock", "2.58GHz").engines["ane"]
    assert tenth < dense / 2 < half
    assert half == pytest.approx(layer_us(plain, sparse(conv(*SQUARE), Fraction(1, 2))), rel=0.001)


def test_a_full_mask_is_no_faster_than_dense_weights() -> None:
    engine = load_target("m4").engines["ane"]
    for product in (lambda: conv(*POINTWISE), lambda: matmul(31, 257, 127)):
        times = [layer_us(engine, sparse(product(), Fraction(n, 8))) for n in range(9)]
        assert times == sorted(times) and times[-1] == layer_us(engine, product())


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["m1", "m4", "m6", "a16"]),
    st.sampled_from(["ane", "gpu", "cpu"]),
    st.integers(1, 200),
    st.integers(1, 200),
    st.sampled_from([1, 3]),
    st.integers(0, 16),
)
def test_the_roofline_is_a_bound(chip: str, name: str, channels: int, out: int, kernel: int, of16: int) -> None:
    engine, density = load_target(chip).engines[name], Fraction(of16, 16)
    for product in (conv(channels, out, (7, 5), (kernel, kernel)), matmul(7, channels, out)):
        expansion = sparse(product, density).operands[1].op
        least = sum(
            engine.roofline_ps(op, getattr(op, "macs", lambda: 0)(), op.results[0].type.elements, "f16")
            for op in itertools.chain([expansion], [product])
        )
        assert 0 <= least <= engine.exec_ps(engine.matrix_unit, [work(expansion), work(product)])
