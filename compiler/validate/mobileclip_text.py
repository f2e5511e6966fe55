"""MobileCLIP-S0's text encoder (Vasu et al. 2024, arXiv 2311.17049) in the form that runs: four transformer layers
between two blocks of convolutions along the tokens, whose branches are folded."""

from __future__ import annotations

import torch
from torch import Tensor, nn

KERNEL = 11  # tokens that a depthwise convolution sees


class ConvolutionBlock(nn.Module):
    """Mixes tokens by a depthwise convolution, then channels by two products behind another; x[b, tokens, width]."""

    def __init__(self, width: int):
        super().__init__()
        mix = {"kernel_size": (1, KERNEL), "padding": (0, KERNEL // 2), "groups": width}
        self.mixer = nn.Conv2d(width, width, **mix)
        self.channels = nn.Sequential(
            nn.Conv2d(width, width, **mix), nn.Conv2d(width, 4 * width, 1), nn.GELU(), nn.Conv2d(4 * width, width, 1)
        )
        self.scale = nn.Parameter(torch.ones(width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.mixer(x.transpose(1, 2).unsqueeze(2))
        y = y + self.scale * self.channels(y)
        return y.squeeze(2).transpose(1, 2)


class TextEncoder(nn.Module):
    """Takes token numbers [batch, 77]; gives the projected features [batch, width] of the last, the highest number."""

    def __init__(self, width: int = 512, heads: int = 8, layers: int = 4, vocabulary: int = 49408):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.zeros(77, width))
        attention = (
            nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
            for _ in range(layers)
        )
        self.blocks = nn.Sequential(ConvolutionBlock(width), *attention, ConvolutionBlock(width))
        self.norm = nn.LayerNorm(width)
        self.projection = nn.Parameter(torch.zeros(width, width))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.norm(self.blocks(self.embedding(ids) + self.positions))
        last = x[torch.arange(ids.shape[0], device=ids.device), ids.argmax(-1)]
        return last @ self.projection
