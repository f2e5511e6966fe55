"""A UNet that removes noise from latent images, as in latent diffusion (Rombach et al. 2021), with random weights."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from torch import Tensor, nn


def timestep_embedding(step: Tensor, dim: int) -> Tensor:
    """Sines and cosines [b, dim] of step[b] at geometric frequencies."""
    frequencies = torch.exp(torch.arange(dim // 2, device=step.device) * (-math.log(10_000.0) / (dim // 2)))
    angles = step[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class ResBlock(nn.Module):
    """Two convolutions with the timestep added between them: x[b, inputs, h, w], time[b, embedding]."""

    def __init__(self, inputs: int, outputs: int, embedding: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(32, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time = nn.Linear(embedding, outputs)
        self.norm2 = nn.GroupNorm(32, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        y = y + self.time(F.silu(time))[:, :, None, None]
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(y)))


class CrossAttention(nn.Module):
    """Queries from x[b, n, width]; keys and values from context[b, m, depth]."""

    def __init__(self, width: int, depth: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width, bias=False)
        self.k = nn.Linear(depth, width, bias=False)
        self.v = nn.Linear(depth, width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        q, k, v = self.q(x), self.k(context), self.v(context)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Transformer(nn.Module):
    """Self-attention, attention to the prompt, and a gated MLP, over the pixels of x[b, width, h, w]."""

    def __init__(self, width: int, depth: int, heads: int):
        super().__init__()
        self.norm = nn.GroupNorm(32, width)
        self.enter = nn.Conv2d(width, width, 1)
        self.norm1 = nn.LayerNorm(width)
        self.self_attention = CrossAttention(width, width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.cross_attention = CrossAttention(width, depth, heads)
        self.norm3 = nn.LayerNorm(width)
        self.gate = nn.Linear(width, 8 * width)
        self.down = nn.Linear(4 * width, width)
        self.leave = nn.Conv2d(width, width, 1)

    def forward(self, image: Tensor, context: Tensor) -> Tensor:
        b, c, h, w = image.shape
        x = self.enter(self.norm(image)).flatten(2).transpose(1, 2)
        y = self.norm1(x)
        x = x + self.self_attention(y, y)
        x = x + self.cross_attention(self.norm2(x), context)
        value, gate = self.gate(self.norm3(x)).chunk(2, dim=-1)
        x = x + self.down(value * F.gelu(gate))
        return image + self.leave(x.transpose(1, 2).reshape(b, c, h, w))


class Stage(nn.Module):
    """One residual block, with attention where asked for."""

    def __init__(self, inputs: int, outputs: int, embedding: int, depth: int, attention: bool):
        super().__init__()
        self.block = ResBlock(inputs, outputs, embedding)
        self.attention = Transformer(outputs, depth, outputs // 64) if attention else None

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        x = self.block(x, time)
        return x if self.attention is None else self.attention(x, context)


class UNet(nn.Module):
    """Goes down through `widths` and up again, joining what it kept on the way; attention from the second width on."""

    def __init__(self, channels: int, widths: tuple[int, ...], repeats: int, depth: int):
        super().__init__()
        base, embedding = widths[0], 4 * widths[0]
        self.base = base
        self.time = nn.Sequential(nn.Linear(base, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.enter = nn.Conv2d(channels, base, 3, padding=1)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        kept, width = [base], base
        for i, outputs in enumerate(widths):
            for _ in range(repeats):
                self.down.append(Stage(width, outputs, embedding, depth, attention=i > 0))
                width = outputs
                kept.append(width)
            if i + 1 < len(widths):
                self.shrink.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
                kept.append(width)
        self.middle = Stage(width, width, embedding, depth, attention=True)
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for i, outputs in reversed(list(enumerate(widths))):
            for _ in range(repeats + 1):
                self.up.append(Stage(width + kept.pop(), outputs, embedding, depth, attention=i > 0))
                width = outputs
            if i > 0:
                self.grow.append(nn.Conv2d(width, width, 3, padding=1))
        self.repeats = repeats
        self.norm = nn.GroupNorm(32, base)
        self.leave = nn.Conv2d(base, channels, 3, padding=1)

    def forward(self, image: Tensor, step: Tensor, context: Tensor) -> Tensor:
        time = self.time(timestep_embedding(step, self.base).to(image.dtype))
        x = self.enter(image)
        kept = [x]
        for i, stage in enumerate(self.down):
            x = stage(x, time, context)
            kept.append(x)
            if (i + 1) % self.repeats == 0 and i // self.repeats < len(self.shrink):
                x = self.shrink[i // self.repeats](x)
                kept.append(x)
        x = self.middle(x, time, context)
        for i, stage in enumerate(self.up):
            x = stage(torch.cat([x, kept.pop()], dim=1), time, context)
            if (i + 1) % (self.repeats + 1) == 0 and i // (self.repeats + 1) < len(self.grow):
                x = F.interpolate(x, scale_factor=2.0, mode="nearest")
                x = self.grow[i // (self.repeats + 1)](x)
        return self.leave(F.silu(self.norm(x)))


def unet(
    size: int = 32,
    batch: int = 1,
    width: int = 64,
    levels: int = 3,
    repeats: int = 2,
    prompt: int = 77,
    depth: int = 512,
    device: str = "cpu",
) -> tuple[nn.Module, tuple[Tensor, Tensor, Tensor]]:
    """Takes latents [batch, 4, size, size], a timestep [batch] and a prompt [batch, prompt, depth]; gives the noise."""
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(0)
        model = UNet(4, tuple(width << i for i in range(levels)), repeats, depth)
        image, context = torch.randn(batch, 4, size, size), torch.randn(batch, prompt, depth)
        return model.eval(), (image, torch.full((batch,), 500), context)
