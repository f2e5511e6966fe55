"""An op without a lowering is taken apart, by itself, into the ops that torch makes of it.

torch traces its own decomposition of the op on fake tensors; the rest of the program stays whole.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
import torch._decomp
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from .lowerings import find


@cache
def decompositions() -> dict[Any, Callable[..., Any]]:
    """torch's decompositions of the ops that have no lowering."""
    known = torch._decomp.global_decomposition_table["post_autograd"]
    return {
        op: function for op, function in known.items() if isinstance(op, torch._ops.OpOverload) and find(op) is None
    }


class Decomposer:
    """Traces decompositions, each form of an op once."""

    def __init__(self) -> None:
        self._traced: dict[Any, GraphModule | None] = {}

    def graph_of(self, target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> GraphModule | None:
        """The graph of `target` on these arguments, fake where they are tensors; its placeholders are the tensors.

        None where torch cannot take the op apart, or only into ops that it cannot take apart either.
        """
        leaves, spec = pytree.tree_flatten((list(args), dict(kwargs)))
        key = (target, spec, *map(_form, leaves))
        if key not in self._traced:
            self._traced[key] = _trace(target, leaves, spec)
        return self._traced[key]


def _form(leaf: Any) -> Any:
    """What a trace depends on."""
    if isinstance(leaf, torch.Tensor):
        return leaf.dtype, tuple(leaf.shape), leaf.stride(), leaf.storage_offset()
    return type(leaf), repr(leaf)


def _trace(target: Any, leaves: Sequence[Any], spec: Any) -> GraphModule | None:
    tensors = [x for x in leaves if isinstance(x, torch.Tensor)]
    mode = next((x.fake_mode for x in tensors if isinstance(x, FakeTensor)), None) or FakeTensorMode()

    def call(*given: torch.Tensor) -> Any:
        rest = iter(given)
        args, kwargs = pytree.tree_unflatten([next(rest) if isinstance(x, torch.Tensor) else x for x in leaves], spec)
        return target(*args, **kwargs)

    table = decompositions()
    try:
        with torch.no_grad(), warnings.catch_warnings(), mode:
            warnings.simplefilter("ignore")
            fresh = [t if isinstance(t, FakeTensor) else mode.from_tensor(t) for t in tensors]
            graph = make_fx(call, decomposition_table=table, _allow_non_fake_inputs=True)(*fresh)
    except Exception:  # torch's decompositions fail in many ways, all of which say that there is none for this form
        return None
    return None if any(n.target is target for n in graph.graph.nodes) else graph
