"""Lowerings of order, scatter with reductions, matrix functions, sampling, recurrence: against torch, at two levels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from frontend_check import Function, compare, imported, integers, op_names, relative_error, tensor
from tilewright.compiler.frontend.eager import example_inputs, run_eager
from tilewright.compiler.interpret import run_soc
from tilewright.compiler.pipeline import compile_module
from tilewright.targets import load_target

X, Y = tensor(3, 4, 5), tensor(3, 4, 5, seed=1)
IMAGE = tensor(2, 4, 9, 8)
SQUARE = tensor(2, 4, 4)
POSITIVE = SQUARE @ SQUARE.mT + torch.eye(4)
ROWS = torch.tensor([2, 0, 2])
HOLES = torch.where(X > 1, torch.nan, X)


class Recurrent(torch.nn.Module):
    """An LSTM, a GRU and a plain recurrence over the same steps."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lstm = torch.nn.LSTM(5, 6, num_layers=2, bidirectional=True, batch_first=True)
        self.gru = torch.nn.GRU(5, 6)
        self.rnn = torch.nn.RNN(5, 6)

    def forward(self, x: torch.Tensor) -> Any:
        return self.lstm(x), self.gru(x), self.rnn(x)


CASES: dict[str, tuple[Callable[..., Any], tuple[torch.Tensor, ...]]] = {
    "sort": (lambda x: (x.sort(1), x.sort(-1, descending=True), x.argsort(0)), (X,)),
    "sort_equal": (
        lambda n: (n.sort(dim=0, stable=True), n.argsort(dim=0, descending=True, stable=True)),
        (integers(0, 3, 9),),
    ),
    "sort_nan": (lambda x: (x.sort(1).values, x.sort(1, descending=True).indices), (HOLES,)),
    "topk": (lambda x: (x.topk(2, 1), x.topk(3, 2, largest=False), x.kthvalue(2, 0)), (X,)),
    "median": (lambda x: (x.median(1), x.nanmedian(2), x.median()), (HOLES,)),
    "mode": (lambda n: n.mode(1), (integers(0, 3, 3, 7),)),
    "quantile": (lambda x: (x.quantile(0.3, 1), x.nanquantile(0.5)), (X,)),
    "scans": (lambda x: (x.cumprod(1), x.cummax(2), x.cummin(0), x.logcumsumexp(1)), (X,)),
    "searchsorted": (
        lambda x, y: (torch.searchsorted(x.sort().values, y), torch.bucketize(y, x[0, 0].msort())),
        (X, Y),
    ),
    "histc": (lambda x: (torch.histc(x, 7), torch.histc(x, 5, -1, 1)), (X,)),
    "scatter_add": (lambda x, i, v: (x.scatter_add(1, i, v), x.index_add(0, ROWS, v, alpha=2)), (X, X.argsort(1), Y)),
    "scatter_reduce": (
        lambda x, i, v: tuple(x.scatter_reduce(1, i, v, r) for r in ("sum", "prod", "mean", "amax", "amin")),
        (X, X.argsort(1), Y),
    ),
    "index_put_add": (lambda x, v: torch.index_put(x, (ROWS,), v, accumulate=True), (X, Y)),
    "masked_scatter": (lambda x, y: x.masked_scatter(x > 0, y), (X, Y)),
    "nonzero_static": (lambda x: torch.nonzero_static(x > 1, size=4), (X,)),
    "embedding_bag": (lambda i, w: F.embedding_bag(i, w, mode="mean"), (integers(0, 6, 2, 3), tensor(6, 4))),
    "max_pool_indices": (lambda x: F.max_pool2d(x, 3, 2, 1, return_indices=True), (IMAGE,)),
    "adaptive_max_uneven": (lambda x: F.adaptive_max_pool2d(x, (4, 3), return_indices=True), (IMAGE,)),
    "max_unpool": (lambda x: F.max_unpool2d(*F.max_pool2d(x[..., :8, :], 2, return_indices=True), [2, 2]), (IMAGE,)),
    "conv_transpose": (
        lambda x, w: F.conv_transpose2d(x, w, None, (2, 1), (1, 2), (1, 0), groups=2, dilation=(1, 2)),
        (IMAGE, tensor(4, 3, 3, 2)),
    ),
    "diagonals": (lambda x: (x.diagonal(1, 1, 2), x[0].diag(), x[0, 0].diag(-1), torch.diag_embed(x, 1)), (X,)),
    "unfold": (lambda x: (x.unfold(2, 3, 2), F.unfold(x, 3, padding=1), F.fold(F.unfold(x, 2), (9, 8), 2)), (IMAGE,)),
    "grid_sample": (
        lambda x, g: (F.grid_sample(x, g[..., :2], align_corners=True), F.grid_sample(x[:, :, None], g[:, None])),
        (IMAGE, tensor(2, 3, 5, 3).clamp(-1, 1)),
    ),
    "bicubic": (lambda x: F.interpolate(x, (5, 13), mode="bicubic"), (IMAGE,)),
    "cdist": (lambda x, y: (torch.cdist(x, y), torch.cdist(x, y, 1.0), F.pdist(x[0])), (X, Y)),
    "matrices": (
        lambda a: (torch.linalg.cholesky(a), a.inverse(), a.det(), torch.linalg.solve(a, a[..., 0])),
        (POSITIVE,),
    ),
    "factors": (lambda a: (torch.linalg.eigvalsh(a), torch.linalg.svdvals(a), a.pinverse()), (POSITIVE,)),
    "einsum_diagonal": (lambda a: torch.einsum("bii->bi", a), (SQUARE,)),
    "polynomials": (lambda x: (torch.special.hermite_polynomial_h(x, 3), torch.special.zeta(x.abs() + 2, 1.5)), (X,)),
    "special": (lambda x: (x.lgamma(), x.digamma(), x.erfc(), torch.special.i1(x), torch.special.bessel_j0(x)), (X,)),
    "resize_antialiased": (
        lambda x: (
            F.interpolate(x, (5, 13), mode="bilinear", antialias=True),
            F.interpolate(x, scale_factor=0.4, mode="bilinear", antialias=True, align_corners=True),
            F.interpolate(x, (4, 17), mode="bicubic", antialias=True),
        ),
        (IMAGE,),
    ),
    "index_put_through_a_mask_of_rows": (
        lambda x, m, v: (
            torch.index_put(x, (m,), v[0, 0]),
            torch.ops.aten.index_put(x, [None, m[0]], v[:, :1]),
            torch.index_put(x, (m,), v.flatten(0, 1)[:6], accumulate=True),
        ),
        (X, torch.arange(12).reshape(3, 4) % 5 < 2, Y[..., :5]),
    ),
    "embedding_with_a_largest_norm": (
        lambda w, i: (F.embedding(i, w.clone(), max_norm=1.0), F.embedding(i, w.clone(), max_norm=2.0, norm_type=1.0)),
        (tensor(6, 4), torch.tensor([0, 5, 0, 2])),
    ),
    "long_reflections": (
        lambda x: tuple(F.pad(x, (7, 6), mode=m) for m in ("reflect", "replicate", "circular")),
        (IMAGE[0],),
    ),
    "replicate_pad_of_what_is_cropped_away": (
        lambda x: (F.pad(x, (-8, 9), mode="replicate"), F.pad(x, (9, -9), mode="replicate")),
        (IMAGE[0],),
    ),
    "norms": (lambda x: (x.norm(3, 1), x.norm(0, 2), torch.linalg.norm(x, -2.0, 1)), (X,)),
    "multilabel_margin_loss": (
        lambda x, n: (
            *(F.multilabel_margin_loss(x, n, reduction=how) for how in ("none", "mean", "sum")),
            F.multilabel_margin_loss(x[0], n[0]),
            F.multilabel_margin_loss(x[0, 0], n[2, 1]),
        ),
        (SQUARE[0], torch.tensor([[3, 0, -1, 1], [2, -1, -1, 2], [-1, 0, 0, 0], [0, 1, 3, 2]])),
    ),
}


@pytest.fixture(scope="module")
def m4() -> Any:
    return load_target("m4")


@pytest.mark.parametrize("name", CASES)
def test_lowering_at_graph_and_soc_level(name: str, m4: Any) -> None:
    function, inputs = CASES[name]
    loaded = imported(function, *inputs)
    same_at_soc_level(loaded, m4)


def same_at_soc_level(loaded: Any, target: Any) -> None:
    compare(Function(loaded.model) if not isinstance(loaded.model, torch.nn.Module) else loaded.model, *loaded.args)
    arrays, expected = example_inputs(loaded), run_eager(loaded)
    compile_module(loaded.module, target, ("ane", "gpu", "cpu"), "soc")
    for got, wanted in zip(run_soc(loaded.module, arrays), expected, strict=True):
        assert got.dtype == wanted.dtype
        missing = np.isnan(wanted) if wanted.dtype.kind == "f" else np.zeros(wanted.shape, bool)
        np.testing.assert_array_equal(np.isnan(got) if got.dtype.kind == "f" else missing, missing)
        assert relative_error(got[~missing], wanted[~missing]) < 1e-4


def test_recurrent_layers_are_unrolled(m4: Any) -> None:
    loaded = imported(Recurrent(), tensor(3, 4, 5))
    assert "matmul" in op_names(loaded.module)
    same_at_soc_level(loaded, m4)


def test_tensors_without_elements(m4: Any) -> None:
    """No element is no work, at any level; a sum over none is 0."""

    def model(x: torch.Tensor, y: torch.Tensor) -> Any:
        return x + 1, torch.cat([x, y], 0).relu(), x.sum(0), x @ y.mT, x.mT @ x, F.pad(x, (0, 0, 1, 0))

    loaded = imported(model, tensor(0, 4), tensor(3, 4))
    same_at_soc_level(loaded, m4)
