"""The example models and transformers' models: imported, counted, and compared with eager."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from frontend_check import same_as_eager
from tilewright.compiler.dialects.graph import GraphOp
from tilewright.compiler.frontend.sources import Loaded, load
from tilewright.compiler.ir import Module
from tilewright.compiler.ir.parser import parse
from tilewright.compiler.ir.printer import print_op

aten = torch.ops.aten
TRANSFORMERS = Path(__file__).parent.parent / "models" / "transformers_models.py"
LLAMA = {"layers": 2, "hidden": 128, "heads": 8, "kv_heads": 2, "ffn": 256, "vocab": 500}
EXAMPLES: dict[str, dict[str, int]] = {  # sizes for a quick run; the structure is that of the full model
    "resnet50": {"size": 32},
    "mobilenetv2": {"size": 32},
    "vit_b16": {"size": 64, "layers": 2, "width": 192, "heads": 3},
    "llama": {**LLAMA, "seq": 16},
    "llama_decode": {**LLAMA, "context": 32},
    "unet": {"size": 16, "width": 32, "levels": 2, "depth": 64},
}
OTHERS: dict[str, dict[str, int]] = {
    "resnet50": {"size": 32},
    "mobilenetv2": {"size": 32},
    "bert_base": {"seq": 16, "layers": 1},
    "gpt2": {"seq": 16, "layers": 1},
    "vit_base": {"layers": 1},
    "t5_small": {"seq": 16, "target": 8, "layers": 2},
}
CASES = {**EXAMPLES, **{f"{TRANSFORMERS}:{name}": dims for name, dims in OTHERS.items()}}
CACHE: dict[str, Loaded] = {}


def small(source: str) -> Loaded:
    if source not in CACHE:
        CACHE[source] = load(source, dims=CASES[source])
    return CACHE[source]


def short(source: str) -> str:
    return source if source in EXAMPLES else f"transformers:{source.rpartition(':')[2]}"


every_model = pytest.mark.parametrize("source", CASES, ids=short)


@every_model
def test_model_agrees_with_eager(source: str) -> None:
    loaded = small(source)
    same_as_eager(loaded, 1e-5, "f32")
    same_as_eager(loaded, 1e-2)


@every_model
def test_macs_agree_with_fx(source: str) -> None:
    assert macs_of_module(small(source).module) == macs_of_fx(small(source).program) > 0


@every_model
def test_text_round_trip(source: str) -> None:
    module = small(source).module
    for generic in (False, True):
        text = print_op(module, generic=generic)
        assert print_op(parse(text), generic=generic) == text


@every_model
def test_every_op_has_a_location(source: str) -> None:
    for op in small(source).module.main.body:
        if isinstance(op, GraphOp) and op.name != "graph.parameter":
            assert op.location.node and op.location.line, op


@pytest.mark.parametrize("source", EXAMPLES)
def test_example_has_its_full_size(source: str) -> None:
    """Multiply-accumulates in millions, of the full models: those of the papers, or of the shapes in the docstrings."""
    expected = {
        "resnet50": 4_089,
        "mobilenetv2": 301,
        "vit_b16": 17_564,
        "llama": 125_890,
        "llama_decode": 1_269,
        "unet": 3_189,
    }
    assert round(macs_of_module(load(source, weights=False).module) / 1e6) == expected[source]


def macs_of_module(module: Module) -> int:
    return sum(op.macs() for op in module.main.body if isinstance(op, GraphOp))


def macs_of_fx(program: Any) -> int:
    """Counted from the FX nodes' shapes alone."""
    total = 0
    for node in program.graph.nodes:
        if node.op != "call_function":
            continue
        fakes = [a.meta["val"] if isinstance(a, torch.fx.Node) else None for a in node.args]
        shapes = [tuple(f.shape) if isinstance(f, torch.Tensor) else () for f in fakes]
        if node.target in (aten.conv1d.default, aten.conv2d.default):
            weight = shapes[1]
            total += node.meta["val"].numel() * math.prod(weight[1:])
        elif node.target in (aten.linear.default, aten.matmul.default):
            total += node.meta["val"].numel() * shapes[0][-1]
        elif node.target == aten.addmm.default:
            total += node.meta["val"].numel() * shapes[1][-1]
        elif node.target == aten.scaled_dot_product_attention.default:
            q, k, v = shapes[:3]
            total += math.prod(q[:-1]) * k[-2] * (q[-1] + v[-1])
    return total


@pytest.mark.slow
@pytest.mark.parametrize("source", [*EXAMPLES, *(f"{TRANSFORMERS}:{name}" for name in OTHERS)], ids=short)
def test_full_model_agrees_with_eager(source: str) -> None:
    loaded = load(source)
    same_as_eager(loaded, 1e-5, "f32")
    same_as_eager(loaded, 1e-2)
