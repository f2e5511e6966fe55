"""Packages that define networks, where they are installed."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import torch
from tilewright.compiler.frontend.errors import SourceError
from tilewright.compiler.frontend.export import quiet

_INPUT = ", SymInt batch_size, SymInt channels, SymInt height, SymInt width"
_POOLS = {  # name: what its forward takes after the window's sizes, its results, what its backward takes besides
    "roi_align": (", int sampling_ratio, bool aligned", "Tensor", "", ", int sampling_ratio, bool aligned"),
    "roi_pool": ("", "(Tensor, Tensor)", "Tensor argmax, ", ""),
    "ps_roi_align": (", int sampling_ratio", "(Tensor, Tensor)", "Tensor channel_mapping, ", ", int sampling_ratio"),
    "ps_roi_pool": ("", "(Tensor, Tensor)", "Tensor channel_mapping, ", ""),
}
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
        for schema in _torchvision_schemas():
            library.define(schema)
        _declared.append(library)


def _torchvision_schemas() -> list[str]:
    """The ops for which torchvision registers shapes when it is imported.

    A build of torch for which it has no compiled code lacks them; declaring them is enough: no network here calls one
    but those with region pooling or box suppression.
    """
    backward = "Tensor grad, Tensor rois, {}float spatial_scale, SymInt pooled_height, SymInt pooled_width{}"
    window = "float spatial_scale, SymInt pooled_height, SymInt pooled_width"
    schemas = [f"{n}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor" for n in ("nms", "qnms")]
    for name, (options, results, saved, extra) in _POOLS.items():
        schemas.append(f"{name}(Tensor input, Tensor rois, {window}{options}) -> {results}")
        order = f"{_INPUT}{extra}" if name == "roi_align" else f"{extra}{_INPUT}"
        schemas.append(f"_{name}_backward({backward.format(saved, order)}) -> Tensor")
    tensors = "Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias"
    numbers = ", ".join(f"SymInt {n}_{a}" for n in ("stride", "pad", "dilation") for a in "hw")
    rest = f"{numbers}, SymInt groups, SymInt offset_groups, bool use_mask"
    schemas.append(f"deform_conv2d({tensors}, {rest}) -> Tensor")
    results = ", ".join(["Tensor"] * 5)
    schemas.append(f"_deform_conv2d_backward(Tensor grad, {tensors}, {rest}) -> ({results})")
    return schemas
