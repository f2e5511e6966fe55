"""Fold inference batch norm into the convolution before it, or into one multiply and one add."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Operation, TensorType, Value
from tilewright.compiler.ir.rewriter import P, Rewriter

from .base import Pass, register_pass, rule

_MUL, _ADD, _SUB, _RSQRT = (graph.ELEMENTWISE[n] for n in ("mul", "add", "sub", "rsqrt"))


@register_pass
@dataclass(frozen=True)
class FoldBatchNorm(Pass):
    """Scale the weights of a convolution instead of its result. The arithmetic on weights is folded at load time.

    before:  %1 = graph.conv %x, %w {strides = [1], padding = [0, 0]} : tensor<1x8x16xf16>
             %2 = graph.batch_norm %1, %g, %b, %mean, %var {eps = 1e-05} : tensor<1x8x16xf16>
    after:   %s = g / sqrt(var + eps);  %2 = graph.conv %x, w * s, b - mean * s {...}
    """

    @rule(P(graph.BatchNorm, None, "gamma", "beta", "mean", "var"))
    def fold(self, rw: Rewriter, op: graph.BatchNorm, gamma: Value, beta: Value, mean: Value, var: Value) -> bool:
        def build(cls: type[Operation], *operands: Value, **attributes: object) -> Value:
            return rw.insert(op, cls(*operands, **attributes)).result  # type: ignore[arg-type]

        def wide(v: Value) -> Value:
            return build(graph.Cast, v, to="f32") if v.type.dtype != "f32" else v

        channels = gamma.type.shape[0]
        eps = rw.insert(op, graph.Constant(value=op.eps, result_types=[TensorType((), "f32")])).result
        scale = build(_MUL, wide(gamma), build(_RSQRT, build(_ADD, wide(var), eps)))
        shift = build(_SUB, wide(beta), build(_MUL, wide(mean), scale))
        dtype = op.result.type.dtype
        conv = op.x.op
        if not isinstance(conv, graph.Conv) or len(op.x.uses) != 1 or not graph.is_parameter(conv.w):
            if isinstance(conv, graph.Conv):
                rw.missed(op, "the convolution has other users, or its weight is computed")
            shape = (channels, *(1,) * (op.x.type.rank - 2))
            scale, shift = (build(graph.Cast, build(graph.Reshape, v, to=shape), to=dtype) for v in (scale, shift))
            return rw.replace(op, build(_ADD, build(_MUL, op.x, scale), shift), reason="became a multiply and an add")
        rows = build(graph.Reshape, scale, to=(channels, *(1,) * (conv.w.type.rank - 1)))
        weight = build(graph.Cast, build(_MUL, wide(conv.w), rows), to=dtype)
        if conv.bias is not None:
            shift = build(_ADD, build(_MUL, wide(conv.bias), scale), shift)
        bias = build(graph.Cast, shift, to=dtype)
        fresh = graph.Conv(conv.x, weight, bias, location=conv.location, **conv.attributes)
        rw.replace(op, fresh, reason=f"folded into {conv.location.node}")
        return rw.erase(conv)
