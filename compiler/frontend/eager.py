"""The model itself, run by PyTorch on the module's inputs: what every level is compared with."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from .errors import SourceError
from .sources import Loaded

Array = np.ndarray[Any, Any]


def example_inputs(loaded: Loaded) -> list[Array]:
    """An array for each argument of main: the source's example inputs, then the state that its buffers hold.

    Raises SourceError for a source without data: IR text, or a model on the meta device.
    """
    tensors = [*_input_tensors(loaded), *_states(loaded)]
    return [_array(t, str(a.name)) for t, a in zip(tensors, loaded.module.main.args, strict=True)]


def run_eager(loaded: Loaded, arith: str = "native") -> list[Array]:
    """What main should return on `example_inputs`, by PyTorch; under arith "f32" in f32, with the same weights.

    The model is left as it was.
    """
    if loaded.model is None:
        raise SourceError(f"{loaded.name} is a program without a model: there is nothing to compare it with")
    model, inputs = copy.deepcopy((loaded.model, (loaded.args, loaded.kwargs)))
    if arith == "f32":
        model = model.float()
        inputs = pytree.tree_map(
            lambda x: x.float() if isinstance(x, torch.Tensor) and x.is_floating_point() else x, inputs
        )
    with torch.no_grad():
        outputs = pytree.tree_leaves(model(*inputs[0], **inputs[1]))
    tensors = [t for t in outputs if isinstance(t, torch.Tensor)]
    given = [t for t in pytree.tree_leaves(inputs) if isinstance(t, torch.Tensor)]
    buffers = dict(model.named_buffers())
    main = loaded.module.main
    written = main.attributes.get("aliases", ())[1::2]
    for index in written:
        name = str(main.args[index].name)
        tensors.append(buffers[name.removeprefix("state.")] if name.startswith("state.") else given[index])
    return [_array(t, f"output {i}") for i, t in enumerate(tensors)]


def _input_tensors(loaded: Loaded) -> list[torch.Tensor]:
    if loaded.model is None:
        raise SourceError(f"{loaded.name} is a program without a model: it has no example inputs")
    return [t for t in pytree.tree_leaves((loaded.args, loaded.kwargs)) if isinstance(t, torch.Tensor)]


def _states(loaded: Loaded) -> list[torch.Tensor]:
    parameters = loaded.module.parameters
    return [parameters[a.name] for a in loaded.module.main.args if str(a.name).startswith("state.")]


def _array(tensor: torch.Tensor, name: str) -> Array:
    """numpy lacks bf16: such a tensor comes as f32."""
    if tensor.is_meta:
        raise SourceError(f"{name} has no data: its tensor is on the meta device, which is enough for costs only")
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy().copy()
