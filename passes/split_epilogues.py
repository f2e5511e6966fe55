"""Take out of the loops of products what the engine that they were placed on cannot do to results on their way out."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Module, Operation, Value
from tilewright.compiler.ir.rewriter import LogEntry
from tilewright.targets.engines import PricedEngine

from .base import Pass, PassContext, register_pass
from .fuse import outline
from .loop_members import members_of


@register_pass
@dataclass(frozen=True)
class SplitEpilogues(Pass):
    """Give an op that the array's way out does not take a loop of its own on its engine, with all that follows it.

    before:  %y = graph.fuse (%a = %x, %b = %w, %c = %r) {engine = @ane} { conv, add, relu } : tensor<1x8x4x4xf16>
    after:   %1 = graph.conv %x, %w {engine = @ane} : tensor<1x8x4x4xf16>
             %y = graph.fuse (%a = %1, %b = %r) {engine = @ane} { add, relu } : tensor<1x8x4x4xf16>

    It comes after the engines are chosen, so that one whose kernels end in anything loses nothing by what others lack.
    The choice itself takes the op for a part of the product.
    """

    def run(self, module: Module, context: PassContext) -> None:
        target = context.need_target(self.name)
        split = False
        for op in list(module.main.body):
            if not isinstance(op, graph.Fuse) or "engine" not in op.attributes:
                continue
            product = next((m for m in members_of(op) if isinstance(m, graph.PRODUCTS)), None)
            first = product and _first_refused(product, target.engines[op.attributes["engine"].name])
            if product is None or first is None:
                continue
            split = True
            note = f"leaves {product.name} on {op.attributes['engine']}"
            context.log.append(LogEntry(self.name, "applied", first.name, first.location, note))
            _split(op, product, first)
        if split:
            context.forget(module)


def _first_refused(product: Operation, engine: PricedEngine) -> Operation | None:
    """The first op on the way of a product's result that the engine does not apply there."""
    op = _user(product)
    while not isinstance(op, graph.Yield) and engine.drains_through(op):
        op = _user(op)
    return None if isinstance(op, graph.Yield) else op


def _user(op: Operation) -> Operation:
    """Of a group's values all but its results have one."""
    return next(iter(op.result.users))


def _split(fuse: graph.Fuse, product: Operation, first: Operation) -> None:
    """Two groups in a group's place: what leads to the product's operand of `first`, and the rest."""
    home = fuse.parent
    assert home is not None
    mapping: dict[Value, Value] = dict(zip(fuse.body.args, fuse.operands, strict=True))
    copies = {op: home.insert_before(fuse, op.clone(mapping)) for op in fuse.body if not isinstance(op, graph.Yield)}
    members = members_of(fuse)
    head = _leading_to(product, first, members)
    for old, inside in zip(fuse.results, fuse.body.terminator.operands, strict=True):
        old.replace_all_uses(mapping[inside])
    placed = {k: v for k, v in fuse.attributes.items() if k in ("engine", "reason")}
    fuse.erase()
    for group in ([m for m in members if m in head], [m for m in members if m not in head]):
        ops = [copies[m] for m in group]
        whole = ops[0] if len(ops) == 1 else outline(ops, copies[product] if product in group else None)
        whole.attributes.update(placed)
    for op in copies.values():
        if isinstance(op, graph.Constant) and not op.result.uses:
            op.erase()


def _leading_to(product: Operation, first: Operation, members: list[Operation]) -> set[Operation]:
    """The product, what follows it as far as `first`, and all that they are made of."""
    last = product
    while _user(last) is not first:
        last = _user(last)
    found, open_ = set[Operation](), [last]
    while open_:
        op = open_.pop()
        found.add(op)
        open_ += [v.op for v in op.operands if v.op in members and v.op not in found]  # type: ignore[misc]
    return found
