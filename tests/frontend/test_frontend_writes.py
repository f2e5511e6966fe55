"""Models that write: in place, through views, into buffers and into their inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from frontend_check import Function, compare, imported, integers, op_names, same_as_eager, tensor
from tilewright.compiler.frontend.errors import UnsupportedOps

X, Y = tensor(4, 6), tensor(4, 6, seed=1)


def write_through_views(x: torch.Tensor) -> Any:
    x = x + 0
    z = x.view(2, 12)
    z[0].add_(1)  # seen through x and z
    x.t()[2:4, ::2].mul_(3)
    return x, z, x.unsqueeze(0).squeeze(0)[1]


def write_a_copy(x: torch.Tensor) -> Any:
    x = x + 0
    y = x.t().reshape(-1)  # lies elsewhere than x
    y.zero_()
    c, d = x.clone(), x.contiguous()
    c.neg_()
    d.add_(1)  # is x
    return x, y, c


def write_overlapping(x: torch.Tensor) -> Any:
    x = x + 0
    x[1:].copy_(x[:-1].clone())
    x[:, 1:3] = x[:, 2:4]
    return x


def write_split(x: torch.Tensor) -> Any:
    x = x + 0
    a, b = x.chunk(2, 1)
    a.relu_()
    b += a
    return x


def write_dtypes(x: torch.Tensor) -> Any:
    n = torch.zeros(4, 6, dtype=torch.int32)
    n.copy_(x * 10)
    h = x.half()
    h += x  # computed in f32, kept in f16
    b = x > 0
    b |= x < -1
    b &= x < 2
    return n, h, b


def write_by_index(x: torch.Tensor, i: torch.Tensor, y: torch.Tensor) -> Any:
    x = x + 0
    x[i] = y[:2]
    x[:, i] = 1.0
    x[x > 1] = -1.0
    x.index_copy_(0, i, y[2:])
    x.index_fill_(1, i, 7)
    x.masked_fill_(x < -0.5, 0)
    x.scatter_(1, i[None], 2.0)
    return x


def write_scalars(x: torch.Tensor) -> Any:
    q = torch.zeros(4)
    q[1] = x[0, 0]
    q[-1] = 5
    q[2:].fill_(2).sub_(1)
    return q


def write_dropout(x: torch.Tensor) -> Any:
    y = torch.nn.functional.dropout(x + 0, 0.5, training=False)
    z = torch.nn.functional.dropout(y, 0.5, training=False, inplace=True)
    z += 1
    return y, z


def write_nested(x: torch.Tensor) -> Any:
    x = x + 0
    x.view(4, 2, 3).permute(2, 0, 1).select(0, 1)[1:3] += 10
    return x


CASES: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    f.__name__: (f, args)
    for f, args in (
        (write_through_views, (X,)),
        (write_a_copy, (X,)),
        (write_overlapping, (X,)),
        (write_split, (X,)),
        (write_dtypes, (X,)),
        (write_by_index, (X, torch.tensor([3, 1]), Y)),
        (write_scalars, (X,)),
        (write_dropout, (X,)),
        (write_nested, (X,)),
    )
}


@pytest.mark.parametrize("name", CASES)
def test_write(name: str) -> None:
    function, args = CASES[name]
    module = compare(function, *args)
    assert "aliases" not in module.main.attributes


def test_write_in_place_costs_no_more_than_the_op() -> None:
    module = compare(lambda x: torch.relu_(x + 0).add_(1), X)
    assert op_names(module) == ["add", "relu", "add"]


def test_input_written() -> None:
    def function(x: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
        n += 1
        x[1:3] = 0
        return x * 2

    loaded = imported(function, X.clone(), integers(0, 9, 3))
    same_as_eager(loaded)
    main = loaded.module.main
    assert [a.name for a in main.args] == ["args_0", "args_1"]
    assert main.attributes["aliases"] == (1, 0, 2, 1)
    assert [o.type for o in main.outputs[1:]] == [a.type for a in main.args]


class Counter(torch.nn.Module):
    """Keeps a window of what it has seen, and how much."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Module()
        self.inner.register_buffer("window", tensor(8, 6))
        self.register_buffer("count", torch.tensor(3))
        self.register_buffer("scale", torch.full((6,), 2.0))
        self.weight = torch.nn.Parameter(tensor(6))

    def forward(self, x: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        before = self.inner.window.sum()
        self.inner.window.index_copy_(0, at, x * self.weight)
        self.count += x.shape[0]
        return self.inner.window * self.scale + before


def test_buffers_written_are_arguments() -> None:
    loaded = imported(Counter(), X, torch.tensor([1, 0, 5, 7]))
    same_as_eager(loaded)
    same_as_eager(loaded)  # running the model has not changed its state
    main = loaded.module.main
    assert [a.name for a in main.args] == ["x", "at", "state.count", "state.inner.window"]
    assert main.attributes["aliases"] == (1, 2, 2, 3)
    assert set(loaded.module.parameters) == {"weight", "scale", "state.inner.window", "state.count"}


def test_buffer_assigned_anew() -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", tensor(6))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
            return x - self.mean

    loaded = imported(Model(), X)
    same_as_eager(loaded)
    assert loaded.module.main.attributes["aliases"] == (1, 1)


def test_write_through_expand_is_refused() -> None:
    with pytest.raises(UnsupportedOps, match="a write through an expanded tensor"):
        imported(Function(lambda x: (x + 0).expand(2, 4, 6).add_(1)), X)
