"""Attention in parts: the steps in text, the same numbers from both, and which engines ask for it."""

from __future__ import annotations

import numpy as np
import pytest
from tilewright.compiler.dialects import graph
from tilewright.compiler.interpret import run_graph
from tilewright.compiler.ir import Module, verify
from tilewright.compiler.ir.parser import parse
from tilewright.compiler.ir.printer import print_op
from tilewright.passes import PassContext, parse_pipeline
from tilewright.targets import load_target

ATTENTION = """func.func @main(%q: tensor<2x5x4xDT>, %k: tensor<2x7x4xDT>, %v: tensor<2x7x3xDT>) -> tensor<2x5x3xDT> {
  %y = graph.attention %q, %k, %v {OPTIONS} : tensor<2x5x3xDT>
  func.return %y
}"""

EXPANDED = """func.func @main(%q: tensor<2x5x4xf16>, %k: tensor<2x7x4xf16>, %v: tensor<2x7x3xf16>)
      -> tensor<2x5x3xf16> {
  %0 = graph.matmul %q, %k {transpose_b = true} : tensor<2x5x7xf16>
  %1 = graph.constant {value = 0.5} : tensor<f16>
  %2 = graph.mul %0, %1 : tensor<2x5x7xf16>
  %3 = graph.reduce %2 {kind = "max", axes = [2], keepdims = true} : tensor<2x5x1xf16>
  %4 = graph.sub %2, %3 : tensor<2x5x7xf16>
  %5 = graph.exp %4 : tensor<2x5x7xf16>
  %6 = graph.reduce %5 {kind = "sum", axes = [2], keepdims = true} : tensor<2x5x1xf16>
  %7 = graph.reciprocal %6 : tensor<2x5x1xf16>
  %8 = graph.mul %5, %7 : tensor<2x5x7xf16>
  %y = graph.matmul %8, %v : tensor<2x5x3xf16>
  func.return %y
}"""


def attention(options: str = "scale = 0.5", dtype: str = "f16") -> Module:
    return parse(ATTENTION.replace("OPTIONS", options).replace("DT", dtype), "test")


def run(module: Module, pipeline: str, target: str | None, *engines: str) -> Module:
    context = PassContext(target=load_target(target) if target else None, engines=engines)
    for p in parse_pipeline(pipeline):
        p.run(module, context)
        verify(module)
    return module


def inputs(module: Module) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        rng.standard_normal(a.type.shape).astype({"f16": "f2", "f32": "f4"}[a.type.dtype]) for a in module.main.args
    ]


def kinds(module: Module) -> list[str]:
    """What is computed, in order."""
    ops = (op for op in module.main.body if isinstance(op, graph.GraphOp) and not isinstance(op, graph.Constant))
    return [op.name.removeprefix("graph.") for op in ops]


def test_attention_becomes_its_steps():
    module = run(attention(), "expand-attention", "a14", "ane")
    assert print_op(module).strip() == print_op(parse(EXPANDED, "after")).strip()


@pytest.mark.parametrize("options", ["scale = 0.5", "scale = 1.5, causal = true"])
@pytest.mark.parametrize("arith", ["native", "f32"])
def test_the_steps_compute_attention(options, arith):
    before = attention(options)
    given = inputs(before)
    (expected,) = run_graph(before, given, arith="f32")
    module = run(attention(options), "expand-attention,fold-constants", "a14", "ane")
    assert "attention" not in kinds(module)
    (got,) = run_graph(module, given, arith=arith)
    tolerance = 1e-5 if arith == "f32" else 4e-3
    np.testing.assert_allclose(got.astype("f4"), expected.astype("f4"), rtol=tolerance, atol=tolerance)


def test_a_row_that_is_masked_out_whole_gives_zeros():
    text = """func.func @main(%q: tensor<3x4xf16>, %k: tensor<3x4xf16>, %v: tensor<3x2xf16>, %m: tensor<3x3xf16>)
          -> tensor<3x2xf16> {
      %y = graph.attention %q, %k, %v, %m {scale = 0.5} : tensor<3x2xf16>
      func.return %y
    }"""
    module = run(parse(text, "test"), "expand-attention", "a14", "ane")
    q, k, v, mask = inputs(module)
    mask[1] = -np.inf
    (got,) = run_graph(module, [q, k, v, mask])
    assert np.isfinite(got).all() and not got[1].any() and got[0].any()


def test_equal_causal_masks_are_one_weight():
    text = """func.func @main(%q: tensor<1x6x4xf16>) -> tensor<1x6x4xf16> {
      %a = graph.attention %q, %q, %q {scale = 0.5, causal = true} : tensor<1x6x4xf16>
      %b = graph.attention %a, %a, %a {scale = 0.5, causal = true} : tensor<1x6x4xf16>
      func.return %b
    }"""
    module = run(parse(text, "test"), "expand-attention,fold-constants,canonicalize", "a14", "ane")
    assert kinds(module).count("parameter") == 1


@pytest.mark.parametrize(
    ("target", "engines", "dtype"), [(None, (), "f16"), ("m4", ("gpu", "ane"), "f16"), ("m4", ("ane", "gpu"), "f32")]
)
def test_it_stays_whole_for_an_engine_that_has_it(target, engines, dtype):
    assert kinds(run(attention(dtype=dtype), "expand-attention", target, *engines)) == ["attention"]


def test_each_step_is_a_loop():
    """The scale belongs to the product, the exponential to the subtraction, the inverse to the sum."""
    module = run(parse(EXPANDED, "test"), "fuse", "a14", "ane")
    assert kinds(module) == ["fuse", "reduce", "fuse", "fuse", "mul", "matmul"]
