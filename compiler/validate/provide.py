"""From the name of a network to its graph-level module: its definition, exported and imported without weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from tilewright.compiler.frontend.errors import SourceError, WrongReturn
from tilewright.compiler.frontend.export import convert, export, quiet
from tilewright.compiler.frontend.importer import import_program
from tilewright.compiler.frontend.user_code import call, load_file
from tilewright.compiler.ir import Module
from tilewright.targets.validation.workloads import Generation, Network

from .generation import find_generation
from .networks import find_network
from .precision import find_precision
from .price import NotPriced
from .split_einsum import with_attention
from .storage import store

Models = Mapping[str, Callable[..., Any]]


class Networks:
    """Gives the module of a Network or a Generation; a name among the user's `models` is theirs."""

    def __init__(self, models: Models):
        self.models = models

    def __call__(self, workload: Network | Generation) -> Module:
        """Raises NotPriced where there is no definition, or none that can be exported."""
        try:
            return self._module(workload)
        except SourceError as error:
            raise NotPriced(str(error).splitlines()[0]) from error

    def _module(self, workload: Network | Generation) -> Module:
        weights = find_precision(_precision(workload)).weights
        module = self._float_module(workload)
        if weights is not None:
            store(module, weights)
        return module

    def _float_module(self, workload: Network | Generation) -> Module:
        name = workload.name if isinstance(workload, Network) else workload.model
        precision = find_precision(_precision(workload))
        if name in self.models:
            made = call(self.models[name], f"the model of '{name}'", {}, "meta")
        else:
            define = _definition(workload)
            with torch.device("meta"), quiet():
                made = call(define, f"the definition of '{name}'", {}, None)
        if made.program is not None:
            return import_program(made.program)
        assert made.model is not None
        if isinstance(workload, Network) and workload.attention and name not in self.models:
            with_attention(made.model, workload.attention)
        model, args, kwargs = convert(made.model, made.args, made.kwargs, precision.dtype)
        return import_program(export(model, args, kwargs))


def _precision(workload: Network | Generation) -> str:
    return workload.precision if isinstance(workload, Network) else workload.weights


def _definition(workload: Network | Generation) -> Callable[[], Any]:
    """What makes a model that is known here, without arguments. Raises MissingDefinition."""
    if isinstance(workload, Generation):
        return find_generation(workload)
    define, batch = find_network(workload.name), workload.batch
    return lambda: define(batch)


def load_models(path: Path) -> dict[str, Callable[..., Any]]:
    """The models of a Python file: its dict `MODELS`, or the only dict from names to callables that it holds.

    Raises SourceError.
    """
    module = load_file(path)
    dicts = {n: v for n, v in vars(module).items() if isinstance(v, dict) and not n.startswith("_")}
    if "MODELS" in dicts:
        name = "MODELS"
    elif len(dicts) == 1:
        (name,) = dicts
    else:
        found = f"it has the dicts {', '.join(dicts)}" if dicts else "it has no dict"
        raise WrongReturn(f"{path} needs a dict MODELS from model names to callables that give (model, args); {found}")
    models = dicts[name]
    for key, value in models.items():
        if not isinstance(key, str) or not callable(value):
            kind = type(value).__name__
            raise WrongReturn(
                f"{path}: {name}[{key!r}] is a {kind}; expected a name and a callable that gives (model, args)"
            )
    return models
