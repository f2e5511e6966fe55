"""Who stands where in the loop of a group: one anchor, pointwise ops after it, and others that feed its operands."""

from __future__ import annotations

from tilewright.compiler.dialects import graph
from tilewright.compiler.dialects.access import Access, Axis
from tilewright.compiler.ir import Operation, Value

from .loop_spec import broadcast_to, number_of

POINTWISE = (graph.Elementwise, graph.Blocked)  # an element of the result for each one of an operand: in any loop


def members_of(group: graph.Fuse) -> list[Operation]:
    return [op for op in group.body if not isinstance(op, (graph.Yield, graph.Constant))]


def lead_of(members: list[Operation]) -> Operation:
    """The op whose structure is that of the group: its anchor, or the last op where all are pointwise."""
    return next((m for m in members if not isinstance(m, POINTWISE)), members[-1])


def feeding(lead: Operation, members: list[Operation]) -> dict[Operation, int]:
    """The members that an anchor's value depends on, in order, each with the operand of the anchor that it is for."""
    if isinstance(lead, POINTWISE):
        return {}
    needed = {v: i for i, v in enumerate(lead.operands)}
    found: dict[Operation, int] = {}
    for m in reversed(members[: members.index(lead)]):
        if m.result in needed:
            found[m] = needed[m.result]
            needed.update(dict.fromkeys(m.operands, needed[m.result]))
    return dict(reversed(found.items()))


def entry_access(op: Operation, index: int, block: Access) -> Access | None:
    """What operand `index` of a pointwise op touches beside a block of its result; None where no access can say it."""
    if isinstance(op, graph.Blocked) and index:
        return op.entry_access(index, block)
    return broadcast_to(op.operands[index].type.shape, block.axes)


def why_not_one_loop(members: list[Operation]) -> str:
    """Why ops cannot be one loop, for want of an access or of a padding that says what they read; empty if they can."""
    lead = lead_of(members)
    structure = lead.structure()  # type: ignore[attr-defined]
    before = feeding(lead, members)
    for m in members:
        if m is lead and not isinstance(m, POINTWISE):
            continue
        block = structure.operands[before[m]] if m in before else structure.results[0]
        if any(entry_access(m, i, block) is None for i in range(len(m.operands))):
            return f"the blocks of {m.name} lie across the tiles of {lead.name}"
        pad = _pad(structure, before[m]) if m in before else None
        alone = list(before.values()).count(before.get(m, -1)) == 1
        if pad is not None and not (pad == 0 and alone and _is_zero_outside(m, block)):
            return f"{lead.name} pads what {m.name} makes"
    return ""


def _pad(structure: graph.Structure, index: int) -> float | None:
    return structure.pads[index] if index < len(structure.pads) else None


def _is_zero_outside(op: Operation, block: Access) -> bool:
    """Whether there is a number for the padding to read from which `op` makes 0: its zero point, if that is known."""
    if not isinstance(op, graph.Dequantize) or (op.zero is not None and number_of(op.zero) is None):
        return False
    counts = graph.block_counts(op.shape(0), op.block)
    return all(n == 1 or a == Axis(a.terms) for a, n in zip(block.axes, counts, strict=True))


def prologue_pad(
    op: Operation, index: int, fed: int, structure: graph.Structure, outer: dict[Value, Value]
) -> float | None:
    """What the padding of a tensor reads that a prologue makes numbers of for operand `fed` of the anchor."""
    if _pad(structure, fed) is None or index or not isinstance(op, graph.Dequantize):
        return None
    if op.zero is None:
        return 0.0
    zero: Value = op.zero
    return number_of(outer.get(zero, zero))


def whole_blocks(op: graph.Blocked, block: Access, structure: graph.Structure) -> tuple[int, ...]:
    """The op's blocks for the loop; one that covers its axis covers what a window reads outside of it too."""
    windows = block.block({d.name: d.size for d in structure.dims})
    sizes = zip(op.block, op.shape(0), windows, strict=True)
    return tuple(max(b, w) if b >= n else b for b, n, w in sizes)
