"""An archive as an ExportedProgram with static sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch._export.verifier import load_verifier
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram
from torch.export.exported_program import ModuleCallEntry, ModuleCallSignature
from torch.export.graph_signature import (
    ArgumentSpec,
    ConstantArgument,
    ExportGraphSignature,
    InputKind,
    InputSpec,
    OutputKind,
    OutputSpec,
    TensorArgument,
)
from torch.fx import Node
from torch.utils import _pytree as pytree

from ..dtypes import TORCH_DTYPES
from ..errors import SourceError, UnsupportedNode, UnsupportedOps
from ..export import quiet
from . import schema
from .archive import TRUST, Archive, printable
from .graph import GraphReader
from .replay import Replay, fake_mode
from .serialized import Serialized
from .tensors import MAX_INPUTS, Geometry, example

DIALECT = "TRAINING"  # the most liberal of torch's: ops may write
SMALL = 4096  # bytes of a constant whose data is read even where weights are not: the importer may write it out


@dataclass(frozen=True, slots=True)
class ReadProgram:
    """What an archive holds. Without data, weights and inputs are on the meta device, and there is no model."""

    program: ExportedProgram
    model: torch.nn.Module | None
    args: tuple[Any, ...]  # the user inputs, flat


def read_program(path: Path, dtype: str, dims: Mapping[str, int], *, real: bool) -> ReadProgram:
    """The program of the archive at `path`, with its main float type as `dtype` and its symbolic sizes bound to `dims`.

    No code from the file runs: nothing in it is unpickled, evaluated, or imported by name. `real`: with weights, random
    inputs, and a model that torch can run. Raises NoSuchSource, BadArchive, UnknownDim or UnsupportedOps.
    """
    archive = Archive(path)
    try:
        return _Builder(Serialized(archive, TORCH_DTYPES[dtype], dims, real=real), real=real).build()
    except (RecursionError, MemoryError) as error:
        raise archive.bad(f"it is too deeply nested or too large ({type(error).__name__})") from None


class _Builder:
    def __init__(self, serialized: Serialized, *, real: bool):
        self.s, self.archive, self.real = serialized, serialized.archive, real
        self.unsupported: list[UnsupportedNode] = []
        self.reader = GraphReader(self.archive, self.unsupported)
        self.mode: FakeTensorMode = fake_mode()
        self.random = torch.Generator().manual_seed(0)
        self.specs: list[InputSpec] = []
        self.values: list[Any] = []  # fake, in the order of the placeholders
        self.args: list[Any] = []
        self.state: dict[str, torch.Tensor] = {}
        self.lifted: dict[str, Any] = {}  # constants, and buffers that are not in a state dict
        self.input_bytes = 0

    def build(self) -> ReadProgram:
        reader = self.reader
        for index, (spec, argument) in enumerate(self.s.inputs):
            self._input(spec, argument, index)
        reader.nodes(self.s.graph)
        reader.outputs(self.s.graph)
        if self.unsupported:
            raise UnsupportedOps(self.unsupported)
        Replay(self.mode, self.s.retype, self.archive.bad).run(reader.graph, reader.root, self.values)
        signature = ExportGraphSignature(self.specs, self._outputs())
        with torch_says(self.archive.bad):
            program = exported(reader.root, reader.graph, signature, self.state, self.lifted, self.args)
            model = program.module(check_guards=False) if self.real else None
        return ReadProgram(program, model, tuple(self.args))

    # ------------------------------------------------------------ inputs

    def _input(self, spec: schema.InputSpec, argument: schema.Argument, index: int) -> None:
        if argument.kind != "as_tensor":
            self._constant_input(spec, argument, index)
            return
        name = argument.value.name
        node = self.reader.placeholder(name)
        if spec.kind == "user_input":
            self._user_input(name, node)
        elif spec.kind in ("parameter", "buffer", "tensor_constant"):
            self._stored(spec.kind, spec.value, name, node)
        else:
            raise self.archive.bad(f"the input {name} is an object of a class ({spec.kind}). {TRUST}")

    def _user_input(self, name: str, node: Node) -> None:
        g = self.s.geometry(name)
        self.input_bytes += g.bytes
        if self.input_bytes > MAX_INPUTS:
            raise self.archive.bad(f"its inputs have over {MAX_INPUTS:,} bytes; {name} is {list(g.shape)}")
        dtype = self.s.retype(g.dtype)
        self._value(g, dtype)
        if self.real:
            self.args.append(example(g.shape, dtype, self.random))
        else:
            self.args.append(torch.empty_strided(g.shape, g.strides, dtype=dtype, device="meta"))
        self.specs.append(InputSpec(InputKind.USER_INPUT, TensorArgument(node.name), None))

    def _stored(self, kind: str, spec: Any, name: str, node: Node) -> None:
        """A parameter, buffer or constant of the model."""
        if spec.arg.name != name:
            raise self.archive.bad(f"its signature calls the input {name} {spec.arg.name}")
        key = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}[kind]
        target: str = getattr(spec, key)
        store = self.s.weights if target in self.s.weights.payloads else self.s.constants
        if target not in store.payloads:
            raise self.archive.bad(f"the data of {target} is missing")
        g, declared = store.geometry[target], self.s.geometry(name)
        if (g.dtype, g.shape) != (declared.dtype, declared.shape):
            raise self.archive.bad(
                f"{target} is {list(declared.shape)} of {declared.dtype} in the program, and stored as "
                f"{list(g.shape)} of {g.dtype}"
            )
        small = kind == "tensor_constant" and g.bytes <= SMALL
        tensor = store.tensor(target, self.s.retype, real=self.real or small)
        if kind == "parameter" and not isinstance(tensor, torch.nn.Parameter):
            raise self.archive.bad(f"{target} is a parameter in the program, and stored as none")
        (self.state if store is self.s.weights else self.lifted)[target] = tensor
        self._value(g, tensor.dtype, tensor.stride())
        kinds = {
            "parameter": InputKind.PARAMETER,
            "buffer": InputKind.BUFFER,
            "tensor_constant": InputKind.CONSTANT_TENSOR,
        }
        persistent = store is self.s.weights if kind == "buffer" else None
        self.specs.append(InputSpec(kinds[kind], TensorArgument(node.name), target, persistent))

    def _constant_input(self, spec: schema.InputSpec, argument: schema.Argument, index: int) -> None:
        """A number, string or None that the program was exported with."""
        plain = ("as_int", "as_float", "as_bool", "as_none", "as_string")
        if argument.kind not in plain or spec.kind not in ("constant_input", "user_input"):
            raise self.archive.bad(f"its input number {index} is neither a tensor nor a constant ({argument.kind})")
        value = None if argument.kind == "as_none" else argument.value
        name = spec.value.name if spec.kind == "constant_input" and spec.value.name.isidentifier() else ""
        node = self.reader.placeholder(name if name.isascii() and name else f"constant_{index}")
        self.specs.append(InputSpec(InputKind.USER_INPUT, ConstantArgument(node.name, value), None))
        self.values.append(value)
        self.args.append(value)

    def _value(self, g: Geometry, dtype: torch.dtype, strides: tuple[int, ...] | None = None) -> None:
        with self.mode:
            self.values.append(torch.empty_strided(g.shape, strides or g.strides, dtype=dtype))

    # ------------------------------------------------------------ outputs

    def _outputs(self) -> list[OutputSpec]:
        returned = next(reversed(self.reader.graph.nodes)).args[0]
        values = list(returned) if isinstance(returned, (tuple, list)) else [returned]
        specs = self.s.signature.output_specs
        if len(specs) != len(values):
            raise self.archive.bad(f"its signature has {len(specs)} outputs, and its graph {len(values)}")
        return [self._output(s, v) for s, v in zip(specs, values, strict=True)]

    def _output(self, spec: schema.OutputSpec, value: Any) -> OutputSpec:
        tensor = isinstance(value, Node) and isinstance(value.meta.get("val"), torch.Tensor)
        argument: ArgumentSpec = TensorArgument(value.name) if tensor else ConstantArgument("", cast(Any, value))
        match spec.kind:
            case "user_output" if tensor or not isinstance(value, Node):
                return OutputSpec(OutputKind.USER_OUTPUT, argument, None)
            case "buffer_mutation" if tensor and any(spec.value.buffer_name == s.target for s in self.specs):
                return OutputSpec(OutputKind.BUFFER_MUTATION, argument, spec.value.buffer_name)
            case "user_input_mutation" if tensor:
                node = self.reader.use(spec.value.user_input_name)
                if node.op == "placeholder":
                    return OutputSpec(OutputKind.USER_INPUT_MUTATION, argument, node.name)
        raise self.archive.bad(f"an output of the kind {spec.kind} is not supported")


def exported(
    root: torch.nn.Module,
    graph: torch.fx.Graph,
    signature: ExportGraphSignature,
    state: dict[str, Any],
    constants: dict[str, Any],
    args: list[Any],
) -> ExportedProgram:
    """The program, which takes its inputs and gives its outputs flat."""
    outputs = [s for s in signature.output_specs if s.kind == OutputKind.USER_OUTPUT]
    call = ModuleCallSignature(
        inputs=[],
        outputs=[],
        in_spec=pytree.tree_structure((tuple(args), {})),
        out_spec=pytree.tree_structure((0,) * len(outputs)),
    )
    return ExportedProgram(
        root,
        graph,
        signature,
        state,
        {},
        [ModuleCallEntry("", call)],
        None,
        constants,
        verifiers=[load_verifier(DIALECT)],
    )


@contextmanager
def torch_says(bad: Callable[[str], SourceError]) -> Iterator[None]:
    """torch's own checks of a program raise errors of many classes."""
    try:
        with quiet():
            yield
    except SourceError:
        raise
    except Exception as error:
        raise bad(f"torch does not take the program: {type(error).__name__}: {printable(error)}") from error
