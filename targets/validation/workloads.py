"""What was measured: one op, a block of a network, or a whole one, by its sizes. A dtype is the IR's name for it.

Two cases with equal workloads on the same engines of a target are priced once.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gemm:
    """`y[b, m, n] = x[b, m, k] w[b, k, n]`; `weight`: w is a parameter; `transposed`: it is stored as [n, k]."""

    m: int
    k: int
    n: int
    dtype: str
    batch: int = 1
    weight: bool = True
    transposed: bool = False
    bias: bool = False


@dataclass(frozen=True, slots=True)
class Conv:
    """`depth` square convolutions one after the other over x[batch, inner, height, width]."""

    batch: int
    inner: int
    outer: int
    height: int
    width: int
    kernel: int
    stride: int
    padding: int
    dtype: str
    depth: int = 1


@dataclass(frozen=True, slots=True)
class Softmax:
    """Over the last axis of x[rows, columns]."""

    rows: int
    columns: int
    dtype: str


@dataclass(frozen=True, slots=True)
class LayerNorm:
    """Over the last axis of x[rows, columns], with scale and shift; `rms`: without mean and shift."""

    rows: int
    columns: int
    dtype: str
    rms: bool = False


@dataclass(frozen=True, slots=True)
class Elementwise:
    """One function of an element; `scalar`: the second operand is a number rather than a tensor."""

    op: str
    shape: tuple[int, ...]
    dtype: str
    operands: int = 1
    scalar: bool = False


@dataclass(frozen=True, slots=True)
class Attention:
    """`softmax(q k^T / sqrt(dim)) v` over q[batch, heads, queries, dim] and k, v[batch, kv_heads, keys, dim].

    `materialised`: as two products and a softmax between, whose scores are tensors of the program.
    """

    batch: int
    heads: int
    kv_heads: int
    queries: int
    keys: int
    dim: int
    dtype: str
    causal: bool = False
    materialised: bool = False


@dataclass(frozen=True, slots=True)
class SelfAttention:
    """Attention of one sequence with its four projections, as a transformer's layer has it."""

    tokens: int
    hidden: int
    heads: int
    dtype: str


@dataclass(frozen=True, slots=True)
class FeedForward:
    """Two products with an activation between. `gated`: silu(x G) * (x U), G and U side by side in one product;
    otherwise gelu (its exact form) and biases."""

    rows: int
    hidden: int
    inner: int
    gated: bool
    dtype: str


@dataclass(frozen=True, slots=True)
class GatedActivation:
    """`silu(gate) * up` over x[rows, 2 * columns] that holds both side by side."""

    rows: int
    columns: int
    dtype: str


@dataclass(frozen=True, slots=True)
class Embedding:
    """Rows of a table [vocabulary, hidden] by token numbers."""

    tokens: int
    vocabulary: int
    hidden: int
    dtype: str


@dataclass(frozen=True, slots=True)
class Rotary:
    """Rotary embedding of q[tokens, heads, dim] and k[tokens, kv_heads, dim]."""

    tokens: int
    heads: int
    kv_heads: int
    dim: int
    dtype: str


@dataclass(frozen=True, slots=True)
class EncoderBlock:
    """A transformer layer: attention with projections, norms, and two products with relu between."""

    tokens: int
    hidden: int
    heads: int
    dtype: str


@dataclass(frozen=True, slots=True)
class Network:
    """A whole network by its name in the table. `precision` is "fp16", "fp32", or a compression such as "pal4".

    `attention` is the form in which it was written for the measurement, where that is not the network's own:
    "split_einsum" or "split_einsum_v2".
    """

    name: str
    precision: str
    batch: int = 1
    attention: str = ""


@dataclass(frozen=True, slots=True)
class Generation:
    """A language model: `phase` "prefill" reads `tokens` at once; "decode" makes one after `tokens` others.

    `weights` is the format in which they are stored: "F16", "Q8_0", "Q4_0", ...
    """

    model: str
    weights: str
    phase: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Call:
    """A network that is launched by itself, so many times; `engine`: where that is not the case's."""

    network: Network
    times: int
    engine: str = ""


@dataclass(frozen=True, slots=True)
class Programs:
    """Networks that are launched one after the other, each when the one before has its result."""

    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True)
class ArrayProduct:
    """An [m, k] by [k, n] product on one systolic array; `dataflow` is "ws", "is" or "os". Measured in cycles."""

    m: int
    n: int
    k: int
    rows: int
    columns: int
    dataflow: str


Workload = (
    Gemm
    | Conv
    | Softmax
    | LayerNorm
    | Elementwise
    | Attention
    | SelfAttention
    | FeedForward
    | GatedActivation
    | Embedding
    | Rotary
    | EncoderBlock
    | Network
    | Generation
    | Programs
    | ArrayProduct
)
