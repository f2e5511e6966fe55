"""Ops in odd forms and sizes (primes, 1, nothing) at every level: with all engines, and on each engine alone."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from frontend_check import imported, integers, relative_error, tensor
from tilewright.compiler.frontend.eager import example_inputs, run_eager
from tilewright.compiler.interpret import run_graph, run_soc, run_tile
from tilewright.compiler.pipeline import compile_module
from tilewright.targets import load_target
from torch import nn

ENGINES = ("ane", "gpu", "cpu")
X, IMAGE, VOLUME = tensor(3, 7, 5), tensor(2, 6, 11, 7), tensor(1, 4, 5, 7, 3)
Q, K, V = tensor(2, 6, 7, 8), tensor(2, 6, 11, 8, seed=1), tensor(2, 6, 11, 5, seed=2)
WIDE = tensor(131, 67)
sdpa = F.scaled_dot_product_attention


class Recurrent(nn.Module):
    def __init__(self, kind: str, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = getattr(nn, kind)(5, 7, **options)

    def forward(self, x: torch.Tensor) -> Any:
        return self.layer(x)


class Cells(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lstm, self.gru = nn.LSTMCell(5, 7), nn.GRUCell(7, 3)

    def forward(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor, g: torch.Tensor) -> Any:
        h, c = self.lstm(x, (h, c))
        return h, c, self.gru(h, g)


def writes(x: torch.Tensor, i: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y[:, i] = v
    y[i[:1], :, 2] = 7.0
    y[..., -1] = 0
    y[y > 1] = 1.0
    y[1:3, ::2] += 1
    return y


def resized(mode: str, **options: Any) -> Callable[[torch.Tensor], Any]:
    return lambda x: (
        F.interpolate(x, (5, 13), mode=mode, **options),
        F.interpolate(x, scale_factor=1.7, mode=mode, **options),
        F.interpolate(x, scale_factor=(2, 0.5), mode=mode, **options),
        F.interpolate(x, scale_factor=1.3, mode=mode, recompute_scale_factor=True, **options),
    )


CASES: dict[str, tuple[Any, tuple[torch.Tensor, ...]]] = {
    "views": (lambda x: (x.view(21, 5), x.permute(2, 0, 1), x[:, 1::2], x.expand(2, 3, 7, 5), x.mT.reshape(-1)), (X,)),
    "conv2d_of_groups": (lambda x, w, b: F.conv2d(x, w, b, 2, 2, 2, 3), (IMAGE, tensor(9, 2, 3, 2), tensor(9))),
    "conv2d_depthwise": (lambda x, w: F.conv2d(x, w, None, 3, 2, 2, 6), (IMAGE, tensor(12, 1, 3, 2))),
    "conv1d": (lambda x, w: F.conv1d(x, w, None, 2, 1, 2, 3), (tensor(2, 6, 31), tensor(9, 2, 5))),
    "conv1d_wide": (lambda x, w: F.conv1d(x, w, padding=3), (tensor(1, 67, 131), tensor(37, 67, 7))),
    "conv3d": (lambda x, w: F.conv3d(x, w, None, (1, 2, 1), (1, 0, 2), (1, 2, 1), 2), (VOLUME, tensor(6, 2, 3, 2, 2))),
    "conv_of_no_image": (lambda x, w: F.conv2d(x[:0], w), (IMAGE, tensor(5, 6, 3, 3))),
    "transposed_1d": (
        lambda x, w: F.conv_transpose1d(x, w, None, 3, 1, 2, 2, 1),
        (tensor(2, 6, 13), tensor(6, 2, 4)),
    ),
    "transposed_3d": (lambda x, w: F.conv_transpose3d(x, w, None, 2, 1), (VOLUME, tensor(4, 3, 3, 2, 2))),
    "lstm": (Recurrent("LSTM", num_layers=2, bidirectional=True, proj_size=3), (tensor(3, 2, 5),)),
    "gru": (Recurrent("GRU", num_layers=2, bidirectional=True, batch_first=True), (tensor(2, 3, 5),)),
    "gru_without_batch": (Recurrent("GRU", bias=False), (tensor(3, 5),)),
    "projection_without_bias": (Recurrent("LSTM", bias=False, proj_size=2), (tensor(2, 1, 5),)),
    "cells": (Cells(), (tensor(2, 5), tensor(2, 7), tensor(2, 7), tensor(2, 3))),
    "max_pools": (
        lambda x: (F.max_pool2d(x, 3, 2, 1, 1, True, True), F.max_pool2d(x, (3, 2), (2, 1), (1, 0), (1, 2), True)),
        (IMAGE,),
    ),
    "max_pool3d": (lambda x: F.max_pool3d(x, 2, 1, 1, return_indices=True), (VOLUME,)),
    "avg_pools": (
        lambda x: (F.avg_pool2d(x, 3, 2, 1, True, False), F.avg_pool2d(x, 3, 2, 1, True), F.lp_pool2d(x, 2, 3, 2)),
        (IMAGE,),
    ),
    "adaptive_pools": (
        lambda x: (F.adaptive_avg_pool2d(x, (3, 2)), F.adaptive_max_pool2d(x, (5, 3), return_indices=True)),
        (IMAGE,),
    ),
    "roll_and_flip": (lambda x: (x.roll((1, -2), (0, 2)), x.roll(9), x.flip(0, 2), x.rot90(1, (1, 2))), (X,)),
    "pads": (lambda x: tuple(F.pad(x, (2, 1, 3, 1), mode=m) for m in ("reflect", "replicate", "circular")), (IMAGE,)),
    "pads_of_volumes": (
        lambda x: (F.pad(x, (1, 1, 2, 1, 1, 0), mode="reflect"), F.pad(x, (1, -1, 1, 1, 2, 2))),
        (VOLUME,),
    ),
    "triangles": (lambda x: (x.tril(-1), x.triu(2), torch.tril_indices(4, 5, 1), F.one_hot(torch.arange(5), 7)), (X,)),
    "masked_fill": (lambda x: (x.masked_fill(x > 0, -torch.inf), x.masked_fill_(x[0] > 1, 3)), (X,)),
    "writes": (writes, (X, torch.tensor([2, 0, 1]), tensor(3, 3, 5))),
    "grid_sample": (
        lambda x, g: tuple(
            F.grid_sample(x, g, mode=m, padding_mode=p, align_corners=a)
            for m, p, a in [("bilinear", "reflection", True), ("nearest", "border", False), ("bicubic", "zeros", False)]
        ),
        (IMAGE, tensor(2, 5, 3, 2) * 0.7),
    ),
    "pixel_shuffles": (
        lambda x: (F.pixel_shuffle(x, 2), F.pixel_unshuffle(x[..., :6], 3), F.channel_shuffle(x, 4)),
        (tensor(2, 8, 9, 7),),
    ),
    "nearest": (resized("nearest"), (IMAGE,)),
    "nearest_exact": (resized("nearest-exact"), (IMAGE,)),
    "bilinear": (resized("bilinear"), (IMAGE,)),
    "bicubic": (resized("bicubic", align_corners=True), (IMAGE,)),
    "trilinear": (
        lambda x: (F.interpolate(x, (3, 9, 4), mode="trilinear"), F.interpolate(x, scale_factor=2)),
        (VOLUME,),
    ),
    "scans": (lambda x: (x.cumsum(1), x.cumprod(2), (x > 0).cumsum(0), x.cummax(1), x.logcumsumexp(2)), (X,)),
    "stable_sorts": (
        lambda n: (
            n.sort(dim=1, stable=True),
            n.sort(dim=0, descending=True, stable=True),
            n.argsort(dim=1, stable=True),
        ),
        (integers(0, 4, 13, 9),),
    ),
    "topk": (lambda x: (x.topk(3, 1), x.topk(1, 0, largest=False)), (torch.arange(91.0).reshape(7, 13) * 37 % 91,)),
    "einsum": (
        lambda a, b, v: (
            torch.einsum("bij,bkj,b->ik", a, b, v),
            torch.einsum("...ij->...ji", a),
            torch.einsum("b i j, b k j -> b", a, b),
            torch.einsum("ij,kl->ijkl", a[0], b[0]),
            torch.einsum("i,i", v, v),
            torch.einsum(a, [0, 1, 2], v, [0], [2, 1]),
        ),
        (X, tensor(3, 4, 5), tensor(3)),
    ),
    "attention": (
        lambda q, k, v, m: (sdpa(q, k, v, m > 0.1), sdpa(q, k, v, m, scale=0.3), sdpa(q, k, v, is_causal=True)),
        (Q, K, V, tensor(7, 11).abs()),
    ),
    "attention_of_few_keys": (
        lambda q, k, v: (
            sdpa(q, k[:, :2], v[:, :2], enable_gqa=True),
            sdpa(q, k[:, :1], v[:, :1], enable_gqa=True, is_causal=True),
        ),
        (Q, K, V),
    ),
    "attention_of_lower_ranks": (lambda q, k, v: (sdpa(q[0], k[0], v[0]), sdpa(q[0, 0], k[0, 0], v[0, 0])), (Q, K, V)),
    "wide": (lambda a: (a @ a.T, a.T @ a, a.softmax(-1), a.sum(0), a.argmax(1), a.t().contiguous()), (WIDE,)),
    "of_one_element": (
        lambda x: (x.sum(0), x.softmax(0), x @ x.T, F.layer_norm(x, (1,)), x.cumsum(0)),
        (tensor(1, 1),),
    ),
    "of_nothing": (
        lambda x: (
            x.sum(0),
            x.softmax(1),
            x @ x.T,
            x.T @ x,
            F.layer_norm(x, (4,)),
            x.mean(1),
            x.cumsum(0),
            x.any(),
            x.all(0),
        ),
        (tensor(0, 4),),
    ),
    "attention_of_nothing": (lambda x: (sdpa(x, x, x), x.argmax(-1), x.var(-1)), (tensor(2, 0, 5, 8),)),
    "integers": (
        lambda a, b: (a // b, a % b, a & b, ~a, a << 1, a >> 1, a.clamp(-2, 2), a / b, a.max(1), a.prod(1), a @ b.T),
        (integers(-9, 9, 5, 7), integers(1, 4, 5, 7)),
    ),
    "gathers": (
        lambda x, i: (
            x.gather(1, i),
            torch.scatter(x, 1, i, 9.0),
            x.scatter_add(1, i, x),
            x.scatter_reduce(1, i, x, "amax"),
        ),
        (X, integers(0, 7, 3, 7, 5)),
    ),
    "histograms": (lambda x: (torch.histc(x, 13, -2, 2), torch.histc(x.flatten()[:1], 3)), (X,)),
}


def check_levels(function: Any, inputs: tuple[torch.Tensor, ...], engines: Sequence[str], dtype: str) -> None:
    arith = "f32" if dtype == "f16" else "native"
    loaded = imported(function, *inputs, dtype=dtype)
    arrays, expected = example_inputs(loaded), run_eager(loaded, arith)
    target = load_target("m4")
    same(run_graph(loaded.module, arrays, arith), expected)
    compile_module(loaded.module, target, engines, "tile")
    same(run_tile(loaded.module, arrays, arith), expected)
    again = imported(function, *inputs, dtype=dtype).module
    compile_module(again, target, engines, "soc")
    same(run_soc(again, arrays, arith), expected)


def same(got: Sequence[np.ndarray[Any, Any]], expected: Sequence[np.ndarray[Any, Any]]) -> None:
    for i, (a, b) in enumerate(zip(got, expected, strict=True)):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), f"output {i}"
        if b.dtype.kind == "f":
            assert relative_error(a, b) < 1e-4, f"output {i}"
        else:
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", CASES)
def test_with_all_engines(name: str) -> None:
    check_levels(*CASES[name], ENGINES, "f32")


@pytest.mark.parametrize("name", CASES)
def test_in_f16_on_one_engine(name: str) -> None:
    """Each case on one of them; the slow test takes all three."""
    check_levels(*CASES[name], (ENGINES[zlib.crc32(name.encode()) % 3],), "f16")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", CASES)
def test_on_each_engine_alone(name: str, engine: str) -> None:
    check_levels(*CASES[name], (engine,), "f32")
