"""The nodes of an archive's JSON as an FX graph, without types: those come from running it on fake tensors."""

from __future__ import annotations

import keyword
import operator
import re
from collections.abc import Mapping
from typing import Any

import torch
from tilewright.compiler.ir import Location
from torch.fx import Graph, GraphModule, Node

from ..errors import BadArchive, UnsupportedNode
from ..locations import location_of
from . import schema
from .archive import Archive, shown
from .operators import resolve
from .tensors import DTYPES, STRIDED

MAX_DEPTH = 8  # of graphs in graphs
DECLARED = "declared"  # a node's meta until it is replayed: what the JSON says of its result
MEMORY_FORMATS = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}
ENUMERATIONS: dict[str, type] = {  # whose numbers torch does not check
    "ScalarType": torch.dtype,
    "Layout": torch.layout,
    "MemoryFormat": torch.memory_format,
    "Device": torch.device,
}
POSITIONAL = 1
PLACE = "place"  # a node's meta: its name in the JSON, for messages
_FRAME = re.compile(r'File "([^"\n]{1,400})", line (\d{1,7})')
_TORCH = re.compile(r"[\\/](site|dist)-packages[\\/]torch[\\/]")
_PATH = re.compile(r"[\w.\-\[\]()]{1,300}", re.ASCII)


class GraphReader:
    """Reads one graph, and those inside it. What cannot be imported is noted in `unsupported`, and reading goes on.

    Raises BadArchive.
    """

    def __init__(self, archive: Archive, unsupported: list[UnsupportedNode], depth: int = 0):
        self.archive, self.unsupported, self.depth = archive, unsupported, depth
        self.graph = Graph()
        self.root = torch.nn.Module()
        self.values: dict[str, Node] = {}  # by the JSON's names

    def placeholder(self, name: str) -> Node:
        node = self.graph.placeholder(_identifier(name))
        node.target = node.name
        self.define(name, node)
        return node

    def define(self, name: str, node: Node) -> None:
        if name in self.values:
            raise self.archive.bad(f"two values of the program are named {name}")
        self.values[name] = node

    def use(self, name: str) -> Node:
        if name not in self.values:
            raise self.archive.bad(
                f"the program reads {name} before anything makes it: its nodes are out of order, or form a cycle"
            )
        return self.values[name]

    def nodes(self, graph: schema.Graph) -> None:
        for node in graph.nodes:
            self.node(node, graph.tensor_values)

    def outputs(self, graph: schema.Graph) -> list[Any]:
        """The output node of the graph; gives what it returns."""
        outputs = [self.argument(o) for o in graph.outputs]
        single = graph.is_single_tensor_return and len(outputs) == 1
        self.graph.output(outputs[0] if single else tuple(outputs))
        return outputs

    def node(self, node: schema.Node, declared: Mapping[str, schema.TensorMeta]) -> None:
        target = resolve(node.target)
        name = node.name or "node"
        meta = {**_source(node.metadata), PLACE: f"{name} ({shown(node.target)[1:-1]})"}
        if target is None:
            self._unknown(node, meta)
            return
        try:
            if isinstance(target, torch._ops.OpOverload):
                args, kwargs = self._by_schema(target, node)
            else:
                args, kwargs = [self.argument(i.arg) for i in node.inputs], {}
        except BadArchive as error:
            raise self.archive.bad(f"{_short(self.archive, error)}, in node {meta[PLACE]}") from None
        made = self.graph.create_node("call_function", target, tuple(args), kwargs, _identifier(name))
        made.meta.update(meta)
        self._results(node, made, declared)

    def _unknown(self, node: schema.Node, meta: dict[str, Any]) -> None:
        """Notes the node; its results stand for nothing, so that reading can go on and find all of them."""
        stand_in = self.graph.create_node("call_function", _unknown, (), {}, _identifier(node.name or "node"))
        stand_in.meta.update(meta)
        target = node.target if node.target.isprintable() and node.target.isascii() else shown(node.target)
        self.unsupported.append(UnsupportedNode(target.removeprefix("torch.ops."), "", location_of(stand_in)))
        for output in node.outputs:
            for name in _names(output):
                self.define(name, stand_in)

    def _results(self, node: schema.Node, made: Node, declared: Mapping[str, schema.TensorMeta]) -> None:
        """A single result is the node; each of several is a getitem of it."""
        outputs = node.outputs
        if len(outputs) == 1 and outputs[0].kind != "as_tensors" and node.is_hop_single_tensor_return is not False:
            for name in _names(outputs[0]):
                self.define(name, made)
                made.meta[DECLARED] = declared.get(name)
            return
        parts = outputs[0].value if len(outputs) == 1 and outputs[0].kind == "as_tensors" else outputs
        for i, part in enumerate(parts):
            names = [part.name] if isinstance(part, schema.Named) else _names(part)
            if not names:
                continue
            if len(names) > 1 or (isinstance(part, schema.Argument) and part.kind == "as_tensors"):
                raise self.archive.bad(
                    f"node {made.meta[PLACE]} gives a list among its results, which is not supported"
                )
            item = self.graph.create_node("call_function", operator.getitem, (made, i), {}, _identifier(names[0]))
            item.meta.update(made.meta)
            item.meta[DECLARED] = declared.get(names[0])
            self.define(names[0], item)

    def _by_schema(self, target: Any, node: schema.Node) -> tuple[list[Any], dict[str, Any]]:
        """The arguments as torch.export orders them: positional as far as they go, then by name."""
        given: dict[str, schema.NamedArgument] = {}
        for argument in node.inputs:
            if argument.name in given:
                raise self.archive.bad(f"the argument {argument.name} is given twice")
            given[argument.name] = argument
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        gap = False
        for formal in target._schema.arguments:
            argument = given.pop(formal.name, None)
            if argument is None:
                gap = True
                continue
            value = self.argument(argument.arg)
            wanted = next((t for name, t in ENUMERATIONS.items() if name in str(formal.real_type)), None)
            if wanted is not None and value is not None and not isinstance(value, wanted):
                raise self.archive.bad(f"the argument {formal.name} is no {wanted.__name__}")
            if not gap and not formal.kwarg_only and argument.kind in (POSITIONAL, None):
                args.append(value)
            elif keyword.iskeyword(formal.name):
                raise self.archive.bad(f"the argument {formal.name} is out of place")
            else:
                gap = True
                kwargs[formal.name] = value
        if given:
            raise self.archive.bad(f"the operator has no argument named {', '.join(map(shown, given))}")
        return args, kwargs

    def argument(self, argument: schema.Argument) -> Any:
        kind, value = argument.kind, argument.value
        match kind:
            case "as_none":
                return None
            case "as_int" | "as_float" | "as_bool" | "as_string":
                return value
            case "as_ints" | "as_floats" | "as_bools" | "as_strings" | "as_int_lists" | "as_float_lists":
                return list(value)
            case "as_tensor":
                return self.use(value.name)
            case "as_tensors":
                return [self.use(v.name) for v in value]
            case "as_nested_tensors":
                return [[self.use(v.name) for v in vs] for vs in value]
            case "as_optional_tensor":
                return self._optional(value)
            case "as_optional_tensors":
                return [self._optional(v) for v in value]
            case "as_sym_int" | "as_sym_float" | "as_sym_bool":
                return self._symbolic(value)
            case "as_sym_ints" | "as_sym_floats" | "as_sym_bools":
                return [self._symbolic(v) for v in value]
            case "as_scalar_type":
                if value not in DTYPES:
                    raise self.archive.bad(f"the element type {value} is unknown")
                return DTYPES[value]
            case "as_memory_format" if value in MEMORY_FORMATS:
                return MEMORY_FORMATS[value]
            case "as_layout" if value == STRIDED:
                return torch.strided
            case "as_device":
                return torch.device("cpu")  # where the model ran says nothing about where it will
            case "as_complex":
                return complex(value.real, value.imag)
            case "as_graph":
                return self._inner(value)
            case _:
                raise self.archive.bad(f"an argument of the kind {kind} is not supported")

    def _optional(self, value: schema.OptionalTensor) -> Node | None:
        return self.use(value.value.name) if value.kind == "as_tensor" else None

    def _symbolic(self, value: schema.SymInt | schema.SymFloat | schema.SymBool) -> Any:
        return self.use(value.value) if value.kind == "as_name" else value.value

    def _inner(self, argument: schema.GraphArgument) -> Node:
        if self.depth >= MAX_DEPTH:
            raise self.archive.bad(f"its graphs are nested more than {MAX_DEPTH} deep")
        inner = GraphReader(self.archive, self.unsupported, self.depth + 1)
        for i in argument.graph.inputs:
            names = _names(i)
            if len(names) != 1:
                raise self.archive.bad(f"an input of the graph {argument.name} has no name")
            inner.placeholder(names[0])
        inner.nodes(argument.graph)
        inner.outputs(argument.graph)
        name = f"inner_{len(self.root._modules)}"
        self.root.add_module(name, GraphModule(inner.root, inner.graph))
        return self.graph.get_attr(name)


def _unknown() -> None:
    """Stands in an FX graph for a call that cannot be imported."""


def _names(argument: schema.Argument) -> list[str]:
    """The values that an input or a result names."""
    kind, value = argument.kind, argument.value
    if kind == "as_tensor":
        return [value.name]
    if kind == "as_tensors":
        return [v.name for v in value]
    if kind in ("as_sym_int", "as_sym_float", "as_sym_bool") and value.kind == "as_name":
        return [value.value]
    return []


def _identifier(name: str) -> str:
    """A name that FX may write into the Python that it generates; the schema allows ASCII identifiers only."""
    return f"{name}_" if keyword.iskeyword(name) or name.startswith("__") else name


def _source(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The module and the user's line, as `location_of` reads them; what looks like neither is left out."""
    frames = [(f, n) for f, n in _FRAME.findall(metadata.get("stack_trace", "")) if f.isprintable()]
    lines = [f'File "{f}", line {n}' for f, n in frames if not _TORCH.search(f)]
    path = metadata.get("nn_module_stack", "").rpartition(";")[2].split(",")
    module = path[1] if len(path) > 1 and _PATH.fullmatch(path[1]) else ""
    return {"stack_trace": "\n".join(lines), "nn_module_stack": {"": (module, "")}}


def place_of(node: Node) -> str:
    """`conv2d (torch.ops.aten.conv2d.default), net.py:12 in layer1`"""
    at: Location = location_of(node)
    where = ", ".join(p for p in (at.source, f"in {at.module}" if at.module else "") if p)
    return f"{node.meta.get(PLACE, node.name)}{f', {where}' if where else ''}"


def _short(archive: Archive, error: BadArchive) -> str:
    return str(error).removeprefix(str(archive.bad("")))
