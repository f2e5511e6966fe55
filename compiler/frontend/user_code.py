"""The user's Python files: loading them, calling them, and telling what went wrong in the user's own terms."""

from __future__ import annotations

import importlib.util
import inspect
import linecache
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from tilewright.compiler.ir.near_match import near
from torch.export import ExportedProgram

from .errors import CallableFailed, NoSuchSource, SourceError, UnknownDim, WrongReturn, no_such_file

Model = torch.nn.Module
_OWN = str(Path(__file__).resolve().parent)
_TORCH = str(Path(torch.__file__).resolve().parent)
_PYTHON = sysconfig.get_path("stdlib")
PACKAGES = "site-packages"


def load_file(path: Path) -> ModuleType:
    """Runs a Python file as a module of its own; files beside it can be imported.

    Raises NoSuchSource or CallableFailed.
    """
    if not path.is_file():
        raise no_such_file(path, "*.py")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    name = f"_tilewright_source_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise CallableFailed(f"{path} does not run: {explain(error)}") from error
    return module


def find_callable(module: ModuleType, path: Path, name: str) -> Callable[..., Any]:
    """Raises NoSuchSource, which lists what the file offers."""
    function = getattr(module, name, None)
    if callable(function):
        return function
    offered = [
        n for n, f in vars(module).items() if inspect.isfunction(f) and f.__module__ == module.__name__ and n[0] != "_"
    ]
    choices = f"; it has {', '.join(offered)}" if offered else ""
    problem = (
        f"no callable '{name}'" if function is None else f"'{name}' is a {type(function).__name__}, not a callable,"
    )
    raise NoSuchSource(f"{problem} in {path}{near(name, offered) or choices}")


def sizes(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The keywords of a callable that may be set by name, without `device`."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(function).parameters
    return {n: p for n, p in parameters.items() if p.kind in kinds and n != "device"}


@dataclass(frozen=True, slots=True)
class Made:
    """What a callable returned: a model with its example inputs, or a program that is exported already."""

    model: Model | None = None
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    dynamic_shapes: Any = None  # as torch.export takes them
    program: ExportedProgram | None = None

    @property
    def dynamic(self) -> bool:
        """Whether the program may have sizes of its own to bind."""
        return self.dynamic_shapes is not None or self.program is not None


def call(function: Callable[..., Any], label: str, dims: Mapping[str, int], device: str | None) -> Made:
    """Calls `function` with those of the dims that are its keywords, and with `device` if it takes one.

    The other dims must be sizes of the program that it makes. Raises UnknownDim, CallableFailed, WrongReturn.
    """
    known = sizes(function)
    needed = [n for n, p in known.items() if p.default is inspect.Parameter.empty and n not in dims]
    if needed:
        raise UnknownDim(
            f"{label} needs {', '.join(needed)}; set it as a dim: {' '.join(f'--dim {n}=N' for n in needed)}"
        )
    keywords: dict[str, Any] = {n: v for n, v in dims.items() if n in known}
    if device is not None and "device" in inspect.signature(function).parameters:
        keywords["device"] = device
    try:
        returned = function(**keywords)
    except SourceError:  # of a source that is no user's code, such as a configuration
        raise
    except Exception as error:
        raise CallableFailed(f"{label} raised {explain(error)}") from error
    made = _checked(returned, label)
    for name in dims:
        if name not in known and not made.dynamic:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise UnknownDim(f"{label} has no dim '{name}'{near(name, known)}; {takes}")
    return made


def _checked(returned: Any, label: str) -> Made:
    if isinstance(returned, ExportedProgram):
        args, kwargs = returned.example_inputs or ((), {})
        return Made(args=tuple(args), kwargs=dict(kwargs), program=returned)
    wanted = f"{label} must return (model, args), (model, args, kwargs) or (model, args, kwargs, dynamic_shapes)"
    if not isinstance(returned, (tuple, list)) or len(returned) not in (2, 3, 4):
        what = f"{len(returned)} values" if isinstance(returned, (tuple, list)) else f"a {type(returned).__name__}"
        raise WrongReturn(f"{wanted}, but it returned {what}")
    model, args = returned[:2]
    kwargs = returned[2] if len(returned) > 2 else {}
    if not isinstance(model, Model):
        raise WrongReturn(
            f"{wanted}, where model is a torch.nn.Module, but the first value is a {type(model).__name__}"
        )
    if isinstance(args, torch.Tensor) or not isinstance(args, (tuple, list)):
        raise WrongReturn(
            f"{wanted}, where args is a tuple, but the second value is a {type(args).__name__}; write (x,)"
        )
    if not isinstance(kwargs, Mapping):
        raise WrongReturn(f"{wanted}, where kwargs is a dict, but the third value is a {type(kwargs).__name__}")
    return Made(model, tuple(args), dict(kwargs), returned[3] if len(returned) == 4 else None)


def explain(error: BaseException) -> str:
    """`ValueError: no such size, at net.py:12 in forward: x = x[9]`, by the user's innermost line."""
    reason = f"{type(error).__name__}: {_first_lines(str(error))}"
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg}, at {error.filename}:{error.lineno}: {(error.text or '').strip()}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_users(f.filename)]
    if not frames:
        return reason
    own = [f for f in frames if PACKAGES not in f.filename]
    at = (own or frames)[-1]
    text = linecache.getline(at.filename, at.lineno or 0).strip()
    return f"{reason}, at {at.filename}:{at.lineno} in {at.name}: {text}"


def _first_lines(text: str, limit: int = 6) -> str:
    """The first paragraph of a long message."""
    lines = text.strip().partition("\n\n")[0].splitlines()
    return "\n".join([*lines[:limit], *(["..."] if len(lines) > limit else [])])


def _is_users(file: str) -> bool:
    """Neither ours, nor torch's, nor Python's; another package's may be where the model is written."""
    file = file if file.startswith("<") else os.path.realpath(file)
    return not file.startswith((_OWN, _TORCH, "<")) and (PACKAGES in file or not file.startswith(_PYTHON))
