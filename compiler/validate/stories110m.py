"""Stories110M (karpathy/llama2.c: 12 layers of 768, 12 heads, 2048 between) as maderix/ANE runs it over 256 tokens.

Its programs (training/stories_mil.h) rotate nothing and add the causal mask to the scores. Training makes two programs
of a layer, each of which joins its result with what the backward pass needs; the residual sums lie between them, on the
host. maderix/ANE issue 24 compares them with one program of all layers and their sums.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from torch import Tensor, nn

LAYERS, HIDDEN, HEADS, INNER, TOKENS = 12, 768, 12, 2048, 256


class Attention(nn.Module):
    """From x[b, tokens, hidden]: its result, queries, keys, values, the mixed values, and the normed x."""

    mask: Tensor

    def __init__(self):
        super().__init__()
        self.norm = nn.RMSNorm(HIDDEN, eps=1e-5)
        self.q, self.k, self.v, self.out = (nn.Linear(HIDDEN, HIDDEN, bias=False) for _ in range(4))
        self.register_buffer("mask", torch.full((1, 1, TOKENS, TOKENS), -65504.0).triu(1))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = self.norm(x)
        q, k, v = self.q(y), self.k(y), self.v(y)
        queries, keys, values = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in (q, k, v))
        scores = queries @ keys.transpose(2, 3) * (HIDDEN // HEADS) ** -0.5 + self.mask
        mixed = (scores.softmax(-1) @ values).transpose(1, 2).flatten(2)
        return self.out(mixed), q, k, v, mixed, y


class FeedForward(nn.Module):
    """From x[b, tokens, hidden]: its result, the gate, the values, their product, and the normed x."""

    def __init__(self):
        super().__init__()
        self.norm = nn.RMSNorm(HIDDEN, eps=1e-5)
        self.gate, self.up = (nn.Linear(HIDDEN, INNER, bias=False) for _ in range(2))
        self.down = nn.Linear(INNER, HIDDEN, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = self.norm(x)
        gate, up = self.gate(y), self.up(y)
        product = F.silu(gate) * up
        return self.down(product), gate, up, product, y


class Half(nn.Module):
    """One call of the training: all that the half of a layer gives, side by side along the channels."""

    def __init__(self, part: Attention | FeedForward):
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(self.part(x), dim=-1)


class Stack(nn.Module):
    """All layers with their sums, x[b, tokens, hidden] in and out."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList(part() for _ in range(LAYERS) for part in (Attention, FeedForward))

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = x + part(x)[0]
        return x
