"""An archive by torch's own loader. It unpickles and evaluates what the file says: only for files that are trusted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import sympy
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram
from torch.export.graph_signature import (
    ConstantArgument,
    ExportGraphSignature,
    InputKind,
    InputSpec,
    OutputSpec,
    TensorArgument,
)
from torch.fx import Node
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from ..dtypes import TORCH_DTYPES
from ..retyping import main_float
from .archive import Archive
from .program import ReadProgram, exported, torch_says
from .replay import Replay, fake_mode
from .serialized import bind
from .symbols import NoValue, evaluate
from .tensors import Retype, example

UNLIMITED = 2**62


def trusted_program(path: Path, dtype: str, dims: Mapping[str, int], *, real: bool) -> ReadProgram:
    """The program as torch's own loader reads it, which can run code from the file; the rest is as `read_program`.

    With its own example inputs where its sizes are fixed. Raises NoSuchSource, BadArchive or UnknownDim.
    """
    archive = Archive(path)
    with torch_says(archive.bad):
        program = torch.export.load(str(path))
        return _Specialiser(archive, program, TORCH_DTYPES[dtype], dims, real=real).specialise()


class _Specialiser:
    """Binds sizes and element types of a program that is loaded."""

    def __init__(
        self, archive: Archive, program: ExportedProgram, wanted: torch.dtype, dims: Mapping[str, int], *, real: bool
    ):
        self.archive, self.program, self.real = archive, program, real
        self.inputs = list(_plain_inputs(program))
        tensors = [
            *program.state_dict.values(),
            *(t for t in program.constants.values() if isinstance(t, torch.Tensor)),
        ]
        users = [n.meta["val"] for s, n in self.inputs if s.kind == InputKind.USER_INPUT]
        floats = [t for t in users if isinstance(t, torch.Tensor)]
        main = main_float((t.dtype, t.numel()) for t in tensors) or main_float((t.dtype, 1) for t in floats)
        self.retype = Retype(main, wanted)
        shapes = {n.name: [_size(x) for x in n.meta["val"].shape] for n in self._user_nodes()}
        ranges = {str(k): (_finite(r.lower), _finite(r.upper)) for k, r in program.range_constraints.items()}
        self.symbols = bind(archive.path, dims, shapes, ranges)

    def _user_nodes(self) -> list[Node]:
        pairs = ((s, n) for s, n in self.inputs if s.kind == InputKind.USER_INPUT)
        return [n for _, n in pairs if isinstance(n.meta["val"], torch.Tensor)]

    def specialise(self) -> ReadProgram:
        mode = fake_mode()
        state: dict[str, Any] = {}
        constants: dict[str, Any] = {}
        specs: list[InputSpec] = []
        values: list[Any] = []
        args: list[Any] = []
        examples = iter(self._examples())
        random = torch.Generator().manual_seed(0)
        made: dict[int, Any] = {}
        for spec, node in self.inputs:
            if spec.kind != InputKind.USER_INPUT:
                target = str(spec.target)
                stored = self.program.state_dict if target in self.program.state_dict else self.program.constants
                tensor: Any = stored[target]
                tensor = made.setdefault(id(tensor), self._converted(tensor))
                (state if stored is self.program.state_dict else constants)[target] = tensor
                values.append(self._fake(mode, tuple(tensor.shape), tensor.stride(), tensor.dtype))
                specs.append(spec)
                continue
            given: Any = next(examples, None)
            value = node.meta["val"]
            if not isinstance(value, torch.Tensor):
                value = (
                    evaluate(sympy.srepr(value.node.expr), self.symbols) if isinstance(value, torch.SymInt) else value
                )
                specs.append(InputSpec(InputKind.USER_INPUT, ConstantArgument(node.name, value), None))
                values.append(value)
                args.append(value)
                continue
            shape, strides = (tuple(map(self._number, x)) for x in (value.shape, value.stride()))
            dtype = self.retype(value.dtype)
            usable = isinstance(given, torch.Tensor) and tuple(given.shape) == shape
            tensor = given.to(dtype) if usable else example(shape, dtype, random)
            args.append(tensor if self.real else tensor.to("meta"))
            values.append(self._fake(mode, shape, strides, dtype))
            specs.append(spec)
        root, graph = self.program.graph_module, self.program.graph
        Replay(mode, self.retype, self.archive.bad, UNLIMITED).run(graph, root, values)
        signature = ExportGraphSignature(specs, self._outputs(graph))
        program = exported(root, graph, signature, state, constants, args)
        return ReadProgram(program, program.module(check_guards=False) if self.real else None, tuple(args))

    def _examples(self) -> list[Any]:
        return pytree.tree_leaves(self.program.example_inputs) if self.program.example_inputs else []

    def _converted(self, tensor: Any) -> Any:
        if not isinstance(tensor, torch.Tensor):
            raise self.archive.bad("it holds an object of a class, which cannot be compiled")
        data = tensor.detach().to(self.retype(tensor.dtype))
        return torch.nn.Parameter(data, requires_grad=False) if isinstance(tensor, torch.nn.Parameter) else data

    def _fake(self, mode: FakeTensorMode, shape: Any, strides: Any, dtype: torch.dtype) -> torch.Tensor:
        with mode:
            return torch.empty_strided(shape, strides, dtype=dtype)

    def _number(self, size: Any) -> int:
        try:
            return evaluate(size, self.symbols) if isinstance(size := _size(size), str) else size
        except NoValue as error:
            raise self.archive.bad(f"a size of its inputs cannot be told: {error}") from None

    def _outputs(self, graph: torch.fx.Graph) -> list[OutputSpec]:
        """By the nodes that are returned now: casts and numbers may stand where others stood."""
        returned: Any = next(reversed(graph.nodes)).args[0]
        specs = self.program.graph_signature.output_specs
        return [
            OutputSpec(s.kind, TensorArgument(v.name) if isinstance(v, Node) else ConstantArgument("", v), s.target)
            for s, v in zip(specs, returned, strict=True)
        ]


def _plain_inputs(program: ExportedProgram) -> Iterator[tuple[InputSpec, Node]]:
    """Each input with its placeholder. A weight that is a tensor subclass gives way to the tensors inside it."""
    graph = program.graph
    waiting = list(zip(program.graph_signature.input_specs, graph.find_nodes(op="placeholder"), strict=True))[::-1]
    while waiting:
        spec, node = waiting.pop()
        stored = program.state_dict if spec.target in program.state_dict else program.constants
        tensor: Any = stored.get(str(spec.target))
        if not is_traceable_wrapper_subclass(tensor):
            yield spec, node
            continue
        parts: dict[str, Node] = {}
        inner: list[tuple[InputSpec, Node]] = []
        for name in tensor.__tensor_flatten__()[0]:
            target = f"{spec.target}.{name}"
            stored[target] = getattr(tensor, name)
            with graph.inserting_before(node):
                parts[name] = graph.placeholder(f"{node.name}_{name}")
            argument = TensorArgument(parts[name].name)
            inner.append((InputSpec(InputKind.BUFFER, argument, target, persistent=True), parts[name]))
        waiting += reversed(inner)
        del stored[str(spec.target)]
        for user in list(node.users):
            if user.target is torch.ops.export.access_subclass_inner_tensor.default:
                user.replace_all_uses_with(parts[str(user.args[1])])
                graph.erase_node(user)
        graph.erase_node(node)


def _size(size: Any) -> int | str:
    return sympy.srepr(size.node.expr) if isinstance(size, torch.SymInt) else int(size)


def _finite(bound: Any) -> int | None:
    return int(bound) if bound.is_Integer else None
