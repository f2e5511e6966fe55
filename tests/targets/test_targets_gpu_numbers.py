"""Programs for a chip that has a GPU and nothing else give PyTorch's numbers at every level."""

from __future__ import annotations

from pathlib import Path

import pytest
from tilewright.compiler.cli.run import F16_TOLERANCE, F32_TOLERANCE, compare
from tilewright.compiler.frontend.eager import example_inputs, run_eager
from tilewright.compiler.frontend.sources import load
from tilewright.compiler.interpret import run_graph, run_soc, run_tile
from tilewright.compiler.interpret.conflicts import find_conflicts
from tilewright.compiler.pipeline import compile_module, copy_module
from tilewright.targets import load_target

RUN = {"graph": run_graph, "tile": run_tile, "soc": run_soc}

SOURCE = """
import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 48, 3, padding=1)
        self.project = nn.Linear(48, 96)
        self.out = nn.Linear(32, 70)

    def forward(self, x):
        x = F.gelu(self.conv(x)).flatten(2).transpose(1, 2)
        q, k, v = self.project(x).chunk(3, -1)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.out(F.softmax(F.layer_norm(y, (32,)), -1))


def net():
    torch.manual_seed(0)
    return Net().eval(), (torch.randn(2, 3, 13, 17),)
"""


@pytest.mark.parametrize("chip", ["a100", "mi210"])
def test_every_level_gives_eager_numbers(chip: str, tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(SOURCE)
    program = load(f"{file}:net")
    inputs, target = example_inputs(program), load_target(chip)
    expected = run_eager(program, "f32")
    module = copy_module(program.module)
    for level, run in RUN.items():
        compile_module(module, target, (), level)
        for arith, tolerance in (("f32", F32_TOLERANCE), ("native", F16_TOLERANCE)):
            for i, (got, want) in enumerate(zip(run(module, inputs, arith), expected, strict=True)):
                assert compare(str(i), got, want).relative_l2 < tolerance, (level, arith, i)
    assert not find_conflicts(module)
