"""The tensors of an archive: weights from their raw bytes, and example inputs, which are made anew."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import ValidationError

from . import schema
from .archive import TRUST, Archive, shown
from .symbols import NoValue, evaluate

DTYPES: dict[int, torch.dtype] = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    9: torch.complex32,
    10: torch.complex64,
    11: torch.complex128,
    12: torch.bool,
    13: torch.bfloat16,
    28: torch.uint16,
    29: torch.float8_e4m3fn,
    30: torch.float8_e5m2,
    31: torch.float8_e4m3fnuz,
    32: torch.float8_e5m2fnuz,
    33: torch.float8_e8m0fnu,
    34: torch.uint32,
    35: torch.uint64,
}
STRIDED = 7  # the serialized number of the dense layout
MAX_TENSOR = 8 << 30  # bytes that any tensor of a program may have
MAX_INPUTS = 4 << 30  # bytes of all example inputs
MAX_REPEATED = 64 << 20  # bytes that a stored tensor may have beyond those in the file, as an expanded one has


class Retype:
    """The archive's main float type becomes the wanted one, everywhere; all other types stay.

    A program that computes in one type then computes in the other; what it does in a second type, such as f32 sums in
    an f16 model, stays.
    """

    def __init__(self, main: torch.dtype | None = None, wanted: torch.dtype | None = None):
        self.main, self.wanted = main, wanted

    def __call__(self, dtype: torch.dtype) -> torch.dtype:
        return self.wanted if dtype == self.main and self.wanted is not None else dtype

    @property
    def changes(self) -> bool:
        return self.main is not None and self.main != self.wanted


class Geometry:
    """Type, shape and strides of a tensor that the JSON declares, as numbers within the limits."""

    __slots__ = ("dtype", "offset", "shape", "strides")

    def __init__(self, archive: Archive, what: str, meta: schema.TensorMeta, symbols: Mapping[str, int]):
        """Raises BadArchive, or NoValue for a symbol without a value."""
        if meta.layout != STRIDED:
            raise archive.bad(f"{what} is not a dense tensor")
        if meta.dtype not in DTYPES:
            raise archive.bad(f"{what} has the unknown element type {meta.dtype}")
        self.dtype = DTYPES[meta.dtype]
        self.shape = tuple(_number(s, symbols) for s in meta.sizes)
        self.strides = tuple(_number(s, symbols) for s in meta.strides)
        self.offset = _number(meta.storage_offset, symbols)
        if len(self.shape) != len(self.strides) or min((*self.shape, *self.strides, self.offset)) < 0:
            raise archive.bad(f"{what} has sizes {self.shape} and strides {self.strides}, which make no tensor")
        if self.bytes > MAX_TENSOR or self.extent * self.dtype.itemsize > MAX_TENSOR:
            size = max(self.bytes, self.extent * self.dtype.itemsize)
            raise archive.bad(f"{what} has {size:,} bytes; the limit is {MAX_TENSOR:,}. {TRUST}")

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def extent(self) -> int:
        """Elements from the first of the storage to the last of the tensor."""
        if 0 in self.shape:
            return 0
        return self.offset + 1 + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))


def _number(size: schema.Size, symbols: Mapping[str, int]) -> int:
    return size.value if size.kind == "as_int" else evaluate(size.value.expr_str, symbols)


class Store:
    """The stored tensors of one folder of the archive, by the model's names for them.

    `real`: with data, whose checksums are compared; else on the meta device, which is enough for costs.
    """

    def __init__(self, archive: Archive, folder: str, model: str, *, real: bool):
        self.archive, self.folder, self.real = archive, folder, real
        if f"data/{folder}/{model}.pt" in archive:
            raise archive.bad(f"its {folder} are pickled, as older versions of torch did; save it anew, or {TRUST}")
        name = f"data/{folder}/{model}_{folder}_config.json"
        self.payloads = parse(archive, name, schema.Payloads).config
        self._read: dict[Any, torch.Tensor] = {}
        self.geometry: dict[str, Geometry] = {}
        for key, payload in self.payloads.items():
            what = f"{shown(key)} in {name}"
            if payload.use_pickle or payload.tensor_meta is None:
                raise archive.bad(
                    f"{what} is a pickled object, and unpickling runs code from the file; save the model with plain "
                    "tensors (torchao's weights become plain with torchao.utils.unwrap_tensor_subclass(model) before "
                    f"the export), or {TRUST}"
                )
            try:
                self.geometry[key] = Geometry(archive, what, payload.tensor_meta, {})
            except NoValue as error:
                raise archive.bad(f"{what} has no fixed size: {error}") from None
            self._check(key, what)

    def _check(self, key: str, what: str) -> None:
        g, stored = self.geometry[key], self.archive.size(self._path(key))
        # torch stores nothing for a tensor without data
        if stored and g.extent * g.dtype.itemsize > stored:
            raise self.archive.bad(f"{what} needs {g.extent * g.dtype.itemsize:,} bytes, but {stored:,} are stored")
        if self.real and not stored and g.bytes:
            raise self.archive.bad(f"{what} was saved without data: the program can be costed, not run")
        if stored and g.bytes > stored + MAX_REPEATED:
            raise self.archive.bad(f"{what} repeats {stored:,} stored bytes to {g.bytes:,}. {TRUST}")

    def _path(self, key: str) -> str:
        return f"data/{self.folder}/{self.payloads[key].path_name}"

    def tensor(self, key: str, retype: Retype, *, real: bool | None = None) -> torch.Tensor:
        """One tensor; names that share their bytes get the same tensor. KeyError for an unknown name."""
        g, payload = self.geometry[key], self.payloads[key]
        identity = (payload.path_name, g.dtype, g.shape, g.strides, g.offset, payload.is_param)
        if identity not in self._read:
            data = self._real(key) if (self.real if real is None else real) else self._empty(g)
            data = data.to(retype(g.dtype))
            self._read[identity] = torch.nn.Parameter(data, requires_grad=False) if payload.is_param else data
        return self._read[identity]

    def _empty(self, g: Geometry) -> torch.Tensor:
        return torch.empty_strided(g.shape, g.strides, dtype=g.dtype, device="meta")

    def _real(self, key: str) -> torch.Tensor:
        g = self.geometry[key]
        if not g.bytes:
            return torch.empty_strided(g.shape, g.strides, dtype=g.dtype)
        if not self.archive.size(self._path(key)):
            return self._empty(g)
        data = torch.from_numpy(self.archive.data(self._path(key), check=True))
        data = data[: len(data) // g.dtype.itemsize * g.dtype.itemsize]
        if data.data_ptr() % g.dtype.itemsize:
            data = data.clone()
        return data.view(g.dtype).as_strided(g.shape, g.strides, g.offset)


def example(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    """Random data: normal floats; integers of 0 and 1, which are valid indices into nearly everything."""
    if dtype.is_floating_point or dtype.is_complex:
        base = torch.complex64 if dtype.is_complex else torch.float32
        return torch.randn(shape, generator=generator, dtype=base).to(dtype)
    return torch.randint(0, 2, shape, generator=generator).to(dtype)


def parse(archive: Archive, name: str, kind: type[Any]) -> Any:
    """A member's JSON as an object of the schema. Raises BadArchive, which names the first place that is wrong."""
    try:
        return kind.model_validate_json(archive.json(name))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(p) for p in first["loc"])
        at = f" at {shown(place, 200)}" if place else ""
        raise archive.bad(f"{name} is not what torch writes: {first['msg']}{at}") from None
