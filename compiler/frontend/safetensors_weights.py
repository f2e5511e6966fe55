"""Weights from safetensors files: tensors by name, with no code in them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from .errors import BadConfig, MissingPackage

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
MAX_INDEX = 64 << 20  # bytes
_PART = re.compile(r"[A-Za-z0-9_.\-]{1,200}\.safetensors")
SHOWN = 4  # names in a message


def find_weights(folder: Path) -> list[Path]:
    """The files with the weights of the model whose configuration is in `folder`; empty where there are none."""
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    index = folder / INDEX
    if not index.is_file():
        return []
    if index.stat().st_size > MAX_INDEX:
        raise BadConfig(f"{index} has {index.stat().st_size:,} bytes; the limit is {MAX_INDEX:,}")
    try:
        parts = json.loads(index.read_bytes())["weight_map"].values()
        names = sorted(set(parts))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadConfig(
            f"{index} is no index of safetensors files: {type(error).__name__}: {str(error)[:200]}"
        ) from None
    for name in names:
        if not isinstance(name, str) or not _PART.fullmatch(name):
            raise BadConfig(f"{index} names the file {ascii(name)[:80]}, which is not one beside it")
        if not (folder / name).is_file():
            raise BadConfig(f"{index} names the file {name}, which is missing")
    return [folder / name for name in names]


def load_weights(model: torch.nn.Module, files: Sequence[Path]) -> None:
    """Copies the tensors of the files into the model. Every parameter must be there, in its shape.

    A name may lack, or have in addition, the prefix of the model's base. Raises BadConfig or MissingPackage.
    """
    state = model.state_dict(keep_vars=True)
    place, loaded = ", ".join(map(str, files[:2])), set[int]()
    with ExitStack() as stack, torch.no_grad():
        tensors = dict(_open(stack, files))
        for name, tensor in state.items():
            source = _name(name, tensors, str(getattr(model, "base_model_prefix", "")))
            if source is None:
                continue
            file = tensors[source]
            shape = tuple(file.get_slice(source).get_shape())
            if shape != tuple(tensor.shape):
                raise BadConfig(f"{place}: {source} is {list(shape)}, and the model's {name} is {list(tensor.shape)}")
            part = file.get_tensor(source)
            if part.dtype.is_floating_point != tensor.dtype.is_floating_point:
                raise BadConfig(f"{place}: {source} is {part.dtype}, and the model's {name} is {tensor.dtype}")
            tensor.copy_(part)
            loaded.add(tensor.data_ptr())
        missing = [n for n, p in model.named_parameters() if p.numel() and p.data_ptr() not in loaded]
    if missing:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise BadConfig(
            f"{place}: the weights of {', '.join(missing[:SHOWN])}{more} are not there; move the file away for random "
            "weights"
        )


def _open(stack: ExitStack, files: Sequence[Path]) -> Iterator[tuple[str, Any]]:
    """Each tensor's name and the open file that holds it."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise MissingPackage(f"{files[0]} needs the package safetensors ({error}): pip install safetensors") from None
    for path in files:
        try:
            file = stack.enter_context(safe_open(path, framework="pt"))
        except (SafetensorError, OSError) as error:
            raise BadConfig(f"{path} is no safetensors file, or it is cut off: {str(error)[:200]}") from None
        yield from ((name, file) for name in file.keys())  # noqa: SIM118 - the file is no dict


def _name(name: str, tensors: Mapping[str, Any], prefix: str) -> str | None:
    names = (name, f"{prefix}.{name}", name.removeprefix(f"{prefix}."))
    return next((n for n in names if n in tensors), None)
