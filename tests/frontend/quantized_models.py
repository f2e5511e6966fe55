"""Small models and ways to quantise them, for tests of what comes of them."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from frontend_check import integers, tensor
from tilewright.compiler.dialects.graph import Parameter
from tilewright.compiler.frontend.sources import Loaded
from torch import nn

# ---------------------------------------------------------------- models


class Linears(nn.Module):
    """Two linear layers, one without a bias."""

    def __init__(self, inputs: int = 64, hidden: int = 96, outputs: int = 32):
        super().__init__()
        self.a, self.b = nn.Linear(inputs, hidden), nn.Linear(hidden, outputs, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(torch.relu(self.a(x)))


class Convs(nn.Module):
    """ResNet's block in small: convolutions, batch norms, a sum, a pool and a classifier."""

    def __init__(self, width: int = 12):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.one, self.two = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 1)
        self.fc = nn.Linear(width, 7)
        for layer in (self.norm.running_mean, self.norm.bias):
            nn.init.normal_(layer, std=0.1)
        nn.init.uniform_(self.norm.running_var, 0.5, 1.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = x + self.two(torch.relu(self.one(x)))
        return self.fc(torch.relu(x).mean((2, 3)))


class Attention(nn.Module):
    """Self-attention with one projection for q, k and v."""

    def __init__(self, width: int = 32, heads: int = 4):
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, n, width = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).reshape(b, n, width))


class Tied(nn.Module):
    """An embedding whose table is the last layer's weight too."""

    def __init__(self, words: int = 37, width: int = 20):
        super().__init__()
        self.embed, self.layer = nn.Embedding(words, width), nn.Linear(width, width)
        self.head = nn.Linear(width, words, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.layer(self.embed(ids))))


def llama() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """Two layers of transformers' Llama with grouped queries."""
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=96, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, use_cache=False,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.LlamaForCausalLM(config).eval()
    return model, {"input_ids": integers(0, 96, 1, 7)}


def made(kind: Callable[..., nn.Module], *args: Any, seed: int = 0) -> Any:
    """A model in eval mode with random weights from a fixed seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(*args).eval()


# ---------------------------------------------------------------- ways to quantise


@contextmanager
def without_logs() -> Iterator[None]:
    """torchao logs that its kernels for other machines cannot be loaded."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def pt2e(model: nn.Module, *args: Any, dynamic: bool = False, fold: bool = True) -> Any:
    """PT2E with weights of int8 per channel and activations of uint8, whose range is observed or chosen as it runs."""
    with without_logs():
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

        quantizer = x86.X86InductorQuantizer()
        quantizer.set_global(x86.get_default_x86_inductor_quantization_config(is_dynamic=dynamic))
        prepared = prepare_pt2e(torch.export.export(model, args, strict=False).module(), quantizer)
        prepared(*args)
        return convert_pt2e(prepared, fold_quantize=fold)


def torchao(model: nn.Module, scheme: str, bits: int = 4, group: int = 16, unwrap: bool = False) -> Any:
    """torchao's quantize_ by the name of a scheme, in place."""
    with without_logs():
        from torchao import quantization as ao
        from torchao.quantization.granularity import PerAxis, PerGroup, PerRow, PerTensor
        from torchao.utils import unwrap_tensor_subclass

        narrow = getattr(torch, f"int{bits}")
        rows = [PerTensor(), PerRow()]
        configs: dict[str, Callable[[], Any]] = {
            "int8 weights": ao.Int8WeightOnlyConfig,
            "int8 weights in groups": lambda: ao.Int8WeightOnlyConfig(granularity=PerGroup(group)),
            "weights": lambda: ao.IntxWeightOnlyConfig(weight_dtype=narrow, granularity=PerGroup(group)),
            "weights per channel": lambda: ao.IntxWeightOnlyConfig(weight_dtype=narrow, granularity=PerAxis(0)),
            "int8 dynamic": ao.Int8DynamicActivationInt8WeightConfig,
            "int8 static": lambda: ao.Int8StaticActivationInt8WeightConfig(torch.tensor([[0.03]]), granularity=rows),
            "dynamic": lambda: ao.Int8DynamicActivationIntxWeightConfig(narrow, PerGroup(group)),
            "dynamic per channel": lambda: ao.Int8DynamicActivationIntxWeightConfig(narrow, PerAxis(0)),
        }
        ao.quantize_(model, configs[scheme]())
        return unwrap_tensor_subclass(model) if unwrap else model


# ---------------------------------------------------------------- what came of them


def stored(loaded: Loaded) -> dict[str, str]:
    """The weights of a program: the key of each and its type."""
    parameters = [op for op in loaded.module.main.body if isinstance(op, Parameter)]
    return {op.key: str(op.result.type)[7:-1] for op in parameters}


def stored_bytes(loaded: Loaded) -> int:
    parameters = [op for op in loaded.module.main.body if isinstance(op, Parameter)]
    return sum({op.key: op.result.type.bytes for op in parameters}.values())


def bytes_at(bits: int, *shapes: Sequence[int]) -> int:
    """Of tensors with so many bits an element, each ending at a whole byte."""
    return sum(-(-math.prod(shape) * bits // 8) for shape in shapes)


X = tensor(5, 64)
IMAGE = tensor(2, 3, 9, 9)
