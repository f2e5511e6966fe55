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


def _special(name: str) -> Callable[..., Array]:
    """A function of scipy.special, which is loaded when it is first used; computed in f64 and rounded once."""

    def function(*operands: Array) -> Array:
        from scipy import special

        y = getattr(special, name)(*(x.astype(np.float64) for x in operands))
        return np.asarray(y).astype(operands[0].dtype)

    return function


def _airy_ai(x: Array) -> Array:
    from scipy import special

    return np.asarray(special.airy(x.astype(np.float64))[0]).astype(x.dtype)


def _spherical_bessel_j0(x: Array) -> Array:
    v = x.astype(np.float64)
    y = np.where(np.abs(v) < 1e-8, 1.0, np.sin(v) / np.where(v == 0, 1, v))
    return np.where(np.isinf(v), 0.0, y).astype(x.dtype)


def _igamma(name: str) -> Callable[..., Array]:
    """NaN outside of its domain, also where scipy has a limit."""
    function = _special(name)
    return lambda a, x: np.where((a < 0) | (x < 0), a.dtype.type(np.nan), function(a, x))


def _lgamma(x: Array) -> Array:
    """Infinite at infinities, as C has it."""
    y = _special("gammaln")(x)
    return np.where(np.isinf(x), x.dtype.type(np.inf), y)


def _digamma(x: Array) -> Array:
    """-inf at 0 and inf at -0; NaN at the other poles."""
    y = _special("psi")(x)
    pole = (x < 0) & (x == np.trunc(x)) & np.isfinite(x)
    return np.where(x == 0, np.copysign(x.dtype.type(np.inf), -x), np.where(pole, x.dtype.type(np.nan), y))


def _polygamma(n: Array, x: Array) -> Array:
    """`(-1)^(n + 1) n! zeta(n + 1, x)`; of order 0, digamma."""
    from scipy import special

    a, v = n.astype(np.float64), x.astype(np.float64)
    y = np.where(a % 2 == 0, -1.0, 1.0) * special.gamma(a + 1) * _zeta(a + 1, v)
    return np.where(n == 0, _digamma(x), y.astype(x.dtype))


def _zeta(x: Array, q: Array) -> Array:
    """Hurwitz's zeta function; at q = 0, -1, ... infinite, and NaN for other q < 0 where x is no integer."""
    from scipy import special

    a, v = np.broadcast_arrays(x.astype(np.float64), q.astype(np.float64))
    shift = np.maximum(-np.floor(v), 0) + (v == 0)
    y = special.zeta(a, v)
    below = (v < 0) & np.isfinite(v) & (shift < 1e4)
    a, v, shift, y, below = (np.atleast_1d(z) for z in (a, v, shift, y, below))
    if below.any():  # the terms before the first positive one
        y = y.copy()
        for i in zip(*np.nonzero(below), strict=True):
            terms = v[i] + np.arange(int(shift[i]))
            integer = a[i] == np.floor(a[i])
            y[i] = np.sum(terms ** -a[i]) + special.zeta(a[i], v[i] + shift[i]) if integer else np.nan
        y = np.where(below & (v == np.floor(v)), np.inf, y)
    return y.astype(x.dtype).reshape(np.broadcast_shapes(x.shape, q.shape))


def _left_shift(a: Array, b: Array) -> Array:
    """Past the width, everything is shifted out."""
    bits = 8 * a.dtype.itemsize
    return np.where((b < 0) | (b >= bits), a.dtype.type(0), np.left_shift(a, np.clip(b, 0, bits - 1)))


def _right_shift(a: Array, b: Array) -> Array:
    bits = 8 * a.dtype.itemsize
    return np.right_shift(a, np.where((b < 0) | (b >= bits), a.dtype.type(bits - 1), b))


def _polynomial(first: Callable[[Any], Any], step: Callable[[int], tuple[float, float, float]]) -> Callable[..., Array]:
    """Of degree n at x, by p(k + 1) = (a x + b) p(k) - c p(k - 1) from p(0) = 1 and p(1), in f64; 0 for n < 0."""

    def function(x: Array, n: Array) -> Array:
        v, degree = np.broadcast_arrays(x.astype(np.float64), np.trunc(n.astype(np.float64)))
        before, now = np.ones_like(v), np.asarray(first(v))
        y = np.where(degree < 0, 0.0, np.where(degree == 0, before, now))
        highest = degree[np.isfinite(degree)].max(initial=0)
        for k in range(1, int(min(highest, 1 << 12))):
            a, b, c = step(k)
            before, now = now, (a * v + b) * now - c * before
            y = np.where(degree == k + 1, now, y)
        return y.astype(x.dtype)

    return function


def _shifted(function: Callable[..., Array]) -> Callable[..., Array]:
    """At 2 x - 1."""
    return lambda x, n: function(2 * x.astype(np.float64) - 1, n).astype(x.dtype)


_chebyshev_t = _polynomial(lambda x: x, lambda k: (2, 0, 1))
_chebyshev_u = _polynomial(lambda x: 2 * x, lambda k: (2, 0, 1))
_chebyshev_v = _polynomial(lambda x: 2 * x - 1, lambda k: (2, 0, 1))
_chebyshev_w = _polynomial(lambda x: 2 * x + 1, lambda k: (2, 0, 1))


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
    "fmod": np.fmod,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "atan2": np.arctan2,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "log10": np.log10,
    "hypot": np.hypot,
    "copysign": np.copysign,
    "nextafter": np.nextafter,
    "fmax": np.fmax,
    "fmin": np.fmin,
    "signbit": lambda x: np.signbit(x) if x.dtype.kind == "f" else x < 0,
    "gcd": np.gcd,
    "lcm": np.lcm,
    "erfc": _special("erfc"),
    "erfcx": _special("erfcx"),
    "erfinv": _special("erfinv"),
    "ndtri": _special("ndtri"),
    "log_ndtr": _special("log_ndtr"),
    "lgamma": _lgamma,
    "digamma": _digamma,
    "polygamma": _polygamma,
    "zeta": _zeta,
    "igamma": _igamma("gammainc"),
    "igammac": _igamma("gammaincc"),
    "bessel_i0": _special("i0"),
    "bessel_i0e": _special("i0e"),
    "bessel_i1": _special("i1"),
    "bessel_i1e": _special("i1e"),
    "bessel_j0": _special("j0"),
    "bessel_j1": _special("j1"),
    "bessel_y0": _special("y0"),
    "bessel_y1": _special("y1"),
    "bessel_k0": _special("k0"),
    "bessel_k0e": _special("k0e"),
    "bessel_k1": _special("k1"),
    "bessel_k1e": _special("k1e"),
    "spherical_bessel_j0": _spherical_bessel_j0,
    "airy_ai": _airy_ai,
    "chebyshev_polynomial_t": _chebyshev_t,
    "chebyshev_polynomial_u": _chebyshev_u,
    "chebyshev_polynomial_v": _chebyshev_v,
    "chebyshev_polynomial_w": _chebyshev_w,
    "shifted_chebyshev_polynomial_t": _shifted(_chebyshev_t),
    "shifted_chebyshev_polynomial_u": _shifted(_chebyshev_u),
    "shifted_chebyshev_polynomial_v": _shifted(_chebyshev_v),
    "shifted_chebyshev_polynomial_w": _shifted(_chebyshev_w),
    "hermite_polynomial_h": _polynomial(lambda x: 2 * x, lambda k: (2, 0, 2 * k)),
    "hermite_polynomial_he": _polynomial(lambda x: x, lambda k: (1, 0, k)),
    "laguerre_polynomial_l": _polynomial(lambda x: 1 - x, lambda k: (-1 / (k + 1), (2 * k + 1) / (k + 1), k / (k + 1))),
    "legendre_polynomial_p": _polynomial(lambda x: x, lambda k: ((2 * k + 1) / (k + 1), 0, k / (k + 1))),
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
    "bitwise_left_shift": _left_shift,
    "bitwise_right_shift": _right_shift,
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
