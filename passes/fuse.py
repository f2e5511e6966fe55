"""Group ops into loops: epilogues of products, their compressed weights, prologues of norms, pointwise chains."""

from __future__ import annotations

from dataclasses import dataclass, field

from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Block, Module, Operation, Value
from tilewright.compiler.ir.rewriter import LogEntry

from .base import Pass, PassContext, register_pass
from .loop_members import POINTWISE, feeding, why_not_one_loop
from .loop_spec import expands_weight, is_expansion, number_of

ANCHORS = (graph.Matmul, graph.Conv, graph.Attention, graph.Pool, graph.Reduce, graph.RowOp, graph.Gather, graph.Pad)


@dataclass(eq=False)
class Group:
    """Ops that will run as one loop, in program order; at most one is not pointwise."""

    ops: list[Operation] = field(default_factory=list)
    anchor: Operation | None = None

    @property
    def root(self) -> Operation:
        return self.ops[-1]


@register_pass
@dataclass(frozen=True)
class Fuse(Pass):
    """Move a pointwise op into the loop that makes its operand, so that the value between them stays on chip.

    before:  %1 = graph.conv %x, %w {strides = [1, 1], padding = [0, 0, 0, 0]} : tensor<1x8x4x4xf16>
             %2 = graph.relu %1 : tensor<1x8x4x4xf16>
    after:   %2 = graph.fuse (%a = %x, %b = %w) { conv, relu } : tensor<1x8x4x4xf16>

    A value is kept on chip only if it has one user; a softmax or norm also takes in the pointwise ops before it, and a
    product what expands its compressed operands: they are loaded as they are stored. A weight of several products is
    expanded in the loop of each.
    """

    max_ops: int = 16
    max_inputs: int = 8  # each needs a buffer on chip

    def run(self, module: Module, context: PassContext) -> None:
        group_of: dict[Operation, Group] = {}
        _expand_for_each_user(module)
        for op in module.main.body:
            if isinstance(op, (*POINTWISE, *ANCHORS)):
                group_of[op] = self.join(op, group_of, context)
        for group in dict.fromkeys(group_of.values()):
            if len(group.ops) > 1:
                outline(group.ops, group.anchor)

    def join(self, op: Operation, group_of: dict[Operation, Group], context: PassContext) -> Group:
        """The group of `op`: its operands' groups merged, as far as allowed, and op at their end."""
        merged = Group([op], None if isinstance(op, POINTWISE) else op)
        for i, v in enumerate(op.operands):
            producer = group_of.get(v.op) if v.op is not None else None
            if producer is None or producer is merged:
                continue
            why = self.refusal(op, i, v, producer, merged, context)
            if why:
                if not why.isspace():
                    context.log.append(LogEntry(self.name, "missed", op.name, op.location, why))
                continue
            merged = Group(producer.ops + merged.ops, producer.anchor or merged.anchor)
            for member in merged.ops:
                group_of[member] = merged
            context.log.append(LogEntry(self.name, "applied", op.name, op.location, f"joined {producer.root.name}"))
        return merged

    def refusal(self, op: Operation, index: int, v: Value, producer: Group, merged: Group, context: PassContext) -> str:
        """Why operand v stays in memory; blank where there is nothing to say, empty if it may be fused."""
        if isinstance(op, graph.PRODUCTS):
            if index > 1 or not all(map(is_expansion, producer.ops)):
                return " "
        elif not isinstance(op, (*POINTWISE, graph.RowOp)) or (isinstance(op, (graph.Blocked, graph.RowOp)) and index):
            return " "
        if v.op is not producer.root:
            return " "
        if len(v.uses) > 1:
            return f"its operand has {len(v.uses)} uses"
        if v.type.shape != (op.result if isinstance(op, POINTWISE) else op.operands[index]).type.shape:
            return "its operand is broadcast"
        if producer.anchor is not None and merged.anchor is not None:
            return f"{producer.anchor.name} and {merged.anchor.name} need loops of their own"
        if len(producer.ops) + len(merged.ops) > self.max_ops:
            return f"the group would have more than {self.max_ops} ops"
        both = {*producer.ops, *merged.ops}
        inputs = {w for o in both for w in o.operands if w.op not in both and number_of(w) is None}
        if len(inputs) > self.max_inputs:
            return f"the group would read {len(inputs)} tensors"
        why = why_not_one_loop([*producer.ops, *merged.ops])
        if why:
            return why
        if isinstance(op, graph.PRODUCTS) and all(map(expands_weight, producer.ops)):
            return ""  # rather on an engine that expands the weight than expanded in memory
        return _engines_differ([*producer.ops, *merged.ops], producer.anchor or merged.anchor, context)


def _engines_differ(ops: list[Operation], anchor: Operation | None, context: PassContext) -> str:
    """Nothing may join an anchor, with the weights that it expands, that would have to leave its engine for it; without
    an anchor, all must agree."""
    if context.target is None:
        return ""
    for name in context.usable():
        engine = context.target.engines[name]
        lead = anchor or ops[0]
        if all(engine.refuses(op) is None for op in (*filter(expands_weight, feeding(lead, ops)), lead)):
            for op in ops:
                why = engine.refuses(op)
                if why is not None:
                    return f"{name} takes {lead.name} but not {op.name}: {why}"
    return ""


def _expand_for_each_user(module: Module) -> None:
    """Gives each product an expansion of its own of a weight that they share."""
    for op in reversed(list(module.main.body)):
        if expands_weight(op) and len(op.result.uses) > 1:
            for user, index in list(op.result.uses):
                if (isinstance(user, graph.PRODUCTS) or expands_weight(user)) and len(op.result.uses) > 1:
                    fresh = module.main.body.insert_before(user, op.clone({}))
                    user.set_operand(index, fresh.result)


def outline(ops: list[Operation], anchor: Operation | None) -> graph.Fuse:
    """Moves ops into a graph.fuse at the place of the last one. Numbers are copied inside."""
    members = set(ops)
    root = ops[-1]
    assert root.parent is not None
    outer: dict[Value, None] = {}
    for op in ops:
        for v in op.operands:
            if v.op not in members and number_of(v) is None:
                outer[v] = None
    body = Block([v.type for v in outer])
    inside = dict(zip(outer, body.args, strict=True))
    place = root.next
    home = root.parent
    results = list(root.results)
    users = [list(r.uses) for r in results]
    for op in ops:
        op.detach()
        for i, v in enumerate(op.operands):
            if v in inside:
                op.set_operand(i, inside[v])
            elif v.op not in members:
                assert v.op is not None
                number = body.append(v.op.clone({}))
                inside[v] = number.result
                op.set_operand(i, number.result)
        body.append(op)
    body.append(graph.Yield(*results))
    location = (anchor or root).location
    fused = graph.Fuse(*outer, regions=[body], result_types=[r.type for r in results], location=location)
    if place is None:
        home.append(fused)
    else:
        home.insert_before(place, fused)
    for uses, fresh in zip(users, fused.results, strict=True):
        for user, index in uses:
            user.set_operand(index, fresh)
    return fused
