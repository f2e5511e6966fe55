"""Batch norm in training: normalised by the batch, and the running statistics are updated as outputs of the program."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from frontend_check import imported, same_as_eager, tensor


class Trained(torch.nn.Module):
    def __init__(self, norm: Any, momentum: float = 0.1) -> None:
        super().__init__()
        self.norm, self.momentum = norm, momentum
        self.register_buffer("mean", tensor(4))
        self.register_buffer("var", tensor(4, seed=1).abs() + 0.5)

    def forward(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return self.norm(x, self.mean, self.var, weight, momentum=self.momentum)


def batch_norm(
    x: torch.Tensor, mean: torch.Tensor, var: torch.Tensor, w: torch.Tensor, momentum: float
) -> torch.Tensor:
    return F.batch_norm(x, mean, var, w, training=True, momentum=momentum)


def functional(x: torch.Tensor, mean: torch.Tensor, var: torch.Tensor, w: torch.Tensor, momentum: float) -> Any:
    return torch.ops.aten._native_batch_norm_legit(x, w, None, mean, var, True, momentum, 1e-5)


@pytest.mark.parametrize("shape", [(3, 4, 5, 2), (5, 4), (2, 4, 7)])
@pytest.mark.parametrize("norm", [batch_norm, functional])
def test_running_statistics_are_updated(norm: Any, shape: tuple[int, ...]) -> None:
    loaded = imported(Trained(norm, 0.3), tensor(*shape), tensor(4, seed=2))
    assert {str(a.name) for a in loaded.module.main.args} >= {"state.mean", "state.var"}
    same_as_eager(loaded)


def test_instance_norm_updates_its_statistics_too() -> None:
    loaded = imported(Trained(F.instance_norm), tensor(3, 4, 5, 2), tensor(4, seed=2))
    assert {str(a.name) for a in loaded.module.main.args} >= {"state.mean", "state.var"}
    same_as_eager(loaded)


def test_in_evaluation_nothing_is_updated() -> None:
    model = torch.nn.BatchNorm2d(4)
    loaded = imported(model, tensor(3, 4, 5, 2))
    assert len(loaded.module.main.args) == 1
    same_as_eager(loaded)
