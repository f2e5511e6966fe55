"""Scaled dot-product attention, with grouped queries."""

from __future__ import annotations

import math
from typing import Any

from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Value

from ..emitter import Emitter
from .registry import aten, lowers


@lowers(aten.scaled_dot_product_attention.default)
def attention(
    e: Emitter,
    q: Value,
    k: Value,
    v: Value,
    attn_mask: Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Value:
    """Over q[b, heads, m, d] and k, v[b, kv_heads, n, d]; with fewer key than query heads the queries are grouped."""
    if dropout_p:
        e.unsupported("attention with dropout; call model.eval()")
    shape = tuple(e.expected.shape)
    rank = max(x.type.rank for x in (q, k, v))  # batch axes that one lacks are broadcast
    q, k, v = (e.reshape(x, (*(1,) * (rank - x.type.rank), *x.type.shape)) for x in (q, k, v))
    mask = None if attn_mask is None else additive(e, attn_mask, q.type.dtype)
    few_k, few_v = _before_repeat(k), _before_repeat(v)
    if few_k is not None and few_v is not None and few_k.type.shape[:3] == few_v.type.shape[:3]:
        k, v = few_k, few_v
    elif enable_gqa and k.type.shape[-3] != q.type.shape[-3]:
        k, v = (e.reshape(x, (*x.type.shape[:-2], 1, *x.type.shape[-2:])) for x in (k, v))
    if k.type.rank > q.type.rank:  # a group of queries to each head of keys
        *batch, heads, rows, depth = q.type.shape
        groups = (k.type.shape[-4], heads // k.type.shape[-4])
        q = e.reshape(q, (*batch, *groups, rows, depth))
        mask = None if mask is None else _group_mask(e, mask, groups)
    options: dict[str, Any] = {"causal": True} if is_causal else {}
    operands = (q, k, v) if mask is None else (q, k, v, mask)
    y = e.add(
        graph.Attention(*operands, scale=1 / math.sqrt(q.type.shape[-1]) if scale is None else float(scale), **options)
    )
    return e.reshape(y, shape)


def additive(e: Emitter, mask: Value, dtype: str) -> Value:
    """A mask that is added to the scores: a bool one gives 0 where it holds and -inf elsewhere."""
    return e.where(mask, 0.0, -math.inf, dtype) if mask.type.dtype == "i1" else e.cast(mask, dtype)


def _group_mask(e: Emitter, mask: Value, groups: tuple[int, int]) -> Value:
    """A mask over [.., heads, m, n] for scores [.., kv_heads, group, m, n]."""
    if mask.type.rank < 3:
        return mask
    *batch, heads, rows, columns = mask.type.shape
    return e.reshape(mask, (*batch, *((1, 1) if heads == 1 else groups), rows, columns))


def _before_repeat(x: Value) -> Value | None:
    """The [b, kv_heads, 1, n, d] behind keys or values whose heads were repeated by expand and reshape."""
    reshape = x.op
    if not isinstance(reshape, graph.Reshape) or not isinstance(reshape.x.op, graph.Expand):
        return None
    wide, narrow = reshape.x, reshape.x.op.x
    if wide.type.rank != x.type.rank + 1 or narrow.type.rank != wide.type.rank or wide.type.rank < 4:
        return None
    grouped = narrow.type.shape == (*wide.type.shape[:-3], 1, *wide.type.shape[-2:])
    merged = x.type.shape == (*wide.type.shape[:-4], wide.type.shape[-4] * wide.type.shape[-3], *wide.type.shape[-2:])
    return narrow if grouped and merged else None
