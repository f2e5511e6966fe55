"""The signed-products pass: the text before and after, the same sums, and what it leaves alone."""

import numpy as np
import pytest
from tilewright.compiler.interpret import numpy_dtype, run_graph
from tilewright.compiler.ir import verify
from tilewright.compiler.ir.parser import parse
from tilewright.compiler.ir.printer import print_op
from tilewright.passes import PassContext, parse_pipeline

BEFORE = """func.func @main(%q: tensor<5x7xi8>, %w: tensor<7x3xi8>) -> tensor<5x3xi32> {
  %c = graph.constant {value = 128} : tensor<i32>
  %a = graph.cast %q {to = "i32"} : tensor<5x7xi32>
  %b = graph.add %a, %c : tensor<5x7xi32>
  %u = graph.cast %b {to = "ui8"} : tensor<5x7xui8>
  %p = graph.matmul %u, %w {to = "i32"} : tensor<5x3xi32>
  %v = graph.cast %w {to = "i32"} : tensor<7x3xi32>
  %s = graph.reduce %v {kind = "sum", axes = [0], keepdims = true} : tensor<1x3xi32>
  %m = graph.mul %s, %c : tensor<1x3xi32>
  %y = graph.sub %p, %m : tensor<5x3xi32>
  func.return %y
}"""

AFTER = """func.func @main(%q: tensor<5x7xi8>, %w: tensor<7x3xi8>) -> tensor<5x3xi32> {
  %y = graph.matmul %q, %w {to = "i32"} : tensor<5x3xi32>
  func.return %y
}"""


def run(text: str) -> tuple[str, list[np.ndarray], list[np.ndarray]]:
    module = parse(text, "before")
    rng = np.random.default_rng(0)
    inputs = [rng.integers(-128, 128, a.type.shape).astype(numpy_dtype(a.type.dtype)) for a in module.main.args]
    before = run_graph(module, inputs)
    for p in parse_pipeline("signed-products,canonicalize"):
        p.run(module, PassContext())
        verify(module)
    return print_op(module).strip(), before, run_graph(module, inputs)


def test_the_shift_and_its_correction_go() -> None:
    text, before, after = run(BEFORE)
    assert text == print_op(parse(AFTER, "after")).strip()
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("value = 128", "value = 127"),
        ("graph.sub %p, %m", "graph.sub %m, %p"),
        ('kind = "sum"', 'kind = "max"'),
        ("axes = [0], keepdims = true} : tensor<1x3xi32>", "axes = [0, 1], keepdims = true} : tensor<1x1xi32>"),
        ("%q: tensor<5x7xi8>", "%q: tensor<5x7xi16>"),
    ],
)
def test_anything_else_stays(old: str, new: str) -> None:
    text = BEFORE.replace(old, new)
    if "1x1xi32" in new:
        text = text.replace("%m = graph.mul %s, %c : tensor<1x3xi32>", "%m = graph.mul %s, %c : tensor<1x1xi32>")
    assert text != BEFORE
    after, expected, got = run(text)
    assert "graph.sub" in after
    np.testing.assert_array_equal(got, expected)
