"""Ops on two tensors after a product, on an engine whose array's way out takes one: text, and the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
from tilewright.compiler.dialects import graph
from tilewright.compiler.interpret import run_graph, run_soc, run_tile
from tilewright.compiler.ir import Module, parse, verify
from tilewright.compiler.ir.printer import print_op
from tilewright.compiler.pipeline import compile_module, copy_module, run_passes
from tilewright.passes import PassContext, default_pipeline, parse_pipeline
from tilewright.targets import load_target
from tilewright.targets.simulator import simulate

CONV = "{strides = [1, 1], padding = [PAD, PAD, PAD, PAD], dilations = [1, 1], groups = 1}"
PLACED = """func.func @main(%x: tensor<1x8x5x7xf16>, %w: tensor<8x8x1x1xf16>, %r: tensor<1x8x5x7xf16>)
      -> tensor<1x8x5x7xf16> {
  %y = graph.fuse(%a = %x, %b = %w, %c = %r) {engine = @ENGINE} {
    %0 = graph.conv %a, %b CONV : tensor<1x8x5x7xf16>
    %1 = graph.constant {value = 0.5} : tensor<f16>
    %2 = graph.mul %0, %1 : tensor<1x8x5x7xf16>
    %3 = graph.tanh %c : tensor<1x8x5x7xf16>
    %4 = graph.add %2, %3 : tensor<1x8x5x7xf16>
    %5 = graph.relu %4 : tensor<1x8x5x7xf16>
    graph.yield %5
  } : tensor<1x8x5x7xf16>
  func.return %y
}""".replace("CONV", CONV.replace("PAD", "0"))


def split(engine: str) -> Module:
    module = parse(PLACED.replace("ENGINE", engine))
    run_passes(module, parse_pipeline("split-epilogues"), PassContext(target=load_target("m4")))
    verify(module)
    return module


def members(op: graph.GraphOp) -> list[str]:
    body = op.body if isinstance(op, graph.Fuse) else [op]
    return [o.name.removeprefix("graph.") for o in body if not isinstance(o, (graph.Yield, graph.Constant))]


def groups(module: Module) -> list[list[str]]:
    ops = [op for op in module.main.body if isinstance(op, graph.GraphOp) and not isinstance(op, graph.SOURCES)]
    return [members(op) for op in ops]


def test_what_takes_two_tensors_leaves_with_all_that_follows_it():
    module = split("ane")
    assert groups(module) == [["conv", "mul"], ["tanh", "add", "relu"]]
    assert {str(op.attributes["engine"]) for op in module.main.body if isinstance(op, graph.GraphOp)} == {"@ane"}


@pytest.mark.parametrize("engine", ["gpu", "cpu"])
def test_engines_whose_kernels_end_in_anything_keep_it(engine: str):
    assert print_op(split(engine)) == print_op(parse(PLACED.replace("ENGINE", engine)))


def test_both_compute_the_same():
    rng = np.random.default_rng(0)
    module = split("ane")
    inputs = [rng.standard_normal(a.type.shape).astype("f2") for a in module.main.args]
    (got,), (want,) = run_graph(module, inputs), run_graph(parse(PLACED.replace("ENGINE", "ane")), inputs)
    np.testing.assert_array_equal(got, want)


def residual(channels: int, height: int, width: int, quantized: bool = False) -> Module:
    """Two products and a sum: of weights as they are, or as bytes that are expanded on their way."""
    x = f"tensor<1x{channels}x{height}x{width}xf16>"
    w = f"tensor<{channels}x{channels}x3x3x"
    scale = f"tensor<{channels}x1x1x1xf16>"
    conv = CONV.replace("PAD", "1")
    lines = []
    for i in (1, 2):
        if quantized:
            lines += [
                f'%q{i} = graph.parameter {{key = "q{i}"}} : {w}i8>',
                f'%s{i} = graph.parameter {{key = "s{i}"}} : {scale}',
                f'%w{i} = graph.dequantize %q{i}, %s{i} {{block = [1, {channels}, 3, 3], to = "f16"}} : {w}f16>',
            ]
        else:
            lines.append(f'%w{i} = graph.parameter {{key = "w{i}"}} : {w}f16>')
    lines += [
        f"%a = graph.conv %x, %w1 {conv} : {x}",
        f"%b = graph.conv %a, %w2 {conv} : {x}",
        f"%c = graph.add %b, %a : {x}",
        f"%y = graph.relu %c : {x}",
    ]
    module = parse(f"func.func @main(%x: {x}) -> {x} {{\n" + "\n".join(lines) + "\nfunc.return %y\n}")
    rng = np.random.default_rng(1)
    for op in module.main.body:
        if isinstance(op, graph.Parameter):
            kind = op.result.type
            values = (
                rng.integers(-100, 100, kind.shape) if kind.dtype == "i8" else rng.standard_normal(kind.shape) / 100
            )
            module.parameters[op.key] = values.astype("i1" if kind.dtype == "i8" else "f2")
    return module


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 1, 1), (7, 5, 3), (17, 13, 11), (64, 14, 14)])
def test_the_levels_below_compute_the_same(channels: int, height: int, width: int, quantized: bool):
    module = residual(channels, height, width, quantized)
    x = np.random.default_rng(2).standard_normal((1, channels, height, width)).astype("f2")
    (want,) = run_graph(module, [x], arith="f32")
    for level, run in (("tile", run_tile), ("soc", run_soc)):
        lowered = copy_module(module)
        compile_module(lowered, load_target("a14"), ("ane",), level)
        (got,) = run(lowered, [x], arith="f32")
        assert np.linalg.norm(got.astype("f8") - want) <= 1e-5 * np.linalg.norm(want)


def test_a_sum_is_a_task_of_its_own_on_the_neural_engine():
    for engine, labels in (("ane", ["conv", "conv", "add+relu"]), ("gpu", ["conv", "conv+add+relu"])):
        module = residual(64, 28, 28)
        compile_module(module, load_target("m4"), (engine,))
        assert [t.label for t in simulate(module, load_target("m4")).tasks] == labels


def test_plans_are_made_for_what_the_split_leaves():
    """What stands between the parts is a tensor that may stay on chip: a later pass counts it among what does."""
    module, context = residual(64, 28, 28), PassContext(target=load_target("m4"), engines=("ane",))
    passes = default_pipeline("tile")
    at = [p.name for p in passes].index("split-epilogues") + 1
    run_passes(module, passes[:at], context)
    made = {r for op in module.main.body if isinstance(op, graph.GraphOp) for r in op.results}
    assert {s.value for s in context.planner(2, module).lifetimes.spans} <= made
