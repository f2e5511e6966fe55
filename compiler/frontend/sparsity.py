"""Sparse weights: a mask of a bit a weight, and the weights that are not zero, packed.

    from tilewright.compiler.frontend.sparsity import sparsify
    sparsify(model)              # a model that was pruned: its zeros are left out
    sparsify(model, zeros=0.75)  # the smallest three quarters of each weight are pruned first

The model runs in PyTorch as before, exports, and is costed with what is stored.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.utils import prune

from .weight_storage import Storage, store

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@torch.library.custom_op("tilewright::to_dense", mutates_args=())
def to_dense(mask: Tensor, nonzeros: Tensor) -> Tensor:
    """The numbers `nonzeros` in row-major order where the mask of bools is set, and zeros elsewhere.

    Gives the shape of mask and the dtype of nonzeros. Raises ValueError where they do not fit.
    """
    _check(mask, nonzeros)
    if int(mask.sum()) != nonzeros.numel():
        raise ValueError(f"{nonzeros.numel()} numbers are not those of a mask of {int(mask.sum())}")
    dense = nonzeros.new_zeros(mask.shape)
    dense[mask] = nonzeros
    return dense


@to_dense.register_fake
def _(mask: Tensor, nonzeros: Tensor) -> Tensor:
    _check(mask, nonzeros)
    return nonzeros.new_empty(mask.shape)


def _check(mask: Tensor, nonzeros: Tensor) -> None:
    if mask.dtype != torch.bool or nonzeros.dim() != 1 or nonzeros.numel() > mask.numel():
        what = f"a mask of {mask.dtype} {list(mask.shape)} and {list(nonzeros.shape)} numbers"
        raise ValueError(f"{what} are no sparse tensor: it takes bools, and at most as many numbers in one axis")


class Sparse(Storage):
    """A weight as its mask and its numbers. One that is assigned later is pruned as much, and stored with its own."""

    def __init__(self, zeros: float | None, first: tuple[Tensor, Tensor]):
        super().__init__(first)
        self.zeros = zeros

    def forward(self, mask: Tensor, nonzeros: Tensor) -> Tensor:
        return to_dense(mask, nonzeros)

    def stored(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return to_sparse(weight, self.zeros)

    def extra_repr(self) -> str:
        return f"zeros={self.zeros}"


def sparsify(
    model: nn.Module,
    zeros: float | None = None,
    layers: tuple[type[nn.Module], ...] = LAYERS,
    where: Callable[[str, nn.Module], bool] = lambda name, layer: True,
) -> nn.Module:
    """Replaces the weight of every layer by a mask and the weights that are not zero.

    `zeros` is the part of each weight that is pruned first, those of the least magnitude; without it the zeros are
    those that are there, also by torch.nn.utils.prune, whose masks become permanent. A weight with so few of them that
    the mask takes more than they do stays as it is. `layers` are the classes to change, and `where` picks among them
    by name. Layers that share a weight go on sharing it. Works in place, and with `zeros` on models without data (on
    the meta device or fake) too; gives the model back. Raises ValueError where there is nothing to change, and for a
    weight that is no float or is made by a parametrisation already.
    """
    if zeros is not None and not 0 <= zeros <= 1:
        raise ValueError(f"zeros is the part of a weight that is pruned, from 0 to 1, not {zeros}")
    for name, layer in model.named_modules():
        if isinstance(layer, layers) and where(name, layer) and hasattr(layer, "weight_mask"):
            prune.remove(layer, "weight")

    def make(weight: Tensor, tied: tuple[Tensor, Tensor] | None) -> Sparse | None:
        mask, nonzeros = tied or to_sparse(weight, zeros)
        saved = (mask.numel() - nonzeros.numel()) * 8 * weight.element_size()  # bits
        return Sparse(zeros, (mask, nonzeros)) if saved > mask.numel() else None

    store(model, make, layers, where, "sparsify" if zeros is not None else "sparsify whose zeros would save anything")
    return model


def to_sparse(weight: Tensor, zeros: float | None = None) -> tuple[Tensor, Tensor]:
    """The mask (bools, in the shape of the weight) of what is not zero, and these numbers in row-major order.

    Of a weight without data only their sizes. Raises ValueError for one whose zeros are not said.
    """
    weight = weight.detach()
    pruned = 0 if zeros is None else int(weight.numel() * zeros)
    if weight.is_meta or isinstance(weight, FakeTensor):
        if zeros is None:
            raise ValueError("it has no data, so that nobody knows its zeros: sparsify with zeros=...")
        return torch.empty_like(weight, dtype=torch.bool), weight.new_empty(weight.numel() - pruned)
    mask = weight != 0
    mask.view(-1)[weight.abs().reshape(-1).argsort(stable=True)[:pruned]] = False
    return mask, weight[mask]
