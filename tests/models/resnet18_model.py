"""ResNet-18, He et al. 2015, without weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut: [b, channels, h, w] -> [b, width, h / stride, w / stride]."""

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Identity()
        if stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def resnet18(device: str = "meta") -> tuple[nn.Module, tuple[Tensor]]:
    """Takes images [1, 3, 224, 224] and gives logits [1, 1000]."""
    with torch.device(device):
        stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        pairs = [(64, 64), (64, 128), (128, 256), (256, 512)]
        blocks = [BasicBlock(*pair) for a, b in pairs for pair in ((a, b, 1 if a == b else 2), (b, b, 1))]
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000)]
        return nn.Sequential(*stem, *blocks, *head).eval(), (torch.randn(1, 3, 224, 224),)
