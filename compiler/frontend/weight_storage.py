"""Layers whose weights are computed from what is stored instead: what palettes and sparse weights have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Embedding)

Stored = tuple[Tensor, Tensor]


class Storage(nn.Module):
    """A parametrisation that makes a weight from two tensors (`forward`), and these from a weight (`stored`)."""

    def __init__(self, first: Stored):
        super().__init__()
        self._first: Stored | None = first  # of the weight at hand

    def stored(self, weight: Tensor) -> Stored:
        raise NotImplementedError

    def right_inverse(self, weight: Tensor) -> Stored:
        """What torch stores instead of the weight."""
        first, self._first = self._first, None
        return first or self.stored(weight)


def store(
    model: nn.Module,
    make: Callable[[Tensor, Stored | None], Storage | None],
    layers: tuple[type[nn.Module], ...],
    where: Callable[[str, nn.Module], bool],
    verb: str,
) -> None:
    """Replaces the weight of every layer, in place, by what `make` says; None leaves it as it is.

    `make` gets a weight, and what is stored already of one that layers share: they go on sharing it. Raises ValueError
    where nothing is replaced, and for a weight that is no float or is made by a parametrisation already; `verb` is
    what the error says is done.
    """
    made: dict[int, tuple[Tensor, Any]] = {}  # a weight and what is stored instead, by the weight's identity
    for name, layer, weight in list(_layers(model, layers, where, verb)):
        tied = made[id(weight)][1] if id(weight) in made else None
        first = (tied.original0, tied.original1) if tied else None
        try:
            storage = make(weight, first)
        except ValueError as error:
            raise ValueError(f"the weight of {name or 'the model'}: {error}") from None
        if storage is None:
            continue
        weight.requires_grad_(False)  # indices and masks take no gradient
        parametrize.register_parametrization(layer, "weight", storage, unsafe=True)
        stored: Any = layer.parametrizations["weight"]  # type: ignore[index]
        if first:
            stored.original0, stored.original1 = first
        made[id(weight)] = weight, tied or stored
    if not made:
        raise ValueError(f"the model has no {' or '.join(c.__name__ for c in layers)} to {verb}")


def _layers(
    model: nn.Module, layers: tuple[type[nn.Module], ...], where: Callable[[str, nn.Module], bool], verb: str
) -> Iterator[tuple[str, nn.Module, Tensor]]:
    """The layers to change, by name, with their weights."""
    for name, layer in model.named_modules():
        if not isinstance(layer, layers) or not where(name, layer):
            continue
        if parametrize.is_parametrized(layer, "weight"):
            raise ValueError(f"the weight of {name or 'the model'} is parametrised already; {verb} the plain model")
        weight = getattr(layer, "weight", None)
        if not isinstance(weight, Tensor) or not weight.is_floating_point() or not weight.numel():
            what = f"{weight.dtype}" if isinstance(weight, Tensor) else f"a {type(weight).__name__}"
            raise ValueError(f"{name or 'the model'} has no weight of floats to {verb}: it is {what}")
        yield name, layer, weight
