"""torch.export with everything that Tilewright asks of it."""

from __future__ import annotations

import logging
import tempfile
import traceback
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from .dtypes import TORCH_DTYPES
from .errors import ExportFailed
from .user_code import explain


def convert(
    model: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], dtype: str
) -> tuple[Any, Any, Any]:
    """The model in eval mode, with every float among its parameters, buffers and inputs as `dtype`."""
    to = TORCH_DTYPES[dtype]

    def tensor(x: Any) -> Any:
        return x.to(to) if isinstance(x, torch.Tensor) and x.is_floating_point() else x

    with torch.no_grad():
        return model.eval().to(to), pytree.tree_map(tensor, args), pytree.tree_map(tensor, dict(kwargs))


def export(model: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> ExportedProgram:
    """The model's FX graph in ATen ops that are not decomposed: attention, linear, norms and matmul stay whole.

    Raises ExportFailed with torch's reason; the full text is in a file that the message names.
    """
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it would hide an encoder layer in one op
    log = logging.getLogger("torch.export")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(model, args, dict(kwargs), strict=False)
    except Exception as error:
        raise ExportFailed(
            f"torch.export cannot capture the model: {explain(error)}\n  all of it: {_write(error)}"
        ) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
        log.setLevel(level)


def _write(error: BaseException) -> str:
    """The name of a new file that holds the whole traceback."""
    with tempfile.NamedTemporaryFile("w", prefix="tilewright-export-", suffix=".txt", delete=False) as file:
        file.write("".join(traceback.format_exception(error)))
    return file.name
