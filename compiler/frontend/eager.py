"""The model itself, run by PyTorch on the module's inputs: what every level is compared with."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils import _pytree as pytree

from .complex_tensors import pairs
from .errors import CallableFailed, SourceError
from .export import convert
from .sources import Loaded
from .user_code import explain

Array = np.ndarray[Any, Any]


def example_inputs(loaded: Loaded) -> list[Array]:
    """An array for each argument of main: the source's example inputs, then the state that its buffers hold.

    Raises SourceError for a source without data: IR text, or a model on the meta device.
    """
    tensors = [*_input_tensors(loaded), *_states(loaded)]
    return [_array(t, str(a.name)) for t, a in zip(tensors, loaded.module.main.args, strict=True)]


def run_eager(loaded: Loaded, arith: str = "native") -> list[Array]:
    """What main should return on `example_inputs`, by PyTorch; under arith "f32" in f32, with the same weights.

    The model is left as it was. Raises CallableFailed where the model itself fails on its inputs.
    """
    if loaded.model is None:
        raise SourceError(f"{loaded.name} is a program without a model: there is nothing to compare it with")
    model, inputs = loaded.model, copy.deepcopy((loaded.args, loaded.kwargs))
    if arith == "f32":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, about the trees that an exported program holds
            model = _copied(model)
        model, *inputs = convert(model, *inputs, "f32")
    main = loaded.module.main
    names = [str(main.args[index].name) for index in main.attributes.get("aliases", ())[1::2]]
    states = [n.removeprefix("state.") for n in names if n.startswith("state.")]
    given = {str(a.name): t for a, t in zip(main.args, _tensors(inputs), strict=False)}
    with torch.no_grad(), _kept(model, states):
        try:
            returned = model(*inputs[0], **inputs[1])
        except Exception as error:  # the model is the user's
            raise CallableFailed(f"{loaded.name} fails in PyTorch on its example inputs: {explain(error)}") from error
        outputs = _tensors(returned)
        buffers = {f"state.{name}": b for name, b in model.named_buffers()}
        return [_array(t, f"output {i}") for i, t in enumerate([*outputs, *((buffers | given)[n] for n in names)])]


def _copied(model: torch.nn.Module) -> torch.nn.Module:
    """A deep copy, with results of autograd among its attributes as plain tensors, which torch would refuse to copy:
    torch.nn.utils.weight_norm keeps the weight that it makes at each call."""
    held = (t for module in model.modules() for t in vars(module).values() if isinstance(t, torch.Tensor))
    return copy.deepcopy(model, {id(t): t.detach().clone() for t in held if not t.is_leaf})


@contextmanager
def _kept(model: torch.nn.Module, buffers: Sequence[str]) -> Iterator[None]:
    """Gives the buffers back what they held, after the model wrote them."""
    owners = [(model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in buffers]
    saved = [(owner, name, owner._buffers[name], copy.deepcopy(owner._buffers[name])) for owner, name in owners]
    try:
        yield
    finally:
        for owner, name, buffer, contents in saved:
            assert buffer is not None and contents is not None
            owner._buffers[name] = buffer.copy_(contents)


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [t for t in pytree.tree_leaves(tree) if isinstance(t, torch.Tensor)]


def _input_tensors(loaded: Loaded) -> list[torch.Tensor]:
    if loaded.model is None:
        raise SourceError(f"{loaded.name} is a program without a model: it has no example inputs")
    return _tensors((loaded.args, loaded.kwargs))


def _states(loaded: Loaded) -> list[torch.Tensor]:
    parameters = loaded.module.parameters
    return [parameters[str(a.name)] for a in loaded.module.main.args if str(a.name).startswith("state.")]


def _array(tensor: torch.Tensor, name: str) -> Array:
    """numpy lacks bf16: such a tensor comes as f32. Complex numbers come as pairs, as programs have them."""
    if tensor.is_meta or isinstance(tensor, FakeTensor):
        raise SourceError(f"{name} has no data: its tensor is on the meta device or fake, enough for costs only")
    tensor = pairs(tensor.detach().cpu().resolve_neg())
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy().copy()
