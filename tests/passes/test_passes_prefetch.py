"""Operands that are brought on chip whole: the program before and after, and how it runs on tensor processors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tilewright.compiler.dialects import graph, tile
from tilewright.compiler.frontend.importer import import_program
from tilewright.compiler.interpret import run_graph, run_soc, run_tile
from tilewright.compiler.interpret.conflicts import find_conflicts
from tilewright.compiler.ir.parser import parse
from tilewright.compiler.ir.printer import print_op
from tilewright.compiler.pipeline import compile_module, copy_module
from tilewright.compiler.validate.build import build
from tilewright.passes import PassContext, parse_pipeline
from tilewright.targets import load_target
from tilewright.targets.simulator import simulate
from tilewright.targets.validation.workloads import FeedForward, Gemm
from torch import nn

V6E = load_target("tpu_v6e")

BEFORE = """func.func @main(%x: tensor<64x256xbf16>) -> tensor<64x512xbf16> {
  %w = graph.parameter {key = "w"} : tensor<256x512xbf16>
  %y = graph.matmul %x, %w : tensor<64x512xbf16>
  func.return %y
}"""
AFTER = """func.func @main(%x: tensor<64x256xbf16>) -> tensor<64x512xbf16> {
  %w = graph.parameter {key = "w"} : tensor<256x512xbf16>
  %1 = graph.copy %w : tensor<256x512xbf16>
  %2 = graph.copy %x : tensor<64x256xbf16>
  %y = graph.matmul %2, %1 : tensor<64x512xbf16>
  func.return %y
}"""


def prefetched(text: str, target: str) -> str:
    module = parse(text, "before")
    (p,) = parse_pipeline("prefetch")
    p.run(module, PassContext(load_target(target)))
    return print_op(module).strip()


def test_the_largest_operand_is_copied_first() -> None:
    assert prefetched(BEFORE, "tpu_v6e") == print_op(parse(AFTER, "after")).strip()


def test_engines_without_such_memory_copy_nothing() -> None:
    assert prefetched(BEFORE, "m4") == print_op(parse(BEFORE, "before")).strip()


@pytest.mark.parametrize(
    ("m", "k", "n", "copies"),
    [(1, 4096, 1024, 0), (512, 4096, 1024, 2), (512, 8192, 10240, 1), (8192, 8192, 10240, 0)],
)
def test_what_does_not_fit_streams(m: int, k: int, n: int, copies: int) -> None:
    module = build(Gemm(m, k, n, "bf16"))
    compile_module(module, V6E, (), "tile")
    assert sum(op.label == "copy" for op in module.main.walk() if isinstance(op, tile.Loop)) == copies


TWICE = """func.func @main(%x: tensor<64x256xbf16>) -> (tensor<64x512xbf16>, tensor<64x512xbf16>) {
  %w = graph.parameter {key = "w"} : tensor<256x512xbf16>
  %u = graph.parameter {key = "u"} : tensor<256x512xbf16>
  %y = graph.matmul %x, %w : tensor<64x512xbf16>
  %z = graph.matmul %x, %u : tensor<64x512xbf16>
  func.return %y, %z
}"""


def test_an_operand_of_two_products_is_copied_once_while_there_is_room() -> None:
    assert prefetched(TWICE, "tpu_v6e").count("graph.copy %x") == 1


def test_a_copy_is_made_again_where_what_lies_between_leaves_no_room() -> None:
    between = """  %q = graph.parameter {key = "q"} : tensor<512x288xbf16>
  %p = graph.parameter {key = "p"} : tensor<64x512xbf16>
  %b = graph.matmul %p, %q : tensor<64x288xbf16>
  %z ="""
    module = parse(TWICE.replace("  %z =", between), "before")
    (p,) = parse_pipeline("prefetch")
    p.run(module, PassContext(V6E.override("memory.slc.size", "300KiB")))
    assert print_op(module).count("graph.copy %x") == 2
    assert print_op(module).count("graph.copy %q") == 1


@pytest.mark.parametrize(("columns", "copied"), [(512, True), (4096, False)])
def test_a_result_goes_to_memory_for_a_larger_operand_only(columns: int, copied: bool) -> None:
    text = f"""func.func @main(%x: tensor<1024x1024xbf16>) -> tensor<1024x{columns}xbf16> {{
  %w = graph.parameter {{key = "w"}} : tensor<1024x{columns}xbf16>
  %h = graph.matmul %x, %w : tensor<1024x{columns}xbf16>
  %y = graph.relu %h : tensor<1024x{columns}xbf16>
  func.return %y
}}"""
    module = parse(text, "before")
    (p,) = parse_pipeline("prefetch")
    p.run(module, PassContext(V6E.override("memory.slc.size", f"{2 * 1024 + 2 * columns + 1024}KiB")))
    # x of 2 MiB: beside w and a result that is smaller, but not beside one that is larger
    assert ("graph.copy %x" in print_op(module)) == copied


def test_what_passes_from_op_to_op_stays_on_chip_if_it_fits() -> None:
    for rows, stays in ((512, True), (65536, False)):
        module = build(FeedForward(rows, 768, 3072, False, "bf16"))
        main = copy_module(module).main
        weights = sum(op.result.type.bytes for op in main.body if isinstance(op, graph.Parameter))
        io = main.args[0].type.bytes + main.outputs[0].type.bytes
        compile_module(module, V6E, (), "soc")
        timing = simulate(module, V6E)
        traffic = timing.dram_read_bytes + timing.dram_write_bytes
        assert (traffic < 1.05 * (weights + io)) == stays


class Small(nn.Module):
    """A convolution, a product, attention and a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 10, 3, padding=1)
        self.qkv = nn.Linear(10, 3 * 24)
        self.out = nn.Linear(24, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv(x)).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 12)).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return torch.softmax(self.out(y), dim=-1)


@pytest.mark.parametrize("target", ["tpu_v3", "tpu_v6e"])
def test_every_level_gives_eager_numbers(target: str) -> None:
    torch.manual_seed(0)
    model, x = Small().eval(), torch.randn(2, 3, 9, 9)
    module = import_program(torch.export.export(model, (x,)))
    want = model(x).detach().numpy()
    for level, run in (("graph", run_graph), ("tile", run_tile), ("soc", run_soc)):
        compile_module(module, load_target(target), (), level)
        (got,) = run(module, [x.numpy()], "f32")
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    assert not find_conflicts(module)
    assert simulate(module, load_target(target)).latency_ps > 0
