"""Move what expands a compressed tensor towards its users: what stands between works on fewer bytes."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Operation, TensorType, Value
from tilewright.compiler.ir.rewriter import P, Rewriter

from .base import Pass, register_pass, rule

EXPANSIONS = (graph.Dequantize, graph.Lookup)


@register_pass
@dataclass(frozen=True)
class ExpandLate(Pass):
    """Gather rows of a quantised or palettised table, or transpose one, as it is stored, and expand the result.

    A view of a sparse tensor is sparse.

    before:  %1 = graph.dequantize %q, %s {block = [1, 64], to = "f16"} : tensor<1000x64xf16>
             %2 = graph.gather %1, %i {axis = 0} : tensor<3x64xf16>
    after:   %1 = graph.gather %q, %i {axis = 0} : tensor<3x64xi8>
             %2 = graph.gather %s, %i {axis = 0} : tensor<3x1xf16>
             %3 = graph.dequantize %1, %2 {block = [1, 64], to = "f16"} : tensor<3x64xf16>
    """

    @rule(P(graph.Gather, P(EXPANSIONS, bind="expansion"), "indices"))
    def gather(self, rw: Rewriter, op: graph.Gather, expansion: graph.Blocked, indices: Value) -> bool:
        axis, rows = op.axis, indices.type.shape
        n, b = expansion.shape(0)[axis], expansion.block[axis]
        blocks = _blocks_of(rw, op, indices, n, b) if b < n else None

        def entries(v: Value) -> Operation:
            if blocks is not None:
                return rw.insert(op, graph.Gather(v, blocks, axis=axis))
            shape = v.type.shape
            return rw.insert(op, graph.Reshape(v, to=(*shape[:axis], *(1 for _ in rows), *shape[axis + 1 :])))

        q = rw.insert(op, graph.Gather(expansion.operands[0], indices, axis=axis))
        further = [entries(v).result for v in expansion.operands[1:]]
        block = (*expansion.block[:axis], *(1 if b < n else max(r, 1) for r in rows), *expansion.block[axis + 1 :])
        attributes = {**expansion.attributes, "block": block}
        return rw.replace(op, type(expansion)(q.result, *further, location=op.location, **attributes))

    @rule(P(graph.Transpose, P(EXPANSIONS, bind="expansion")))
    def transpose(self, rw: Rewriter, op: graph.Transpose, expansion: graph.Blocked) -> bool:
        def moved(v: Value) -> Value:
            rest = range(len(op.permutation), v.type.rank)
            return rw.insert(op, graph.Transpose(v, permutation=(*op.permutation, *rest))).result

        attributes = {**expansion.attributes, "block": tuple(expansion.block[a] for a in op.permutation)}
        operands = map(moved, expansion.operands)
        return rw.replace(op, type(expansion)(*operands, location=op.location, **attributes))

    @rule(P((graph.Transpose, graph.Reshape), P(graph.ToDense, bind="expansion")))
    def view(self, rw: Rewriter, op: Operation, expansion: graph.ToDense) -> bool:
        seen = rw.insert(op, type(op)(expansion.x, **op.attributes))
        return rw.replace(op, graph.ToDense(seen.result, location=op.location))


def _blocks_of(rw: Rewriter, op: Operation, indices: Value, n: int, block: int) -> Value:
    """Which block each index into an axis of n lies in; an index below zero counts from the end."""
    if block == 1:
        return indices

    def build(name: str, *operands: Value | int) -> Value:
        splat = TensorType((), indices.type.dtype)
        values = [
            rw.insert(op, graph.Constant(value=v, result_types=[splat])).result if isinstance(v, int) else v
            for v in operands
        ]
        return rw.insert(op, graph.ELEMENTWISE[name](*values)).result

    from_start = graph.Where(build("lt", indices, 0), build("add", indices, n), indices)
    return build("div", rw.insert(op, from_start).result, block)
