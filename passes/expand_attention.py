"""Take attention and softmax apart for an engine that runs each of their steps as a task of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Module, Operation, TensorType, Value
from tilewright.compiler.ir.rewriter import LogEntry, Rewriter

from .base import Pass, PassContext, register_pass
from .place import Place, estimated_ps

LOWEST = -65504.0  # of half precision: the maximum of a row that is masked out whole stays finite


@register_pass
@dataclass(frozen=True)
class ExpandAttention(Pass):
    """Products, a softmax and the steps of the softmax, where the engine that comes first has no task for all of them,
    unless the program is faster with other engines that have.

    before:  %y = graph.attention %q, %k, %v {scale = 0.125} : tensor<2x16x8xf16>
    after:   %s = graph.matmul %q, %k {transpose_b = true} : tensor<2x16x16xf16>
             %x = graph.mul %s, 0.125
             %m = graph.reduce %x {kind = "max", axes = [2], keepdims = true} : tensor<2x16x1xf16>
             %e = graph.exp (graph.sub %x, %m)
             %t = graph.reduce %e {kind = "sum", axes = [2], keepdims = true} : tensor<2x16x1xf16>
             %p = graph.mul %e, (graph.reciprocal %t)
             %y = graph.matmul %p, %v : tensor<2x16x8xf16>

    Without a target nothing is done. A causal mask becomes a weight, one for each size.
    """

    def run(self, module: Module, context: PassContext) -> None:
        if context.target is None:
            return
        found = _candidates(module, context)
        if found and all(_taken_whole(op, context) for op, _ in found):
            apart, whole = module.clone({}), module.clone({})
            trial = context.trial()
            _expand(_candidates(apart, trial), trial.log, self.name)
            if _placed_ps(whole, context.trial()) < _placed_ps(apart, trial):
                for op, engine in found:
                    why = f"{engine} runs it in parts, and the program is faster with it whole on another engine"
                    context.log.append(LogEntry(self.name, "missed", op.name, op.location, why))
                return
        _expand(found, context.log, self.name)


def _candidates(module: Module, context: PassContext) -> list[tuple[Operation, str]]:
    """What the engine that comes first of those that take it runs in parts, and that engine."""
    ops = [op for op in module.main.body if isinstance(op, (graph.Attention, graph.Softmax))]
    chosen = [(op, _first_choice(op, context)) for op in ops if not getattr(op, "log", False)]
    return [(op, engine) for op, engine in chosen if engine is not None]


def _expand(found: list[tuple[Operation, str]], log: list[LogEntry], rule: str) -> None:
    masks: dict[tuple[int, int, str], Value] = {}
    for op, engine in found:
        steps = _Steps(op, log, rule)
        assert isinstance(op, (graph.Attention, graph.Softmax))
        y = steps.attention(masks) if isinstance(op, graph.Attention) else steps.softmax(op.x, op.axis)
        steps.rewriter.replace(op, y, reason=f"{engine} runs it in parts")


def _placed_ps(module: Module, context: PassContext) -> int:
    """The estimate of what the default passes up to `place` would make of the module, which they change."""
    from . import default_pipeline  # it names this pass

    passes = default_pipeline("tile")
    names = [p.name for p in passes]
    for p in passes[names.index(ExpandAttention.name) + 1 : names.index(Place.name)]:
        p.run(module, context)
    return estimated_ps(module, context)


def _taken_whole(op: Operation, context: PassContext) -> bool:
    assert context.target is not None
    engines = [context.target.engines[name] for name in context.usable()]
    return any(e.refuses(op) is None and not e.in_parts(op) for e in engines)


def _first_choice(op: Operation, context: PassContext) -> str | None:
    """The engine that comes first of those that take the op, if it runs it in parts."""
    assert context.target is not None
    for name in context.usable():
        engine = context.target.engines[name]
        if engine.refuses(op) is None:
            return name if engine.in_parts(op) else None
    return None


class _Steps:
    """Ops in front of one that they stand for."""

    def __init__(self, op: Operation, log: list[LogEntry], rule: str):
        self.op, self.rewriter = op, Rewriter(log, rule)

    def add(self, op: Operation) -> Value:
        return self.rewriter.insert(self.op, op).results[0]

    def apply(self, name: str, *operands: Value) -> Value:
        return self.add(graph.ELEMENTWISE[name](*operands))

    def number(self, value: float, dtype: str) -> Value:
        return self.add(graph.Constant(value=value, result_types=[TensorType((), dtype)]))

    def softmax(self, x: Value, axis: int, masked: bool = False) -> Value:
        """`masked`: a row may hold nothing but -inf, and gives zeros."""
        dtype, axis = x.type.dtype, axis % x.type.rank
        top = self.add(graph.Reduce(x, kind="max", axes=(axis,), keepdims=True))
        if masked:
            top = self.apply("maximum", top, self.number(LOWEST, dtype))
        e = self.apply("exp", self.apply("sub", x, top))
        total = self.add(graph.Reduce(e, kind="sum", axes=(axis,), keepdims=True))
        if masked:  # the largest of a row adds 1
            total = self.apply("maximum", total, self.number(1.0, dtype))
        return self.apply("mul", e, self.apply("reciprocal", total))

    def attention(self, masks: dict[tuple[int, int, str], Value]) -> Value:
        op = self.op
        assert isinstance(op, graph.Attention)
        dtype = op.dtype()
        scores = self.add(graph.Matmul(op.q, op.k, transpose_b=True))
        scores = self.apply("mul", scores, self.number(op.scale, dtype))
        if op.mask is not None:
            scores = self.apply("add", scores, op.mask)
        if op.causal:
            size = (scores.type.shape[-2], scores.type.shape[-1], dtype)
            if size not in masks:
                masks[size] = self.causal_mask(*size)
            scores = self.apply("add", scores, masks[size])
        p = self.softmax(scores, -1, masked=op.mask is not None or op.causal)
        return self.add(graph.Matmul(p, op.v))

    def causal_mask(self, rows: int, columns: int, dtype: str) -> Value:
        """0 where the column is at most the row, -inf elsewhere: [rows, columns]."""
        row, column = (self.add(graph.Iota(result_types=[TensorType((n,), "i64")])) for n in (rows, columns))
        seen = self.apply("le", column, self.add(graph.Reshape(row, to=(rows, 1))))
        return self.add(graph.Where(seen, self.number(0.0, dtype), self.number(-math.inf, dtype)))
