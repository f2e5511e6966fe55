"""OPT (Zhang et al. 2022, arXiv 2205.01068): reading a whole prompt for the token that follows, and making one token
from a cache of keys and values that is updated in place."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from torch import Tensor, nn

PADDING = 2  # rows of the table of positions before the first


class Layer(nn.Module):
    """Norms come first; the two products of the feed-forward block have a relu between."""

    def __init__(self, hidden: int, heads: int):
        super().__init__()
        self.heads, self.dim = heads, hidden // heads
        self.q, self.k, self.v, self.out = (nn.Linear(hidden, hidden) for _ in range(4))
        self.up, self.down = nn.Linear(hidden, 4 * hidden), nn.Linear(4 * hidden, hidden)
        self.norm1, self.norm2 = nn.LayerNorm(hidden), nn.LayerNorm(hidden)

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, self.dim)).transpose(1, 2)

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.down(torch.relu(self.up(self.norm2(x))))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        q, k, v = self.split(self.q(y)), self.split(self.k(y)), self.split(self.v(y))
        return self.finish(x, F.scaled_dot_product_attention(q, k, v, is_causal=True))


class CachedLayer(Layer):
    """One token, over a cache of `context` positions."""

    keys: Tensor
    values: Tensor

    def __init__(self, hidden: int, heads: int, context: int):
        super().__init__(hidden, heads)
        for name in ("keys", "values"):
            self.register_buffer(name, torch.zeros(1, heads, context, self.dim))

    def forward(self, x: Tensor, position: Tensor, mask: Tensor) -> Tensor:
        y = self.norm1(x)
        self.keys.index_copy_(2, position, self.split(self.k(y)))
        self.values.index_copy_(2, position, self.split(self.v(y)))
        attended = F.scaled_dot_product_attention(self.split(self.q(y)), self.keys, self.values, attn_mask=mask)
        return self.finish(x, attended)


class Opt(nn.Module):
    def __init__(self, layers: int, hidden: int, vocab: int, layer: Callable[[], Layer]):
        super().__init__()
        self.embedding = nn.Embedding(vocab, hidden)
        self.positions = nn.Embedding(2048 + PADDING, hidden)
        self.layers = nn.ModuleList(layer() for _ in range(layers))
        self.norm = nn.LayerNorm(hidden)

    def logits(self, x: Tensor) -> Tensor:
        return F.linear(self.norm(x), self.embedding.weight)


class OptPrompt(Opt):
    """Takes token ids [1, tokens]; gives the logits [1, 1, vocab] of the next."""

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids) + self.positions(torch.arange(PADDING, PADDING + ids.shape[1], device=ids.device))
        for layer in self.layers:
            x = layer(x)
        return self.logits(x[:, -1:])


class OptDecode(Opt):
    """Takes one token id [1, 1] and its position [1]; gives the logits [1, 1, vocab] of the next."""

    def __init__(self, layers: int, hidden: int, heads: int, vocab: int, context: int):
        super().__init__(layers, hidden, vocab, lambda: CachedLayer(hidden, heads, context))
        self.context = context

    def forward(self, ids: Tensor, position: Tensor) -> Tensor:
        mask = torch.arange(self.context, device=ids.device) <= position
        x = self.embedding(ids) + self.positions(position + PADDING)
        for layer in self.layers:
            x = layer(x, position, mask[None, None, None])
        return self.logits(x)


LAYERS, HIDDEN, HEADS, VOCAB = 24, 2048, 32, 50272  # of OPT-1.3B


def opt_1_3b_prompt(tokens: int) -> tuple[nn.Module, tuple[Tensor]]:
    """OPT-1.3B over a prompt, without a cache; made where torch.device says."""
    model = OptPrompt(LAYERS, HIDDEN, VOCAB, lambda: Layer(HIDDEN, HEADS))
    return model.eval(), (torch.zeros(1, tokens, dtype=torch.int64),)


def opt_1_3b_decode(context: int) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """OPT-1.3B at the last of `context` positions; made where torch.device says."""
    model = OptDecode(LAYERS, HIDDEN, HEADS, VOCAB, context)
    return model.eval(), (torch.zeros(1, 1, dtype=torch.int64), torch.tensor([0]))
