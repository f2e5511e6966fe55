"""The built-in examples: plain torch, one file each, a callable of the same name."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

EXAMPLES: dict[str, tuple[str, str]] = {  # name -> (file, description)
    "resnet50": ("resnet50.py", "ResNet-50: image classification by convolutions, 224 x 224"),
    "mobilenetv2": ("mobilenetv2.py", "MobileNetV2: depthwise convolutions, 224 x 224"),
    "vit_b16": ("vit_b16.py", "ViT-B/16: a vision transformer, 224 x 224"),
    "llama": ("llama.py", "Llama-3.2-1B's shape reading a prompt (RoPE, grouped queries, RMSNorm, SwiGLU)"),
    "llama_decode": ("llama_decode.py", "the same decoder making one token from a key-value cache"),
    "unet": ("unet.py", "a diffusion UNet: convolutions, group norm, attention to a prompt"),
}


def example_file(name: str) -> Path:
    """The file of an example. Raises KeyError for a name that is not in EXAMPLES."""
    spec = find_spec("tilewright.examples")
    assert spec is not None and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / EXAMPLES[name][0]
