"""Graph passes: the program before and after, in text, and the same numbers from both."""

import numpy as np
import pytest
from tilewright.compiler.interpret import run_graph
from tilewright.compiler.ir import verify
from tilewright.compiler.ir.parser import parse
from tilewright.compiler.ir.printer import print_op
from tilewright.passes import PassContext, PassError, parse_pipeline


def function(body: str) -> str:
    return "\n".join(line.strip() for line in body.strip().splitlines())


def check(pipeline: str, before: str, after: str, seed: int = 0) -> PassContext:
    """Runs the passes on `before`; the text must become `after`, and both must compute the same."""
    module = parse(before, "before")
    rng = np.random.default_rng(seed)
    inputs = [rng.standard_normal(a.type.shape).astype("f4") for a in module.main.args]
    expected = run_graph(module, inputs)
    context = PassContext()
    for p in parse_pipeline(pipeline):
        p.run(module, context)
        verify(module)
    assert print_op(module).strip() == print_op(parse(after, "after")).strip()
    for got, want in zip(run_graph(module, inputs), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6)
    return context


CASES = {
    "transposes compose away": (
        "canonicalize",
        """func.func @main(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
          %a = graph.transpose %x {permutation = [1, 0]} : tensor<8x4xf32>
          %b = graph.transpose %a {permutation = [1, 0]} : tensor<4x8xf32>
          %c = graph.relu %b : tensor<4x8xf32>
          func.return %c
        }""",
        """func.func @main(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
          %c = graph.relu %x : tensor<4x8xf32>
          func.return %c
        }""",
    ),
    "slices and reshapes compose": (
        "canonicalize",
        """func.func @main(%x: tensor<16x6xf32>) -> tensor<6xf32> {
          %a = graph.slice %x {starts = [2, 0], sizes = [12, 6], steps = [1, 1]} : tensor<12x6xf32>
          %b = graph.slice %a {starts = [1, 2], sizes = [3, 2], steps = [4, 2]} : tensor<3x2xf32>
          %c = graph.reshape %b {to = [2, 3]} : tensor<2x3xf32>
          %d = graph.reshape %c {to = [6]} : tensor<6xf32>
          func.return %d
        }""",
        """func.func @main(%x: tensor<16x6xf32>) -> tensor<6xf32> {
          %b = graph.slice %x {starts = [3, 2], sizes = [3, 2], steps = [4, 2]} : tensor<3x2xf32>
          %d = graph.reshape %b {to = [6]} : tensor<6xf32>
          func.return %d
        }""",
    ),
    "a permutation of unit axes is a reshape": (
        "canonicalize",
        """func.func @main(%x: tensor<1x5x7xf32>) -> tensor<5x1x7xf32> {
          %a = graph.transpose %x {permutation = [1, 0, 2]} : tensor<5x1x7xf32>
          func.return %a
        }""",
        """func.func @main(%x: tensor<1x5x7xf32>) -> tensor<5x1x7xf32> {
          %a = graph.reshape %x {to = [5, 1, 7]} : tensor<5x1x7xf32>
          func.return %a
        }""",
    ),
    "equal constants merge and dead ops go": (
        "canonicalize",
        """func.func @main(%x: tensor<5xf32>) -> tensor<5xf32> {
          %c = graph.constant {value = 2.0} : tensor<f32>
          %a = graph.mul %x, %c : tensor<5xf32>
          %d = graph.constant {value = 2.0} : tensor<f32>
          %dead = graph.exp %x : tensor<5xf32>
          %b = graph.add %a, %d : tensor<5xf32>
          func.return %b
        }""",
        """func.func @main(%x: tensor<5xf32>) -> tensor<5xf32> {
          %c = graph.constant {value = 2.0} : tensor<f32>
          %a = graph.mul %x, %c : tensor<5xf32>
          %b = graph.add %a, %c : tensor<5xf32>
          func.return %b
        }""",
    ),
    "a spelled-out rms norm": (
        "fuse-norm,canonicalize",
        """func.func @main(%x: tensor<3x8xf32>) -> tensor<3x8xf32> {
          %two = graph.constant {value = 2} : tensor<f32>
          %eps = graph.constant {value = 1.0e-06} : tensor<f32>
          %a = graph.pow %x, %two : tensor<3x8xf32>
          %b = graph.reduce %a {kind = "mean", axes = [1], keepdims = true} : tensor<3x1xf32>
          %c = graph.add %b, %eps : tensor<3x1xf32>
          %d = graph.rsqrt %c : tensor<3x1xf32>
          %e = graph.mul %x, %d : tensor<3x8xf32>
          func.return %e
        }""",
        """func.func @main(%x: tensor<3x8xf32>) -> tensor<3x8xf32> {
          %e = graph.rms_norm %x {eps = 1.0e-06} : tensor<3x8xf32>
          func.return %e
        }""",
    ),
    "spelled-out attention": (
        "fuse-attention,canonicalize",
        """func.func @main(%q: tensor<2x5x4xf32>, %k: tensor<2x7x4xf32>, %v: tensor<2x7x3xf32>, %m: tensor<5x7xf32>)
              -> tensor<2x5x3xf32> {
          %t = graph.transpose %k {permutation = [0, 2, 1]} : tensor<2x4x7xf32>
          %s = graph.matmul %q, %t : tensor<2x5x7xf32>
          %c = graph.constant {value = 0.5} : tensor<f32>
          %d = graph.mul %s, %c : tensor<2x5x7xf32>
          %e = graph.add %d, %m : tensor<2x5x7xf32>
          %p = graph.softmax %e {axis = 2} : tensor<2x5x7xf32>
          %y = graph.matmul %p, %v : tensor<2x5x3xf32>
          func.return %y
        }""",
        """func.func @main(%q: tensor<2x5x4xf32>, %k: tensor<2x7x4xf32>, %v: tensor<2x7x3xf32>, %m: tensor<5x7xf32>)
              -> tensor<2x5x3xf32> {
          %y = graph.attention %q, %k, %v, %m {scale = 0.5} : tensor<2x5x3xf32>
          func.return %y
        }""",
    ),
    "an epilogue joins its product": (
        "fuse",
        """func.func @main(%x: tensor<5x8xf32>, %w: tensor<7x8xf32>, %r: tensor<5x7xf32>) -> tensor<5x7xf32> {
          %a = graph.matmul %x, %w {transpose_b = true} : tensor<5x7xf32>
          %b = graph.add %a, %r : tensor<5x7xf32>
          %c = graph.relu %b : tensor<5x7xf32>
          func.return %c
        }""",
        """func.func @main(%x: tensor<5x8xf32>, %w: tensor<7x8xf32>, %r: tensor<5x7xf32>) -> tensor<5x7xf32> {
          %0 = graph.fuse(%1 = %x, %2 = %w, %3 = %r) {
            %a = graph.matmul %1, %2 {transpose_b = true} : tensor<5x7xf32>
            %b = graph.add %a, %3 : tensor<5x7xf32>
            %c = graph.relu %b : tensor<5x7xf32>
            graph.yield %c
          } : tensor<5x7xf32>
          func.return %0
        }""",
    ),
    "a value with two users stays in memory": (
        "fuse",
        """func.func @main(%x: tensor<5x8xf32>) -> (tensor<5x8xf32>, tensor<5x8xf32>) {
          %a = graph.softmax %x {axis = 1} : tensor<5x8xf32>
          %b = graph.relu %a : tensor<5x8xf32>
          func.return %a, %b
        }""",
        """func.func @main(%x: tensor<5x8xf32>) -> (tensor<5x8xf32>, tensor<5x8xf32>) {
          %a = graph.softmax %x {axis = 1} : tensor<5x8xf32>
          %b = graph.relu %a : tensor<5x8xf32>
          func.return %a, %b
        }""",
    ),
    "the layout saves a copy": (
        "choose-layout",
        """func.func @main(%x: tensor<2x3x5x4xf32>) -> tensor<10x12xf32> {
          %a = graph.exp %x : tensor<2x3x5x4xf32>
          %b = graph.transpose %a {permutation = [0, 2, 1, 3]} : tensor<2x5x3x4xf32>
          %c = graph.reshape %b {to = [10, 12]} : tensor<10x12xf32>
          %d = graph.relu %c : tensor<10x12xf32>
          func.return %d
        }""",
        """func.func @main(%x: tensor<2x3x5x4xf32>) -> tensor<10x12xf32> {
          %a = graph.exp %x : tensor<2x3x5x4xf32, "0,2,1,3">
          %b = graph.transpose %a {permutation = [0, 2, 1, 3]} : tensor<2x5x3x4xf32>
          %c = graph.reshape %b {to = [10, 12]} : tensor<10x12xf32>
          %d = graph.relu %c : tensor<10x12xf32>
          func.return %d
        }""",
    ),
    "where no layout can, a copy is made": (
        "choose-layout",
        """func.func @main(%x: tensor<6x4xf32>) -> tensor<24xf32> {
          %b = graph.transpose %x {permutation = [1, 0]} : tensor<4x6xf32>
          %c = graph.reshape %b {to = [24]} : tensor<24xf32>
          func.return %c
        }""",
        """func.func @main(%x: tensor<6x4xf32>) -> tensor<24xf32> {
          %b = graph.transpose %x {permutation = [1, 0]} : tensor<4x6xf32>
          %0 = graph.copy %b : tensor<4x6xf32>
          %c = graph.reshape %0 {to = [24]} : tensor<24xf32>
          func.return %c
        }""",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_before_and_after(name, roundtrip):
    check(*CASES[name])
    roundtrip(parse(CASES[name][1], name))


def test_missed_says_why():
    context = check(*CASES["a value with two users stays in memory"])
    assert any(e.outcome == "missed" and "2 uses" in e.reason for e in context.log)


def test_batch_norm_folds_into_the_convolution():
    text = """func.func @main(%x: tensor<1x4x6x6xf32>) -> tensor<1x8x4x4xf32> {
      %w = graph.parameter {key = "w"} : tensor<8x4x3x3xf32>
      %g = graph.parameter {key = "g"} : tensor<8xf32>
      %b = graph.parameter {key = "b"} : tensor<8xf32>
      %m = graph.parameter {key = "m"} : tensor<8xf32>
      %v = graph.parameter {key = "v"} : tensor<8xf32>
      %c = graph.conv %x, %w {strides = [1, 1], padding = [0, 0, 0, 0]} : tensor<1x8x4x4xf32>
      %y = graph.batch_norm %c, %g, %b, %m, %v {eps = 1.0e-05} : tensor<1x8x4x4xf32>
      func.return %y
    }"""
    module = parse(text)
    rng = np.random.default_rng(1)
    shapes = {"w": (8, 4, 3, 3), "g": (8,), "b": (8,), "m": (8,), "v": (8,)}
    module.parameters = {k: rng.uniform(0.5, 1.5, s).astype("f4") for k, s in shapes.items()}
    x = [rng.standard_normal((1, 4, 6, 6)).astype("f4")]
    expected = run_graph(module, x)[0]
    for p in parse_pipeline("fold-batch-norm,fold-constants,canonicalize"):
        p.run(module, PassContext())
    assert [op.name for op in module.main.body] == ["graph.parameter"] * 2 + ["graph.conv", "func.return"]
    np.testing.assert_allclose(run_graph(module, x)[0], expected, rtol=1e-5, atol=1e-5)


def test_batch_norm_alone_becomes_a_multiply_and_an_add():
    text = """func.func @main(%x: tensor<1x4x6xf32>, %g: tensor<4xf32>) -> tensor<1x4x6xf32> {
      %y = graph.batch_norm %x, %g, %g, %g, %g {eps = 0.5} : tensor<1x4x6xf32>
      func.return %y
    }"""
    module = parse(text)
    rng = np.random.default_rng(1)
    inputs = [rng.standard_normal((1, 4, 6)).astype("f4"), rng.uniform(0.5, 1.5, 4).astype("f4")]
    expected = run_graph(module, inputs)[0]
    parse_pipeline("fold-batch-norm")[0].run(module, PassContext())
    assert "graph.batch_norm" not in {op.name for op in module.main.body}
    np.testing.assert_allclose(run_graph(module, inputs)[0], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("canonicalise", "did you mean 'canonicalize'"),
        ("fuse{max_op=3}", "did you mean 'max_ops'"),
        ("fuse{max_ops=x}", "takes int"),
        ("fuse{max_ops", "cannot read the pipeline"),
    ],
)
def test_pipeline_errors(text, message):
    with pytest.raises(PassError, match=message):
        parse_pipeline(text)


def test_pipeline_text_round_trips():
    text = "canonicalize,fuse{max_ops=3 max_inputs=2},tile{slots=1}"
    assert ",".join(map(str, parse_pipeline(text))) == text
