"""CRAFT, the text detector of Baek et al. 2019 (arXiv 1904.01941): VGG-16 with batch norm, and a path back up that
joins its maps; gives two score maps at half the image's size."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from torch import Tensor, nn

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512))  # of VGG-16, a pool between each
TAP = 1  # the convolution of each stage whose map is joined
HEAD = ((32, 3), (32, 3), (16, 3), (16, 1), (2, 1))  # channels and kernel


def _convolution(inner: int, outer: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inner, outer, kernel, padding=kernel // 2), nn.BatchNorm2d(outer), nn.ReLU())


class Join(nn.Sequential):
    """A 1x1 convolution over two joined maps, then a 3x3 one to half its channels."""

    def __init__(self, inner: int, middle: int):
        super().__init__(_convolution(inner, middle, 1), _convolution(middle, middle // 2, 3))


class Craft(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        channels = [3, *(c for stage in STAGES for c in stage)]
        pairs = itertools.pairwise(channels)
        self.stages = nn.ModuleList(nn.ModuleList(_convolution(*next(pairs), 3) for _ in stage) for stage in STAGES)
        self.context = nn.Sequential(nn.Conv2d(512, 1024, 3, padding=6, dilation=6), nn.Conv2d(1024, 1024, 1))
        self.joins = nn.ModuleList(
            Join(i, m) for i, m in ((1024 + 512, 512), (256 + 512, 256), (128 + 256, 128), (64 + 128, 64))
        )
        head: list[nn.Module] = []
        inner = 32
        for outer, kernel in HEAD:
            head += [nn.Conv2d(inner, outer, kernel, padding=kernel // 2), nn.ReLU()]
            inner = outer
        self.head = nn.Sequential(*head[:-1])

    def forward(self, x: Tensor) -> Tensor:
        maps = self.encode(x)
        y = self.context(F.max_pool2d(maps[-1], 3, 1, 1))
        for join, skip in zip(self.joins, reversed(maps[1:]), strict=True):
            if y.shape[2:] != skip.shape[2:]:
                y = F.interpolate(y, size=skip.shape[2:], mode="bilinear", align_corners=False)
            y = join(torch.cat([y, skip], 1))
        return self.head(y)

    def encode(self, x: Tensor) -> Sequence[Tensor]:
        """One map of each stage."""
        maps = []
        for i, stage in enumerate(self.stages):
            x = F.max_pool2d(x, 2) if i else x
            for j, convolution in enumerate(stage):  # type: ignore[arg-type]
                x = convolution(x)
                if j == TAP:
                    maps.append(x)
        return maps
