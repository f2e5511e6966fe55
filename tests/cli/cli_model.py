"""A small model for the command line, and what a command comes back with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, 10)

    def forward(self, x):
        y = torch.relu(self.norm(self.conv(x)))
        return self.fc(y.mean((2, 3))), y.sum()


def net(width: int = 16, size: int = 16):
    torch.manual_seed(0)
    return Net(width), (torch.randn(2, 3, size, size),)


def oddity():
    @torch.library.custom_op("tests::odd", mutates_args=())
    def odd(x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    odd.register_fake(torch.empty_like)

    class Oddity(nn.Module):
        def forward(self, x):
            return odd(x) + 1
    return Oddity(), (torch.randn(4, 4),)


def raises():
    return Net(8), (torch.randn(2, 4, 8, 8),)


def returns_nothing():
    pass
"""


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Tilewright = Callable[..., Result]
