"""What the interpreters agree on: errors, how dtypes map to numpy, and where rounding happens.

A float is computed in f32 (f64 stays f64) and rounded once, to the dtype of the op's result. Under `arith="f32"` there
is no rounding to 16 bits at all: f16 and bf16 values are held as f32, so that a wrong index is not taken for rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache, lru_cache
from typing import Any, Literal, TypeAlias

import numpy as np
from threadpoolctl import ThreadpoolController
from tilewright.compiler.ir import IRError, Operation, ShapedType
from tilewright.compiler.ir.types import PACKED_BITS

Arith: TypeAlias = Literal["native", "f32"]
Array: TypeAlias = np.ndarray[Any, Any]
ARITHS = ("native", "f32")

_NUMPY = {
    "f16": np.float16,
    "f32": np.float32,
    "f64": np.float64,
    "i1": np.bool_,
    "i8": np.int8,
    "ui8": np.uint8,
    "i16": np.int16,
    "i32": np.int32,
    "i64": np.int64,
    "i4": np.int8,  # and whatever else is packed: an element of numpy's each
    **dict.fromkeys(("ui1", "ui2", "ui3", "ui4", "ui5", "ui6"), np.uint8),
}


class InterpretError(IRError):
    """A program that cannot be executed, or inputs that do not fit it."""


def error(op: Operation, message: str) -> InterpretError:
    """The error to raise for `op`: names it and the place in the model that it comes from."""
    return InterpretError(f"'{op.name}' ({op.location}): {message}")


@lru_cache(maxsize=64)
def numpy_dtype(dtype: str, arith: Arith = "native") -> np.dtype[Any]:
    """The numpy dtype that holds `dtype`. Raises InterpretError for bf16 in its own precision, which numpy lacks."""
    if arith == "f32" and dtype in ("f16", "bf16"):
        return np.dtype(np.float32)
    if dtype not in _NUMPY:
        raise InterpretError(f"numpy has no {dtype}; run with arith 'f32', which holds it as f32")
    return np.dtype(_NUMPY[dtype])


def wide(x: Array) -> Array:
    """`x` in the precision that it is computed in: f16 becomes f32, anything else stays."""
    return x.astype(np.float32) if x.dtype == np.float16 else x


def to_dtype(x: Any, dtype: np.dtype[Any]) -> Array:
    """Converts as torch does: floats truncate to integers, and f64 reaches f16 through f32.

    What lies outside the integers' range wraps as torch lets it on x86: signed ones through i32, unsigned through i64.
    """
    x = np.asarray(x)
    if x.dtype == dtype:
        return x
    if x.dtype.kind == "f" and dtype.kind in "iu" and dtype.itemsize < 8:
        x = x.astype(np.int64 if dtype.kind == "u" else np.int32)
    elif x.dtype == np.float64 and dtype == np.float16:
        x = x.astype(np.float32)
    return x.astype(dtype)


@cache
def _thread_pools() -> ThreadpoolController:
    return ThreadpoolController()


def one_blas_thread() -> AbstractContextManager[Any]:
    """A context for small products: a second thread mostly waits, on a busy machine for a hundred times the work."""
    return _thread_pools().limit(limits=1, user_api="blas")


def packed(x: Array, dtype: str) -> Array:
    """Integers cut to the low bits that a packed dtype holds."""
    bits = 8 - PACKED_BITS[dtype]
    x = np.left_shift(x, bits, dtype=numpy_dtype(dtype), casting="unsafe")
    return np.right_shift(x, bits)


def check_arith(arith: str) -> None:
    if arith not in ARITHS:
        raise InterpretError(f"arith is 'native' or 'f32', not '{arith}'")


def check_inputs(types: Sequence[tuple[str, ShapedType]], inputs: Sequence[Any], arith: Arith) -> list[Array]:
    """`inputs` as arrays of the named types. Raises InterpretError for a wrong count, shape or kind of dtype."""
    check_arith(arith)
    if len(inputs) != len(types):
        names = ", ".join(name for name, _ in types)
        raise InterpretError(f"the program takes {len(types)} inputs ({names}), not {len(inputs)}")
    arrays = []
    for (name, kind), given in zip(types, inputs, strict=True):
        array = np.asarray(given)
        dtype = numpy_dtype(kind.dtype, arith)
        if array.shape != kind.shape:
            raise InterpretError(f"input '{name}' has shape {array.shape}, the program takes {kind}")
        if array.dtype != dtype and not (array.dtype.kind == "f" and dtype.kind == "f"):
            raise InterpretError(f"input '{name}' is {array.dtype}, the program takes {kind}")
        with np.errstate(all="ignore"):
            arrays.append(to_dtype(array, dtype))
    return arrays
