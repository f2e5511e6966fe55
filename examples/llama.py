"""A Llama decoder reading a prompt (prefill), with random weights; the default has the shape of Llama-3.2-1B."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from torch import Tensor, nn
from torch.export import Dim

POSITIONS = 4096  # that the tables of rotary embeddings cover


def rope_tables(positions: int, dim: int, theta: float = 500_000.0) -> tuple[Tensor, Tensor]:
    """Cosines and sines [positions, dim] of rotary embeddings, Su et al. 2021, halves laid side by side."""
    frequencies = theta ** (-torch.arange(0, dim, 2, dtype=torch.float32) / dim)
    angles = torch.arange(positions, dtype=torch.float32)[:, None] * frequencies
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Applies rotary embeddings to x[b, heads, tokens, dim]."""
    low, high = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-high, low], dim=-1) * sin


class Attention(nn.Module):
    """Causal self-attention whose queries share keys and values in groups."""

    def __init__(self, hidden: int, heads: int, kv_heads: int):
        super().__init__()
        self.dim = hidden // heads
        self.q = nn.Linear(hidden, heads * self.dim, bias=False)
        self.k = nn.Linear(hidden, kv_heads * self.dim, bias=False)
        self.v = nn.Linear(hidden, kv_heads * self.dim, bias=False)
        self.out = nn.Linear(heads * self.dim, hidden, bias=False)

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated q[b, heads, tokens, dim] and k, and v[b, kv_heads, tokens, dim]."""
        q, k, v = (linear(x).unflatten(-1, (-1, self.dim)).transpose(1, 2) for linear in (self.q, self.k, self.v))
        return rotate(q, cos, sin), rotate(k, cos, sin), v

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        q, k, v = self.project(x, cos, sin)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.out(y.transpose(1, 2).flatten(2))


class SwiGLU(nn.Module):
    def __init__(self, hidden: int, ffn: int):
        super().__init__()
        self.gate = nn.Linear(hidden, ffn, bias=False)
        self.up = nn.Linear(hidden, ffn, bias=False)
        self.down = nn.Linear(ffn, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    def __init__(self, attention: nn.Module, hidden: int, ffn: int):
        super().__init__()
        self.norm1 = nn.RMSNorm(hidden, eps=1e-5)
        self.attention = attention
        self.norm2 = nn.RMSNorm(hidden, eps=1e-5)
        self.mlp = SwiGLU(hidden, ffn)

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x), *context)
        return x + self.mlp(self.norm2(x))


class Llama(nn.Module):
    """Gives the logits [b, 1, vocab] of the token after ids[b, tokens]. The embedding also makes the logits."""

    cos: Tensor
    sin: Tensor

    def __init__(self, attentions: list[Attention], hidden: int, ffn: int, vocab: int):
        super().__init__()
        self.embedding = nn.Embedding(vocab, hidden)
        self.blocks = nn.ModuleList(Block(a, hidden, ffn) for a in attentions)
        self.norm = nn.RMSNorm(hidden, eps=1e-5)
        self.dim = attentions[0].dim

    def set_positions(self, count: int, device: str) -> None:
        with torch.device(device):
            cos, sin = rope_tables(count, self.dim)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids)
        cos, sin = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, cos, sin)
        return F.linear(self.norm(x[:, -1:]), self.embedding.weight)


def initialise(model: nn.Module, device: str) -> None:
    """Moves a model off the meta device and fills it with random weights; on meta it stays without any."""
    if device == "meta":
        return
    model.to_empty(device=device)
    for p in model.parameters():
        nn.init.normal_(p, std=0.02) if p.dim() > 1 else nn.init.uniform_(p, 0.8, 1.2)
    for b in model.buffers():
        nn.init.normal_(b)


def llama(
    seq: int = 128,
    batch: int = 1,
    layers: int = 16,
    hidden: int = 2048,
    heads: int = 32,
    kv_heads: int = 8,
    ffn: int = 8192,
    vocab: int = 128256,
    device: str = "cpu",
) -> tuple[nn.Module, tuple[Tensor], dict[str, Any], dict[str, Any]]:
    """Takes token numbers [batch, seq] and gives the next token's logits [batch, 1, vocab].

    `seq` stays open when the model is exported, so one export serves every length up to POSITIONS.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        with torch.device("meta"):
            model = Llama([Attention(hidden, heads, kv_heads) for _ in range(layers)], hidden, ffn, vocab)
        initialise(model, device)
        positions = max(seq, POSITIONS)
        model.set_positions(positions, device)
        ids = torch.randint(0, vocab, (batch, seq), device=device)
        open_sizes = {1: Dim("seq", min=2, max=positions)} if seq > 1 else {}  # torch fixes a size of 1
        return model.eval(), (ids,), {}, {"ids": open_sizes}
