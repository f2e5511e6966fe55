"""The scalar functions of compiler/dialects/elementwise.py, on arrays that are already wide, with torch's rules."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev

from .numerics import Array

# erf(x) = x * p(x^2) for |x| <= 5, p a Chebyshev interpolant; beyond, erf is +-1 to within 2e-12.
_ERF_LIMIT, _ERF_DEGREE, _ERF_CHUNK = 5.0, 32, 1 << 14


def _erf_polynomial() -> Array:
    """Coefficients in t = 2 x^2 / limit^2 - 1, lowest first."""
    t = chebyshev.chebpts1(_ERF_DEGREE + 1)
    x = np.sqrt((t + 1) / 2) * _ERF_LIMIT
    return chebyshev.cheb2poly(chebyshev.chebfit(t, [math.erf(v) / v for v in x], _ERF_DEGREE))


_ERF = _erf_polynomial()


def erf(x: Array) -> Array:
    """The error function, within 1e-11 before rounding to the dtype of `x`; NaN stays NaN."""
    flat = np.ascontiguousarray(x).reshape(-1)
    out = np.empty_like(flat)
    for start in range(0, flat.size, _ERF_CHUNK):  # in pieces that stay in cache
        v = np.clip(flat[start : start + _ERF_CHUNK].astype(np.float64), -_ERF_LIMIT, _ERF_LIMIT)
        t = v * v
        t *= 2 / _ERF_LIMIT**2
        t -= 1
        y = np.full_like(t, _ERF[-1])
        for c in _ERF[-2::-1]:
            y *= t
            y += c
        y *= v
        beyond = np.abs(v) == _ERF_LIMIT
        if beyond.any():
            y[beyond] = np.sign(v[beyond])
        out[start : start + _ERF_CHUNK] = y
    return out.reshape(np.shape(x))


def _div(a: Array, b: Array) -> Array:
    if a.dtype.kind == "f":
        return np.divide(a, b)
    quotient = np.floor_divide(a, b)  # integers truncate toward zero
    return quotient + ((quotient < 0) & (quotient * b != a)).astype(a.dtype)


def _pow(a: Array, b: Array) -> Array:
    if a.dtype.kind not in "iu" or a.dtype.kind == "u":
        return np.power(a, b)
    # a negative power of an integer is 0, but for 1 and -1
    powers = np.power(a, np.maximum(b, 0))
    odd = np.where(b % 2 == 0, 1, a).astype(a.dtype)
    return np.where(b >= 0, powers, np.where(a == 1, 1, np.where(a == -1, odd, 0))).astype(a.dtype)


def _sign(x: Array) -> Array:
    """0 for NaN, as torch; a bool is its own sign."""
    return x if x.dtype.kind == "b" else (x > 0).astype(x.dtype) - (x < 0).astype(x.dtype)


def _rounding(function: Callable[..., Any]) -> Callable[[Array], Array]:
    return lambda x: function(x) if x.dtype.kind == "f" else x


def _relu(x: Array) -> Array:
    return np.maximum(x, x.dtype.type(0))


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _softplus(x: Array) -> Array:
    return np.where(x > 20, x, np.log1p(np.exp(x)))  # torch's threshold


def _gelu(x: Array) -> Array:
    return x * (0.5 * (1 + erf(x * math.sqrt(0.5))))


def _gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def _six(x: Array) -> Array:
    """relu6(x + 3) / 6."""
    return np.minimum(np.maximum(x + 3, 0), 6) / 6


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": _div,
    "pow": _pow,
    "mod": np.mod,
    "floordiv": np.floor_divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "neg": np.negative,
    "abs": np.abs,
    "sign": _sign,
    "floor": _rounding(np.floor),
    "ceil": _rounding(np.ceil),
    "round": _rounding(np.rint),
    "trunc": _rounding(np.trunc),
    "reciprocal": lambda x: 1 / x,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "exp": np.exp,
    "log": np.log,
    "log1p": np.log1p,
    "expm1": np.expm1,
    "exp2": np.exp2,
    "log2": np.log2,
    "sin": np.sin,
    "cos": np.cos,
    "erf": erf,
    "relu": _relu,
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "softplus": _softplus,
    "mish": lambda x: x * np.tanh(_softplus(x)),
    "hardswish": lambda x: x * _six(x),
    "hardsigmoid": _six,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "isnan": np.isnan,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
    "logical_not": np.logical_not,
    "bitwise_and": np.bitwise_and,
    "bitwise_or": np.bitwise_or,
    "bitwise_xor": np.bitwise_xor,
    "bitwise_not": np.bitwise_not,
}


def clamp(x: Array, low: float | None, high: float | None) -> Array:
    """Limits to [low, high]; NaN stays NaN. Bounds of integers round inward."""
    if x.dtype.kind in "iu":
        info = np.iinfo(x.dtype)
        if low is not None:
            x = np.maximum(x, x.dtype.type(math.ceil(min(max(low, info.min), info.max))))
        if high is not None:
            x = np.minimum(x, x.dtype.type(math.floor(min(max(high, info.min), info.max))))
        return x
    if low is not None:
        x = np.maximum(x, x.dtype.type(low))
    return x if high is None else np.minimum(x, x.dtype.type(high))


def leaky_relu(x: Array, slope: float) -> Array:
    return np.where(x > 0, x, x * x.dtype.type(slope))


def elu(x: Array, alpha: float) -> Array:
    return np.where(x > 0, x, x.dtype.type(alpha) * np.expm1(x))
