"""Mixtures of experts: products of rows with the weights of the expert that each is routed to."""

from __future__ import annotations

from typing import Any

from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Value

from ..dtypes import ir_dtype
from ..emitter import Emitter
from .registry import aten, lowers


@lowers(aten._grouped_mm.default)
def grouped_mm(
    e: Emitter, x: Value, w: Value, offs: Value | None = None, bias: Value | None = None, out_dtype: Any = None
) -> Value:
    """x[s, k] sorted by group, w[groups, k, n], and where each group ends; both 3-d is a batched product."""
    if bias is not None:
        e.unsupported("a bias in a grouped product")
    if x.type.rank == 3 and w.type.rank == 3 and offs is None:
        y = e.add(graph.Matmul(x, w))
    elif x.type.rank == 2 and w.type.rank == 3 and offs is not None:
        y = e.add(graph.GroupedMatmul(x, e.cast(w, x.type.dtype), offs))
    else:
        e.unsupported(f"groups along {'k' if w.type.rank == 2 else 'the columns'}: x {x.type}, w {w.type}")
    return e.cast(y, ir_dtype(e.expected.dtype))
