"""GPT-2 of 124 M parameters (Radford et al. 2019) making one token, whole and in the pieces that are called by
themselves where its cache stays with the host."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from torch import Tensor, nn

LAYERS, HIDDEN, HEADS, VOCAB, POSITIONS = 12, 768, 12, 50257, 1024


class Projections(nn.Module):
    """Queries, keys and values [batch, tokens, hidden] each."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(HIDDEN)
        self.q, self.k, self.v = (nn.Linear(HIDDEN, HIDDEN) for _ in range(3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = self.norm(x)
        return self.q(y), self.k(y), self.v(y)


class CachedAttention(nn.Module):
    """Attention of one token over a cache of `context` positions, its projection, and the sum with x."""

    keys: Tensor
    values: Tensor

    def __init__(self, context: int):
        super().__init__()
        self.out = nn.Linear(HIDDEN, HIDDEN)
        for name in ("keys", "values"):
            self.register_buffer(name, torch.zeros(1, HEADS, context, HIDDEN // HEADS))

    def forward(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor, position: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in (q, k, v))
        self.keys.index_copy_(2, position, k)
        self.values.index_copy_(2, position, v)
        y = F.scaled_dot_product_attention(q, self.keys, self.values, attn_mask=mask)
        return x + self.out(y.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(HIDDEN)
        self.up, self.down = nn.Linear(HIDDEN, 4 * HIDDEN), nn.Linear(4 * HIDDEN, HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.gelu(self.up(self.norm(x)), approximate="tanh"))


class Logits(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(HIDDEN)
        self.head = nn.Linear(HIDDEN, VOCAB, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(x))


class Step(nn.Module):
    """Takes one token id [1, 1] and its position [1]; gives the logits [1, 1, vocab] of the next."""

    def __init__(self, context: int):
        super().__init__()
        self.context = context
        self.embedding, self.positions = nn.Embedding(VOCAB, HIDDEN), nn.Embedding(POSITIONS, HIDDEN)
        self.projections = nn.ModuleList(Projections() for _ in range(LAYERS))
        self.attentions = nn.ModuleList(CachedAttention(context) for _ in range(LAYERS))
        self.feed_forwards = nn.ModuleList(FeedForward() for _ in range(LAYERS))
        self.logits = Logits()
        self.logits.head.weight = self.embedding.weight

    def forward(self, ids: Tensor, position: Tensor) -> Tensor:
        mask = (torch.arange(self.context, device=ids.device) <= position)[None, None, None]
        x = self.embedding(ids) + self.positions(position)
        for project, attend, feed in zip(self.projections, self.attentions, self.feed_forwards, strict=True):
            x = feed(attend(x, *project(x), position, mask))
        return self.logits(x)
