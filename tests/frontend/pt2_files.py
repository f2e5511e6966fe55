"""Archives for tests: saved by torch, and rewritten member by member."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from frontend_check import integers, tensor

MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"


class ConvNet(torch.nn.Module):
    """Convolutions, a norm, a buffer that is written, in-place ops, several results of one op."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.bn = torch.nn.BatchNorm2d(8)
        self.fc = torch.nn.Linear(8, 4)
        self.register_buffer("count", torch.zeros(3))
        self.bn.running_var.copy_(1 + torch.rand(8, generator=torch.Generator().manual_seed(1)))
        self.scale = tensor(4, seed=9)  # no parameter: a constant of the program

    def forward(self, x: torch.Tensor, i: torch.Tensor) -> Any:
        y = self.bn(self.conv(x)).relu_()
        self.count.add_(1)
        a, _ = torch.nn.functional.max_pool2d(y, 2, return_indices=True)
        z = a.mean((2, 3))
        with torch.no_grad():
            z = z + 1
        u, v = z.split(4, 1)
        return {"fc": self.fc(z) * self.scale, "parts": [u[i], v, self.count * 2]}


class Transformer(torch.nn.Module):
    """Tokens, tied weights, attention that is kept whole, an output that is a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(11, 16)
        self.norm = torch.nn.LayerNorm(16)
        self.qkv = torch.nn.Linear(16, 48)
        self.head = torch.nn.Linear(16, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: torch.Tensor, scale: float = 1.0) -> Any:
        x = self.norm(self.embed(ids)) * scale
        q, k, v = (t.unflatten(-1, (4, 4)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.head(y.transpose(1, 2).flatten(2)), None


class Writes(torch.nn.Module):
    """Writes through views, into a copy and into a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("cache", torch.zeros(4, 6))
        self.register_buffer("scratch", torch.ones(6), persistent=False)

    def forward(self, x: torch.Tensor) -> Any:
        self.cache[1:3] = x
        y = x.clone()
        y.view(-1)[2:5].mul_(3)
        y.t()[0] = 7.0
        y.unsqueeze_(0)
        return y, self.cache.sum(0) + self.scratch


class Growing(torch.nn.Module):
    """Open sizes, with arithmetic on them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.reshape(x.shape[0] * x.shape[1], -1)
        return y[: x.shape[1] // 2] + torch.arange(x.shape[2])


class Mixed(torch.nn.Module):
    """f16 that sums in f32; makes tensors without naming their type."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(6, 6)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        y = self.fc(x)
        mean = y.to(torch.float32).square().mean(-1, keepdim=True)
        y = y * torch.rsqrt(mean + 1e-5).to(y.dtype)
        return self.fc(y + torch.zeros(6)) * mask


def models() -> dict[str, tuple[torch.nn.Module, tuple[Any, ...]]]:
    torch.manual_seed(0)
    return {
        "conv": (ConvNet().eval(), (tensor(2, 3, 8, 8), integers(0, 2, 2))),
        "transformer": (Transformer().eval(), (integers(0, 11, 2, 5), 0.5)),
        "writes": (Writes().eval(), (tensor(2, 6),)),
        "mixed": (Mixed().eval(), (tensor(3, 6), integers(0, 2, 3, 6).bool())),
        "lstm": (torch.nn.LSTM(5, 7, 2).eval(), (tensor(3, 2, 5),)),
    }


def save(path: Path, model: torch.nn.Module, args: tuple[Any, ...], **options: Any) -> Path:
    torch.export.save(torch.export.export(model, args, strict=False, **options), path)
    return path


def rewrite(
    source: Path,
    target: Path,
    json_edits: Mapping[str, Callable[[Any], Any]] | None = None,
    members: Mapping[str, bytes | None] | None = None,
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    """Copies an archive: JSON members through their edit, other members as given (None leaves one out)."""
    replaced = dict(members or {})
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for info in old.infolist():
            name = info.filename.partition("/")[2]
            data: bytes | None = old.read(info)
            if json_edits and name in json_edits and data is not None:
                content = json.loads(data)
                edited = json_edits[name](content)
                data = json.dumps(content if edited is None else edited).encode()
            data = replaced.pop(name, data)
            if data is not None:
                new.writestr(f"m/{name}", data)
        for name, data in replaced.items():
            assert data is not None
            new.writestr(f"m/{name}", data)
    return target
