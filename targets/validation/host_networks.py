"""Small networks for the machine that this runs on: their definitions, as they are measured and as they are priced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

Example = tuple[nn.Module, tuple[Tensor, ...]]


def _resnet50(batch: int, device: str) -> Example:
    from tilewright.examples.resnet50 import resnet50

    return _folded(*resnet50(batch, 224, device))


def _mobilenetv2(batch: int, device: str) -> Example:
    from tilewright.examples.mobilenetv2 import mobilenetv2

    return _folded(*mobilenetv2(batch, 224, device))


def _vit(batch: int, device: str) -> Example:
    from tilewright.examples.vit_b16 import vit_b16

    return vit_b16(batch, 112, layers=4, width=384, heads=6, device=device)


def _folded(model: nn.Module, args: tuple[Any, ...]) -> Example:
    """Batch norms folded into the convolutions before them, as for inference."""
    return fuse(model), args


# By name: of the batch and the device, which is "cpu" or "meta".
HOST_NETWORKS: dict[str, Callable[[int, str], Example]] = {
    "MobileNetV2, 224 pixels": _mobilenetv2,
    "ResNet-50, 224 pixels": _resnet50,
    "ViT of 4 layers of 384, 112 pixels": _vit,
}
