"""A model in another float type: what of it is no parameter, but says a type."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree


def main_float(tensors: Iterable[tuple[torch.dtype, int]]) -> torch.dtype | None:
    """The float type that most of the elements have, from (type, elements); None where there is no float."""
    counts: dict[torch.dtype, int] = {}
    for dtype, elements in tensors:
        if dtype.is_floating_point and dtype.itemsize > 1:
            counts[dtype] = counts.get(dtype, 0) + elements
    return max(counts, key=lambda d: counts[d]) if counts else None


def retype_program(model: torch.nn.Module, main: torch.dtype | None, to: torch.dtype) -> None:
    """The graphs of a model that was exported before, and tensor subclasses that are taken apart, in place.

    `main` is the type that the model computed in, `to` the one that its parameters have now.
    """
    for module in model.modules():
        if isinstance(module, GraphModule):
            _retype_graph(module, main, to)
        if hasattr(module, "rebuild_stack"):  # of torchao's unwrap_tensor_subclass: classes, and what they need to know
            module.rebuild_stack = pytree.tree_map(lambda x: _retyped(x, main, to), module.rebuild_stack)


def _retyped(value: Any, main: torch.dtype | None, to: torch.dtype) -> Any:
    return to if isinstance(value, torch.dtype) and value == main else value


def _retype_graph(module: GraphModule, main: torch.dtype | None, to: torch.dtype) -> None:
    """Where an op names the main type, it names the new one; dequantise ops give f32 where nothing is said."""
    changed = False
    for node in list(module.graph.nodes):
        operator: Any = node.target
        if not isinstance(operator, torch._ops.OpOverload):
            continue
        before = node.args, node.kwargs
        node.args, node.kwargs = pytree.tree_map(lambda x: _retyped(x, main, to), before)
        packet = operator._schema.name.partition("::")[2]
        name = next((a.name for a in operator._schema.arguments if a.name in ("out_dtype", "output_dtype")), None)
        if packet.startswith("dequantize") and name is not None and name not in _arguments(node, operator):
            node.kwargs = {**node.kwargs, name: to}
        elif packet == "_assert_tensor_metadata":  # the types that the model had
            module.graph.erase_node(node)
        changed = changed or before != (node.args, node.kwargs) or packet == "_assert_tensor_metadata"
    if changed:
        module.recompile()


def _arguments(node: Node, operator: Any) -> dict[str, Any]:
    """The arguments of a call by name, without those that have their defaults."""
    names = [a.name for a in operator._schema.arguments]
    return dict(zip(names, node.args, strict=False)) | dict(node.kwargs)


def evaluating(model: torch.nn.Module) -> torch.nn.Module:
    """`model.eval()`, also of a model that was exported: it has only the mode that it was exported in, and refuses."""
    if not any("train" in vars(m) or "eval" in vars(m) for m in model.modules()):
        return model.eval()
    for module in model.modules():
        module.training = False
    return model
