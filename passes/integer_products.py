"""Multiply integers where both operands of a product are quantised, and scale the sums instead of the factors."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Module, Operation, Value
from tilewright.compiler.ir.rewriter import Rewriter

from .base import Pass, PassContext, register_pass
from .loop_spec import number_of

_MUL, _ADD, _SUB, _DIV, _NEG = (graph.ELEMENTWISE[n] for n in ("mul", "add", "sub", "div", "neg"))
EIGHT_BITS = ("i8", "ui8")
WEIGHTS = (*EIGHT_BITS, "i4", "ui4")  # of 4 bits: widened to 8 on the way


@register_pass
@dataclass(frozen=True)
class IntegerProducts(Pass):
    """A matmul or convolution of two dequantised tensors becomes one of integers, if an engine does it no slower.

    before:  %1 = graph.dequantize %xq, %sx, %zx {block = [4, 64], to = "f16"} : tensor<4x64xf16>
             %2 = graph.dequantize %wq, %sw {block = [1, 64], to = "f16"} : tensor<8x64xf16>
             %3 = graph.matmul %1, %2 {transpose_b = true} : tensor<4x8xf16>
    after:   %1 = graph.matmul %xq, %wq {transpose_b = true, to = "i32"} : tensor<4x8xi32>
             %2 = graph.dequantize %1, sx * sw, zx * sum_k(wq) {block = [4, 1], to = "f16"} : tensor<4x8xf16>

    The sums are exact, where the float product rounds each factor and each partial sum: the result differs from it by
    that rounding, and a quantisation of the result only where a value lies that close to the middle of two steps.
    Weights are symmetric (no zero point), scales are positive and, as zero points, the same along what is summed, and a
    zero point of x belongs to the whole tensor. A bias becomes a part of the zero point of the sums, a float then. What
    is computed of weights alone is folded at load time.
    """

    def run(self, module: Module, context: PassContext) -> None:
        rewriter = Rewriter(context.log, self.name)
        for op in list(module.main.body):
            if isinstance(op, (graph.Matmul, graph.Conv)):
                x, w = op.operands[0].op, op.operands[1].op
                if not isinstance(x, graph.Dequantize) or not isinstance(w, graph.Dequantize):
                    continue
                why = _refusal(op, x, w) or _does_not_pay(op, x.q.type.dtype, context)
                if why:
                    rewriter.missed(op, why)
                else:
                    _Rewrite(rewriter, op, x, w).run()


def _refusal(op: graph.Matmul | graph.Conv, x: graph.Dequantize, w: graph.Dequantize) -> str:
    """Why the sums of integers would not do; empty if they do."""
    if x.q.type.dtype not in EIGHT_BITS or w.q.type.dtype not in WEIGHTS:
        return f"multiplies {x.q.type.dtype} by {w.q.type.dtype}"
    if w.zero is not None and number_of(w.zero) != 0:
        return "the weight has zero points"
    channel = _channel_axis(op)
    if any(n > 1 for i, n in enumerate(w.scale.type.shape) if i != channel % w.q.type.rank):
        return "the scales of the weight change along what is summed"
    if isinstance(op, graph.Conv):
        if x.scale.type.elements > 1:
            return "the scales of x are not one for the whole tensor"
        if any(op.padding) and x.zero is not None and number_of(x.zero) is None:
            return "padding would read a zero point that is not a constant"
    elif x.scale.type.shape[-1] > 1:
        return "the scales of x change along what is summed"
    if x.zero is not None and x.zero.type.elements > 1:
        return "the zero points of x are not one for the whole tensor"
    if x.zero is not None and isinstance(op, graph.Matmul) and math.prod(w.q.type.shape[:-2]) > 1:
        return "x has a zero point, and the weight is a batch of matrices"
    return ""


def _channel_axis(op: graph.Matmul | graph.Conv) -> int:
    """The axis of the weight that its products keep."""
    return 0 if isinstance(op, graph.Conv) else -2 if op.transpose_b else -1


def _does_not_pay(op: Operation, integer: str, context: PassContext) -> str:
    if context.target is None:
        return ""
    engines = [context.target.engines[name] for name in context.usable()]
    takes = [e for e in engines if e.refuses(op) is None]
    dtype = op.results[0].type.dtype
    rate = max((e.mac_rate(integer) for e in takes), default=0.0)
    if rate and rate >= max((e.mac_rate(dtype) for e in takes), default=0.0):
        return ""  # at the same rate there are fewer bytes to move
    return f"no engine that takes it multiplies {integer} as fast as {dtype}"


class _Rewrite:
    """Builds the integer form of one product."""

    def __init__(self, rw: Rewriter, op: graph.Matmul | graph.Conv, x: graph.Dequantize, w: graph.Dequantize):
        self.rw, self.op, self.x, self.w = rw, op, x, w
        self.rank = op.result.type.rank
        self.channel = 1 if isinstance(op, graph.Conv) else self.rank - 1  # of the result

    def build(self, cls: type[Operation], *operands: Value, **attributes: object) -> Value:
        return self.rw.insert(self.op, cls(*operands, **attributes)).result  # type: ignore[arg-type]

    def cast(self, v: Value, to: str) -> Value:
        return v if v.type.dtype == to else self.build(graph.Cast, v, to=to)

    def beside(self, v: Value) -> Value:
        """One number a channel, or one alone, with the axes of the result."""
        shape = tuple(v.type.elements if i == self.channel else 1 for i in range(self.rank))
        return v if v.type.shape == shape else self.build(graph.Reshape, v, to=shape)

    def run(self) -> None:
        op, dtype = self.op, self.op.result.type.dtype
        weight = self.cast(self.w.q, "i8" if self.w.q.type.dtype not in EIGHT_BITS else self.w.q.type.dtype)
        attributes = {**op.attributes, "to": "i32"}
        if isinstance(op, graph.Conv) and self.x.zero is not None:
            attributes["pad_value"] = float(number_of(self.x.zero) or 0)
        total = self.build(type(op), self.x.q, weight, **attributes)
        zero = self.correction(weight)
        scale = self.beside(self.cast(self.w.scale, "f32"))
        whole = self.x.scale.type.elements == 1
        if whole:
            scale = self.build(_MUL, self.beside(self.cast(self.x.scale, "f32")), scale)
        bias = op.bias if op.bias is None or isinstance(op, graph.Matmul) else self.beside(op.bias)
        if bias is not None and whole and self.is_of_channels(bias):
            steps = self.build(_DIV, self.beside(self.cast(bias, "f32")), scale)
            zero = self.build(_NEG, steps) if zero is None else self.build(_SUB, self.cast(zero, "f32"), steps)
            bias = None
        counts = (scale if zero is None else zero).type.shape
        if scale.type.shape != counts:
            scale = self.build(graph.Expand, scale, to=counts)
        elif zero is not None and zero.type.shape != scale.type.shape:
            zero = self.build(graph.Expand, zero, to=scale.type.shape)
        block = tuple(1 if n > 1 else size for n, size in zip(counts, total.type.shape, strict=True))
        sums = [total, scale, *([] if zero is None else [zero])]
        y = self.build(graph.Dequantize, *sums, block=block, to=dtype if whole else "f32")
        if not whole:  # a scale for each row of x
            y = self.cast(self.build(_MUL, y, self.cast(self.x.scale, "f32")), dtype)
        if bias is not None:
            y = self.build(_ADD, y, bias)
        self.rw.replace(op, y, reason="multiplies integers")

    def is_of_channels(self, bias: Value) -> bool:
        """Whether the bias is one number a channel, or one alone."""
        shape = bias.type.shape
        size = 1 if self.rank - self.channel > len(shape) else shape[len(shape) - self.rank + self.channel]
        return size == bias.type.elements

    def correction(self, weight: Value) -> Value | None:
        """zx * sum(w) for each channel, in i32: what the zero point of x adds to every sum."""
        zero = self.x.zero
        if zero is None or number_of(zero) == 0:
            return None
        kept = _channel_axis(self.op) % weight.type.rank
        axes = tuple(i for i in range(weight.type.rank) if i != kept)
        sums = self.build(graph.Reduce, self.cast(weight, "i32"), kind="sum", axes=axes, keepdims=True)
        return self.build(_MUL, self.beside(self.cast(zero, "i32")), self.beside(sums))
