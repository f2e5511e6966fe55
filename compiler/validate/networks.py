"""The networks of the tables, from the code that defines them: the examples, timm, diffusers and transformers.

Names are those of the tables. Networks whose inference form differs from the one that is trained (FastViT, MobileOne,
RepViT, MobileCLIP) are taken in the form that was measured: branches folded into one convolution.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from tilewright.targets.validation.host_networks import HOST_NETWORKS
from torch import nn

from . import gpt2, stories110m
from .craft import Craft
from .mobileclip_text import TextEncoder
from .packages import MissingDefinition, package

Example = tuple[nn.Module, tuple[Any, ...], dict[str, Any]]
Definition = Callable[[int], Example]  # of the batch; called under torch.device("meta")


def find_network(name: str) -> Definition:
    """The definition of a network by its name in a table. Raises MissingDefinition."""
    if name not in NETWORKS:
        raise MissingDefinition(f"no package that is known here defines '{name}'; give one with --models")
    return NETWORKS[name]


def _host(name: str) -> Definition:
    def define(batch: int) -> Example:
        model, args = HOST_NETWORKS[name](batch, "meta")
        return model, tuple(args), {}

    return define


def _image(batch: int, side: int) -> torch.Tensor:
    return torch.empty(batch, 3, side, side)


def _timm(name: str, side: int = 224, folded: bool = False, **options: Any) -> Definition:
    def define(batch: int) -> Example:
        model = package("timm").create_model(name, pretrained=False, **options).eval()
        if folded:
            model = package("timm.utils.model").reparameterize_model(model)
        return model, (_image(batch, side),), {}

    return define


def _example(name: str) -> Definition:
    def define(batch: int) -> Example:
        module = importlib.import_module(f"tilewright.examples.{name}")
        model, args, *_ = getattr(module, name)(batch=batch, device="meta")
        return model, tuple(args), {}

    return define


# ---------------------------------------------------------------- text, sound


class _First(nn.Module):
    """One tensor of what a transformers model returns."""

    def __init__(self, model: nn.Module, field: str):
        super().__init__()
        self.model, self.field = model, field

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return getattr(self.model(x), self.field)


def _clip_text(hidden: int, heads: int) -> Definition:
    """CLIP's text transformer of 12 layers over 77 tokens."""

    def define(batch: int) -> Example:
        transformers = package("transformers")
        config = transformers.CLIPTextConfig(
            vocab_size=49408,
            hidden_size=hidden,
            intermediate_size=4 * hidden,
            num_hidden_layers=12,
            num_attention_heads=heads,
            max_position_embeddings=77,
            projection_dim=hidden,
        )
        model = _First(transformers.CLIPTextModelWithProjection(config).eval(), "text_embeds")
        return model, (torch.zeros(batch, 77, dtype=torch.int64),), {}

    return define


def _whisper(hidden: int, layers: int, heads: int) -> Definition:
    """The encoder over 30 s of sound: 3000 frames of 80 mel bands."""

    def define(batch: int) -> Example:
        config = package("transformers").WhisperConfig(
            d_model=hidden,
            encoder_layers=layers,
            encoder_attention_heads=heads,
            encoder_ffn_dim=4 * hidden,
            num_mel_bins=80,
            max_source_positions=1500,
        )
        encoder = package("transformers.models.whisper.modeling_whisper").WhisperEncoder(config)
        return _First(encoder.eval(), "last_hidden_state"), (torch.empty(batch, 80, 3000),), {}

    return define


class _CrossKeysValues(nn.Module):
    """Keys and values [batch, tokens, hidden] of each layer of a decoder, from what the encoder gives."""

    def __init__(self, hidden: int, layers: int):
        super().__init__()
        self.keys = nn.ModuleList(nn.Linear(hidden, hidden, bias=False) for _ in range(layers))
        self.values = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(layers))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(project(x) for layer in zip(self.keys, self.values, strict=True) for project in layer)


def _whisper_keys_values(hidden: int, layers: int) -> Definition:
    return lambda batch: (_CrossKeysValues(hidden, layers).eval(), (torch.empty(batch, 1500, hidden),), {})


def _stories110m(part: Callable[[], nn.Module]) -> Definition:
    return lambda batch: (part().eval(), (torch.empty(batch, stories110m.TOKENS, stories110m.HIDDEN),), {})


def _gpt2_step(batch: int) -> Example:
    """The token after 64 others."""
    return gpt2.Step(65).eval(), (torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)), {}


def _gpt2_attention(batch: int) -> Example:
    row, mask = torch.empty(1, 1, gpt2.HIDDEN), torch.ones(1, 1, 1, 65, dtype=torch.bool)
    return gpt2.CachedAttention(65).eval(), (row, row, row, row, torch.zeros(1, dtype=torch.int64), mask), {}


def _gpt2_part(part: Callable[[], nn.Module], tokens: int) -> Definition:
    return lambda batch: (part().eval(), (torch.empty(1, tokens, gpt2.HIDDEN),), {})


# ---------------------------------------------------------------- diffusion: one step of the UNet


def _stable_diffusion_2(batch: int) -> Example:
    """stabilityai/stable-diffusion-2-1-base's UNet at 512 pixels."""
    model = package("diffusers").UNet2DConditionModel(
        sample_size=64, cross_attention_dim=1024, attention_head_dim=[5, 10, 20, 20], use_linear_projection=True
    )
    inputs = (torch.empty(batch, 4, 64, 64), torch.ones(1), torch.empty(batch, 77, 1024))
    return model.eval(), inputs, {"return_dict": False}


def _stable_diffusion_xl(side: int) -> Definition:
    """stabilityai/stable-diffusion-xl-base-1.0's UNet; `side` is that of the latent, an eighth of the image's."""

    def define(batch: int) -> Example:
        cross = "CrossAttn"
        model = package("diffusers").UNet2DConditionModel(
            sample_size=128,
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", f"{cross}DownBlock2D", f"{cross}DownBlock2D"),
            up_block_types=(f"{cross}UpBlock2D", f"{cross}UpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=[1, 2, 10],
            cross_attention_dim=2048,
            attention_head_dim=[5, 10, 20],
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )
        inputs = (torch.empty(batch, 4, side, side), torch.ones(1), torch.empty(batch, 77, 2048))
        conditions = {"text_embeds": torch.empty(batch, 1280), "time_ids": torch.empty(batch, 6)}
        return model.eval(), inputs, {"added_cond_kwargs": conditions, "return_dict": False}

    return define


def _mobileclip_s0_text(batch: int) -> Example:
    return TextEncoder().eval(), (torch.zeros(batch, 77, dtype=torch.int64),), {}


def _craft(batch: int) -> Example:
    return Craft().eval(), (torch.empty(batch, 3, 736, 1280),), {}


# ---------------------------------------------------------------- by name


_FASTVIT = ("T8", "T12", "S12", "SA12", "SA24", "SA36", "MA36")
_REPVIT = ("0.9", "1.0", "1.1", "1.5", "2.3")
_WHISPER = {  # hidden, layers, heads
    "tiny": (384, 4, 6),
    "base": (512, 6, 8),
    "small": (768, 12, 12),
    "medium": (1024, 24, 16),
    "large": (1280, 32, 20),
    "large-v2": (1280, 32, 20),
}
_STORIES = "Transformer 12-layer stack (Stories110M)"
_GPT2 = "GPT-2 124M decode step"
_CLIP_TEXT = _clip_text(512, 8)
_CLIP_TEXT_LARGE = _clip_text(768, 12)

NETWORKS: Mapping[str, Definition] = {
    **{name: _host(name) for name in HOST_NETWORKS},
    "ResNet50": _example("resnet50"),
    "ResNet-50": _example("resnet50"),
    "ResNet-50 v1": _example("resnet50"),
    "MobileNetV2-1.0": _example("mobilenetv2"),
    "MobileNetV2": _example("mobilenetv2"),
    "ViT-B/16": _example("vit_b16"),
    "resnet50": _example("resnet50"),
    **{name: _timm("resnet18") for name in ("ResNet-18", "ResNet18", "resnet18")},
    "MobileNetV3-small": _timm("mobilenetv3_small_100"),
    "MobileNetV3-large": _timm("mobilenetv3_large_100"),
    **{f"FastViT-{n}": _timm(f"fastvit_{n.lower()}", 256, folded=True) for n in _FASTVIT},
    **{f"MobileOne-S{n}": _timm(f"mobileone_s{n}", folded=True) for n in range(5)},
    **{f"RepViT-M{n}": _timm(f"repvit_m{n.replace('.', '_')}", folded=True) for n in _REPVIT},
    **{f"EfficientFormer-L{n}": _timm(f"efficientformer_l{n}") for n in (1, 3, 7)},
    **{f"EfficientFormerV2-{n}": _timm(f"efficientformerv2_{n.lower()}") for n in ("S0", "S1", "S2", "L")},
    **{f"MobileCLIP-S{n} image enc": _timm(f"fastvit_mci{n}", 256, folded=True, num_classes=512) for n in (0, 1, 2)},
    **{f"MobileCLIP-S{n} image enc": _timm(f"fastvit_mci{n}", 256, folded=True, num_classes=768) for n in (3, 4)},
    "MobileCLIP-B (ViT-B/16 variant) image enc": _timm("vit_base_mci_224", folded=True, num_classes=512),
    "MobileCLIP-S0 text enc": _mobileclip_s0_text,
    **{f"MobileCLIP-{n} text enc": _CLIP_TEXT for n in ("S1", "S2", "B (ViT-B/16 variant)")},
    **{f"MobileCLIP-{n} text enc": _CLIP_TEXT_LARGE for n in ("S3", "S4", "L/14")},
    "EasyOCR CRAFT text det (736x1280)": _craft,
    "SD2.1-base UNet step": _stable_diffusion_2,
    "SDXL-base-ios UNet step": _stable_diffusion_xl(96),
    "SDXL-base UNet step": _stable_diffusion_xl(128),
    **{f"Whisper-{n} encoder": _whisper(*sizes) for n, sizes in _WHISPER.items()},
    **{
        f"Whisper-{n} encoder, keys and values of its decoder": _whisper_keys_values(*s[:2])
        for n, s in _WHISPER.items()
    },
    _STORIES: _stories110m(stories110m.Stack),
    f"{_STORIES}, attention of a layer": _stories110m(lambda: stories110m.Half(stories110m.Attention())),
    f"{_STORIES}, feed-forward of a layer": _stories110m(lambda: stories110m.Half(stories110m.FeedForward())),
    _GPT2: _gpt2_step,
    f"{_GPT2}, projections": _gpt2_part(gpt2.Projections, 16),
    f"{_GPT2}, attention": _gpt2_attention,
    f"{_GPT2}, feed-forward": _gpt2_part(gpt2.FeedForward, 16),
    f"{_GPT2}, logits": _gpt2_part(gpt2.Logits, 1),
}
