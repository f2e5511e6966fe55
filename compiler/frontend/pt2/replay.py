"""A graph run on fake tensors: torch infers every type anew, with sizes and element types of our choice.

That gives each node the value that an export would have given it, aliases included, whatever a file says; it binds
symbolic sizes, whose arithmetic becomes plain numbers; and it is the check that the operators take their arguments.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_arg
from torch.utils import _pytree as pytree

from ..errors import SourceError
from ..export import quiet
from ..lowerings import NOTHING
from . import schema
from .archive import printable
from .graph import DECLARED, place_of
from .operators import SCOPES
from .symbols import MAX_POWER
from .tensors import DTYPES, MAX_TENSOR, Retype

MAX_PARTS = 16_384  # tensors that one op may make
MAX_STEPS = 16_384  # of a recurrent layer: torch unrolls it
CAST = torch.ops.aten._to_copy.default
ASSERT = torch.ops.aten._assert_scalar.default
_NUMBERS = (bool, int, float)


def fake_mode() -> FakeTensorMode:
    """A mode in which no kernel runs on data."""
    return FakeTensorMode(allow_fallback_kernels=False, allow_non_fake_inputs=False, static_shapes=True)


class Replay:
    """Runs graphs under one fake mode. `bad` makes the error for a program that cannot run, from what is wrong.

    No tensor may have more than `limit` bytes.
    """

    def __init__(
        self, mode: FakeTensorMode, retype: Retype, bad: Callable[[str], SourceError], limit: int = MAX_TENSOR
    ):
        self.mode, self.retype, self.bad, self.limit = mode, retype, bad, limit

    def run(self, graph: Graph, owner: torch.nn.Module, inputs: Sequence[Any]) -> Any:
        """Gives every node its value, and what the graph returns. Nodes that make numbers are replaced by them."""
        env: dict[Node, Any] = {}
        given = iter(inputs)
        with torch.no_grad(), quiet(), self.mode:
            for node in list(graph.nodes):
                if node.op == "placeholder":
                    env[node] = next(given)
                    node.meta["val"] = _snapshot(env[node])
                elif node.op == "get_attr":
                    env[node] = getattr(owner, str(node.target))
                elif node.op == "output":
                    node.args = self._arguments(node.args, env)
                    node.meta.pop("val", None)  # of another fake mode
                    result = map_arg(node.args[0], env.__getitem__)
                else:
                    self._call(graph, node, env)
        for node in reversed(list(graph.nodes)):
            if node.op == "call_function" and not node.users and isinstance(env[node], _NUMBERS):
                graph.erase_node(node)
        return result

    def _arguments(self, arguments: Any, env: dict[Node, Any]) -> Any:
        """With numbers in place of the nodes that make them."""
        return map_arg(arguments, lambda n: env[n] if isinstance(env[n], _NUMBERS) else n)

    def _call(self, graph: Graph, node: Node, env: dict[Node, Any]) -> None:
        node.args = self._retyped(self._arguments(node.args, env))
        node.kwargs = self._retyped(self._arguments(node.kwargs, env))
        expected = self._expected(node)
        args, kwargs = map_arg((node.args, node.kwargs), env.__getitem__)
        try:
            result = self._evaluate(node, args, kwargs)
        except SourceError:
            raise
        except Exception as error:  # of any class: torch's checks and its meta kernels raise many
            reason = f"{type(error).__name__}: {printable(error)}"
            raise self.bad(f"torch cannot run node {place_of(node)}: {reason}") from error
        result = list(result) if isinstance(result, tuple) else result
        self._check_values(node, result)
        env[node] = result
        node.meta["val"] = pytree.tree_map(_snapshot, result)
        shape, dtype = expected
        if not isinstance(result, torch.Tensor) or dtype is None:
            return
        if shape is not None and tuple(result.shape) != shape:
            raise self.bad(f"node {place_of(node)} says that it makes {list(shape)}, but it makes {list(result.shape)}")
        if result.dtype == dtype:
            return
        if not (self.retype.changes and dtype.is_floating_point and result.dtype.is_floating_point):
            raise self.bad(f"node {place_of(node)} says that it makes {dtype}, but it makes {result.dtype}")
        self._cast(graph, node, env, dtype)

    def _cast(self, graph: Graph, node: Node, env: dict[Node, Any], dtype: torch.dtype) -> None:
        """`torch.zeros(n)` names no type, and has torch's default one: what reads it gets the type that it should."""
        with graph.inserting_after(node):
            cast = graph.call_function(CAST, (node,), {"dtype": dtype})
        node.replace_all_uses_with(cast, delete_user_cb=lambda user: user is not cast)
        cast.meta.update(node.meta)
        env[cast] = CAST(env[node], dtype=dtype)
        cast.meta["val"] = _snapshot(env[cast])

    def _retyped(self, arguments: Any) -> Any:
        if not self.retype.changes:
            return arguments
        return pytree.tree_map(lambda x: self.retype(x) if isinstance(x, torch.dtype) else x, arguments)

    def _expected(self, node: Node) -> tuple[tuple[int, ...] | None, torch.dtype | None]:
        """What the node should make: as its file says, or as it made before; shapes with symbols say nothing."""
        if DECLARED in node.meta:
            meta: schema.TensorMeta | None = node.meta.pop(DECLARED)
            if meta is None or meta.dtype not in DTYPES:
                return None, None
            fixed = all(s.kind == "as_int" for s in meta.sizes)
            return tuple(s.value for s in meta.sizes) if fixed else None, self.retype(DTYPES[meta.dtype])
        before = node.meta.get("val")
        return (None, self.retype(before.dtype)) if isinstance(before, torch.Tensor) else (None, None)

    def _evaluate(self, node: Node, args: Any, kwargs: Any) -> Any:
        target: Any = node.target
        if target in SCOPES.values():
            return self._scope(node, args)
        if target is ASSERT:
            if not args[0]:
                raise self.bad(f"the program checks its sizes, and the check fails: {printable(args[1])}")
            return None
        if target in NOTHING:
            return None
        if target is operator.pow and not (abs(args[0]) < 2**31 and 0 <= args[1] <= MAX_POWER):
            raise self.bad(f"node {place_of(node)} computes a size that is too large")
        if isinstance(target, torch._ops.OpOverload):
            self._check_parts(node, target, args, kwargs)
        return target(*args, **kwargs)

    def _scope(self, node: Node, args: Any) -> Any:
        """`with torch.no_grad():` and the like, whose graph is among the arguments."""
        at = next((i for i, a in enumerate(args) if isinstance(a, GraphModule)), None)
        if at is None:
            raise self.bad(f"node {place_of(node)} has no graph to run")
        inner = args[at]
        if len(inner.graph.find_nodes(op="placeholder")) != len(args) - at - 1:
            raise self.bad(f"node {place_of(node)} does not give its graph as many inputs as that takes")
        result = self.run(inner.graph, inner, args[at + 1 :])
        inner.recompile()
        return result

    def _check_parts(self, node: Node, target: Any, args: Any, kwargs: Any) -> None:
        """Ops whose work torch's inference spends on each part or step, before it starts."""
        name = target._schema.name.partition("::")[2]
        values = {a.name: v for a, v in zip(target._schema.arguments, args, strict=False)} | kwargs
        tensors = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        longest = max((n for t in tensors for n in t.shape), default=0)
        parts = max((v for k, v in values.items() if k in ("chunks", "sections") and isinstance(v, int)), default=0)
        if name.startswith(("unbind", "split", "unsafe_split")) and tensors and "split_sizes" not in values:
            step, dim, shape = values.get("split_size", 1), values.get("dim", 0), tensors[0].shape
            if isinstance(step, int) and isinstance(dim, int) and -len(shape) <= dim < len(shape):
                parts = shape[dim] // max(step, 1)
        if parts > MAX_PARTS:
            raise self.bad(f"node {place_of(node)} cuts a tensor into {parts:,} parts; the limit is {MAX_PARTS:,}")
        if name.startswith(("lstm", "gru", "rnn", "quantized_lstm")) and longest > MAX_STEPS:
            raise self.bad(f"node {place_of(node)} runs over a dimension of {longest:,}; the limit is {MAX_STEPS:,}")

    def _check_values(self, node: Node, result: Any) -> None:
        for value in pytree.tree_leaves(result):
            if isinstance(value, torch.Tensor):
                size = value.numel() * value.element_size()
                if size > self.limit:
                    raise self.bad(
                        f"node {place_of(node)} makes a tensor of {size:,} bytes ({list(value.shape)}); the limit is "
                        f"{self.limit:,}"
                    )
                if not isinstance(value, FakeTensor) or value.layout != torch.strided:
                    raise self.bad(f"node {place_of(node)} makes no dense tensor")
            elif isinstance(value, int) and abs(value) >= 2**63:
                raise self.bad(f"node {place_of(node)} computes a size that is too large")


def _snapshot(value: Any) -> Any:
    """The value as it is now, on the same storage: an op may change a tensor's shape in place."""
    return value.detach() if isinstance(value, torch.Tensor) else value
