"""What a program's other ops leave behind for one of them: their code in place of its own, its operands out of reach
of a core's own caches. An op that is called again and again finds both near; one among others does not."""

from __future__ import annotations

import torch
from torch import nn

from .machine import Machine
from .timing import Call


def others(machine: Machine, threads: int) -> Call:
    """Some ops of several kinds, and a sweep through twice what the cores' own caches hold, all on the threads that
    PyTorch has."""
    swept = torch.zeros(2 * threads * machine.caches[2] // 4)
    rows, image = torch.rand(32, 128), torch.rand(1, 32, 28, 28)
    steps = [
        (nn.Linear(128, 128), rows),
        (nn.LayerNorm(128), rows),
        (nn.GELU(), rows),
        (nn.Softmax(-1), rows),
        (nn.Conv2d(32, 32, 3, padding=1), image),
        (nn.Conv2d(32, 32, 3, padding=1, groups=32), image),
        (nn.Conv2d(32, 16, 1), image),
        (nn.ReLU6(), image),
        (nn.MaxPool2d(2), image),
        (nn.AdaptiveAvgPool2d(1), image),
    ]

    def call() -> None:
        swept.add_(1.0)
        for module, x in steps:
            module(x)

    return call
