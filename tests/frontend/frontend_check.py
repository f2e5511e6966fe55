"""Compares what the frontend makes of a model with the model itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from tilewright.compiler.dialects.graph import GraphOp
from tilewright.compiler.frontend.eager import example_inputs, run_eager
from tilewright.compiler.frontend.export import convert, export
from tilewright.compiler.frontend.importer import import_program
from tilewright.compiler.frontend.sources import Loaded
from tilewright.compiler.interpret import run_graph
from tilewright.compiler.ir import Module

torch.set_num_threads(1)  # these models are small: on a busy machine threads would mostly wait for each other


class Function(torch.nn.Module):
    """A model of one function."""

    def __init__(self, function: Callable[..., Any]):
        super().__init__()
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


def tensor(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def integers(low: int, high: int, *shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed))


def imported(model: Any, *args: Any, dtype: str = "f32", **kwargs: Any) -> Loaded:
    """A function or a model, through export and import."""
    model = model if isinstance(model, torch.nn.Module) else Function(model)
    model, args, kwargs = convert(model, args, kwargs, dtype)
    program = export(model, args, kwargs)
    return Loaded("callable", "model", import_program(program), model, args, kwargs, program)


def relative_error(got: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    """Relative L2; infinities and NaN must be in the same places."""
    finite = np.isfinite(expected.astype(np.float64))
    np.testing.assert_array_equal(got[~finite], expected[~finite])
    a, b = got[finite].astype(np.float64), expected[finite].astype(np.float64)
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30)) if a.size and np.any(a != b) else 0.0


def same_as_eager(loaded: Loaded, tolerance: float = 1e-5, arith: Any = "native") -> None:
    """Runs the module and the model on the same inputs; every output must agree in shape, dtype and value."""
    got, expected = run_graph(loaded.module, example_inputs(loaded), arith), run_eager(loaded, arith)
    assert [(a.shape, a.dtype) for a in got] == [(a.shape, a.dtype) for a in expected]
    for i, (a, b) in enumerate(zip(got, expected, strict=True)):
        error = relative_error(a, b)
        assert error <= tolerance, f"output {i} differs by {error:.2e}:\n{a}\n{b}"


def compare(model: Any, *args: Any, **kwargs: Any) -> Module:
    """Imports in f32, compares with eager, and gives the module."""
    loaded = imported(model, *args, **kwargs)
    same_as_eager(loaded)
    return loaded.module


def op_names(module: Module) -> list[str]:
    """The graph ops of main without their dialect, in order, sources left out."""
    sources = ("graph.parameter", "graph.constant", "graph.iota")
    ops = [op for op in module.main.body if isinstance(op, GraphOp) and op.name not in sources]
    return [op.name.removeprefix("graph.") for op in ops]
