"""Losses that torch's own decompositions get wrong; all others are taken apart by them."""

from __future__ import annotations

from tilewright.compiler.ir import Value

from ..emitter import Emitter
from .registry import aten, lowers

MEAN, SUM = 1, 2


@lowers(aten.multilabel_margin_loss.default)
def multilabel_margin_loss(e: Emitter, x: Value, target: Value, reduction: int = MEAN) -> Value:
    """How far each class that is no target comes within 1 of each target, over the number of classes.

    A row of `target` lists classes up to its first -1. torch 2.13's decomposition takes what follows for class 0.
    """
    classes = x.type.shape[-1] if x.type.shape else 1
    x, target = (e.reshape(t, (t.type.elements // classes, classes)) for t in (x, target))
    batch = x.type.shape[0]
    index = e.iota(classes)
    row, column = e.reshape(index, (1, classes, 1)), e.reshape(index, (1, 1, classes))
    ended = e.apply("lt", e.reshape(target, (batch, 1, classes)), 0)
    ended = _any(e, e.apply("logical_and", ended, e.apply("le", column, row)), 2)
    listed = e.apply("logical_not", ended)  # [batch, place in the list, 1]
    own = e.apply("logical_and", e.apply("eq", e.reshape(target, (batch, classes, 1)), column), listed)
    scores = e.reshape(x, (batch, 1, classes))
    score = e.reduce("sum", e.where(own, scores, 0, x.type.dtype), (2,), keepdims=True)
    margin = e.apply("maximum", e.apply("add", e.apply("sub", scores, score), 1), 0)
    counts = e.apply("logical_and", listed, e.apply("logical_not", _any(e, own, 1)))
    loss = e.reduce("sum", e.where(counts, margin, 0, x.type.dtype), (1, 2))
    loss = e.apply("div", loss, classes)
    if reduction == MEAN:
        return e.reduce("mean", loss, (0,))
    return e.reduce("sum", loss, (0,)) if reduction == SUM else e.reshape(loss, tuple(e.expected.shape))


def _any(e: Emitter, x: Value, axis: int) -> Value:
    return e.cast(e.reduce("max", e.cast(x, "i32"), (axis,), keepdims=True), "i1")
