"""Weights in palettes and integers, and sparse: what is stored and charged, and that a product keeps its numbers."""

import numpy as np
import pytest
import torch
from tilewright.compiler.dialects import graph
from tilewright.compiler.interpret import run_graph
from tilewright.compiler.ir import DTYPE_BITS, parse, verify
from tilewright.compiler.pipeline import compile_module, copy_module
from tilewright.compiler.validate.price import Job, Pricer
from tilewright.compiler.validate.provide import Networks
from tilewright.compiler.validate.storage import SMALL, Floats, Integers, Palettes, Sparse, store
from tilewright.targets import load_target
from tilewright.targets.simulator import simulate
from tilewright.targets.validation.workloads import Generation

TEXT = """
func.func @main(%x: tensor<4x256xf16>) -> tensor<4x8xf16> {
  %w = graph.parameter {key = "w"} : tensor<512x256xf16>
  %v = graph.parameter {key = "v"} : tensor<512x8xf16>
  %s = graph.parameter {key = "s"} : tensor<8x8xf16>
  %0 = graph.matmul %x, %w {transpose_b = true} : tensor<4x512xf16>
  %1 = graph.matmul %0, %v : tensor<4x8xf16>
  %2 = graph.matmul %1, %s : tensor<4x8xf16>
  func.return %2
}
"""


def stored(form):
    module = parse(TEXT)
    store(module, form)
    verify(module)
    return module


def parameters(module) -> dict[str, str]:
    return {op.key: str(op.result.type) for op in module.main.body if isinstance(op, graph.Parameter)}


def bits(module) -> int:
    ops = [op for op in module.main.body if isinstance(op, graph.Parameter) and not op.unused]
    return sum(op.result.type.elements * DTYPE_BITS[op.result.type.dtype] for op in ops)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (Palettes(4), {"w.index": "512x256xui4", "w.table": "1x1x16xf16", "v.index": "512x8xui4"}),
        (Palettes(6), {"w.index": "512x256xui6", "w.table": "1x1x64xf16"}),
        (Integers(8), {"w.integers": "512x256xi8", "w.scale": "512x1xf16", "v.scale": "1x8xf16"}),
        (Integers(4, scale="f32"), {"w.integers": "512x256xi4", "w.scale": "512x1xf32"}),
        (
            Integers(5, group=64, offset=True),
            {"w.integers": "512x256xui5", "w.scale": "512x4xf16", "w.zero": "512x4xf16", "v.zero": "8x8xf16"},
        ),
        (Floats("bf16"), {"w.bf16": "512x256xbf16", "v.bf16": "512x8xbf16"}),
        (Integers(4, group=32), {"w.integers": "512x256xi4", "w.scale": "512x8xf16", "v.scale": "16x8xf16"}),
        (Sparse(75), {"w.sparse": '512x256xf16, "density 1/4"', "v.sparse": '512x8xf16, "density 1/4"'}),
    ],
)
def test_what_is_stored(form, expected):
    found = parameters(stored(form))
    assert {k: found[k] for k in expected} == {k: f"tensor<{v}>" for k, v in expected.items()}
    assert found["s"] == "tensor<8x8xf16>", f"a weight of at most {SMALL} elements stays"


def test_blocks_of_llama_cpp_and_mlx_take_their_published_bits():
    weights = 512 * 256 + 512 * 8
    assert bits(stored(Integers(8, group=32))) == weights * 8.5 + 64 * 16
    assert bits(stored(Integers(4, group=32))) == weights * 4.5 + 64 * 16
    for width in (4, 5, 6, 8):  # MLX: a scale and a bias for 64
        assert bits(stored(Integers(width, group=64, offset=True))) == weights * (width + 0.5) + 64 * 16


def test_activations_in_8_bits_become_products_of_integers_where_they_are_faster():
    module = stored(Integers(8, activations=True))
    compile_module(module, load_target("m4"), ("ane",), "graph")
    products = [op for op in module.main.walk() if isinstance(op, graph.Matmul)]
    assert [op.dtype() for op in products] == ["i8", "i8", "i8"], "no weight is too small where activations are rounded"
    module = stored(Integers(8, activations=True))
    compile_module(module, load_target("m1"), ("ane",), "graph")
    assert {op.dtype() for op in module.main.walk() if isinstance(op, graph.Matmul)} == {"f16"}


def test_what_a_product_takes_is_rounded_once_for_all_that_reads_it():
    module = parse("""
func.func @main(%x: tensor<4x512xf16>) -> tensor<4x512xf16> {
  %w = graph.parameter {key = "w"} : tensor<512x512xf16>
  %0 = graph.relu %x : tensor<4x512xf16>
  %1 = graph.matmul %0, %w : tensor<4x512xf16>
  %2 = graph.add %1, %0 : tensor<4x512xf16>
  func.return %2
}
""")
    store(module, Integers(8, activations=True))
    verify(module)
    quantize, *others = [op for op in module.main.walk() if isinstance(op, graph.Quantize)]
    assert not others and isinstance(quantize.x.op, graph.ELEMENTWISE["relu"])
    (add,) = [op for op in module.main.walk() if isinstance(op, graph.ELEMENTWISE["add"])]
    assert isinstance(add.operands[1].op, graph.Dequantize) and add.operands[1].op.q is quantize.result
    compile_module(module, load_target("a16"), ("ane",), "graph")
    (product,) = [op for op in module.main.walk() if isinstance(op, graph.Matmul)]
    assert product.dtype() == "i8", "at the same rate there are fewer bytes to move"


def test_the_product_is_the_same():
    module = stored(Palettes(4))
    rng = np.random.default_rng(0)
    index = rng.integers(0, 16, (512, 256), dtype=np.uint8)
    table = rng.standard_normal((1, 1, 16)).astype(np.float16)
    plain = parse(TEXT)
    shared = {
        "v": torch.from_numpy(rng.standard_normal((512, 8)).astype(np.float16)),
        "s": torch.from_numpy(rng.standard_normal((8, 8)).astype(np.float16)),
    }
    plain.parameters = {**shared, "w": torch.from_numpy(table[0, 0][index])}
    v_index = rng.integers(0, 16, (512, 8), dtype=np.uint8)
    plain.parameters["v"] = torch.from_numpy(table[0, 0][v_index])
    module.parameters = {
        **shared,
        "w.index": torch.from_numpy(index),
        "v.index": torch.from_numpy(v_index),
        "w.table": torch.from_numpy(table),
        "v.table": torch.from_numpy(table),
    }
    x = rng.standard_normal((4, 256)).astype(np.float16)
    np.testing.assert_array_equal(run_graph(module, [x])[0], run_graph(plain, [x])[0])


@pytest.mark.parametrize(
    ("form", "width"),
    [
        *((Palettes(n), n) for n in (2, 4, 8)),
        (Integers(8), 8),
        (Integers(4, group=32), 4),
        (Sparse(50), 9),
        (Sparse(75), 5),
    ],
)
def test_fewer_bits_are_read_from_memory(form, width):
    target = load_target("m4").override("memory.slc.retained", "0")  # no weights are in the cache yet

    def read(module) -> int:
        copy = copy_module(module)
        compile_module(copy, target, ("ane",))
        return simulate(copy, target).dram_read_bytes

    plain, less = read(parse(TEXT)), read(stored(form))
    saved = (512 * 256 + 512 * 8) * (16 - width) // 8
    assert plain - less == pytest.approx(saved, rel=0.1)


def test_decoding_reads_as_many_bits_as_weights_have():
    pricer = Pricer(Networks({}))
    sizes = {"F16": 16, "Q8_0": 8.5, "Q4_0": 4.5}
    floors = {}
    for weights in sizes:
        job = Job("m4", ("gpu",), (), Generation("Llama-3.2-1B", weights, "decode", 16))
        floors[weights] = pricer.price(job).roofline
    for weights, width in sizes.items():
        assert floors[weights] / floors["F16"] == pytest.approx(width / 16, rel=0.05)
