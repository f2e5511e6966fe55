"""An ExportedProgram becomes a graph-level module: FX nodes in order, each by its lowering."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Block, Func, Module, Return, TensorType, Value, verify
from tilewright.compiler.ir.garbage import without_collection
from torch._subclasses.fake_tensor import FakeTensor
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind, TensorArgument
from torch.fx import Node
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from . import complex_nodes
from .aliasing import Same, Tensor, View, Wrapped
from .complex_tensors import Complex, as_complex, as_real, is_complex, pairs
from .decompose import Decomposer
from .dtypes import IR_NAMES, tensor_type
from .emitter import Emitter
from .errors import Unsupported, UnsupportedNode, UnsupportedOps, describe
from .locations import location_of
from .lowerings import NOTHING, Lowering, Updated, lowering_of, stand_in, views, without_write, writes

SMALL = 64  # elements of a constant that is written into the program
INNER_TENSOR = "export::access_subclass_inner_tensor"  # a tensor inside a parameter, by its name there
READS = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.item.default)
SCOPES = ("wrap_with_set_grad_enabled", "wrap_with_autocast")  # run their graph as it is


def import_program(program: ExportedProgram) -> Module:
    """The graph-level module of a program with static shapes; its parameters refer to the program's own tensors.

    Raises UnsupportedOps, which lists every node that has no lowering.
    """
    with without_collection():
        return _Importer(program).run()


class _Importer:
    def __init__(self, program: ExportedProgram):
        self.program = program
        self.module = Module()
        self.block = Block()
        self.e = Emitter(self.block, self.module.parameters)
        self.inputs: dict[str, Tensor] = {}  # placeholder name -> runtime input
        self.arguments: dict[str, Value] = {}
        self.buffers: dict[str, Tensor] = {}  # placeholder name -> buffer of the model
        self.storages: dict[tuple[Any, ...], Tensor] = {}  # identity of a tensor -> the buffer that it is
        self.targets: dict[str, str] = {}  # placeholder name -> name of the buffer
        self.tied: dict[tuple[Any, ...], str] = {}  # identity of a tensor -> the first key it was met under
        self.unsupported: list[UnsupportedNode] = []
        self.decomposer = Decomposer()
        self.inside = False  # a decomposition, whose nodes keep the location of the op that it takes apart

    def run(self) -> Module:
        env: dict[Node, Any] = {}
        specs = {s.arg.name: s for s in self.program.graph_signature.input_specs if isinstance(s.arg, TensorArgument)}
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                env[node] = self.placeholder(node, specs[node.name]) if node.name in specs else node.meta.get("val")
        outputs = self.run_graph(self.program.graph, self.program.graph_module, env)
        if self.unsupported:
            raise UnsupportedOps(self.unsupported)
        self.finish(outputs)
        return self.module

    # ------------------------------------------------------------ inputs

    def placeholder(self, node: Node, spec: Any) -> Tensor | Complex | Wrapped:
        held = self.held(node, spec)
        if isinstance(held, Wrapped) or not is_complex(node.meta["val"]):
            return held
        return as_complex(held, node.meta["val"].dim() + 1)

    def held(self, node: Node, spec: Any) -> Tensor | Wrapped:
        """An input, weight or constant as it lies in memory: complex numbers as pairs."""
        program = self.program
        if spec.kind == InputKind.USER_INPUT:
            self.e.location = location_of(node)
            argument = self.block.add_arg(self.type_of(node.meta["val"], "an input"), node.name)
            self.arguments[node.name] = argument
            self.inputs[node.name] = Tensor(argument)
            return self.inputs[node.name]
        if spec.kind == InputKind.CONSTANT_TENSOR:
            data: Any = pairs(program.constants[spec.target])
            shared = self.storages.get(_identity(data))  # a cache object holds the buffers of its module too
            return shared or Tensor(load=lambda: self.constant(node, spec.target, data))
        stored: Mapping[str, Any] = program.state_dict if spec.target in program.state_dict else program.constants
        data = stored[spec.target]
        if is_traceable_wrapper_subclass(data):
            return self.wrapped(node, spec.target, data)
        data = pairs(data)
        tensor = Tensor(load=lambda: self.parameter(node, spec.target, data))
        if spec.kind == InputKind.BUFFER:
            known = self.storages.setdefault(_identity(data), tensor)
            if known is not tensor:
                return known
            self.buffers[node.name] = tensor
            self.targets[node.name] = spec.target
        return tensor

    def wrapped(self, node: Node, key: str, data: Any) -> Wrapped:
        """A parameter that is a tensor subclass, such as torchao's: the program reads the tensors inside it."""

        def inner(name: str) -> Tensor | Wrapped:
            held, at = getattr(data, name), f"{key}.{name}"
            if is_traceable_wrapper_subclass(held):
                return self.wrapped(node, at, held)
            return Tensor(load=lambda: self.parameter(node, at, held))

        return Wrapped(type(data).__name__, {name: inner(name) for name in data.__tensor_flatten__()[0]})

    def parameter(self, node: Node, key: str, data: torch.Tensor) -> Value:
        """One op a tensor: weights that are tied share the key that is met first."""
        key = self.tied.setdefault(_identity(data), key)
        self.module.parameters[key] = data
        path = key.rpartition(".")[0]
        op = graph.Parameter(key=key, result_types=[tensor_type(data)])
        op.location = self.e.location._replace(node=node.name, module=path)
        return self.block.append(op).result

    def constant(self, node: Node, name: str, data: torch.Tensor) -> Value:
        known = not isinstance(data, FakeTensor) and data.device.type != "meta"
        type_ = tensor_type(data)
        if known and data.numel() == 1:
            return self.e.constant(data.item(), type_.dtype, type_.shape)
        if known and data.numel() <= SMALL:
            return self.e.table(data.flatten().tolist(), type_.dtype, type_.shape)
        return self.parameter(node, f"constant.{name}", data)

    def attribute(self, node: Node, held: Any) -> Any:
        """What a graph holds itself: a graph of a scope, or a tensor that a decomposition made."""
        if not isinstance(held, torch.Tensor):
            return held
        node.meta.setdefault("val", held)
        name = f"{self.e.location.node}.{node.target}"
        tensor = Tensor(load=lambda: self.constant(node, name, pairs(held)))
        return as_complex(tensor, held.dim() + 1) if is_complex(held) else tensor

    # ------------------------------------------------------------ nodes

    def run_graph(self, fx: torch.fx.Graph, owner: torch.nn.Module, env: dict[Node, Any]) -> Any:
        """Runs every node in `env`, which holds the placeholders; gives what the output node names."""
        for node in fx.nodes:
            if node.op == "call_function":
                if not self.inside:
                    self.e.location = location_of(node)
                env[node] = self.call(node, env)
            elif node.op == "get_attr":
                env[node] = self.attribute(node, getattr(owner, str(node.target)))
            elif node.op == "output":
                return _map(node.args[0], env.__getitem__)
        raise AssertionError("an FX graph ends in its output")

    def call(self, node: Node, env: Mapping[Node, Any]) -> Any:
        target: Any = node.target
        args = [_map(a, env.__getitem__) for a in node.args]
        kwargs = {k: _map(a, env.__getitem__) for k, a in node.kwargs.items()}
        if target in NOTHING or _serves_checks(node):
            return None
        name = getattr(target, "__name__", str(target))
        if name == "getitem":
            return self.part(node, args[0], args[1])
        if name in SCOPES:
            return self.scope(args)
        if name == "out_dtype" and args[:2] == [torch.ops.aten.mm.default, torch.int32]:  # exact sums of products
            target, args = torch.ops.aten._int_mm.default, args[2:]
        try:
            if not isinstance(target, torch._ops.OpOverload):
                raise Unsupported("")
            if target._schema.name == INNER_TENSOR and isinstance(args[0], Wrapped):
                return args[0].tensors[args[1]]
            if whole := next((a for a in args if isinstance(a, Wrapped)), None):
                raise Unsupported(f"a parameter of the class {whole.name}, which torch.export did not take apart")
            write = writes(target) and lowering_of(target) is None
            return (self.write if write else self.lower)(node, stand_in(target), args, kwargs)
        except Unsupported as error:
            self.unsupported.append(UnsupportedNode(str(target), str(error), self.e.location))
        except Exception as error:
            if not self.unsupported:  # otherwise a stand-in may be at fault, and the import fails anyway
                error.add_note(f"while {target} was imported, {describe(self.e.location)}")
                raise
        return self.placeholder_results(node)

    def part(self, node: Node, results: Any, index: int) -> Any:
        if index >= len(results) and node.users:
            producer: Any = node.args[0]
            why = f"result {index} is read"
            self.unsupported.append(UnsupportedNode(str(producer.target), why, self.e.location))
            return self.placeholder_results(node)
        return results[index] if index < len(results) else None

    def scope(self, args: list[Any]) -> list[Any]:
        """`with torch.no_grad()` and the like hold a graph of their own among their arguments."""
        at = next(i for i, a in enumerate(args) if isinstance(a, torch.fx.GraphModule))
        inner = args[at]
        placeholders = [n for n in inner.graph.nodes if n.op == "placeholder"]
        return self.run_graph(inner.graph, inner, dict(zip(placeholders, args[at + 1 :], strict=True)))

    def lower(self, node: Node, target: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """The tensors that stand for the node's results."""
        self.e.expected, self.e.first = node.meta.get("val"), _fake(node, 0)
        if is_complex(self.e.expected) or any(isinstance(a, Complex) for a in pytree.tree_leaves((args, kwargs))):
            return complex_nodes.lower(self, node, target, args, kwargs)
        lowering = lowering_of(target)
        if lowering is None:
            return self.decomposed(node, target, args, kwargs)
        return self.results(node, target, args, self.evaluate(lowering, args, kwargs), node.meta["val"])

    def results(self, node: Node, target: Any, args: list[Any], results: Any, fakes: Any) -> Any:
        """The tensors that stand for what a lowering gave; `fakes` has their types."""
        own, first, view = node.meta["val"], _fake(node, 0), views(target)
        if isinstance(results, Updated):
            for position, new in results.contents.items():
                args[position].write(self.e, new)
            results = results.results
        if isinstance(results, (list, tuple)):
            each = zip(results, fakes, own, strict=False)
            return [self.result(r, args, f, view or _shares(o, first)) for r, f, o in each]
        return self.result(results, args, fakes, view or _shares(own, first))

    def evaluate(self, lowering: Lowering, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """What a lowering gives for the tensors as they are now."""
        read: Callable[[Any], Any] = lambda x: x.read(self.e) if isinstance(x, (Tensor, Complex)) else x  # noqa: E731
        return lowering(
            self.e, *(_map_tensors(a, read) for a in args), **{k: _map_tensors(a, read) for k, a in kwargs.items()}
        )

    def decomposed(self, node: Node, target: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """The tensors that stand for the results of an op that has no lowering, by torch's decomposition of it."""
        fakes = [[_map(a, lambda n: n.meta.get("val")) for a in node.args], _fakes(node.kwargs)]
        traced = self.decomposer.graph_of(target, *fakes)
        if traced is None:
            raise Unsupported("")
        tensors = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, (Tensor, Complex))]
        placeholders = [n for n in traced.graph.nodes if n.op == "placeholder"]
        before, self.inside = self.inside, True
        try:
            return self.run_graph(traced.graph, traced, dict(zip(placeholders, tensors, strict=True)))
        finally:
            self.inside = before

    def result(self, result: Value | View, args: list[Any], fake: torch.Tensor, shares: bool) -> Tensor:
        if isinstance(result, Value):
            return Tensor(self.checked(result, fake))
        base: Tensor = args[0]
        if (isinstance(result, Same) and result.always) or shares:
            view = Tensor(base=base, view=result)
            self.checked(view.read(self.e), fake)
            return view
        return Tensor(self.checked(result.read(self.e, base.read(self.e)), fake))

    def checked(self, value: Value, fake: torch.Tensor) -> Value:
        expected = tensor_type(fake)
        if value.type != expected:
            raise AssertionError(f"{self.e.location}: the lowering gives {value.type}, torch gives {expected}")
        return value

    def write(self, node: Node, target: Any, args: list[Any], kwargs: dict[str, Any]) -> Tensor | Complex:
        """`x.add_(y)` as `x = add(x, y)`: the op of the same name without the underscore makes the new contents."""
        pure = without_write(target)
        if pure is None or not isinstance(args[0], (Tensor, Complex)):
            raise Unsupported("")
        if isinstance(args[0], Complex):
            return complex_nodes.write(self, node, pure, _fake(node, 0), args, kwargs)
        tensor: Tensor = args[0]
        before, after = _fake(node, 0), node.meta.get("val")
        reshapes = isinstance(before, torch.Tensor) and isinstance(after, torch.Tensor) and before.shape != after.shape
        self.e.expected = before if isinstance(before, torch.Tensor) and not reshapes else after
        old = tensor.read(self.e)
        lowering = lowering_of(pure)
        if lowering is not None:
            new = self.evaluate(lowering, args, kwargs)
        else:
            new = self.decomposed(node, pure, args, kwargs).read(self.e)
        if isinstance(new, Value):
            tensor.write(self.e, self.e.expand(self.e.cast(new, old.type.dtype), old.type.shape))
        elif not isinstance(new, Same):  # a change of shape: what follows sees the tensor through it
            view = Tensor(base=tensor, view=new)
            self.checked(view.read(self.e), node.meta["val"])
            return view
        return tensor

    def type_of(self, fake: torch.Tensor, what: str) -> TensorType:
        """Its type. A dtype that the IR lacks is noted, and f32 stands in for it."""
        if fake.dtype in IR_NAMES or is_complex(fake):
            return tensor_type(fake)
        self.unsupported.append(UnsupportedNode(what, f"a tensor of {str(fake.dtype)[6:]}", self.e.location))
        return TensorType(tuple(fake.shape), "f32")

    def placeholder_results(self, node: Node) -> Any:
        """Something of the right type, so that the import can go on and find all unsupported nodes."""

        def stand_in(fake: Any) -> Tensor | Complex | None:
            if not isinstance(fake, torch.Tensor):
                return None
            type_ = TensorType(tuple(fake.shape), IR_NAMES.get(fake.dtype, "f32"))
            type_ = tensor_type(fake) if is_complex(fake) else type_
            tensor = Tensor(self.block.append(graph.Parameter(key="", result_types=[type_])).result)
            return as_complex(tensor, fake.dim() + 1) if is_complex(fake) else tensor

        fakes = node.meta.get("val")
        return [stand_in(f) for f in fakes] if isinstance(fakes, (list, tuple)) else stand_in(fakes)

    # ------------------------------------------------------------ results

    def finish(self, outputs: Any) -> None:
        """User outputs, then the new contents of every argument and buffer that the model wrote."""
        signature = self.program.graph_signature
        values: list[Value] = []
        aliases: list[tuple[int, int]] = []
        written: dict[str, Tensor] = {}  # placeholder name -> tensor that holds its new contents
        by_target = {target: name for name, target in self.targets.items()}
        for spec, output in zip(signature.output_specs, outputs, strict=True):
            if spec.kind == OutputKind.USER_OUTPUT:
                if isinstance(output, (Tensor, Complex)):
                    values.append(_in_memory(output).read(self.e))
            elif spec.kind == OutputKind.BUFFER_MUTATION:
                written[by_target[str(spec.target)]] = _in_memory(output)
            elif spec.kind == OutputKind.USER_INPUT_MUTATION:
                written[str(spec.target)] = _in_memory(output)
        for name, tensor in (*self.inputs.items(), *self.buffers.items()):
            if tensor.version and name not in written:
                written[name] = tensor
        for name in self.inputs:
            if name in written:
                aliases.append((len(values), self.arguments[name].index))
                values.append(written[name].read(self.e))
        for name in self.buffers:
            if name in written:
                new = written[name].read(self.e)
                argument = self.state(self.targets[name], new)
                aliases.append((len(values), argument.index))
                values.append(new)
        self.block.append(Return(*values))
        erase_unused(self.block)
        attributes: dict[str, Any] = {"aliases": tuple(n for p in aliases for n in p)} if aliases else {}
        self.module.body.append(Func(regions=[self.block], sym_name="main", **attributes))
        used = {op.key for op in self.block if isinstance(op, graph.Parameter)}
        states = {str(a.name) for a in self.block.args}
        parameters = self.module.parameters
        self.module.parameters = {k: v for k, v in parameters.items() if k in used or k in states}
        verify(self.module)

    def state(self, buffer: str, new: Value) -> Value:
        """The argument that holds a buffer's old contents, in place of the parameter that was read so far."""
        argument = self.block.add_arg(new.type, f"state.{buffer}")
        data = self.program.state_dict.get(buffer)
        self.module.parameters[f"state.{buffer}"] = pairs(self.program.constants[buffer] if data is None else data)
        for op in self.block:
            if isinstance(op, graph.Parameter) and op.key == buffer:
                op.result.replace_all_uses(argument)
        return argument


def erase_unused(block: Block) -> None:
    """Removes every op whose results nobody reads, from the end to the start; graph ops have no other effect."""
    op = block.last
    while op is not None:
        previous = op.prev
        if op.results and op.unused:
            op.erase()
        op = previous


def _in_memory(output: Any) -> Any:
    """A result as the program gives it: complex numbers as pairs."""
    return as_real(output) if isinstance(output, Complex) else output


def _serves_checks(node: Node) -> bool:
    """Whether the node is a number that is read out of a tensor, or made of such numbers, for torch's checks alone."""
    symbolic = isinstance(node.meta.get("val"), (torch.SymInt, torch.SymFloat, torch.SymBool))
    number = node.target in READS or (symbolic and not isinstance(node.target, torch._ops.OpOverload))
    return number and all(user.target in NOTHING or _serves_checks(user) for user in node.users)


def _map(argument: Any, function: Callable[[Node], Any]) -> Any:
    if isinstance(argument, Node):
        return function(argument)
    if isinstance(argument, (list, tuple)):
        return [_map(a, function) for a in argument]
    return argument


def _fakes(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _map(a, lambda n: n.meta.get("val")) for k, a in kwargs.items()}


def _map_tensors(argument: Any, function: Callable[[Any], Any]) -> Any:
    return [_map_tensors(a, function) for a in argument] if isinstance(argument, (list, tuple)) else function(argument)


def _fake(node: Node, index: int) -> Any:
    """torch's fake value of an argument; None where the argument is no tensor."""
    argument = node.args[index] if index < len(node.args) else None
    return argument.meta.get("val") if isinstance(argument, Node) else None


def _shares(a: Any, b: Any) -> bool:
    """Whether two fake tensors lie in one storage."""
    if not isinstance(a, torch.Tensor) or not isinstance(b, torch.Tensor):
        return False
    return a.untyped_storage()._cdata == b.untyped_storage()._cdata


def _identity(data: torch.Tensor) -> tuple[Any, ...]:
    """Equal for two names of the same elements."""
    if isinstance(data, FakeTensor) or data.device.type == "meta" or not data.numel():
        return (id(data),)
    return (data.data_ptr(), data.dtype, tuple(data.shape), data.stride())
