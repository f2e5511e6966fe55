"""A program with symbolic sizes becomes one with static shapes when its symbols are bound. The export is kept as it is,
so it serves many bindings."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import sympy
import torch
from tilewright.compiler.ir.near_match import near
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import Graph, GraphModule, Node
from torch.fx._lazy_graph_module import _make_graph_module, _use_lazy_graph_module
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from .errors import DataDependentShape, UnknownDim, ViolatedGuard, describe
from .locations import location_of
from .sizes import Unknown, evaluate, holds

SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)
CHECKS = {  # on sizes; a binding decides them
    torch.ops.aten._assert_scalar.default,
    torch.ops.aten.sym_constrain_range.default,
    torch.ops.aten.sym_constrain_range_for_size.default,
}


@dataclass(frozen=True, slots=True)
class Dim:
    """A size that a program leaves open."""

    name: str  # torch.export.Dim's; where the model gave none, torch's own, such as s27
    symbol: sympy.Symbol
    places: tuple[str, ...]  # "axis 1 of ids"

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(self.places)})"


def dims_of(program: ExportedProgram) -> dict[str, Dim]:
    """The open sizes of a program by name, in the order of its inputs; empty where its shapes are static."""
    found: dict[sympy.Symbol, Dim] = {}
    for node in _inputs(program):
        fake = node.meta.get("val")
        numbers = fake.shape if isinstance(fake, torch.Tensor) else [fake]
        for axis, n in enumerate(numbers):
            for symbol in sorted(_symbols(n), key=str):
                place = f"axis {axis} of {node.name}" if isinstance(fake, torch.Tensor) else f"the number {node.name}"
                known = found.get(symbol) or Dim(_given_name(program, symbol) or str(symbol), symbol, ())
                found[symbol] = replace(known, places=(*known.places, place))
    return {d.name: d for d in found.values()}


def specialise(program: ExportedProgram, dims: Mapping[str, int]) -> ExportedProgram:
    """The program with a number in the place of every symbolic size; a program with none is handed back as it is.

    Its graph is a new one with new fake tensors; weights are shared. Raises UnknownDim for a dim that it does not have
    or that is missing, ViolatedGuard for a number that it does not hold for, and DataDependentShape.
    """
    known = dims_of(program)
    for name in dims:
        if name not in known:
            has = f"it has {', '.join(known)}" if known else "all its sizes are fixed"
            raise UnknownDim(f"the program has no dim '{name}'{near(name, known)}; {has}")
    missing = [d for name, d in known.items() if name not in dims]
    if missing:
        needs = "; ".join(map(str, missing))
        raise UnknownDim(f"the program leaves {needs} open: {' '.join(f'--dim {d.name}=N' for d in missing)}")
    if not known and not _any_symbolic(program.graph_module):
        return program
    binding = _Binding({known[name].symbol: n for name, n in dims.items()})
    _check(program, binding, dims)
    static = copy.copy(program)
    static._graph_module = binding.static(program.graph_module)
    static._range_constraints, static._guards_code = {}, []
    return static


def example_inputs(program: ExportedProgram, args: Any, kwargs: Any, dims: Mapping[str, int]) -> tuple[Any, Any]:
    """`args` and `kwargs` at the sizes of a binding: along each open axis a tensor's own values, repeated or cut."""
    known = dims_of(program)
    if not known:
        return args, kwargs
    values = {known[name].symbol: n for name, n in dims.items()}
    leaves, spec = pytree.tree_flatten((args, dict(kwargs)))
    fakes = [node.meta.get("val") for node in _inputs(program)]
    return pytree.tree_unflatten([_resized(x, fake, values) for x, fake in zip(leaves, fakes, strict=True)], spec)


def _resized(leaf: Any, fake: Any, values: Mapping[sympy.Symbol, int]) -> Any:
    if isinstance(fake, SYMBOLIC):
        return evaluate(fake.node.expr, values)
    if not isinstance(leaf, torch.Tensor):
        return leaf
    for axis, n in enumerate(fake.shape):
        if isinstance(n, torch.SymInt):
            size = evaluate(n.node.expr, values)
            old = leaf.shape[axis]
            if size != old:
                at = torch.arange(size, device=leaf.device) % max(old, 1)
                leaf = (
                    leaf.index_select(axis, at)
                    if old
                    else leaf.new_zeros((*leaf.shape[:axis], size, *leaf.shape[axis + 1 :]))
                )
    return leaf


# ---------------------------------------------------------------- what is open, and what must hold


def _inputs(program: ExportedProgram) -> list[Node]:
    """The placeholders of the runtime inputs, one for each leaf of the example inputs."""
    kinds = (InputKind.USER_INPUT,)
    names = {s.arg.name for s in program.graph_signature.input_specs if s.kind in kinds}
    return [n for n in program.graph.nodes if n.op == "placeholder" and n.name in names]


def _symbols(number: Any) -> set[sympy.Symbol]:
    """The symbols in a size that a binding gives."""
    return number.node.expr.free_symbols - free_unbacked_symbols(number) if isinstance(number, SYMBOLIC) else set()


def _any_symbolic(module: GraphModule) -> bool:
    """Whether any value in the graph is known only when the model runs."""
    for node in module.graph.nodes:
        values = node.meta.get("val")
        for v in values if isinstance(values, (list, tuple)) else (values,):
            if isinstance(v, SYMBOLIC) or (isinstance(v, torch.Tensor) and not all(type(n) is int for n in v.shape)):
                return True
        if node.op == "get_attr":
            held = getattr(module, str(node.target), None)
            if isinstance(held, GraphModule) and _any_symbolic(held):
                return True
    return False


def _shape_env(program: ExportedProgram) -> Any:
    """torch's book of symbols, from any fake tensor of the program."""
    fakes = (n.meta.get("val") for n in program.graph.nodes)
    return next((f.fake_mode.shape_env for f in fakes if isinstance(f, FakeTensor)), None)


def _given_name(program: ExportedProgram, symbol: sympy.Symbol) -> str | None:
    """The name of the torch.export.Dim that became this symbol."""
    env = _shape_env(program)
    given: Mapping[str, str] = getattr(env, "source_name_to_debug_name", {})
    for other, sources in getattr(env, "var_to_sources", {}).items():
        if env.replace(other) == symbol:
            for source in sources:
                name = source.name if isinstance(source.name, str) else source.name()
                name = given.get(name, name)
                if name.isidentifier():
                    return name
    return None


def _check(program: ExportedProgram, binding: _Binding, dims: Mapping[str, int]) -> None:
    """Raises ViolatedGuard if a range or a guard of the program does not hold."""
    names = {d.symbol: d for d in dims_of(program).values()}
    for expression, allowed in program.range_constraints.items():
        value = binding.known(expression)
        if value is None:
            continue
        low, high = allowed.lower, allowed.upper
        if value < low or value > high:
            where = "; ".join(str(names[s]) for s in sorted(expression.free_symbols, key=str) if s in names)
            limits = f"at least {low}" if not getattr(high, "is_Integer", False) else f"from {low} to {high}"
            what = "" if isinstance(expression, sympy.Symbol) else f"{_told(expression, names)} = "
            raise ViolatedGuard(f"{what}{value} is out of range for {where}: the export allows {limits}")
    given = ", ".join(f"{k}={v}" for k, v in dims.items())
    env = _shape_env(program)
    guards = list(getattr(env, "guards", ()))
    for guard in guards:
        if binding.known(env.replace(guard.expr)) is False:
            place = f", at {guard.sloc}" if getattr(guard, "sloc", None) else ""
            shown = _told(env.replace(guard.expr), names)
            raise ViolatedGuard(f"the export does not hold for {given}: it needs {shown}{place}")
    if not guards:  # a program that was saved and read keeps only their text
        shapes = {n.name: _shape(n, binding) for n in _inputs(program)}
        for text in program._guards_code:
            try:
                kept = holds(text, shapes)
            except Unknown as why:
                raise ViolatedGuard(f"the guard '{text}' of the export cannot be checked: {why}") from None
            if not kept:
                raise ViolatedGuard(f"the export does not hold for {given}: it needs {text}")


def _shape(node: Node, binding: _Binding) -> tuple[int, ...]:
    fake = node.meta.get("val")
    return tuple(binding.number(n) for n in fake.shape) if isinstance(fake, torch.Tensor) else ()


def _told(expression: Any, names: Mapping[sympy.Symbol, Dim]) -> str:
    """The expression with the names that the user knows."""
    return str(expression.subs({s: sympy.Symbol(d.name) for s, d in names.items()}, simultaneous=True))


# ---------------------------------------------------------------- the graph


class _Binding:
    """Numbers for symbols, and what follows from them."""

    def __init__(self, values: dict[sympy.Symbol, int]):
        self.values = values
        self.mode = FakeTensorMode()
        self._numbers: dict[Any, Any] = {}
        self._storages: dict[int, torch.UntypedStorage] = {}  # of a symbolic tensor -> of the static one

    def number(self, n: Any) -> Any:
        """Of a size or another number of the graph. Raises Unknown."""
        if not isinstance(n, SYMBOLIC):
            return n
        expression = n.node.expr
        if expression not in self._numbers:
            self._numbers[expression] = evaluate(expression, self.values)
        return self._numbers[expression]

    def known(self, expression: Any) -> Any:
        """Its value; None where it has none."""
        try:
            return evaluate(expression, self.values)
        except Unknown:
            return None

    def value(self, fake: Any) -> Any:
        """What the node that holds `fake` holds under the binding. Raises Unknown."""
        if is_traceable_wrapper_subclass(fake):  # a weight, whose sizes are numbers
            return fake
        if isinstance(fake, torch.Tensor):
            return self.tensor(fake)
        if isinstance(fake, (list, tuple)):
            return type(fake)(map(self.value, fake))
        return self.number(fake)

    def tensor(self, fake: torch.Tensor) -> FakeTensor:
        """A fake tensor of static shape; those that share storage still do."""
        shape = tuple(map(self.number, fake.shape))
        strides = tuple(map(self.number, fake.stride()))
        key = fake.untyped_storage()._cdata
        plain = torch.empty(0, dtype=fake.dtype, device="meta")
        if key in self._storages:
            plain.set_(self._storages[key], self.number(fake.storage_offset()), shape, strides)
        else:
            plain.set_(plain.untyped_storage(), self.number(fake.storage_offset()), shape, strides)
            self._storages[key] = plain.untyped_storage()
        return FakeTensor(self.mode, plain, fake.device)

    def static(self, module: GraphModule) -> GraphModule:
        """The graph with numbers for its symbols: a node that stands for one goes, its users get the number."""
        graph = Graph()
        done: dict[Node, Any] = {}
        held: dict[str, Any] = {}
        for node in module.graph.nodes:
            value = node.meta.get("val")
            if node.target in CHECKS:
                self.check(node)
                continue
            if isinstance(value, SYMBOLIC):
                done[node] = self.scalar(node, value, graph)
                continue
            self.reads(node, done)
            new = graph.node_copy(node, done.__getitem__)
            try:
                new.meta["val"] = self.value(value)
            except Unknown as why:
                raise _data_dependent(node, why) from None
            if node.op == "get_attr":
                inner = getattr(module, str(node.target))
                held[str(node.target)] = self.static(inner) if isinstance(inner, GraphModule) else inner
            done[node] = new
        with _use_lazy_graph_module(True):  # nobody runs its Python code, so none is written
            return _make_graph_module(held, graph)

    def scalar(self, node: Node, value: Any, graph: Graph) -> Any:
        """Its number; an Unknown where only the run knows it, which is an error only if something reads it."""
        try:
            number = self.number(value)
        except Unknown as why:
            return _Missing(node, why)
        if node.op == "placeholder":
            graph.node_copy(node).meta["val"] = number
        return number

    def reads(self, node: Node, done: Mapping[Node, Any]) -> None:
        for source in node.all_input_nodes:
            missing = done[source]
            if isinstance(missing, _Missing):
                raise _data_dependent(missing.node, missing.why)

    def check(self, node: Node) -> None:
        """A check on sizes that is in the graph itself. One on data holds where the model runs."""
        condition: Any = node.args[0]
        value = condition.meta.get("val") if isinstance(condition, Node) else condition
        if isinstance(value, torch.SymBool) and self.known(value.node.expr) is False:
            raise ViolatedGuard(f"the export does not hold here: {node.args[1]}, at {describe(location_of(node))}")


@dataclass(frozen=True, slots=True)
class _Missing:
    """Stands for a number that only the run knows."""

    node: Node
    why: Unknown


def _data_dependent(node: Node, why: Unknown) -> DataDependentShape:
    made = f"{node.target} makes it from the values of a tensor" if why.symbol is not None else str(why)
    symbol = f"the size {why.symbol}" if why.symbol is not None else "a size"
    return DataDependentShape(
        f"{symbol} is known only when the model runs: {made}, at {describe(location_of(node))}\n"
        "  shapes must follow from the sizes of the inputs: pad to a fixed size or use a mask there"
    )
