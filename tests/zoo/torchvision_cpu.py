"""torchvision's models on a torch without torchvision's compiled ops.

Importing torchvision registers fake kernels for those ops, which fails for an op that nobody declared. Declaring them
is enough: the models' Python code needs none of them to run, except those with region pooling or box suppression.
"""

import torch

_BACKWARD = "Tensor grad, Tensor rois, {}float spatial_scale, SymInt pooled_height, SymInt pooled_width{}"
_INPUT = ", SymInt batch_size, SymInt channels, SymInt height, SymInt width"
_POOLS = {  # name: what its forward takes after the window's sizes, its results, what its backward takes besides
    "roi_align": (", int sampling_ratio, bool aligned", "Tensor", "", ", int sampling_ratio, bool aligned"),
    "roi_pool": ("", "(Tensor, Tensor)", "Tensor argmax, ", ""),
    "ps_roi_align": (", int sampling_ratio", "(Tensor, Tensor)", "Tensor channel_mapping, ", ", int sampling_ratio"),
    "ps_roi_pool": ("", "(Tensor, Tensor)", "Tensor channel_mapping, ", ""),
}


def _declare() -> None:
    library = torch.library.Library("torchvision", "FRAGMENT")
    schemas = [f"{n}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor" for n in ("nms", "qnms")]
    for name, (options, results, saved, extra) in _POOLS.items():
        window = "float spatial_scale, SymInt pooled_height, SymInt pooled_width"
        schemas.append(f"{name}(Tensor input, Tensor rois, {window}{options}) -> {results}")
        order = f"{_INPUT}{extra}" if name == "roi_align" else f"{extra}{_INPUT}"
        schemas.append(f"_{name}_backward({_BACKWARD.format(saved, order)}) -> Tensor")
    tensors = "Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias"
    numbers = ", ".join(f"SymInt {n}_{a}" for n in ("stride", "pad", "dilation") for a in "hw")
    rest = f"{numbers}, SymInt groups, SymInt offset_groups, bool use_mask"
    schemas.append(f"deform_conv2d({tensors}, {rest}) -> Tensor")
    schemas.append(
        f"_deform_conv2d_backward(Tensor grad, {tensors}, {rest}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)"
    )
    for schema in schemas:
        library.define(schema)
    globals()["_library"] = library  # the declarations live as long as it does


_declare()
from torchvision import models  # noqa: E402

__all__ = ["models"]
