"""A transformers `config.json` as a source: the library's own class, example inputs by its task, weights beside it.

Nothing that the file names is imported or fetched: the class must be one that transformers maps the model type to.
"""

from __future__ import annotations

import inspect
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tilewright.compiler.ir.near_match import near

from .config_inputs import inputs_of
from .errors import BadConfig, MissingPackage, no_such_file
from .safetensors_weights import find_weights, load_weights
from .user_code import explain

FILE = "config.json"
MAX_BYTES = 16 << 20
MAX_DEPTH = 16
MAX_LAYERS = 256  # each is built and exported, even without weights
MAX_WIDTH = 2**24  # of a vocabulary, a layer, an image
MAX_NUMBER = 2**31
_WIDTH = re.compile(r"size|dim$|dims$|^d_|^n_embd$|channels")
# Keys that make transformers run code from elsewhere, or fetch it.
FOREIGN = {
    "attn_implementation",
    "_attn_implementation",
    "_attn_implementation_internal",
    "auto_map",
    "custom_pipelines",
    "experts_implementation",
    "_experts_implementation",
    "kernel_config",
    "trust_remote_code",
    "use_kernels",
}
ELSEWHERE = "write path/file.py:callable that makes the model, and give that"


def is_config(source: str) -> bool:
    """A file whose name ends in config.json, or a folder that holds a config.json."""
    return source.endswith(FILE) or (Path(source) / FILE).is_file()


def config_callable(source: str) -> tuple[Callable[..., Any], str, str]:
    """A function from sizes to (model, (), inputs), as the callable of a source; what to call it; the class's name.

    Its keywords are the sizes that its inputs have, and `device`. Raises NoSuchSource, BadConfig or MissingPackage.
    """
    path = Path(source) / FILE if Path(source).is_dir() else Path(source)
    if not path.is_file():
        raise no_such_file(path, "*.json")
    values = _read(path)
    with _library(path) as transformers:
        config, cls = _class(path, values, transformers)
    sizes, make_inputs = inputs_of(path, config, cls)

    def make(device: str | None = None, **dims: int) -> Any:
        with _library(path):
            model = _model(path, config, cls, device)
        if device is None and (files := find_weights(path.parent)):
            load_weights(model, files)
        inputs = make_inputs(sizes | dims, torch.Generator().manual_seed(0))
        return model, (), {name: t.to(device or "cpu") for name, t in inputs.items()}

    keywords = [*sizes.items(), ("device", None)]
    make.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default) for name, default in keywords]
    )
    return make, f"{path} ({cls.__name__})", cls.__name__


def _read(path: Path) -> dict[str, Any]:
    """The JSON object in the file, without keys that refer to code elsewhere."""
    if path.stat().st_size > MAX_BYTES:
        raise BadConfig(f"{path} has {path.stat().st_size:,} bytes; the limit is {MAX_BYTES:,}")
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadConfig(f"{path} is no JSON: {str(error)[:200]}") from None
    if not isinstance(values, dict):
        raise BadConfig(f"{path} holds a {type(values).__name__}, not an object with a model's configuration")
    return _own(path, values, 0)


def _own(path: Path, value: Any, depth: int, key: str = "") -> Any:
    """The value without foreign keys. Raises BadConfig for sizes that no model has."""
    if depth > MAX_DEPTH:
        raise BadConfig(f"{path} is nested more than {MAX_DEPTH} deep")
    if isinstance(value, dict):
        return {k: _own(path, v, depth + 1, k) for k, v in value.items() if k not in FOREIGN}
    if isinstance(value, list):
        return [_own(path, v, depth + 1, key) for v in value]
    if isinstance(value, int) and not isinstance(value, bool):
        counts_layers = "layers" in key or key in ("depth", "depths", "n_layer", "num_blocks")
        limit = MAX_LAYERS if counts_layers else MAX_WIDTH if _WIDTH.search(key) else MAX_NUMBER
        if abs(value) > limit:
            raise BadConfig(f"{path}: {key} is {str(value)[:40]}; the limit is {limit:,}")
    return value


@contextmanager
def _library(path: Path) -> Iterator[Any]:
    """transformers, which fetches nothing while it is in use."""
    try:
        import transformers
        from huggingface_hub import constants
    except ImportError as error:
        raise MissingPackage(
            f"{path} needs the package transformers, which is not installed ({error}): pip install 'tilewright[zoo]'"
        ) from None
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield transformers
    finally:
        constants.HF_HUB_OFFLINE = before
        transformers.logging.set_verbosity(verbosity)


def _class(path: Path, values: dict[str, Any], transformers: Any) -> tuple[Any, type[torch.nn.Module]]:
    """The configuration, and the class that `architectures` names: one that transformers knows for the model type."""
    from transformers.models.auto import modeling_auto

    kind, architectures = values.get("model_type"), values.get("architectures")
    if not isinstance(kind, str) or not kind:
        raise BadConfig(f"{path} names no model_type; is it a transformers configuration?")
    known = list(transformers.CONFIG_MAPPING.keys())
    if kind not in known:
        raise BadConfig(
            f"{path}: transformers {transformers.__version__} has no model_type {ascii(kind)[:60]}"
            f"{near(kind, known)}; "
            f"code that comes with a model is not run: {ELSEWHERE}"
        )
    tables = [t for n, t in vars(modeling_auto).items() if n.startswith("MODEL_") and n.endswith("MAPPING_NAMES")]
    names = [table[kind] for table in tables if kind in table]
    classes = list(dict.fromkeys(n for entry in names for n in ([entry] if isinstance(entry, str) else entry)))
    wanted = architectures if isinstance(architectures, list) and architectures else classes[:1]
    name = wanted[0] if wanted else None
    if not isinstance(name, str) or name not in classes:
        offered = f"it has {', '.join(classes[:12])}" if classes else "it has none"
        raise BadConfig(f"{path}: transformers has no class {ascii(name)[:80]} for {kind}: {offered}")
    try:
        config = transformers.CONFIG_MAPPING[kind].from_dict(values)
        cls = getattr(transformers, name)
    except Exception as error:
        raise BadConfig(f"{path}: transformers does not take the configuration: {explain(error)}") from error
    for part in (config, *(c for c in vars(config).values() if isinstance(c, transformers.PretrainedConfig))):
        part.use_cache = False  # a program without state; a cache is what llama_decode shows
        if getattr(part, "use_pretrained_backbone", False):
            part.use_pretrained_backbone = False
    return config, cls


def _model(path: Path, config: Any, cls: Any, device: str | None) -> torch.nn.Module:
    """The model with random weights from a fixed seed, or on the meta device."""
    try:
        with torch.device("meta"):
            shape = cls(config)
        if device == "meta":
            return shape.eval()
        size = sum(p.numel() * p.element_size() for p in shape.parameters())
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if 2 * size > free:
            raise BadConfig(
                f"{path}: its weights have {size / 2**30:.1f} GiB, and converting them takes twice that, but "
                f"{free / 2**30:.1f} GiB are free; what needs no weights, such as cost, still works"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return cls(config).eval()
    except BadConfig:
        raise
    except Exception as error:
        raise BadConfig(f"{path}: transformers cannot build {cls.__name__}: {explain(error)}") from error
