"""Workloads as calls of PyTorch on this machine."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its customary name

from .host_networks import HOST_NETWORKS
from .workloads import Conv, Elementwise, Gemm, LayerNorm, Network, Softmax

Run = Callable[..., Tensor]
Made = tuple[Run, list[Tensor]]  # a call, and what it is called with

MOST_COPIES = 1000
ELEMENTWISE: dict[str, Run] = {
    "add": torch.add,
    "mul": torch.mul,
    "relu": torch.relu,
    "gelu": F.gelu,
    "sigmoid": torch.sigmoid,
    "exp": torch.exp,
}


@singledispatch
def make(workload: Any) -> Made:
    """Raises TypeError for a workload that is not measured here."""
    raise TypeError(f"{type(workload).__name__} is not measured on the host")


@make.register
def _gemm(w: Gemm) -> Made:
    head = (w.batch,) if w.batch > 1 else ()
    x = torch.rand(*head, w.m, w.k)
    if w.transposed:
        return F.linear, [x, torch.rand(*head, w.n, w.k)]
    return torch.matmul, [x, torch.rand(*head, w.k, w.n)]


@make.register
def _conv(w: Conv) -> Made:
    x, kernel = torch.rand(w.batch, w.inner, w.height, w.width), torch.rand(w.outer, w.inner, w.kernel, w.kernel)
    return (lambda x, k: F.conv2d(x, k, stride=w.stride, padding=w.padding)), [x, kernel]


@make.register
def _softmax(w: Softmax) -> Made:
    return (lambda x: F.softmax(x, -1)), [torch.rand(w.rows, w.columns)]


@make.register
def _layer_norm(w: LayerNorm) -> Made:
    shape = (w.columns,)
    return (lambda x, g, b: F.layer_norm(x, shape, g, b)), [torch.rand(w.rows, w.columns), *torch.rand(2, w.columns)]


@make.register
def _elementwise(w: Elementwise) -> Made:
    return ELEMENTWISE[w.op], [torch.rand(w.shape) for _ in range(w.operands)]


@make.register
def _network(w: Network) -> Made:
    model, args = HOST_NETWORKS[w.name](w.batch, "cpu")
    return model, list(args)


def calls(workload: Any, more_than: int) -> list[Callable[[], None]]:
    """The workload on copies of its operands and results, which together take more than `more_than` bytes: what is
    called in turns finds nothing in a cache that holds less."""
    run, args = make(workload)
    result = run(*args)
    held = list(run.parameters()) if isinstance(run, torch.nn.Module) else []
    size = sum(t.nbytes for t in (*args, *held, result))
    count = max(2, min(-(-more_than // size), MOST_COPIES))
    results = [result] * count
    return [_call(copy.deepcopy(run), [a.clone() for a in args], results, i) for i in range(count)]


def _call(run: Run, args: list[Tensor], results: list[Tensor], place: int) -> Callable[[], None]:
    def call() -> None:
        results[place] = run(*args)  # the memory of the last result is free for the next call

    return call
