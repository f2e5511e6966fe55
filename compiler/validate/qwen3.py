"""Qwen3 (Yang et al. 2025, arXiv 2505.09388): Llama's decoder with norms of queries and keys, dense or with experts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from tilewright.examples.llama import Block, SwiGLU, rope_tables, rotate
from tilewright.examples.llama_decode import Cached
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Size:
    """`experts`: how many there are, and how many a token goes to; `ffn` is then the width of one."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    ffn: int
    tied: bool  # the embedding also makes the logits
    experts: tuple[int, int] | None = None
    dim: int = 128
    vocab: int = 151936


SIZES = {
    "Qwen3-4B-Instruct-2507": Size(36, 2560, 32, 8, 9728, tied=True),
    "Qwen3-30B-A3B-2507": Size(48, 2048, 32, 4, 768, tied=False, experts=(128, 8)),
}


class Attention(nn.Module):
    """Over a prompt. Queries and keys are normalised, a head at a time, before they turn."""

    def __init__(self, size: Size):
        super().__init__()
        wide, narrow = size.heads * size.dim, size.kv_heads * size.dim
        self.dim = size.dim
        self.q, self.k, self.v = (nn.Linear(size.hidden, n, bias=False) for n in (wide, narrow, narrow))
        self.out = nn.Linear(wide, size.hidden, bias=False)
        self.q_norm, self.k_norm = (nn.RMSNorm(size.dim, eps=1e-6) for _ in range(2))

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (linear(x).unflatten(-1, (-1, self.dim)).transpose(1, 2) for linear in (self.q, self.k, self.v))
        return rotate(self.q_norm(q), cos, sin), rotate(self.k_norm(k), cos, sin), v

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        q, k, v = self.project(x, cos, sin)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.out(y.transpose(1, 2).flatten(2))


class CachedAttention(Cached, Attention):
    def __init__(self, size: Size, context: int):
        super().__init__(size)
        self.add_cache(size.kv_heads, context)


class Experts(nn.Module):
    """A mixture of SwiGLU experts over a fixed number of tokens, whose routing is balanced: each expert that they can
    reach gets as many rows. Only those hold weights."""

    def __init__(self, size: Size, tokens: int):
        super().__init__()
        assert size.experts is not None
        count, self.chosen = size.experts
        self.used = min(count, tokens * self.chosen)
        self.router = nn.Linear(size.hidden, count, bias=False)
        shapes = ((size.hidden, size.ffn), (size.hidden, size.ffn), (size.ffn, size.hidden))
        self.gate, self.up, self.down = (nn.Parameter(torch.zeros(self.used, *shape)) for shape in shapes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(0, 1)
        shares, experts = torch.topk(torch.softmax(self.router(tokens), -1), self.chosen)
        order = experts.flatten().argsort()
        rows = tokens[order // self.chosen].unflatten(0, (self.used, -1))
        y = (F.silu(rows @ self.gate) * (rows @ self.up)) @ self.down
        y = y.flatten(0, 1)[order.argsort()].unflatten(0, (-1, self.chosen))
        shares = shares / shares.sum(-1, keepdim=True)
        return (y * shares[..., None]).sum(1).view_as(x)


class Qwen3(nn.Module):
    """Takes token ids [1, tokens], or one and its position [1] in a cache; gives the next's logits [1, 1, vocab]."""

    cos: Tensor
    sin: Tensor

    def __init__(self, size: Size, tokens: int, context: int | None):
        super().__init__()
        self.embedding = nn.Embedding(size.vocab, size.hidden)
        self.blocks = nn.ModuleList(self.block(size, tokens, context) for _ in range(size.layers))
        self.norm = nn.RMSNorm(size.hidden, eps=1e-6)
        self.head = nn.Linear(size.hidden, size.vocab, bias=False)
        if size.tied:
            self.head.weight = self.embedding.weight
        cos, sin = rope_tables(context or tokens, size.dim)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    @staticmethod
    def block(size: Size, tokens: int, context: int | None) -> Block:
        attention = Attention(size) if context is None else CachedAttention(size, context)
        block = Block(attention, size.hidden, size.ffn)
        block.add_module("mlp", SwiGLU(size.hidden, size.ffn) if size.experts is None else Experts(size, tokens))
        return block

    def forward(self, ids: Tensor, position: Tensor | None = None) -> Tensor:
        x = self.embedding(ids)
        if position is None:
            at: tuple[Tensor, ...] = (self.cos, self.sin)
        else:
            mask = torch.arange(self.cos.shape[0], device=ids.device) <= position
            at = (self.cos[position], self.sin[position], position, mask[None, None, None])
        for block in self.blocks:
            x = block(x, *at)
        return self.head(self.norm(x[:, -1:]))


def qwen3(name: str, phase: str, tokens: int) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A prompt of `tokens`, or the one after them; made where torch.device says."""
    if phase == "prefill":
        return Qwen3(SIZES[name], tokens, None).eval(), (torch.zeros(1, tokens, dtype=torch.int64),)
    model = Qwen3(SIZES[name], 1, tokens + 1)
    return model.eval(), (torch.zeros(1, 1, dtype=torch.int64), torch.tensor([0]))
