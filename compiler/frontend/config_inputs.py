"""Example inputs for a transformers model, by the kind of its main input: text, images, sound."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from .errors import BadConfig

Sizes = dict[str, int]
Tensors = dict[str, torch.Tensor]
Maker = Callable[[Mapping[str, int], torch.Generator], Tensors]
SEQUENCE = 128  # tokens
SAMPLES = 16_000  # of sound: a second at the rate that speech models take
IMAGE = 224  # pixels a side, where the configuration has no size
FRAMES = 3000  # of a spectrogram: 30 s at 10 ms
FRAMES_OF_VIDEO = 16


def inputs_of(path: Path, config: Any, cls: Any) -> tuple[Sizes, Maker]:
    """The sizes that may be set, with their defaults, and what makes the inputs of these sizes. Raises BadConfig."""
    main = getattr(cls, "main_input_name", "input_ids")
    makers: dict[str, Callable[[Any, Any], tuple[Sizes, Maker]]] = {
        "input_ids": _text,
        "pixel_values": _image,
        "pixel_values_videos": _image,
        "input_values": _sound,
        "input_features": _spectrogram,
    }
    if main not in makers:
        raise BadConfig(
            f"{path}: what {cls.__name__} takes, {main}, is not text, an image or sound: write path/file.py:callable "
            "that makes the model and its inputs, and give that"
        )
    if all(_part(config, part) is not None for part in ("vision_config", "text_config")):
        return _text_and_image(config, cls)
    sizes, make = makers[main](config, cls)
    if not getattr(config, "is_encoder_decoder", False):
        return sizes, make
    length = sizes.get("seq", _length(config))

    def with_decoder(dims: Mapping[str, int], generator: torch.Generator) -> Tensors:
        return make(dims, generator) | {"decoder_input_ids": _ids(config, dims["batch"], dims["seq"], generator)}

    return sizes | {"seq": length}, with_decoder


def _text(config: Any, cls: Any) -> tuple[Sizes, Maker]:
    def make(dims: Mapping[str, int], generator: torch.Generator) -> Tensors:
        return {"input_ids": _ids(config, dims["batch"], dims["seq"], generator)}

    return {"batch": 1, "seq": _length(config)}, make


def _image(config: Any, cls: Any) -> tuple[Sizes, Maker]:
    vision = _part(config, "vision_config") or config
    size = getattr(vision, "image_size", None)
    side = size if isinstance(size, int) else size[0] if isinstance(size, (list, tuple)) and size else IMAGE
    channels = getattr(vision, "num_channels", None) or 3
    name = cls.main_input_name
    video = "Video" in cls.__name__ or name.endswith("videos")
    frames = getattr(vision, "num_frames", None) or FRAMES_OF_VIDEO

    def make(dims: Mapping[str, int], generator: torch.Generator) -> Tensors:
        image = (channels, dims["size"], dims["size"])
        shape = (dims["batch"], frames, *image) if video else (dims["batch"], *image)
        return {name: torch.randn(shape, generator=generator)}

    return {"batch": 1, "size": int(side)}, make


def _sound(config: Any, cls: Any) -> tuple[Sizes, Maker]:
    bins, frames = getattr(config, "num_mel_bins", None), getattr(config, "max_length", None)
    if isinstance(bins, int) and isinstance(frames, int) and hasattr(config, "frequency_stride"):
        # a spectrogram transformer, whose number of patches is fixed

        def make_bins(dims: Mapping[str, int], generator: torch.Generator) -> Tensors:
            return {"input_values": torch.randn(dims["batch"], frames, bins, generator=generator)}

        return {"batch": 1}, make_bins

    def make(dims: Mapping[str, int], generator: torch.Generator) -> Tensors:
        return {"input_values": torch.randn(dims["batch"], dims["samples"], generator=generator)}

    return {"batch": 1, "samples": SAMPLES}, make


def _spectrogram(config: Any, cls: Any) -> tuple[Sizes, Maker]:
    bins = getattr(config, "num_mel_bins", None) or getattr(config, "input_feat_per_channel", None) or 80
    whole = getattr(config, "max_source_positions", None)
    channels_first = hasattr(config, "num_mel_bins") and getattr(config, "is_encoder_decoder", False)
    frames = 2 * whole if channels_first and isinstance(whole, int) else FRAMES

    def make(dims: Mapping[str, int], generator: torch.Generator) -> Tensors:
        shape = (bins, dims["frames"]) if channels_first else (dims["frames"], bins)
        return {"input_features": torch.randn(dims["batch"], *shape, generator=generator)}

    return {"batch": 1, "frames": frames}, make


def _text_and_image(config: Any, cls: Any) -> tuple[Sizes, Maker]:
    """What compares texts with images, as CLIP does, or starts from an image, takes both; else the text is enough."""
    text, make_text = _text(_part(config, "text_config"), cls)
    compares = hasattr(cls, "get_text_features") and hasattr(cls, "get_image_features")
    if not compares and cls.main_input_name == "input_ids":
        return text, make_text
    if "input_ids" not in inspect.signature(cls.forward).parameters:
        return _image(config, cls)
    vision: Any = _part(config, "vision_config")
    side = vision.image_size if isinstance(vision.image_size, int) else IMAGE

    def make(dims: Mapping[str, int], generator: torch.Generator) -> Tensors:
        shape = (dims["batch"], getattr(vision, "num_channels", 3), dims["size"], dims["size"])
        return make_text(dims, generator) | {"pixel_values": torch.randn(shape, generator=generator)}

    return text | {"size": side}, make


def _part(config: Any, name: str) -> Any:
    part = getattr(config, name, None)
    return None if isinstance(part, dict) else part


def _ids(config: Any, batch: int, length: int, generator: torch.Generator) -> torch.Tensor:
    """Token numbers that are no padding: some models look for the last token before it."""
    vocabulary = getattr(config.get_text_config(), "vocab_size", None) or 2
    padding = getattr(config, "pad_token_id", None)
    ids = torch.randint(0, vocabulary, (batch, length), generator=generator)
    return torch.where(ids == padding, (padding + 1) % vocabulary, ids) if isinstance(padding, int) else ids


def _length(config: Any) -> int:
    text = config.get_text_config()
    limits = (getattr(text, n, None) for n in ("max_position_embeddings", "n_positions", "max_target_positions"))
    return min([SEQUENCE, *(n for n in limits if isinstance(n, int) and n > 0)])
