"""The feed-forward layer of a decoder with weights in look-up tables of 1, 2, 3, 4, 6 or 8 bits, or in 16-bit floats.

tilewright cost examples/quantised.py:mlp --target m4 --dim bits=2,4,8,16
"""

from __future__ import annotations

import torch
from tilewright.compiler.frontend.palettes import palettise
from torch import Tensor, nn


def mlp(
    bits: int = 4, tokens: int = 1, width: int = 2048, group: int = 0, device: str = "cpu"
) -> tuple[nn.Module, tuple[Tensor]]:
    """Takes [tokens, width] and gives as much; `group` output channels share a table, all of them if it is 0."""
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)).eval()
        if bits != 16:
            palettise(model, bits=bits, group=group or None)
        return model, (torch.randn(tokens, width),)
