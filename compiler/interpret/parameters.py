"""The data behind a module's named parameters."""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np
from tilewright.compiler.ir import Module, ShapedType, int_range
from tilewright.compiler.ir.types import PACKED_BITS

from .numerics import Arith, Array, InterpretError, numpy_dtype, to_dtype


def parameter_array(module: Module, key: str, type: ShapedType, arith: Arith = "native") -> Array:
    """The parameter's data in `type`'s shape and dtype.

    `module.parameters[key]` may be a torch tensor, a numpy array, or a callable that makes an array for a given
    arithmetic; packed integers are held one a byte. A module without data of its own (read from text) has random data
    that depends only on the key. Under arith "f32" the data is not rounded to 16 bits on the way. Raises InterpretError
    for a missing key, a tensor without data (meta, fake), a wrong shape, numbers that a packed integer cannot hold.
    """
    dtype = numpy_dtype(type.dtype, arith)
    if key not in module.parameters:
        if all(map(callable, module.parameters.values())):  # nothing but what passes derived
            return _random(key, type, dtype)
        raise InterpretError(f"the program uses the parameter '{key}', which the module does not hold")
    array = _as_numpy(key, module.parameters[key], arith)
    if array.shape != type.shape:
        raise InterpretError(f"the parameter '{key}' has shape {array.shape}, the program takes {type}")
    if type.dtype in PACKED_BITS and array.size:
        low, high = int_range(type.dtype)
        if array.min() < low or array.max() > high:
            raise InterpretError(f"the parameter '{key}' holds {array.min()} to {array.max()}, which {type} does not")
    if type.density is not None and (held := np.count_nonzero(array)) > type.nonzeros:
        raise InterpretError(f"the parameter '{key}' has {held} numbers other than zero, {type} {type.nonzeros}")
    with np.errstate(all="ignore"):
        return to_dtype(array, dtype)


def _as_numpy(key: str, data: Any, arith: Arith) -> Array:
    if hasattr(data, "detach"):  # a torch tensor, without importing torch
        if data.is_meta or type(data).__name__ == "FakeTensor":
            raise InterpretError(
                f"the parameter '{key}' has no data (its tensor is on the meta device); "
                "running the program needs a model with weights, costing it does not"
            )
        data = data.detach().cpu()
        return data.float().numpy() if str(data.dtype) == "torch.bfloat16" else data.numpy()
    return np.asarray(data(arith) if callable(data) else data)


def _random(key: str, type: ShapedType, dtype: np.dtype[Any]) -> Array:
    """Vectors lie near 1 (scales, variances: positive); matrices have the deviation that keeps activations in range.
    Sparse ones have their zeros anywhere."""
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    if type.density is not None:
        return np.where(
            rng.permutation(type.elements).reshape(type.shape) < type.nonzeros, _dense(rng, type, dtype), dtype.type(0)
        )
    return _dense(rng, type, dtype)


def _dense(rng: np.random.Generator, type: ShapedType, dtype: np.dtype[Any]) -> Array:
    if dtype.kind in "biu":
        return rng.integers(0, 2, type.shape).astype(dtype)
    x = rng.standard_normal(type.shape, dtype=np.float32)
    if type.rank <= 1:
        return to_dtype(np.float32(1) + np.float32(0.02) * x, dtype)
    return to_dtype(x / np.float32(math.sqrt(max(1, math.prod(type.shape[1:])))), dtype)
