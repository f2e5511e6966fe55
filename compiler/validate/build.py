"""Single ops and blocks as graph-level modules, written directly: no torch, a fraction of a millisecond each."""

from __future__ import annotations

import math
from functools import singledispatch
from typing import Any

from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Block, Func, Module, Operation, Return, TensorType, Value, verify
from tilewright.targets.validation.workloads import (
    Attention,
    Conv,
    Elementwise,
    Embedding,
    EncoderBlock,
    FeedForward,
    GatedActivation,
    Gemm,
    LayerNorm,
    Rotary,
    SelfAttention,
    Softmax,
)


class _Program:
    """A function under construction: inputs become its arguments, weights its parameters."""

    def __init__(self, dtype: str):
        self.dtype, self.block, self.weights = dtype, Block(), 0

    def input(self, *shape: int, dtype: str | None = None) -> Value:
        return self.block.add_arg(TensorType(shape, dtype or self.dtype), f"x{len(self.block.args)}")

    def weight(self, *shape: int) -> Value:
        self.weights += 1
        return self.add(graph.Parameter(key=f"w{self.weights}", result_types=[TensorType(shape, self.dtype)]))

    def number(self, value: float) -> Value:
        return self.add(graph.Constant(value=value, result_types=[TensorType((), self.dtype)]))

    def add(self, op: Operation) -> Value:
        return self.block.append(op).result

    def apply(self, name: str, *operands: Value) -> Value:
        return self.add(graph.ELEMENTWISE[name](*operands))

    def cast(self, x: Value, dtype: str) -> Value:
        return self.add(graph.Cast(x, to=dtype))

    def linear(self, x: Value, columns: int, bias: bool = True) -> Value:
        w = self.weight(columns, x.type.shape[-1])
        b = (self.weight(columns),) if bias else ()
        return self.add(graph.Matmul(x, w, *b, transpose_b=True))

    def norm(self, x: Value) -> Value:
        n = x.type.shape[-1]
        return self.add(graph.LayerNorm(x, self.weight(n), self.weight(n), rank=1, eps=1e-5))

    def reshape(self, x: Value, *shape: int) -> Value:
        """A size of -1 is what the others leave."""
        if -1 in shape:
            rest = -math.prod(shape)
            shape = tuple(x.type.elements // rest if n == -1 else n for n in shape)
        return self.add(graph.Reshape(x, to=shape))

    def heads(self, x: Value, count: int) -> Value:
        """[1, count, tokens, dim] from x[tokens, count * dim]."""
        tokens, width = x.type.shape
        split = self.reshape(x, 1, tokens, count, width // count)
        return self.add(graph.Transpose(split, permutation=(0, 2, 1, 3)))

    def self_attention(self, x: Value, heads: int) -> Value:
        tokens, hidden = x.type.shape
        q, k, v = (self.heads(self.linear(x, hidden), heads) for _ in range(3))
        y = self.add(graph.Attention(q, k, v, scale=(hidden // heads) ** -0.5))
        merged = self.reshape(self.add(graph.Transpose(y, permutation=(0, 2, 1, 3))), tokens, hidden)
        return self.linear(merged, hidden)

    def slice(self, x: Value, start: int, size: int) -> Value:
        """Columns of the last axis."""
        shape = x.type.shape
        starts = (0,) * (len(shape) - 1) + (start,)
        return self.add(graph.Slice(x, starts=starts, sizes=(*shape[:-1], size), steps=(1,) * len(shape)))

    def gate(self, x: Value) -> Value:
        """silu of the left half times the right half."""
        half = x.type.shape[-1] // 2
        return self.apply("mul", self.apply("silu", self.slice(x, 0, half)), self.slice(x, half, half))

    def module(self, *results: Value) -> Module:
        self.block.append(Return(*results))
        module = Module()
        module.body.append(Func(regions=[self.block], sym_name="main"))
        verify(module)
        return module


@singledispatch
def build(workload: Any) -> Module:
    """The graph-level module of a workload. Raises TypeError for one that is no single op or block."""
    raise TypeError(f"{type(workload).__name__} is not built from single ops")


@build.register
def _gemm(w: Gemm) -> Module:
    p = _Program(w.dtype)
    head = (w.batch,) if w.batch > 1 else ()
    x = p.input(*head, w.m, w.k)
    shape = (*head, w.n, w.k) if w.transposed else (*head, w.k, w.n)
    right = p.weight(*shape) if w.weight else p.input(*shape)
    bias = (p.weight(w.n),) if w.bias else ()
    return p.module(p.add(graph.Matmul(x, right, *bias, transpose_b=w.transposed)))


@build.register
def _conv(w: Conv) -> Module:
    p = _Program(w.dtype)
    y = p.input(w.batch, w.inner, w.height, w.width)
    for i in range(w.depth):
        kernel = p.weight(w.outer, w.inner if i == 0 else w.outer, w.kernel, w.kernel)
        y = p.add(graph.Conv(y, kernel, strides=(w.stride,) * 2, padding=(w.padding,) * 4))
    return p.module(y)


@build.register
def _softmax(w: Softmax) -> Module:
    p = _Program(w.dtype)
    return p.module(p.add(graph.Softmax(p.input(w.rows, w.columns), axis=1)))


@build.register
def _layer_norm(w: LayerNorm) -> Module:
    p = _Program(w.dtype)
    x = p.input(w.rows, w.columns)
    return p.module(p.add(graph.RmsNorm(x, p.weight(w.columns), rank=1, eps=1e-5)) if w.rms else p.norm(x))


@build.register
def _elementwise(w: Elementwise) -> Module:
    p = _Program(w.dtype)
    operands = [p.input(*w.shape)]
    if w.operands == 2:
        operands.append(p.number(2.0) if w.scalar else p.input(*w.shape))
    return p.module(p.apply(w.op, *operands))


@build.register
def _attention(w: Attention) -> Module:
    """Queries that share keys and values lie along an axis of their own, over which those are broadcast."""
    p = _Program(w.dtype)
    group = w.heads // w.kv_heads
    q_head = (w.batch, w.kv_heads, group) if group > 1 else (w.batch, w.heads)
    kv_head = (w.batch, w.kv_heads, 1) if group > 1 else (w.batch, w.heads)
    q = p.input(*q_head, w.queries, w.dim)
    k, v = (p.input(*kv_head, w.keys, w.dim) for _ in range(2))
    if w.materialised:
        scores = p.apply("mul", p.add(graph.Matmul(q, k, transpose_b=True)), p.number(w.dim**-0.5))
        weights = p.add(graph.Softmax(scores, axis=scores.type.rank - 1))
        flat = [p.reshape(x, -1, *x.type.shape[2:]) for x in (weights, v)]  # so that nothing takes it for a fused one
        return p.module(p.add(graph.Matmul(*flat)))
    return p.module(p.add(graph.Attention(q, k, v, scale=w.dim**-0.5, causal=w.causal)))


@build.register
def _self_attention(w: SelfAttention) -> Module:
    p = _Program(w.dtype)
    return p.module(p.self_attention(p.input(w.tokens, w.hidden), w.heads))


@build.register
def _feed_forward(w: FeedForward) -> Module:
    p = _Program(w.dtype)
    x = p.input(w.rows, w.hidden)
    inner = p.gate(p.linear(x, 2 * w.inner, bias=False)) if w.gated else p.apply("gelu", p.linear(x, w.inner))
    return p.module(p.linear(inner, w.hidden, bias=not w.gated))


@build.register
def _gated_activation(w: GatedActivation) -> Module:
    p = _Program(w.dtype)
    return p.module(p.gate(p.input(w.rows, 2 * w.columns)))


@build.register
def _embedding(w: Embedding) -> Module:
    p = _Program(w.dtype)
    return p.module(p.add(graph.Gather(p.weight(w.vocabulary, w.hidden), p.input(w.tokens, dtype="i64"), axis=0)))


@build.register
def _rotary(w: Rotary) -> Module:
    """The halves of each head as a complex number, turned: heads of queries and keys lie side by side in a row."""
    p = _Program(w.dtype)
    half = w.dim // 2
    x = p.input(w.tokens, w.heads + w.kv_heads, w.dim)
    cos, sin = (p.input(w.tokens, 1, half) for _ in range(2))
    low, high = p.slice(x, 0, half), p.slice(x, half, half)
    real = p.apply("sub", p.apply("mul", low, cos), p.apply("mul", high, sin))
    imaginary = p.apply("add", p.apply("mul", high, cos), p.apply("mul", low, sin))
    return p.module(real, imaginary)


@build.register
def _encoder_block(w: EncoderBlock) -> Module:
    p = _Program(w.dtype)
    x = p.input(w.tokens, w.hidden)
    x = p.norm(p.apply("add", p.self_attention(x, w.heads), x))
    y = p.linear(p.apply("relu", p.linear(x, 4 * w.hidden)), w.hidden)
    return p.module(p.norm(p.apply("add", y, x)))


def io_bytes(module: Module) -> int:
    """Bytes of the inputs and the results of a program, without the state that it keeps in place."""
    main = module.main
    kept = set(main.attributes.get("aliases", ())[::2])  # pairs of a result and the argument that it is written to
    results = [v for i, v in enumerate(main.outputs) if i not in kept]
    inputs = [a for a in main.args if not str(a.name).startswith("state.")]
    return sum(v.type.bytes for v in (*inputs, *results))
