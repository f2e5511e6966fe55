"""What engines answer: a price for everything, the physics that the measurements show, and clear refusals."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from target_blocks import block, conv, elementwise, examples, matmul, work
from tilewright.compiler.dialects import graph, tile
from tilewright.compiler.ir import Block, Operation, TensorType
from tilewright.targets import load_target
from tilewright.targets.engines import ENGINES, PricedEngine, UnpricedError, Work

M1, M4 = load_target("m1"), load_target("m4")
ANE, GPU, CPU = (M4.engines[name] for name in ("ane", "gpu", "cpu"))
ALL = pytest.mark.parametrize(
    "engine", [*M1.engines.values(), *M4.engines.values()], ids=[f"{t.name}-{e}" for t in (M1, M4) for e in t.engines]
)


def price(engine: PricedEngine, *ops: Operation) -> int:
    return engine.exec_ps(engine.unit_of(ops[0]), [work(op) if op.operands else _constant(op) for op in ops])


def _constant(op: Operation) -> Work:
    return Work(op, (), op.results[0].type.shape, op.results[0].type.dtype)


def us(engine: PricedEngine, *ops: Operation) -> float:
    return price(engine, *ops) / 1e6


# ---------------------------------------------------------------- everything has a price


@ALL
@pytest.mark.parametrize("name", list(examples()))
def test_every_body_op_has_a_price(engine: PricedEngine, name: str) -> None:
    ps = price(engine, examples()[name])
    assert isinstance(ps, int) and ps > 0


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f32", "f64", "i8", "i32", "i64"])
def test_the_cpu_prices_every_dtype(dtype: str) -> None:
    for name, op in examples(dtype).items():
        assert price(CPU, op) > 0, name


def test_work_without_a_price_is_an_error() -> None:
    class Mystery(tile.TileOp, name="test.mystery"):
        x = graph.Softmax.x
        __slots__ = ()

        def shapes(self) -> list[tuple[tuple[int, ...], str]]:
            return [(self.shape(0), self.dtype())]

    with pytest.raises(UnpricedError, match=r"'test\.mystery' .* has no price"):
        price(ANE, Mystery(block((4, 4))))
    with pytest.raises(UnpricedError, match="holds no op"):
        ANE.exec_ps("ane.vec", [])
    with pytest.raises(UnpricedError, match=r"'ane\.alu' is no compute unit of 'ane': ane\.mac, ane\.vec"):
        ANE.exec_ps("ane.alu", [work(matmul(8, 8, 8))])
    with pytest.raises(UnpricedError, match=r"runs on ane\.mac, not on ane\.vec"):
        ANE.exec_ps("ane.vec", [work(matmul(8, 8, 8))])
    with pytest.raises(UnpricedError, match="not on f64"):
        price(GPU, elementwise("add", (4, 4), (4, 4), dtype="f64"))
    with pytest.raises(UnpricedError, match="not on i32"):
        price(ANE, elementwise("add", (4, 4), (4, 4), dtype="i32"))


def test_units_and_registry() -> None:
    assert {kind: cls.kind for kind, cls in ENGINES.items()} == {k: k for k in ("neural", "gpu", "cpu", "systolic")}
    for name, matrix, vector in (("ane", "mac", "vec"), ("gpu", "mat", "alu"), ("cpu", "mat", "simd")):
        engine = M1.engines[name]
        assert engine.unit_of(matmul(4, 4, 4)) == engine.unit_of(conv(4, 4, (4, 4), (1, 1), 4)) == f"{name}.{matrix}"
        assert engine.unit_of(elementwise("relu", (4, 4))) == f"{name}.{vector}"
        assert [u.name for u in (engine.loads, engine.weights, engine.stores)] == [
            f"{name}.{role}" for role in ("load", "weights", "store")
        ]


# ---------------------------------------------------------------- what the measurements show


def test_neural_layers_as_measured() -> None:
    """Layers of a chain on M6 (2.58 GHz), whose rows set the constants; weights stream beside them."""
    m6 = M4.override("ane.clock", "2.58GHz").engines["ane"]
    assert us(m6, conv(512, 512, (1, 128), (1, 1))) == pytest.approx(3.26, rel=0.03)
    assert us(m6, conv(512, 512, (8, 32), (9, 1))) == pytest.approx(86.9, rel=0.05)
    assert us(m6, conv(512, 512, (8, 32), (1, 9))) == pytest.approx(94.8, rel=0.08)
    two = elementwise("relu", (4, 131072))
    assert us(m6, two, elementwise("abs", (4, 131072))) + 0.34 == pytest.approx(8.98, rel=0.03)


def test_winograd_speeds_up_dense_3x3_kernels_alone(tmp_path: Path) -> None:
    """M6: 39.0 us for C512 3x3 on 16x16, where the array takes 57 without it; with dilation 41.4 on two engines."""
    source = 'source = "ane_microbench: 31.0 of 20.6 TFLOPS with 3x3 kernels", confidence = "B"'
    file = tmp_path / "m6.toml"
    file.write_text(f"""
name = "m6"
title = "One engine of M6"
inherits = "m4"
[ane]
clock = {{ value = 2.58, unit = "GHz", {source} }}
[ane.array]
winograd = {{ value = 1.5, unit = "times", {source} }}
""")
    m6 = load_target(file).engines["ane"]
    plain = M4.override("ane.clock", "2.58GHz").engines["ane"]
    assert us(m6, conv(512, 512, (16, 16), (3, 3))) == pytest.approx(39.0, rel=0.06)
    assert us(m6, conv(512, 512, (16, 16), (3, 3), dtype="i8")) == pytest.approx(19.4, rel=0.08)
    for other in (
        conv(512, 512, (16, 16), (3, 3), dilation=2),
        conv(512, 512, (16, 16), (5, 5)),
        conv(512, 512, (16, 16), (1, 9)),
        conv(512, 512, (16, 16), (3, 3), groups=512),
        matmul(256, 512, 512),
    ):
        assert price(m6, other) == price(plain, other)


def test_an_engine_that_idled_runs_at_a_lower_clock() -> None:
    """energy: first calls are 2.8 times slower (M6)."""
    cold = M4.override("ane.clock_ramp", "0.357").engines["ane"]
    layer = conv(512, 512, (32, 32), (1, 1))
    assert price(cold, layer) / price(ANE, layer) == pytest.approx(2.8, rel=0.01)


def test_channel_group_is_the_formula() -> None:
    for channels, kernel, group in ((64, 9, 16), (256, 9, 8), (512, 9, 4), (256, 49, 2), (4096, 9, 1), (512, 1, 16)):
        assert ANE.channel_group(channels * kernel, "f16") == group  # type: ignore[attr-defined]


def test_tiles_are_quantised() -> None:
    assert price(ANE, conv(64, 17, (32, 32), (1, 1))) == price(ANE, conv(64, 32, (32, 32), (1, 1)))
    assert price(GPU, matmul(33, 64, 320)) == price(GPU, matmul(64, 64, 320))
    assert price(CPU, matmul(33, 64, 64, "f32")) == price(CPU, matmul(48, 64, 64, "f32"))
    one_wave = price(GPU, elementwise("mish", (10, 768)))
    assert price(GPU, elementwise("mish", (1, 32))) == one_wave < price(GPU, elementwise("mish", (10, 769)))


def test_depthwise_runs_at_the_full_rate_on_the_neural_engine() -> None:
    depthwise = conv(256, 256, (32, 32), (3, 3), groups=256)
    full = conv(256, 256, (32, 32), (3, 3))
    assert price(ANE, full) > 100 * price(ANE, depthwise)


def test_matrix_vector_products_fall_back_from_the_matrix_units() -> None:
    for engine in (GPU, CPU):
        row, square = price(engine, matmul(1, 2048, 2048)), price(engine, matmul(64, 2048, 2048))
        assert square < 64 * row
        assert row < square


def test_bias_and_activation_are_free_on_the_way_out_of_the_array() -> None:
    acc = block((1, 256, 28, 28), "f32", "ane.acc")
    half = tile.on_blocks("cast")(acc, to="f16")
    relu = tile.on_blocks("relu")(half.result)
    drained = price(ANE, half)
    alone = price(ANE, elementwise("relu", (1, 256, 28, 28)))
    again = tile.on_blocks("cast")(acc, to="f16")
    assert price(ANE, again, tile.on_blocks("relu")(again.result)) == drained < alone / 2
    third = tile.on_blocks("cast")(acc, to="f16")
    bias = block((256, 1, 1), "f16")
    wide = tile.on_blocks("cast")(bias, to="f32")
    added = tile.on_blocks("add")(acc, wide.result)
    assert price(ANE, wide, added, tile.on_blocks("cast")(added.result, to="f16")) == drained
    residual = tile.on_blocks("add")(third.result, block((1, 256, 28, 28)))
    assert price(ANE, third, residual) > drained + alone / 2
    assert relu.results


@ALL
def test_a_fused_chain_costs_less_than_its_parts(engine: PricedEngine) -> None:
    x = (64, 1024)
    first = elementwise("add", x, x)
    second = tile.on_blocks("relu")(first.result)
    third = tile.on_blocks("mul")(second.result, block((1, 1024)))
    apart = [elementwise("add", x, x), elementwise("relu", x), elementwise("mul", x, (1, 1024))]
    assert max(map(lambda op: price(engine, op), apart)) <= price(engine, first, second, third)
    assert price(engine, first, second, third) < sum(price(engine, op) for op in apart)


@ALL
def test_softmax_and_norms_go_over_their_rows_more_than_once(engine: PricedEngine) -> None:
    x = (256, 1024)
    relu = price(engine, elementwise("relu", x))
    for name, attributes in (("softmax", {"axis": 1}), ("layer_norm", {"eps": 1e-5}), ("rms_norm", {"eps": 1e-5})):
        assert price(engine, elementwise(name, x, **attributes)) > 1.4 * relu, name


@ALL
def test_only_what_is_touched_is_paid_for(engine: PricedEngine) -> None:
    def rows(table: int) -> Operation:
        return tile.on_blocks("gather")(block((table, 64), "f16", "dram"), block((16,), "i64"), axis=0)

    def writes(cache: int) -> Operation:
        base = block((1, 8, cache, 64), "f16", "dram")
        return tile.ScatterRows(base, block((1,), "i64"), block((1, 8, 1, 64)), axis=2)

    assert price(engine, rows(1000)) == price(engine, rows(100000))
    assert price(engine, writes(128)) == price(engine, writes(8192))


@ALL
def test_prices_grow_with_the_work(engine: PricedEngine) -> None:
    for make in (lambda n: matmul(n, n, n), lambda n: elementwise("exp", (n, n)), lambda n: conv(n, n, (8, 8), (3, 3))):
        prices = [price(engine, make(n)) for n in (16, 64, 256, 512)]
        assert prices == sorted(prices) and prices[-1] > 4 * prices[0]


def test_pricing_is_fast_enough_for_the_tiler() -> None:
    chain = [elementwise("add", (64, 256), (64, 256))]
    for name in ("relu", "abs", "exp"):
        chain.append(tile.on_blocks(name)(chain[-1].result))
    commands = [[Work(op, tuple((m, 256) for _ in op.operands), (m, 256), "f16") for op in chain] for m in range(1, 65)]
    start = time.perf_counter()
    for _ in range(40):
        for command in commands:
            ANE.exec_ps("ane.vec", command)
    assert time.perf_counter() - start < 2560 * 100e-6, "a remembered price takes well under 0.1 ms"


# ---------------------------------------------------------------- refusals


def tensor(shape: tuple[int, ...], dtype: str = "f16"):
    return Block([TensorType(shape, dtype)]).args[0]


REFUSED = [
    (lambda: graph.Relu(tensor((4, 4), "f32")), "computes in f16, i1, not in f32"),
    (lambda: graph.Add(tensor((4,), "i64"), tensor((4,), "i64")), "not in i64"),
    (lambda: graph.Cast(tensor((4,)), to="f32"), "not in f32"),
    (lambda: graph.Relu(tensor((1, 2, 3, 4, 5, 6))), "rank 6 is over ane's limit of 5"),
    (lambda: graph.Relu(tensor((70000,))), "an axis of 70000 is over ane's limit of 65536"),
    (lambda: graph.Matmul(tensor((4, 40000)), tensor((40000, 8))), "a matmul over 40000 is over ane's limit of 32768"),
    (lambda: graph.Cumsum(tensor((4, 8)), axis=1), "has no cumsum"),
    (lambda: graph.Gather(tensor((9, 8)), tensor((3,), "i64")), "has no gather"),
    (lambda: graph.Reduce(tensor((4, 8)), kind="prod", axes=(1,)), "has no reduce_prod"),
    (lambda: graph.Mod(tensor((4, 8)), tensor((4, 8))), "has no mod"),
    (lambda: graph.Argmax(tensor((4, 8)), axis=1), "has no argmax"),
    (lambda: _conv((1, 16)), "a kernel of 1x16 is over ane's limit of 15"),
    (lambda: _conv((33, 1)), "a kernel of 33x1 is over ane's limit of 31"),
    (lambda: _conv((17, 17)), "a kernel of 17x17 is over ane's limit of 16"),
    (lambda: _pool("max", (9, 9)), "a max pooling window of 9x9 is over ane's limit of 8"),
]  # fmt: skip


def _conv(kernel: tuple[int, int]) -> graph.Conv:
    x, w = tensor((1, 4, 64, 64)), tensor((4, 4, *kernel))
    return graph.Conv(x, w, strides=(1, 1), padding=(0, 0, 0, 0))


def _pool(kind: str, kernel: tuple[int, int]) -> graph.Pool:
    return graph.Pool(tensor((1, 4, 64, 64)), kind=kind, kernel=kernel, strides=(1, 1), padding=(0, 0, 0, 0))


@pytest.mark.parametrize(("make", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_the_neural_engine_says_why_not(make, words: str) -> None:
    reason = ANE.refuses(make())
    assert reason is not None and words in reason
    assert "(" in reason, "with the source of the limit"
    assert CPU.refuses(make()) is None


@pytest.mark.parametrize(("chip", "mib"), [("a14", 1), ("a16", 1), ("a17pro", 2), ("m1", 1), ("m4", 2), ("m6", 4)])
def test_tensors_between_tasks_have_their_part_of_the_scratch(chip: str, mib: int) -> None:
    assert load_target(chip).engines["ane"].kept_bytes == mib << 20


def test_the_neural_engine_takes_what_networks_are_made_of() -> None:
    x = tensor((1, 64, 56, 56))
    for op in (
        _conv((3, 3)),
        _conv((16, 16)),
        _pool("max", (3, 3)),
        _pool("sum", (9, 9)),
        graph.Relu(x),
        graph.Add(x, x),
        graph.Gelu(x),
        graph.Softmax(x, axis=3),
        graph.LayerNorm(x, rank=1, eps=1e-5),
        graph.Reduce(x, kind="mean", axes=(2, 3)),
        graph.Matmul(tensor((128, 768)), tensor((768, 3072))),
        graph.Attention(tensor((1, 12, 64, 64)), tensor((1, 12, 64, 64)), tensor((1, 12, 64, 64)), scale=0.125),
        graph.Gt(x, x),
        graph.Where(graph.Gt(x, x).result, x, x),
    ):
        assert ANE.refuses(op) is None, op.name


def test_m1_takes_shorter_axes_than_m4() -> None:
    op = graph.Relu(tensor((4, 30000)))
    assert ANE.refuses(op) is None
    assert "16384" in (M1.engines["ane"].refuses(op) or "")


def test_the_gpu_has_no_double() -> None:
    assert "gpu has no f64" in (GPU.refuses(graph.Relu(tensor((4,), "f64"))) or "")
    assert GPU.refuses(graph.Cumsum(tensor((4, 8), "i64"), axis=1)) is None


def test_a_group_is_refused_for_its_member() -> None:
    inner = Block([TensorType((4, 8), "f16")])
    summed = inner.append(graph.Cumsum(inner.args[0], axis=1))
    inner.append(graph.Yield(summed.result))
    fuse = graph.Fuse(tensor((4, 8)), regions=[inner])
    assert "cumsum" in (ANE.refuses(fuse) or "")
    assert GPU.refuses(fuse) is None


def test_granularity_names_dims_of_the_structure() -> None:
    for op in (graph.Matmul(tensor((2, 64, 64)), tensor((64, 64))), _conv((3, 3)), graph.Relu(tensor((4, 64)))):
        structure = op.structure()
        assert structure is not None
        names = {d.name for d in structure.dims}
        for engine in (ANE, GPU, CPU):
            multiples = engine.granularity(op)
            assert set(multiples) & names and all(n >= 1 for n in multiples.values())
    assert ANE.granularity(_conv((3, 3)))["o"] == 16
