"""torch.export with everything that Tilewright asks of it."""

from __future__ import annotations

import io
import logging
import os
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from .dtypes import TORCH_DTYPES
from .errors import ExportFailed
from .retyping import evaluating, main_float, retype_program
from .user_code import explain

_TORCH = os.path.dirname(torch.__file__) + os.sep


def convert(
    model: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], dtype: str
) -> tuple[Any, Any, Any]:
    """The model in eval mode, with every float among its parameters, buffers and inputs as `dtype`."""
    to = TORCH_DTYPES[dtype]

    def tensor(x: Any) -> Any:
        return x.to(to) if isinstance(x, torch.Tensor) and x.is_floating_point() else x

    floats = [t for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()]
    floats = floats or [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    main = main_float((t.dtype, t.numel()) for t in floats)
    with torch.no_grad():
        _convert_buffers(model, tensor)
        fake = any(isinstance(p, FakeTensor) for p in model.parameters())
        model = _convert_fake(model, tensor) if fake else model._apply(tensor)  # `to` would make complex numbers real
        retype_program(model, main, to)
        return evaluating(model), pytree.tree_map(tensor, args), pytree.tree_map(tensor, dict(kwargs))


def _convert_buffers(model: torch.nn.Module, tensor: Callable[[Any], Any]) -> None:
    """In place, as objects beside the modules may hold a buffer too: a key-value cache does.

    A view is copied, as its base would keep the dtype that it has, and torch.export takes no view that differs.
    """
    copies: dict[Any, torch.Tensor] = {}
    for module in model.modules():
        for name, b in module._buffers.items():
            if b is None or isinstance(b, FakeTensor):
                continue
            if b._is_view() and tensor(b) is not b:
                module._buffers[name] = copies.setdefault(b, tensor(b))
            else:
                b.data = tensor(b.data)


def _convert_fake(model: torch.nn.Module, tensor: Callable[[Any], Any]) -> torch.nn.Module:
    """What `model.to` does, which refuses parameters that are fake; tied ones stay tied."""
    made: dict[int, torch.nn.Parameter] = {}
    for m in model.modules():
        for name, p in m._parameters.items():
            if p is not None:
                m._parameters[name] = made.setdefault(id(p), torch.nn.Parameter(tensor(p), requires_grad=False))
        for name, b in m._buffers.items():
            m._buffers[name] = tensor(b)
    return model


def export(
    model: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], dynamic_shapes: Any = None
) -> ExportedProgram:
    """The model's FX graph in ATen ops that are not decomposed: attention, linear, norms and matmul stay whole.

    `dynamic_shapes` says which sizes stay open, as torch.export takes it; None fixes all of them. Raises
    ExportFailed with torch's reason; the full text is in a file that the message names.
    """
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it would hide an encoder layer in one op
    said = io.StringIO()  # torch prints the graph so far when it fails
    try:
        with torch.no_grad(), quiet(), redirect_stderr(said):
            return torch.export.export(model, args, dict(kwargs), dynamic_shapes=dynamic_shapes, strict=False)
    except Exception as error:
        reason = explain(error)
        told = f"torch.export cannot capture the model: {reason}{_module_of(error, model)}{_hints(error, reason)}"
        raise ExportFailed(f"{told}\n  all of it: {write_traceback(error, said.getvalue())}") from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)


@contextmanager
def quiet() -> Iterator[None]:
    """Neither warnings nor logs: what torch logs about a failure is in the exception too."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _module_of(error: BaseException, model: torch.nn.Module) -> str:
    """The innermost module of the model that was running when the error was raised."""
    names = {id(m): name for name, m in model.named_modules(remove_duplicate=False)}
    found = [
        f"\n  in {f'the module {names[id(m)]}' if names[id(m)] else 'the model itself'} ({type(m).__name__})"
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if id(m := frame.f_locals.get("self")) in names and m is not None
    ]
    return found[-1] if found else ""


def _hints(error: BaseException, reason: str) -> str:
    """What to do about sizes that cannot stay open as they were declared, beyond what the reason says."""
    text = str(error)
    fixes = text.partition("Suggested fixes:\n")[2].partition("\n\n")[0].rstrip()
    hints = f"\n  suggested by torch:\n{fixes}" if fixes and fixes not in reason else ""
    if "to be a constant (1)" in text or "to be a constant (0)" in text:
        hints += "\n  torch fixes sizes of 0 and 1: give example inputs with 2 or more along every open axis"
    if "Half" in text:
        hints += (
            "\n  the model runs in f16 here, and torch lacks this in f16; --dtype f32 keeps weights and inputs in f32"
        )
    if "data-dependent" in text:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith((_TORCH, "<"))]
        at = frames[-1].line or "" if frames else ""
        decides = f"\n  the values of a tensor decide in '{at}'" if at else "\n  the values of a tensor decide"
        hints += f"{decides}: take both branches with torch.where, and give sizes as numbers or as inputs' sizes"
        if "float16" in at:
            hints += "\n  the branch is for half precision alone: --dtype f32 exports the model without it"
    return hints


def write_traceback(error: BaseException, said: str = "") -> str:
    """The name of a new file that holds the whole traceback, and what was said before it."""
    with tempfile.NamedTemporaryFile("w", prefix="tilewright-export-", suffix=".txt", delete=False) as file:
        file.write(said + "".join(traceback.format_exception(error)))
    return file.name
