"""Lower the graph to loops over tiles that fit each engine's memories; views become strides."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.compiler.dialects import graph, tile
from tilewright.compiler.ir import Block, Module, Operation, TensorType, Value
from tilewright.compiler.ir.rewriter import erase_dead

from .base import Pass, PassContext, PassError, register_pass
from .loop_bodies import loops_of
from .loop_spec import LoopSpec
from .planner import Planner
from .strided import Strided
from .tiling import Plan


@register_pass
@dataclass(frozen=True)
class Tile(Pass):
    """Each op becomes one tile.loop on its engine (a concat: one a part); each view a tile.view of the storage.

    `slots` is how many buffers the sizes leave room for; the pass double-buffer gives them out.
    """

    slots: int = 2

    def run(self, module: Module, context: PassContext) -> None:
        context.need_target(self.name)
        _Lowering(module, context.planner(self.slots, module)).run()


@dataclass(frozen=True, slots=True)
class _Tensor:
    """What a graph value has become: a view of a tile-level tensor that owns its storage."""

    storage: Value
    view: Strided


class _Lowering:
    def __init__(self, module: Module, planner: Planner):
        self.module, self.planner = module, planner
        self.block: Block = module.main.body
        self.tensors: dict[Value, _Tensor] = {}
        self.views: dict[tuple[Value, Strided], Value] = {}
        aliases = module.main.attributes.get("aliases", ())
        returned = module.main.outputs
        self.updatable = {returned[o]: self.block.args[a] for o, a in zip(aliases[::2], aliases[1::2], strict=True)}
        self.use_count: dict[Value, int] = {}

    def run(self) -> None:
        for a in self.block.args:
            self.tensors[a] = _Tensor(a, Strided.of(a.type))
        for op in list(self.block):
            if isinstance(op, graph.SOURCES):
                self.tensors[op.result] = _Tensor(op.result, Strided.of(op.result.type))
            elif isinstance(op, graph.GraphOp) and op.view:
                self.lower_view(op)
            elif isinstance(op, graph.GraphOp):
                self.lower_loops(op)
        end = self.block.terminator
        for i, v in enumerate(list(end.operands)):
            end.set_operand(i, self.operand(v, end))
        erase_dead(self.module, lambda op: isinstance(op, (graph.GraphOp, tile.View)))

    def lower_view(self, op: graph.GraphOp) -> None:
        source = self.tensors[op.operands[0]]
        through = source.view.through(op)
        if through is None:
            raise PassError(f"'{op.name}' ({op.location}) needs a copy: run choose-layout before tile")
        self.tensors[op.result] = _Tensor(source.storage, through)

    def operand(self, value: Value, before: Operation) -> Value:
        """The tile-level tensor or view that stands for a graph value, made before `before` if there is none yet."""
        tensor = self.tensors[value]
        if tensor.view.is_dense(tensor.storage.type):
            return tensor.storage
        key = (tensor.storage, tensor.view)
        if key not in self.views:
            kind = TensorType(tensor.view.shape, value.type.dtype, density=value.type.density)
            view = tile.View(
                tensor.storage,
                strides=tensor.view.strides,
                offset=tensor.view.offset,
                result_types=[kind],
                location=before.location,
            )
            # straight after the storage, so that it dominates every later user
            made = tensor.storage.op
            if made is None:
                first = self.block.first
                assert first is not None
                self.block.insert_before(first, view)
            else:
                self.block.insert_after(made, view)
            self.views[key] = view.result
        return self.views[key]

    def lower_loops(self, op: graph.GraphOp) -> None:
        into = self.destination(op)
        for spec in loops_of(op):
            loop = self.loop(op, spec, into)
            self.block.insert_before(op, loop)
            if into is not None:
                into = loop.results[0]
        for i, old in enumerate(op.results):
            new = into if into is not None else loop.results[i]
            self.tensors[old] = _Tensor(new, Strided.of(new.type))

    def destination(self, op: graph.GraphOp) -> Value | None:
        """Storage that the op's loops write parts of, for an op that does."""
        if isinstance(op, graph.Concat):
            empty = tile.Empty(result_types=[op.result.type], location=op.location)
            return self.block.insert_before(op, empty).result
        if not isinstance(op, (graph.Update, graph.Scatter)):
            return None
        base = op.operands[0]
        tensor = self.tensors[base]
        dense = tensor.view.is_dense(tensor.storage.type)
        owned = base.op is not None and not isinstance(base.op, graph.SOURCES) and not getattr(base.op, "view", False)
        granted = self.updatable.get(op.result) is base
        if dense and len(base.uses) == 1 and (owned or granted):
            return tensor.storage
        copy = graph.Copy(base, location=op.location)
        copy.attributes["engine"] = op.attributes["engine"]
        self.block.insert_before(op, copy)
        self.lower_loops(copy)
        return self.tensors[copy.result].storage

    def loop(self, op: graph.GraphOp, spec: LoopSpec, into: Value | None) -> tile.Loop:
        symbol = op.attributes.get("engine")
        if symbol is None:
            raise PassError(f"'{op.name}' ({op.location}) is on no engine: run place before tile")
        engine = self.planner.target.engines[symbol.name]
        plan = self.planner.plan(spec, symbol.name)
        spaces = {
            "data": engine.input_space.name,
            "weight": engine.weight_space.name,
            "acc": engine.accumulator_space.name,
            "ref": "dram",
        }
        body = spec.build(plan.tiles, spaces)
        made = [b for b in body if not isinstance(b, (tile.Last, tile.Yield))]
        first = len(spec.inputs) + len(spec.accs)
        for v in plan.crossing:  # says where the block lies, for its buffer
            made[v - first].attributes["access"] = spec.block(v)[0].text
        inputs = [
            into
            if into is not None and i.role == "ref" and i.value is op.operands[0] and spec.out_refs
            else self.operand(i.value, op)
            for i in spec.inputs
        ]
        return tile.Loop(
            *inputs,
            *([] if into is None else [into]),
            regions=[body],
            result_types=[into.type] if into is not None else [r.type for r in op.results],
            location=op.location,
            **_attributes(op, spec, plan, spaces, into),
        )


def _attributes(
    op: Operation, spec: LoopSpec, plan: Plan, spaces: dict[str, str], into: Value | None
) -> dict[str, object]:
    sizes = {d.name: d.size for d in spec.dims}
    attributes: dict[str, object] = {
        "engine": op.attributes["engine"],
        "label": label_of(op),
        "dims": plan.order,
        "sizes": tuple(sizes[d] for d in plan.order),
        "tiles": tuple(plan.tiles[d] for d in plan.order),
        "reductions": sum(d.kind == "red" for d in spec.dims),
        "ins": tuple(i.access.text for i in spec.inputs),
        "pads": tuple(tile.NONE if i.pad is None else i.pad for i in spec.inputs),
        "buffers": (1,) * len(spec.inputs),
        "accs": tuple(a.text for a, _, _ in spec.accs),
        "inits": tuple(init for _, init, _ in spec.accs),
        "outs": tuple(a.text for a in spec.outs),
        "out_spaces": ("dram" if spec.out_refs else spaces["data"],) * len(spec.outs),
        "out_buffers": (1,) * len(spec.outs),
        "into": 0 if into is None else 1,
    }
    if spec.macs:
        attributes["macs"] = spec.macs
    if op.attributes.get("reason"):
        attributes["reason"] = op.attributes["reason"]
    return attributes


def label_of(op: Operation) -> str:
    """`conv+relu`: the ops of a group by name."""
    if isinstance(op, graph.Fuse):
        members = [m for m in op.body if not isinstance(m, (graph.Yield, graph.Constant))]
        return "+".join(m.name.removeprefix("graph.") for m in members)
    return op.name.removeprefix("graph.")
