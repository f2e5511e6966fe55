"""Graph passes on quantised programs: the program before and after, in text, and the same numbers from both."""

import numpy as np
import pytest
from tilewright.compiler.dialects import graph
from tilewright.compiler.interpret import run_graph
from tilewright.compiler.ir import parse, print_op, verify
from tilewright.passes import PassContext, parse_pipeline
from tilewright.targets import load_target

CASES = {
    "rows are gathered as they are stored": (
        "expand-late",
        """func.func @main(%q: tensor<9x64xi8>, %s: tensor<9x1xf32>, %i: tensor<3xi64>) -> tensor<3x64xf32> {
          %1 = graph.dequantize %q, %s {block = [1, 64], to = "f32"} : tensor<9x64xf32>
          %2 = graph.gather %1, %i {axis = 0} : tensor<3x64xf32>
          func.return %2
        }""",
        """func.func @main(%q: tensor<9x64xi8>, %s: tensor<9x1xf32>, %i: tensor<3xi64>) -> tensor<3x64xf32> {
          %1 = graph.dequantize %q, %s {block = [1, 64], to = "f32"} : tensor<9x64xf32>
          %2 = graph.gather %q, %i {axis = 0} : tensor<3x64xi8>
          %3 = graph.gather %s, %i {axis = 0} : tensor<3x1xf32>
          %4 = graph.dequantize %2, %3 {block = [1, 64], to = "f32"} : tensor<3x64xf32>
          func.return %4
        }""",
    ),
    "one palette serves whatever is gathered": (
        "expand-late",
        """func.func @main(%q: tensor<9x6xui2>, %t: tensor<1x2x4xf32>, %i: tensor<3x2xi64>) -> tensor<3x2x6xf32> {
          %1 = graph.lookup %q, %t {block = [9, 4]} : tensor<9x6xf32>
          %2 = graph.gather %1, %i {axis = 0} : tensor<3x2x6xf32>
          func.return %2
        }""",
        """func.func @main(%q: tensor<9x6xui2>, %t: tensor<1x2x4xf32>, %i: tensor<3x2xi64>) -> tensor<3x2x6xf32> {
          %1 = graph.lookup %q, %t {block = [9, 4]} : tensor<9x6xf32>
          %2 = graph.gather %q, %i {axis = 0} : tensor<3x2x6xui2>
          %3 = graph.reshape %t {to = [1, 1, 2, 4]} : tensor<1x1x2x4xf32>
          %4 = graph.lookup %2, %3 {block = [3, 2, 4]} : tensor<3x2x6xf32>
          func.return %4
        }""",
    ),
    "a transpose moves fewer bytes": (
        "expand-late",
        """func.func @main(%q: tensor<9x6xui2>, %t: tensor<3x1x4xf32>) -> tensor<6x9xf32> {
          %1 = graph.lookup %q, %t {block = [3, 6]} : tensor<9x6xf32>
          %2 = graph.transpose %1 {permutation = [1, 0]} : tensor<6x9xf32>
          func.return %2
        }""",
        """func.func @main(%q: tensor<9x6xui2>, %t: tensor<3x1x4xf32>) -> tensor<6x9xf32> {
          %1 = graph.lookup %q, %t {block = [3, 6]} : tensor<9x6xf32>
          %2 = graph.transpose %q {permutation = [1, 0]} : tensor<6x9xui2>
          %3 = graph.transpose %t {permutation = [1, 0, 2]} : tensor<1x3x4xf32>
          %4 = graph.lookup %2, %3 {block = [6, 3]} : tensor<6x9xf32>
          func.return %4
        }""",
    ),
    "a product of integers": (
        "integer-products,canonicalize",
        """func.func @main(%x: tensor<4x64xi8>, %sx: tensor<1x1xf32>, %zx: tensor<1x1xi8>, %w: tensor<8x64xi8>,
            %sw: tensor<8x1xf32>) -> tensor<4x8xf32> {
          %1 = graph.dequantize %x, %sx, %zx {block = [4, 64], to = "f32"} : tensor<4x64xf32>
          %2 = graph.dequantize %w, %sw {block = [1, 64], to = "f32"} : tensor<8x64xf32>
          %3 = graph.matmul %1, %2 {transpose_b = true} : tensor<4x8xf32>
          func.return %3
        }""",
        """func.func @main(%x: tensor<4x64xi8>, %sx: tensor<1x1xf32>, %zx: tensor<1x1xi8>, %w: tensor<8x64xi8>,
            %sw: tensor<8x1xf32>) -> tensor<4x8xf32> {
          %1 = graph.matmul %x, %w {transpose_b = true, to = "i32"} : tensor<4x8xi32>
          %2 = graph.cast %w {to = "i32"} : tensor<8x64xi32>
          %3 = graph.reduce %2 {kind = "sum", axes = [1], keepdims = true} : tensor<8x1xi32>
          %4 = graph.cast %zx {to = "i32"} : tensor<1x1xi32>
          %5 = graph.reshape %3 {to = [1, 8]} : tensor<1x8xi32>
          %6 = graph.mul %4, %5 : tensor<1x8xi32>
          %7 = graph.reshape %sw {to = [1, 8]} : tensor<1x8xf32>
          %8 = graph.mul %sx, %7 : tensor<1x8xf32>
          %9 = graph.dequantize %1, %8, %6 {block = [4, 1], to = "f32"} : tensor<4x8xf32>
          func.return %9
        }""",
    ),
    "what expands a weight joins its product, and the quantisation of the result too": (
        "fuse",
        """func.func @main(%x: tensor<4x64xf32>, %s: tensor<1x1xf32>) -> tensor<4x8xi8> {
          %q = graph.parameter {key = "q"} : tensor<8x64xui3>
          %t = graph.parameter {key = "t"} : tensor<1x1x8xf32>
          %1 = graph.lookup %q, %t {block = [8, 64]} : tensor<8x64xf32>
          %2 = graph.matmul %x, %1 {transpose_b = true} : tensor<4x8xf32>
          %3 = graph.quantize %2, %s {block = [4, 8], to = "i8"} : tensor<4x8xi8>
          func.return %3
        }""",
        """func.func @main(%x: tensor<4x64xf32>, %s: tensor<1x1xf32>) -> tensor<4x8xi8> {
          %q = graph.parameter {key = "q"} : tensor<8x64xui3>
          %t = graph.parameter {key = "t"} : tensor<1x1x8xf32>
          %1 = graph.fuse(%qi = %q, %ti = %t, %xi = %x, %si = %s) {
            %2 = graph.lookup %qi, %ti {block = [8, 64]} : tensor<8x64xf32>
            %3 = graph.matmul %xi, %2 {transpose_b = true} : tensor<4x8xf32>
            %4 = graph.quantize %3, %si {block = [4, 8], to = "i8"} : tensor<4x8xi8>
            graph.yield %4
          } : tensor<4x8xi8>
          func.return %1
        }""",
    ),
    "a weight that is stored in half stays so where products alone read it": (
        "fold-constants,canonicalize,fuse",
        """func.func @main(%x: tensor<4x64xf32>) -> tensor<4x64xf32> {
          %w = graph.parameter {key = "w"} : tensor<64x64xf16>
          %b = graph.parameter {key = "b"} : tensor<64xf16>
          %0 = graph.cast %w {to = "f32"} : tensor<64x64xf32>
          %1 = graph.cast %b {to = "f32"} : tensor<64xf32>
          %2 = graph.matmul %x, %0, %1 {transpose_b = true} : tensor<4x64xf32>
          func.return %2
        }""",
        """func.func @main(%x: tensor<4x64xf32>) -> tensor<4x64xf32> {
          %w = graph.parameter {key = "w"} : tensor<64x64xf16>
          %b = graph.parameter {key = "folded.0"} : tensor<64xf32>
          %1 = graph.fuse(%wi = %w, %xi = %x, %bi = %b) {
            %2 = graph.cast %wi {to = "f32"} : tensor<64x64xf32>
            %3 = graph.matmul %xi, %2, %bi {transpose_b = true} : tensor<4x64xf32>
            graph.yield %3
          } : tensor<4x64xf32>
          func.return %1
        }""",
    ),
    "a weight stays as it is stored, what is computed of its scales does not": (
        "fold-constants,canonicalize",
        """func.func @main(%x: tensor<4x64xf32>) -> tensor<4x8xf32> {
          %q = graph.parameter {key = "q"} : tensor<8x64xi8>
          %s = graph.parameter {key = "s"} : tensor<8x1xf32>
          %0 = graph.mul %s, %s : tensor<8x1xf32>
          %1 = graph.dequantize %q, %0 {block = [1, 64], to = "f32"} : tensor<8x64xf32>
          %2 = graph.matmul %x, %1 {transpose_b = true} : tensor<4x8xf32>
          func.return %2
        }""",
        """func.func @main(%x: tensor<4x64xf32>) -> tensor<4x8xf32> {
          %q = graph.parameter {key = "q"} : tensor<8x64xi8>
          %0 = graph.parameter {key = "folded.0"} : tensor<8x1xf32>
          %1 = graph.dequantize %q, %0 {block = [1, 64], to = "f32"} : tensor<8x64xf32>
          %2 = graph.matmul %x, %1 {transpose_b = true} : tensor<4x8xf32>
          func.return %2
        }""",
    ),
}


def inputs_of(module):
    rng = np.random.default_rng(0)
    for a in module.main.args:
        if a.type.dtype == "f32":
            yield (0.1 + rng.random(a.type.shape)).astype("f4")
        else:
            yield rng.integers(0, 3, a.type.shape).astype({"i64": "i8", "i8": "i1"}.get(a.type.dtype, "u1"))


@pytest.mark.parametrize("name", CASES)
def test_before_and_after(name):
    pipeline, before, after = CASES[name]
    module = parse(before, "before")
    inputs = list(inputs_of(module))
    want = run_graph(module, inputs)
    for p in parse_pipeline(pipeline):
        p.run(module, PassContext())
        verify(module)
    assert print_op(module, names=False) == print_op(parse(after, "after"), names=False)
    for got, expected in zip(run_graph(module, inputs), want, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("target", "engine", "dtype", "integer"),
    [("m4", "ane", "f16", True), ("m4", "cpu", "f16", True), ("m4", "cpu", "f32", True), ("m4", "gpu", "f16", False),
     ("m1", "ane", "f16", False), ("m4", "ane", "f32", False)],
)  # fmt: skip
def test_integers_where_an_engine_multiplies_them_faster(target, engine, dtype, integer):
    """M1's Neural Engine and the GPUs do not; M4's does, but it takes no f32, in which this program goes on."""
    before = CASES["a product of integers"][1].replace("xf32", f"x{dtype}").replace('"f32"', f'"{dtype}"')
    module, context = parse(before, "before"), PassContext(load_target(target), (engine,))
    for p in parse_pipeline("integer-products"):
        p.run(module, context)
    products = [op for op in module.main.walk() if isinstance(op, graph.Matmul)]
    assert [op.to for op in products] == (["i32"] if integer else [None])
    assert [e.outcome for e in context.log] == ["applied" if integer else "missed"]
