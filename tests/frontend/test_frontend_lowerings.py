"""Every lowering against torch, by running what it makes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from frontend_check import compare, integers, tensor
from tilewright.compiler.frontend.lowerings import LOWERINGS

X, Y = tensor(3, 4, 5), tensor(3, 4, 5, seed=1)
M = tensor(4, 6)
POSITIVE = X.abs() + 0.5
N = integers(-5, 6, 3, 4)
B = integers(0, 2, 3, 4, 5).bool()
IMAGE = tensor(2, 4, 9, 8)
aten = torch.ops.aten

Case = tuple[Callable[..., Any], tuple[Any, ...]]
CASES: dict[str, Case] = {}


def cases(**table: tuple[Any, ...]) -> None:
    """name = (function, *arguments)"""
    for name, (function, *args) in table.items():
        assert name not in CASES
        CASES[name] = (function, tuple(args))


def with_two(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x: function(x, 2)


UNARY = [
    "neg",
    "abs",
    "sign",
    "floor",
    "ceil",
    "round",
    "trunc",
    "relu",
    "exp",
    "exp2",
    "expm1",
    "sin",
    "cos",
    "erf",
    "sigmoid",
    "tanh",
    "square",
    "isnan",
    "isinf",
]
cases(**{name: (getattr(torch, name), X) for name in UNARY})
cases(**{name: (getattr(torch, name), POSITIVE) for name in ["sqrt", "rsqrt", "log", "log1p", "log2", "reciprocal"]})
cases(
    **{
        f"{name}_of_integers": (getattr(torch, name), N)
        for name in ["neg", "abs", "sign", "exp", "sigmoid", "bitwise_not"]
    }
)
cases(
    **{
        name: (getattr(F, name), X)
        for name in ["silu", "mish", "hardswish", "hardsigmoid", "relu6", "selu", "celu", "logsigmoid"]
    }
)
BINARY = [
    "add",
    "sub",
    "mul",
    "div",
    "maximum",
    "minimum",
    "remainder",
    "fmod",
    "floor_divide",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
]
cases(**{f"{name}_tensors": (getattr(torch, name), X, Y) for name in BINARY})
cases(**{f"{name}_number": (with_two(getattr(torch, name)), X) for name in BINARY if "imum" not in name})
cases(**{f"{name}_integers": (getattr(torch, name), N, integers(1, 4, 4)) for name in BINARY if name != "fmod"})
cases(**{f"{name}_bools": (getattr(torch, name), B, B[0]) for name in ["logical_and", "logical_or", "logical_xor"]})
cases(**{f"{name}_integers": (getattr(torch, f"bitwise_{name}"), N, N + 3) for name in ("and", "or", "xor")})
cases(
    operators=(lambda a, b: (a & b, a | b, a ^ b, ~a), B, B[0]),
    logical_not=(torch.logical_not, N),
    promotion=(lambda a, b, c: (a + b, a * 2.5, a + c, b + c, b / 2, b > 0.5), X, N[0, 0], N[:, :, None]),
    promotion_of_scalars=(lambda a, s: (a + s, a * s), N, torch.tensor(2.5)),
    add_alpha=(lambda a, b: (torch.add(a, b, alpha=3), torch.sub(a, b, alpha=2), torch.rsub(a, b)), X, Y),
    rsub_number=(lambda a: 1 - a, X),
    div_modes=(lambda a, b: (torch.div(a, b, rounding_mode="floor"), torch.div(a, b, rounding_mode="trunc")), X, Y),
    powers=(lambda x: (x**2, x**3, x**0.5, x**-0.5, x**-1, x**1, x**2.5, 2**x), POSITIVE),
    power_of_tensors=(torch.pow, POSITIVE, Y),
    addcmul=(lambda a, b, c: (torch.addcmul(a, b, c, value=0.5), torch.addcdiv(a, b, c, value=2)), X, Y, POSITIVE),
    lerp=(lambda a, b: (torch.lerp(a, b, 0.25), torch.lerp(a, b, b)), X, Y),
    clamps=(lambda x: (x.clamp(-0.5, 0.5), x.clamp(min=0.1), x.clamp(max=0), x.clamp_min(0.2), x.clamp_max(0.1)), X),
    clamp_tensors=(lambda x, a, b: torch.clamp(x, a, b), X, Y - 1, Y + 1),
    clamp_integers=(lambda x: x.clamp(0, 3), N),
    hardtanh=(lambda x: F.hardtanh(x, -0.3, 0.6), X),
    nan_to_num=(
        lambda x: (torch.nan_to_num(1 / x), torch.nan_to_num(1 / x, 1.0, 2.0, 3.0)),
        torch.tensor([0.0, -0.0, 2]),
    ),
    gelus=(lambda x: (F.gelu(x), F.gelu(x, approximate="tanh")), X),
    leaky_relu=(lambda x: F.leaky_relu(x, 0.2), X),
    prelu=(F.prelu, X, tensor(4)),
    elu=(lambda x: F.elu(x, 0.7), X),
    softplus=(lambda x: (F.softplus(x), F.softplus(x, beta=2)), X),
    threshold=(lambda x: F.threshold(x, 0.1, -2), X),
    glu=(lambda x: F.glu(x, 1), X),
    where=(lambda c, a, b: (torch.where(c, a, b), torch.where(c, a, 0.5), torch.where(c, 1.0, b)), B, X, Y),
    masked_fill=(lambda x, m: (x.masked_fill(m, -1), x.masked_fill(m, x[0, 0, 0])), X, B),
    conversions=(
        lambda x, n: (x.to(torch.int32), n.float(), n.to(torch.bool), x > 0, n.type_as(x), (x > 0).long()),
        X,
        N,
    ),
)
cases(
    linear=(F.linear, X, tensor(7, 5), tensor(7)),
    linear_without_bias=(F.linear, tensor(5), tensor(7, 5)),
    linear_of_a_vector=(F.linear, X, tensor(5)),
    matmul=(torch.matmul, tensor(2, 1, 4, 5), tensor(3, 5, 6)),
    matmul_vectors=(lambda a, b, v: (a @ v, v @ b, v @ v), tensor(3, 4, 5), tensor(3, 5, 4), tensor(5)),
    mm=(torch.mm, M, M.t()),
    bmm=(torch.bmm, X, X.transpose(1, 2)),
    addmm=(lambda b, x, y: (torch.addmm(b, x, y), torch.addmm(b, x, y, beta=2, alpha=0.5)), tensor(7), M, tensor(6, 7)),
    addmm_without_bias=(lambda b, x, y: torch.addmm(b, x, y, beta=0), tensor(7), M, tensor(6, 7)),
    outer=(torch.outer, tensor(3), tensor(4)),
    einsum=(lambda a, b: torch.einsum("bhmd,bhnd->bhmn", a, b), tensor(2, 3, 4, 5), tensor(2, 3, 6, 5)),
    einsum_sums=(lambda a, b: torch.einsum("ijx,jk->ki", a, b), tensor(3, 4, 2), tensor(4, 5)),
    einsum_ellipsis=(lambda a, b: torch.einsum("...ij,jk->...ik", a, b), tensor(2, 3, 4), tensor(4, 5)),
    einsum_implicit=(lambda a, b: torch.einsum("ij,jk", a, b), tensor(3, 4), tensor(4, 5)),
    einsum_of_one=(lambda a: torch.einsum("abc->ca", a), X),
)
cases(
    conv1d=(lambda x, w, b: F.conv1d(x, w, b, stride=2, padding=1), tensor(2, 3, 9), tensor(4, 3, 3), tensor(4)),
    conv2d=(lambda x, w: F.conv2d(x, w, stride=(2, 1), padding=(0, 2), dilation=2), IMAGE, tensor(6, 4, 3, 3)),
    conv2d_grouped=(lambda x, w: F.conv2d(x, w, padding=1, groups=2), IMAGE, tensor(6, 2, 3, 3)),
    conv2d_depthwise=(lambda x, w, b: F.conv2d(x, w, b, groups=4), IMAGE, tensor(8, 1, 3, 3), tensor(8)),
    conv2d_same=(lambda x, w: F.conv2d(x, w, padding="same", dilation=3), IMAGE, tensor(6, 4, 2, 3)),
    conv2d_valid=(lambda x, w: F.conv2d(x, w, padding="valid"), IMAGE, tensor(6, 4, 2, 3)),
    conv2d_unbatched=(F.conv2d, IMAGE[0], tensor(6, 4, 3, 3)),
    conv3d=(lambda x, w: F.conv3d(x, w, padding=1), tensor(1, 2, 3, 4, 5), tensor(3, 2, 3, 3, 3)),
    conv_transpose1d=(lambda x, w: F.conv_transpose1d(x, w, stride=3), tensor(2, 3, 5), tensor(3, 4, 3)),
    conv_transpose2d=(lambda x, w, b: F.conv_transpose2d(x, w, b, stride=2), IMAGE, tensor(4, 3, 2, 2), tensor(3)),
)
cases(
    layer_norm=(
        lambda x, w, b: (F.layer_norm(x, (5,), w, b), F.layer_norm(x, (4, 5))),
        X,
        tensor(5),
        tensor(5, seed=1),
    ),
    layer_norm_bias_only=(lambda x, b: F.layer_norm(x, (5,), None, b), X, tensor(5)),
    rms_norm=(lambda x, w: (F.rms_norm(x, (5,), w), F.rms_norm(x, (4, 5), eps=1e-3)), X, tensor(5)),
    group_norm=(lambda x, w, b: (F.group_norm(x, 2, w, b), F.group_norm(x, 4)), IMAGE, tensor(4), tensor(4, seed=1)),
    instance_norm=(lambda x, w, b: F.instance_norm(x, weight=w, bias=b), IMAGE, tensor(4), tensor(4, seed=1)),
    batch_norm=(lambda x, m, v: F.batch_norm(x, m, v), IMAGE, tensor(4), tensor(4).abs() + 0.5),
    softmaxes=(lambda x: (x.softmax(-1), x.softmax(0), x.log_softmax(1), F.softmin(x, 1)), X),
    norms=(lambda x: (x.norm(), x.norm(dim=1), x.norm(p=1, dim=-1, keepdim=True), F.normalize(x, dim=1)), X),
    norm_of_infinite_order=(lambda x: torch.linalg.vector_norm(x, float("inf"), dim=(0, 1)), X),
    cosine_similarity=(lambda x, y: F.cosine_similarity(x, y, dim=-1), X, Y),
)
cases(
    sums=(lambda x: (x.sum(), x.sum(1), x.sum((0, 2), keepdim=True), x.sum(dtype=torch.float64)), X),
    sum_of_bools=(lambda b: (b.sum(), b.sum(0)), B),
    means=(lambda x: (x.mean(), x.mean(-1), x.mean((1, 2), keepdim=True)), X),
    products=(lambda x: (x.prod(), x.prod(1)), X),
    extremes=(lambda x: (x.amax(1), x.amin((0, 1)), x.max(), x.min()), X),
    extremes_with_index=(lambda x: (x.max(1), x.min(-1, keepdim=True)), X),
    positions=(lambda x: (x.argmax(), x.argmax(1), x.argmin(0, keepdim=True), x.argmax(keepdim=True)), X),
    positions_of_integers=(lambda n: (n.argmax(1), n.argmin(1)), torch.tensor([[3, 1, 2], [-5, 7, 0]])),
    truth=(lambda b: (b.any(), b.all(), b.any(1), b.all(2, keepdim=True)), B),
    variances=(lambda x: (x.var(), x.var(1), x.var(1, unbiased=False), x.std(-1), torch.var_mean(x, 0)), X),
    logaddexp=(torch.logaddexp, X, Y),
    distance=(F.pairwise_distance, X, Y),
    logsumexp=(lambda x: (x.logsumexp(1), x.logsumexp((0, 2), keepdim=True)), X),
    cumsum=(lambda x, n: (x.cumsum(1), n.cumsum(-1), (n > 0).cumsum(0)), X, N),
)
cases(
    reshapes=(
        lambda x: (x.view(12, 5), x.reshape(-1), x.flatten(1), x.unflatten(1, (2, 2)), x[None], x[None].squeeze()),
        X,
    ),
    permutations=(
        lambda x: (x.permute(2, 0, 1), x.transpose(0, -1), x[0].t(), x.mT, x.movedim(0, 2), x.swapaxes(0, 1)),
        X,
    ),
    movedim_several=(lambda x: x.movedim((0, 1), (2, 0)), X),
    expands=(lambda x: (x.expand(6, 3, 4, 5), x[:, :1].expand(-1, 7, -1), x.broadcast_to(2, 3, 4, 5)), X),
    slices=(lambda x: (x[1:], x[:, -2:], x[..., ::2], x[2, 1:3, 0], x[:, 1:100:3], x.narrow(1, 1, 2)), X),
    splits=(lambda x: (x.split(2, 1), x.chunk(2, -1), x.split([1, 3], 1), x.unbind(0), x.tensor_split(3, 2)), X),
    scatters_of_slices=(lambda x, y: (x.slice_scatter(y[:, :2], 1, 0, 4, 2), x.select_scatter(y[0], 0, 1)), X, Y),
    joins=(
        lambda x, y: (torch.cat([x, y], 1), torch.stack([x, y], -1), torch.hstack([x, y]), torch.vstack([x, y])),
        X,
        Y,
    ),
    cat_promotes=(lambda x, n: torch.cat([x, n], 0), X[0, :, :4], N),
    repeats=(
        lambda x: (
            x.repeat(2, 1, 3),
            x.repeat(2, 1, 1, 2),
            x.repeat_interleave(2, 1),
            x.tile(2),
            x.repeat_interleave(3),
        ),
        X,
    ),
    meshgrid=(
        lambda a, b: (*torch.meshgrid(a, b, indexing="ij"), *torch.meshgrid(a, b, indexing="xy")),
        X[0, 0],
        X[0, :, 0],
    ),
    roll=(lambda x: (x.roll(1, 0), x.roll((2, -1), (1, 2)), x.roll(3)), X),
    flip=(lambda x: x.flip(0, 2), X),
    pixel_shuffles=(
        lambda x: (F.pixel_shuffle(x, 2), F.pixel_unshuffle(x[..., :8, :], 2), F.channel_shuffle(x, 2)),
        IMAGE,
    ),
    pads=(
        lambda x: (F.pad(x, (1, 2)), F.pad(x, (1, -1, 0, 2), value=3.0), F.pad(x, (0, 0, 2, 1), value=-math.inf)),
        IMAGE,
    ),
    pads_from_within=(
        lambda x: tuple(F.pad(x, (2, 1, 0, 3), mode=m) for m in ("reflect", "replicate", "circular")),
        IMAGE,
    ),
    diff=(lambda x: (x.diff(), x.diff(dim=0, n=2), x.diff(dim=1, prepend=x[:, :1])), X),
    dropout_in_eval=(lambda x: F.dropout(x, 0.5, False) + 1, X),
)
ROWS = torch.tensor([2, 0, 1, 2])
cases(
    embedding=(lambda i, w: F.embedding(i, w), integers(0, 6, 2, 3), tensor(6, 4)),
    index_select=(lambda x, i: (x.index_select(1, i), x.index_select(0, i)), X, ROWS),
    index_one=(lambda x, i: (x[i], x[:, i], x[:, :, i[None]]), X, ROWS),
    index_negative=(lambda x, i: (x[i], x[:, i, i]), X, torch.tensor([-1, 0, -3])),
    index_two=(
        lambda x, i, j: (x[i, j], x[:, i, j], x[i, :, j], x[i[:, None], j]),
        X,
        ROWS,
        torch.tensor([0, 3, 2, 1]),
    ),
    gather=(lambda x, i: (x.gather(1, i), x.gather(2, i[:, :, :2]), x.gather(0, i)), X, integers(0, 3, 3, 4, 5)),
    take=(lambda x, i: x.take(i), X, integers(0, 60, 4)),
    index_put=(lambda x, i, v: torch.index_put(x, (i,), v), X, torch.tensor([2, 0]), Y[:2]),
    index_put_two=(lambda x, i, v: torch.index_put(x, (i, i), v), X, torch.tensor([2, 0]), tensor(5)),
    index_put_mask=(lambda x, b: torch.index_put(x, (b,), torch.tensor(3.0)), X, B),
    index_copy=(lambda x, i, v: x.index_copy(1, i, v), X, torch.tensor([3, 1]), Y[:, :2]),
    index_fill=(lambda x, i: x.index_fill(1, i, -1), X, torch.tensor([3, 1])),
    scatter=(lambda x, i, v: (x.scatter(1, i, v), x.scatter(2, i, 7.0)), X, torch.tensor([[[3, 1], [0, 2]]]), Y),
    one_hot=(lambda i: F.one_hot(i, 4), ROWS),
    creations=(
        lambda x: (torch.zeros(2, 3), torch.ones_like(x), x.new_full((2,), 7), torch.full((2, 2), 5), torch.eye(3)),
        X,
    ),
    ranges=(
        lambda x: (x, torch.arange(5), torch.arange(2, 9, 3), torch.arange(0, 1, 0.25), torch.linspace(0, 1, 5)),
        X,
    ),
    triangles=(lambda x: (x.tril(), x.triu(1), x.tril(-1)), X),
)
POOL = (2, 3)
cases(
    max_pools=(
        lambda x: (F.max_pool2d(x, 3, 2, 1), F.max_pool2d(x, 2, ceil_mode=True), F.max_pool2d(x, 2, 1, 0, 2)),
        IMAGE,
    ),
    max_pool_of_other_ranks=(lambda x, y: (F.max_pool1d(x, 2), F.max_pool3d(y, 2)), IMAGE[0], IMAGE[None]),
    avg_pools=(
        lambda x: (F.avg_pool2d(x, POOL), F.avg_pool2d(x, 3, 2, 1), F.avg_pool2d(x, 2, divisor_override=3)),
        IMAGE,
    ),
    avg_pool_without_padding=(lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), IMAGE),
    avg_pool_ceil=(lambda x: F.avg_pool2d(x, (2, 3), ceil_mode=True), IMAGE),
    avg_pool_of_more_than_all=(lambda x: F.avg_pool2d(x, 2000, ceil_mode=True), IMAGE),
    max_pool_of_more_than_all=(lambda x: F.max_pool2d(x, 12, 1, (4, 5)), tensor(1, 2, 4, 3)),
    avg_pool1d=(lambda x: F.avg_pool1d(x, 3, 2, 1), IMAGE[0]),
    adaptive=(
        lambda x: (F.adaptive_avg_pool2d(x, 1), F.adaptive_avg_pool2d(x, (3, 4)), F.adaptive_avg_pool2d(x, (4, 3))),
        IMAGE,
    ),
    adaptive_max=(lambda x: F.adaptive_max_pool2d(x, (3, 4)), IMAGE),
    nearest=(
        lambda x: (F.interpolate(x, scale_factor=2), F.interpolate(x, (5, 13)), F.interpolate(x, scale_factor=1.7)),
        IMAGE,
    ),
    nearest_1d=(lambda x: F.interpolate(x, scale_factor=2), IMAGE[0]),
    linear_1d=(
        lambda x: tuple(F.interpolate(x, 13, mode="linear", align_corners=a) for a in (False, True)),
        IMAGE[0],
    ),
    linear_1d_scale=(lambda x: F.interpolate(x, scale_factor=1.7, mode="linear"), IMAGE[0]),
    linear_1d_of_infinities=(
        lambda x: F.interpolate(x / 0, 4, mode="linear"),
        torch.tensor([[[1.0]], [[-1.0]]]),
    ),
    bilinear=(
        lambda x: tuple(F.interpolate(x, (5, 13), mode="bilinear", align_corners=a) for a in (False, True)),
        IMAGE,
    ),
    bilinear_scale=(lambda x: F.interpolate(x, scale_factor=1.5, mode="bilinear"), IMAGE),
)


@pytest.mark.parametrize("name", CASES)
def test_lowering(name: str) -> None:
    function, args = CASES[name]
    compare(function, *args)


def test_every_lowering_names_an_op_of_torch() -> None:
    assert len(LOWERINGS) > 300
    assert all(isinstance(target, torch._ops.OpOverload) for target in LOWERINGS)
