"""Transformers' models from their configurations, with random weights: SOURCEs for the command line and for tests."""

from __future__ import annotations

import inspect
from typing import Any

import torch


class Tensors(torch.nn.Module):
    """Runs a transformers model and gives only tensors: no caches, no dictionaries, nothing that is None."""

    def __init__(self, model: torch.nn.Module, **options: Any):
        super().__init__()
        self.model, self.options = model, options

    def forward(self, **inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        output = self.model(**inputs, **self.options, return_dict=True)
        return tuple(value for value in output.values() if isinstance(value, torch.Tensor))


def _make(name: str, config: Any, kwargs: dict[str, torch.Tensor]) -> tuple[torch.nn.Module, tuple[()], dict[str, Any]]:
    import transformers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, name)(config).eval()
        _randomise_statistics(model)
    options = {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}
    return Tensors(model, **options), (), kwargs


def _randomise_statistics(model: torch.nn.Module) -> None:
    """Fresh batch norms hold zeros and ones, which would hide an operand that is mixed up."""
    for m in model.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(m.running_mean, std=0.1)
            torch.nn.init.uniform_(m.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(m.weight, 0.3, 0.7)
            torch.nn.init.normal_(m.bias, std=0.1)


def _random(low: int, high: int, *shape: int) -> torch.Tensor:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(1))


def _image(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def resnet50(size: int = 224) -> Any:
    import transformers

    return _make(
        "ResNetForImageClassification",
        transformers.ResNetConfig(num_labels=1000),
        {"pixel_values": _image(1, 3, size, size)},
    )


def mobilenetv2(size: int = 224) -> Any:
    import transformers

    config = transformers.MobileNetV2Config(num_labels=1000)
    return _make("MobileNetV2ForImageClassification", config, {"pixel_values": _image(1, 3, size, size)})


def bert_base(seq: int = 128, layers: int = 12) -> Any:
    import transformers

    ids = _random(0, 30000, 1, seq)
    return _make(
        "BertModel",
        transformers.BertConfig(num_hidden_layers=layers),
        {"input_ids": ids, "attention_mask": torch.ones_like(ids)},
    )


def gpt2(seq: int = 128, layers: int = 12) -> Any:
    import transformers

    return _make("GPT2LMHeadModel", transformers.GPT2Config(n_layer=layers), {"input_ids": _random(0, 50000, 1, seq)})


def vit_base(layers: int = 12) -> Any:
    import transformers

    config = transformers.ViTConfig(num_hidden_layers=layers, num_labels=1000)
    return _make("ViTForImageClassification", config, {"pixel_values": _image(1, 3, 224, 224)})


def t5_small(seq: int = 128, target: int = 32, layers: int = 6) -> Any:
    import transformers

    config = transformers.T5Config(
        d_model=512, d_kv=64, d_ff=2048, num_layers=layers, num_heads=8, decoder_start_token_id=0
    )
    inputs = {"input_ids": _random(0, 32000, 1, seq), "decoder_input_ids": _random(0, 32000, 1, target)}
    return _make("T5ForConditionalGeneration", config, inputs)
