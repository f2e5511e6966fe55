"""Packages that define networks, where they are installed."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import torch
from tilewright.compiler.frontend.errors import SourceError
from tilewright.compiler.frontend.export import quiet

# What torchvision registers shapes for when it is imported. A build of torch for which it has no compiled code lacks
# these ops; declaring them is enough, as none of the networks calls one.
_TORCHVISION_OPS = (
    "nms", "qnms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "_roi_align_backward", "_roi_pool_backward",
    "_ps_roi_align_backward", "_ps_roi_pool_backward", "deform_conv2d", "_deform_conv2d_backward",
)  # fmt: skip
_declared: list[torch.library.Library] = []  # a declaration lives as long as its library


class MissingDefinition(SourceError):  # noqa: N818 - reads as what is wrong
    """A network that cannot be made: the package that defines it is missing, or none does."""


def package(name: str) -> Any:
    """The package, imported. Raises MissingDefinition where it is not installed."""
    try:
        with quiet():
            _prepare_torchvision()
            return importlib.import_module(name)
    except ImportError as error:
        missing = error.name or name
        raise MissingDefinition(f"needs {missing.partition('.')[0]}: pip install 'tilewright[zoo]'") from error


def _prepare_torchvision() -> None:
    """timm, diffusers and transformers import torchvision where there is one."""
    if _declared or importlib.util.find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        library = torch.library.Library("torchvision", "FRAGMENT")
        for op in _TORCHVISION_OPS:
            library.define(f"{op}(Tensor x) -> Tensor")
        _declared.append(library)
