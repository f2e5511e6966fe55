"""The Llama decoder of llama.py making one token, with a cache of keys and values that it updates in place."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from tilewright.examples.llama import Attention, Llama, initialise
from torch import Tensor, nn


class Cached(nn.Module):
    """What makes attention that has `project`, `dim` and `out` one of a single token, over a cache of `context`
    positions of which those up to `position` are filled."""

    project: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
    dim: int
    out: nn.Module
    keys: Tensor
    values: Tensor

    def add_cache(self, kv_heads: int, context: int) -> None:
        for name in ("keys", "values"):
            self.register_buffer(name, torch.zeros(1, kv_heads, context, self.dim))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, position: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.project(x, cos, sin)
        self.keys.index_copy_(2, position, k)
        self.values.index_copy_(2, position, v)
        y = F.scaled_dot_product_attention(q, self.keys, self.values, attn_mask=mask, enable_gqa=True)
        return self.out(y.transpose(1, 2).flatten(2))


class CachedAttention(Cached, Attention):
    def __init__(self, hidden: int, heads: int, kv_heads: int, context: int):
        super().__init__(hidden, heads, kv_heads)
        self.add_cache(kv_heads, context)


class LlamaDecode(Llama):
    """Takes one token id [1, 1] and its position [1]; gives the logits [1, 1, vocab] of the next."""

    def forward(self, ids: Tensor, position: Tensor) -> Tensor:
        cos, sin = self.cos[position], self.sin[position]
        mask = torch.arange(self.cos.shape[0], device=ids.device) <= position
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x, cos, sin, position, mask[None, None, None])
        return F.linear(self.norm(x), self.embedding.weight)


def llama_decode(
    context: int = 512,
    layers: int = 16,
    hidden: int = 2048,
    heads: int = 32,
    kv_heads: int = 8,
    ffn: int = 8192,
    vocab: int = 128256,
    device: str = "cpu",
) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """The last token of a window of `context` positions; the cache before it holds random keys and values."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        with torch.device("meta"):
            model = LlamaDecode(
                [CachedAttention(hidden, heads, kv_heads, context) for _ in range(layers)], hidden, ffn, vocab
            )
        initialise(model, device)
        model.set_positions(context, device)
        ids = torch.randint(0, vocab, (1, 1), device=device)
        return model.eval(), (ids, torch.tensor([context - 1], device=device))
