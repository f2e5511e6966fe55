"""What the zoo's files share: entries, seeded weights and inputs, and models from other packages' configurations."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

Example = tuple[torch.nn.Module, tuple[Any, ...], dict[str, Any]]
VOCABULARY = 199


@dataclass(frozen=True)
class Entry:
    """One architecture: `make` gives the model with its example inputs, the same ones at each call.

    `f16` says why the model stays in f32, where it does: what it looks up by a score changes with rounding, or its own
    code takes another way for f16 that depends on data. All others are rounded to f16, weights and inputs.
    """

    make: Callable[[], Example]
    f16: str = ""

    def __call__(self) -> Example:
        import torchvision_cpu  # noqa: F401 - before transformers, timm and diffusers import torchvision themselves

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model, args, kwargs = self.make()
            _randomise(model)
        _calibrate(model.eval(), args, kwargs)
        return model, args, kwargs


def _randomise(model: torch.nn.Module) -> None:
    """Fresh statistics, biases and scales hold zeros and ones, which would hide an operand that is mixed up."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 1.5)
        for p in model.parameters():
            if p.is_floating_point() and p.numel() > 1 and bool((p == p.flatten()[0]).all()):
                p.add_(torch.randn_like(p), alpha=0.1)


def _calibrate(model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Adds to each batch norm's variances the mean square of what the example brings there, as training would.

    Without it every sum of branches grows what passes through, and after fifty layers it leaves the range of f16, for
    torch as for anybody. All channels get the same: a gain for each would make noise of channels that hold nothing.
    """

    def add(norm: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        norm.running_var += inputs[0].square().mean()

    kind = torch.nn.modules.batchnorm._BatchNorm
    norms = [m for m in model.modules() if isinstance(m, kind) and m.running_var is not None]
    hooks = [m.register_forward_pre_hook(add) for m in norms]
    if norms:
        with torch.no_grad():
            model(*args, **kwargs)
    for hook in hooks:
        hook.remove()


class Tensors(torch.nn.Module):
    """Gives only the tensors of a model's result: no caches, no dictionaries, nothing that is None."""

    def __init__(self, model: torch.nn.Module, *keep: str, **options: Any):
        super().__init__()
        self.model, self.keep, self.options = model, keep, options

    def forward(self, **inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        output = self.model(**inputs, **self.options)
        items = {k: v for k, v in output.items() if isinstance(v, torch.Tensor)}
        return tuple(items[k] for k in self.keep or items)


def transformers_entry(name: str, config: Callable[[Any], Any], *keep: str, f16: str = "", **inputs: Any) -> Entry:
    """`config` is given the transformers package; an input is a tensor, or a callable that makes one."""

    def make() -> Example:
        import transformers

        model = getattr(transformers, name)(config(transformers))
        options = {"return_dict": True} if "return_dict" in inspect.signature(model.forward).parameters else {}
        if "use_cache" in inspect.signature(model.forward).parameters:
            options["use_cache"] = False
        return Tensors(model, *keep, **options), (), {k: v() for k, v in inputs.items()}

    return Entry(make, f16)


def timm_entry(name: str, size: int = 64, f16: str = "", channels: int = 3, **options: Any) -> Entry:
    def make() -> Example:
        import timm

        return (
            timm.create_model(name, pretrained=False, num_classes=10, **options),
            (randn(1, channels, size, size),),
            {},
        )

    return Entry(make, f16)


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(math.prod(shape)))


def integers(high: int, *shape: int) -> torch.Tensor:
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(math.prod(shape)))


def ids(*shape: int) -> Callable[[], torch.Tensor]:
    """Tokens, none of them one that usually means padding or the end."""
    return lambda: integers(VOCABULARY - 10, *shape) + 5


def noise(*shape: int) -> Callable[[], torch.Tensor]:
    return lambda: randn(*shape)


def ones(*shape: int) -> Callable[[], torch.Tensor]:
    return lambda: torch.ones(shape, dtype=torch.int64)
