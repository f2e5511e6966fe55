"""The loop of each graph op: one function a family. `loops_of` is the door.

An op that is not here, and is neither a view nor a source, cannot be lowered; `loops_of` says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tilewright.compiler.dialects import graph, tile
from tilewright.compiler.dialects.access import Access, Axis, identity, whole
from tilewright.compiler.ir import IRError, Operation, Value

from .loop_members import POINTWISE, entry_access, feeding, lead_of, members_of, prologue_pad, whole_blocks
from .loop_spec import LoopSpec, accumulate_dtype, broadcast_to, is_weight, number_of

LOWEST = -3.0e38  # below every finite score, yet finite: a row that is masked out whole stays free of NaN

# A convolution whose groups have more weights than this goes group by group; of smaller ones a block may hold several,
# whole. Chosen, not measured: where a group fills half of the weight buffer of a Neural Engine's core (64 KiB, in
# halves), the next one has no room beside it to come while it works.
GROUP_WEIGHTS_AT_MOST = 1 << 14

Anchor = Callable[[LoopSpec, Any, list[int], graph.Structure], int]  # (loop, op, its operands in the body, structure)
ANCHORS: dict[type[Operation], Anchor] = {}


def anchor(*classes: type[Operation]) -> Callable[[Anchor], Anchor]:
    def mark(function: Anchor) -> Anchor:
        for cls in classes:
            ANCHORS[cls] = function
        return function

    return mark


def loops_of(op: Operation) -> list[LoopSpec]:
    """The loops that compute a graph op, in order; empty for views and sources. Raises IRError if there is no way."""
    if isinstance(op, graph.Concat):
        return _concat(op)
    if isinstance(op, graph.Update):
        return [_update(op)]
    if isinstance(op, graph.Scatter):
        return [_scatter(op)]
    if isinstance(op, graph.WholeOp):
        return [_whole(op)]
    if isinstance(op, graph.Fuse):
        return [_group(op, members_of(op), dict(zip(op.body.args, op.operands, strict=True)))]
    if isinstance(op, POINTWISE) or _anchor_of(op):
        return [_group(op, [op], {})]
    if isinstance(op, (graph.Parameter, graph.Constant, graph.Iota)) or getattr(op, "view", False):
        return []
    raise IRError(f"'{op.name}' ({op.location}) has no lowering to tiles")


def _anchor_of(op: Operation) -> Anchor | None:
    return next((ANCHORS[c] for c in type(op).__mro__ if c in ANCHORS), None)


def _declared(op: Operation) -> dict[str, Any]:
    """The attributes that are part of the op's meaning, without what passes have noted on it."""
    return {k: v for k, v in op.attributes.items() if k in op.attribute_defs}


def _given(op: Operation, name: str) -> dict[str, Any]:
    """An attribute for a body op, where the graph op has it."""
    return {name: op.attributes[name]} if op.attributes.get(name) is not None else {}


def _group(op: Operation, members: list[Operation], outer: dict[Value, Value]) -> LoopSpec:
    """One loop for a group: pointwise ops round at most one anchor. `outer` maps region arguments to tensors."""
    lead = lead_of(members)
    final = members[-1]
    structure = lead.structure()  # type: ignore[attr-defined]
    inside = {r for m in members for r in m.results}
    before = feeding(lead, members)  # the prologue, on blocks of the lead's operands
    if not isinstance(lead, POINTWISE):
        members = [*before, lead, *(m for m in members if m is not lead and m not in before)]
    spec = LoopSpec(op, tuple(structure.dims), macs=lead.macs())  # type: ignore[attr-defined]
    blocks = {m: structure.operands[before[m]] if m in before else structure.results[0] for m in members}
    at: dict[tuple[Operation, int], int] = {}
    for m in members:
        for i, v in enumerate(m.operands):
            if v in inside or number_of(outer.get(v, v)) is not None:
                continue
            tensor = outer.get(v, v)
            if m is lead and not isinstance(lead, POINTWISE):
                pad = structure.pads[i] if i < len(structure.pads) else None
                at[m, i] = spec.add_input(tensor, structure.operands[i], pad, _role(m, i, tensor))
            else:
                access = entry_access(m, i, blocks[m])
                assert access is not None, f"'{m.name}' operand {i} beside [{blocks[m]}]"
                pad = prologue_pad(m, i, before[m], structure, outer) if m in before else None
                role = _role(lead, before[m], tensor) if m in before else "data"
                at[m, i] = spec.add_input(tensor, access, pad, role)
    values: dict[Value, int] = {}
    _reserve_accumulators(spec, lead, structure)
    for m in members:
        operands: list[int] = []
        for i, v in enumerate(m.operands):
            if (m, i) in at:
                operands.append(at[m, i])
            elif v in inside:
                operands.append(values[v])
            else:
                number = number_of(outer.get(v, v))
                assert number is not None
                operands.append(spec.number(number, v.type.dtype, v.type.rank))
        if m is lead and not isinstance(m, POINTWISE):
            emit = _anchor_of(m)
            assert emit is not None
            values[m.result] = emit(spec, m, operands, structure)
        else:
            name, attributes = m.name.removeprefix("graph."), _declared(m)
            if isinstance(m, graph.Blocked):
                attributes["block"] = whole_blocks(m, blocks[m], structure)
            block = broadcast_to(m.result.type.shape, blocks[m].axes)
            values[m.result] = spec.add(name, *operands, access=block, dtype=m.result.type.dtype, **attributes)
    return spec.finish([values[final.result]], [structure.results[0]])


def _role(op: Operation, index: int, value: Value) -> str:
    if isinstance(op, (graph.Matmul, graph.Conv)) and index == 1 and is_weight(value):
        return "weight"
    if isinstance(op, graph.Gather) and index == 0:
        return "ref"
    return "data"


# ---------------------------------------------------------------- accumulating anchors


def _reserve_accumulators(spec: LoopSpec, op: Operation, structure: graph.Structure) -> None:
    out = structure.results[0].axes
    if isinstance(op, (graph.Matmul, graph.Conv)):
        spec.add_acc(Access(out), 0.0, graph.accumulate_dtype(op.dtype(), op.to))
    elif isinstance(op, graph.Reduce):
        kept = tuple(Axis() if i in op.axes else a for i, a in enumerate(structure.operands[0].axes))
        spec.add_acc(Access(kept), graph.Reduce.KINDS[op.kind], accumulate_dtype(op.dtype()))
    elif isinstance(op, graph.Attention):
        row = Access((*out[:-1], Axis()))
        spec.add_acc(row, LOWEST, "f32")
        spec.add_acc(row, 0.0, "f32")
        spec.add_acc(Access(out), 0.0, "f32")


def _acc(spec: LoopSpec, index: int = 0) -> int:
    return len(spec.inputs) + index


def _with_bias(spec: LoopSpec, total: int, op: Any, x: list[int], out: Access) -> int:
    """Adds the bias in the accumulator's precision, then rounds once."""
    if op.bias is not None:
        wide = spec.block(total)[1]
        bias = spec.cast(x[2], wide)
        if isinstance(op, graph.Conv):  # one number a channel: axis 1 of the block
            rank = len(out.axes)
            access = Access(tuple(out.axes[1] if i == 0 else Axis() for i in range(rank - 1)))
            bias = spec.add(tile.Unsqueeze, bias, access=access, dtype=wide, axes=tuple(range(1, rank - 1)))
        total = spec.add("add", total, bias, access=out, dtype=wide)
    return spec.cast(total, op.result.type.dtype)


@anchor(graph.Matmul)
def _matmul(spec: LoopSpec, op: graph.Matmul, x: list[int], structure: graph.Structure) -> int:
    out = structure.results[0]
    total = spec.add(
        tile.Matmul,
        x[0],
        x[1],
        _acc(spec),
        access=out,
        dtype=spec.accs[0][2],
        transpose_b=op.transpose_b,
        **_given(op, "to"),
    )
    spec.last(total)
    return _with_bias(spec, total, op, x, out)


@anchor(graph.Conv)
def _conv(spec: LoopSpec, op: graph.Conv, x: list[int], structure: graph.Structure) -> int:
    out = structure.results[0]
    outer, inner = op.shape(1)[0] // op.groups, op.shape(1)[1]  # channels of a group
    if op.groups > 1 and outer > 1 and outer * inner * math.prod(op.shape(1)[2:]) > GROUP_WEIGHTS_AT_MOST:
        spec.fixed["g"] = 1
    elif op.groups > 1 and max(outer, inner) > 1:  # a block of several groups holds whole groups
        spec.fixed |= {name: n for name, n in (("o", outer), ("c", inner)) if n > 1}
        spec.tight = {"g": 1}
    total = spec.add(
        tile.Conv,
        x[0],
        x[1],
        _acc(spec),
        access=out,
        dtype=spec.accs[0][2],
        strides=op.strides,
        dilations=op.dilation,
        grouped=op.groups > 1,
        **_given(op, "to"),
    )
    spec.last(total)
    return _with_bias(spec, total, op, x, out)


@anchor(graph.Reduce)
def _reduce(spec: LoopSpec, op: graph.Reduce, x: list[int], structure: graph.Structure) -> int:
    access, _, wide = spec.accs[0]
    kind = "sum" if op.kind == "mean" else op.kind
    total = spec.add(tile.Reduce, spec.cast(x[0], wide), _acc(spec), access=access, dtype=wide, kind=kind, axes=op.axes)
    spec.last(total)
    if op.kind == "mean":
        count = math.prod(op.shape(0)[a] for a in op.axes)
        total = spec.add("mul", total, spec.number(1.0 / count, wide), access=access, dtype=wide)
    total = spec.cast(total, op.result.type.dtype)
    if not op.keepdims:
        total = spec.add(tile.Squeeze, total, access=structure.results[0], dtype=op.result.type.dtype, axes=op.axes)
    return total


@anchor(graph.Attention)
def _attention(spec: LoopSpec, op: graph.Attention, x: list[int], structure: graph.Structure) -> int:
    """Online softmax: a running maximum, sum and weighted total a row, rescaled at each block of keys."""
    out = structure.results[0]
    row = spec.accs[0][0]
    column = Axis((("n", 1),))
    scores = Access((*out.axes[:-1], column))
    high, total, weighted = (_acc(spec, i) for i in range(3))

    def f32(name: str, *operands: int, access: Access) -> int:
        return spec.add(name, *operands, access=access, dtype="f32")

    s = spec.add(tile.Matmul, x[0], x[1], access=scores, dtype="f32", transpose_b=True)
    s = f32("mul", s, spec.number(op.scale, "f32"), access=scores)
    if op.mask is not None:
        s = f32("add", s, spec.cast(x[3], "f32"), access=scores)
    if op.causal:
        s = spec.add(tile.Causal, s, access=scores, dtype="f32", row="m", column="n")
    axis = len(scores.axes) - 1
    top = spec.add(tile.Reduce, s, access=row, dtype="f32", kind="max", axes=(axis,))
    top = f32("maximum", high, top, access=row)
    p = f32("exp", f32("sub", s, top, access=scores), access=scores)
    shrink = f32("exp", f32("sub", high, top, access=row), access=row)
    part = spec.add(tile.Reduce, p, access=row, dtype="f32", kind="sum", axes=(axis,))
    total = f32("add", f32("mul", total, shrink, access=row), part, access=row)
    kept = f32("mul", weighted, shrink, access=out)
    weighted = spec.add(tile.Matmul, spec.cast(p, op.dtype()), x[2], kept, access=out, dtype="f32")
    spec.last(top, total, weighted)
    safe = f32("maximum", total, spec.number(1e-30, "f32"), access=row)
    return spec.cast(f32("div", weighted, safe, access=out), op.result.type.dtype)


# ---------------------------------------------------------------- anchors that need no accumulator


@anchor(graph.Pool)
def _pool(spec: LoopSpec, op: graph.Pool, x: list[int], structure: graph.Structure) -> int:
    return spec.add(
        tile.Pool,
        x[0],
        access=structure.results[0],
        dtype=op.dtype(),
        kind=op.kind,
        kernel=op.kernel,
        strides=op.strides,
        dilations=op.dilation,
    )


@anchor(graph.Gather)
def _gather(spec: LoopSpec, op: graph.Gather, x: list[int], structure: graph.Structure) -> int:
    """The table is read in place, whole rows at a time: only the dims of the indices are cut."""
    indices = structure.operands[1].dims
    spec.fixed.update({d.name: d.size for d in structure.dims if d.name not in indices})
    return _on_whole_axes(spec, op, x, structure)


@anchor(graph.RowOp)
def _on_whole_axes(spec: LoopSpec, op: Any, x: list[int], structure: graph.Structure) -> int:
    name = op.name.removeprefix("graph.")
    return spec.add(name, *x, access=structure.results[0], dtype=op.result.type.dtype, **_declared(op))


@anchor(graph.Pad, graph.Copy)
def _moved(spec: LoopSpec, op: Any, x: list[int], structure: graph.Structure) -> int:
    return x[0]


# ---------------------------------------------------------------- ops that write part of a tensor


def _concat(op: graph.Concat) -> list[LoopSpec]:
    """A copy for each part, into its place; the first one is given the storage by the caller."""
    loops, start = [], 0
    for part in op.operands:
        names = graph.dim_names(part.type.rank)
        dims = tuple(graph.Dim(n, s) for n, s in zip(names, part.type.shape, strict=True))
        spec = LoopSpec(op, dims)
        x = spec.add_input(part, identity(names))
        out = tuple(Axis(((n, 1),), start if i == op.axis else 0) for i, n in enumerate(names))
        start += part.type.shape[op.axis]
        if part.type.elements:
            loops.append(spec.finish([x], [Access(out)]))
    return loops


def _update(op: graph.Update) -> LoopSpec:
    names = graph.dim_names(op.value.type.rank)
    dims = tuple(graph.Dim(n, s) for n, s in zip(names, op.value.type.shape, strict=True))
    spec = LoopSpec(op, dims)
    x = spec.add_input(op.value, identity(names))
    out = tuple(Axis(((n, t),), s) for n, s, t in zip(names, op.starts, op.steps, strict=True))
    spec.fixed = {n: 1 for n, t in zip(names, op.steps, strict=True) if t > 1}  # a strided block is not one window
    return spec.finish([x], [Access(out)])


def _scatter(op: graph.Scatter) -> LoopSpec:
    spec = LoopSpec(op, ())
    refs = [spec.add_input(v, whole(v.type.shape), role="ref") for v in op.operands]
    y = spec.add(
        tile.ScatterRows, *refs, access=whole(op.result.type.shape), dtype=op.dtype(), space="dram", axis=op.axis
    )
    spec.out_refs = True
    return spec.finish([y], [whole(op.result.type.shape)])


def _whole(op: graph.WholeOp) -> LoopSpec:
    """One command that reads its operands in place and writes the result in memory."""
    spec = LoopSpec(op, (), macs=op.macs())
    refs = [spec.add_input(v, whole(v.type.shape), role="ref") for v in op.operands]
    result = op.result.type
    name = op.name.removeprefix("graph.")
    y = spec.add(name, *refs, access=whole(result.shape), dtype=result.dtype, space="dram", **_declared(op))
    spec.out_refs = True
    return spec.finish([y], [whole(result.shape)])
