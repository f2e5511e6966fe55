"""What simpler models say of the same program: a roofline, and closed forms with published constants.

They see the program after fusion, op by op: its work at the peak of the engine that takes it, and the bytes of its
operands and results, each moved once, at the peak of memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Module, Operation, Value
from tilewright.targets import Target
from tilewright.targets.engines import PricedEngine


@dataclass(frozen=True, slots=True)
class Need:
    """One op: its least time to compute and to move its bytes, in seconds."""

    op: graph.GraphOp
    engine: PricedEngine
    compute_s: float
    memory_s: float


def needs(module: Module, target: Target, engines: Sequence[str]) -> list[Need]:
    """One entry for each op of a graph-level program that computes or moves anything."""
    found = []
    for op in _work(module):
        engine = _engine(op, target, engines)
        found.append(Need(op, engine, _compute_s(op, engine), moved_bytes(op) / target.memory.dram_bytes_per_s))
    return found


def roofline_s(of: Sequence[Need]) -> float:
    """Each op as fast as its slower side allows, one after the other, with no overheads."""
    return sum(max(n.compute_s, n.memory_s) for n in of)


# What PyTorchSim's TPU rows give when a form of four constants (two peaks and these) is fitted to half of them, and
# what TPUv3's products show: nothing overlaps, and about 2,000 cycles come on top.
CLOSED_FORMS = {"tpu_v6e": (0.5, 2.4e-6), "tpu_v3": (1.0, 2000 / 940e6)}
HIDDEN = 0.5  # of the faster side, which stays visible, elsewhere


def closed_form_s(of: Sequence[Need], target: Target) -> float:
    """`max(compute, memory) + a min(compute, memory)` for each op, and one launch."""
    visible, launch = CLOSED_FORMS.get(target.name, (HIDDEN, _launch_s(of)))
    return launch + sum(max(n.compute_s, n.memory_s) + visible * min(n.compute_s, n.memory_s) for n in of)


def _launch_s(of: Sequence[Need]) -> float:
    return of[0].engine.launch_ps * 1e-12 if of else 0.0


# ---------------------------------------------------------------- the Neural Engine, layer by layer

# Fitted to networks on the A14 (the sum of layers is within 7.5 % on those that were not fitted).
PEAK_REACHED = 0.54
CHANNELS = 16  # to whose multiple the output channels are rounded up
WEIGHTS_BYTES_PER_S = 40e9
ACTIVATIONS_BYTES_PER_S = 175e9
ELEMENTS_PER_S = 110e9
FREE = ("graph.relu", "graph.clamp")


def layers_s(of: Sequence[Need]) -> float:
    """The closed form for networks on a Neural Engine: a launch, then MACs, weights and activations overlap in each
    layer, elementwise work comes on top, relu and batch norm are free."""
    return _launch_s(of) + sum(_layer_s(n) for n in of)


def _layer_s(need: Need) -> float:
    op, engine = need.op, need.engine
    if not op.macs():
        return 0.0 if op.name == "graph.relu" else _elements(op) / ELEMENTS_PER_S
    inner = _inner(op)
    products = [o for o in inner if o.macs()]
    macs = sum(o.macs() * _padding(o) for o in products)
    peak = engine.peak_macs(products[0].dtype()) * engine.clock_hz
    weights = sum(v.type.bytes for v in _sources(op) if graph.is_parameter(v))
    activations = sum(v.type.bytes for v in _sources(op) if not graph.is_parameter(v)) + op.results[0].type.bytes
    extra = sum(_elements(o) for o in inner if not o.macs() and o.name not in FREE and not _of_weights(o))
    product = max(macs / (PEAK_REACHED * peak), weights / WEIGHTS_BYTES_PER_S, activations / ACTIVATIONS_BYTES_PER_S)
    return product + extra / ELEMENTS_PER_S


def _of_weights(op: Operation) -> bool:
    """Whether an op only expands a weight, which streams as it is stored."""
    return isinstance(op, (graph.Lookup, graph.Dequantize, graph.ToDense)) and all(u.macs() for u in op.result.users)  # type: ignore[attr-defined]


def _padding(op: graph.GraphOp) -> float:
    """How much the output channels grow when they are rounded up; depthwise channels are not."""
    if not isinstance(op, graph.Conv) or op.groups > 1:
        return 1.0
    channels = op.result.type.shape[1]
    return -(-channels // CHANNELS) * CHANNELS / channels


# ---------------------------------------------------------------- what an op asks for


def _work(module: Module) -> Iterator[graph.GraphOp]:
    for op in module.main.body:
        if isinstance(op, graph.GraphOp) and op.results and not op.view and not isinstance(op, graph.SOURCES):
            yield op


def _engine(op: graph.GraphOp, target: Target, engines: Sequence[str]) -> PricedEngine:
    """The first of the engines that takes the op; where none does, the one that takes all."""
    names = [n for n in (engines or target.engines) if target.engines[n].refuses(op) is None]
    return target.engines[names[0] if names else target.fallback]


def _compute_s(op: graph.GraphOp, engine: PricedEngine) -> float:
    """The products at the peak; of an op or a group without one, the longest of its ops."""
    inner = _inner(op)
    macs = {o.dtype(): 0 for o in inner if o.macs()}
    for o in inner:
        if o.macs():
            macs[o.dtype()] += o.macs()
    if macs:
        return sum(engine.roofline_ps(op, n, 0, dtype) for dtype, n in macs.items()) * 1e-12
    return max((engine.roofline_ps(o, 0, _elements(o), o.result.type.dtype) for o in inner), default=0) * 1e-12


def _inner(op: graph.GraphOp) -> list[graph.GraphOp]:
    """The ops of a group that make something, or the op itself."""
    ops = list(op.body) if isinstance(op, graph.Fuse) else [op]
    return [o for o in ops if isinstance(o, graph.GraphOp) and o.results and o.operands and not o.view]


def _elements(op: Operation) -> int:
    """Of the result; of a reduction, of what is reduced."""
    reduces = isinstance(op, (graph.Reduce, graph.Argmax))
    return op.operands[0].type.elements if reduces else op.results[0].type.elements


def moved_bytes(op: graph.GraphOp) -> int:
    """Bytes that must reach memory or come from it: each operand and each result once, and of a table or a cache only
    the rows that are read or written."""
    if isinstance(op, (graph.Scatter, graph.Update)):
        return 2 * sum(v.type.bytes for v in op.operands[1:])
    return sum(r.type.bytes for r in op.results) + sum(_read_bytes(op, v) for v in _sources(op))


def _read_bytes(op: Operation, value: Value) -> int:
    """How much of a tensor an op reads; of a group, how much of it the op in the group that takes it does."""
    users: list[tuple[Operation, int]] = [(op, i) for i, v in enumerate(op.operands) if _origin(v) is value]
    if isinstance(op, graph.Fuse):
        users = [use for _, i in users for use in op.body.args[i].uses]
    parts = [_part_read(user, i) for user, i in users]
    return value.type.bytes if None in parts or not parts else max(p for p in parts if p is not None)


def _part_read(user: Operation, index: int) -> int | None:
    """Bytes of the rows that an op picks from its operand; None where it reads all of it."""
    if isinstance(user, graph.Gather) and index == 0:
        return user.result.type.bytes
    if isinstance(user, graph.GroupedMatmul) and index == 1:
        tables = user.operands[1].type
        return tables.bytes // tables.shape[0] * user.groups_read
    return None


def _sources(op: Operation) -> list[Value]:
    """The tensors that an op reads, each once."""
    found = dict.fromkeys(_origin(v) for v in op.operands)
    return [v for v in found if not isinstance(v.op, graph.Constant)]


def _origin(value: Value) -> Value:
    """Of a tensor that is repeated along new axes, what is repeated."""
    while isinstance(value.op, graph.Expand):
        value = value.op.operands[0]
    return value
