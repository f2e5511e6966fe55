"""The scalar functions that graph and tile ops apply to each element: one row a function.

`rate` names the class that engines price: move, add, mul, fma, compare, divide, sqrt, exp (one table or one
special-unit pass), and gelu-like compositions are priced as the number of passes of each.
"""

from __future__ import annotations

from typing import NamedTuple


class Scalar(NamedTuple):
    """One scalar function: operand count, priced work, and the dtype of its result."""

    arity: int
    rates: tuple[tuple[str, int], ...]  # (rate class, passes)
    result: str = "same"  # "same" as the first operand, or "i1"


def _f(arity: int, result: str = "same", **rates: int) -> Scalar:
    return Scalar(arity, tuple(rates.items()), result)


SCALARS: dict[str, Scalar] = {
    # arithmetic
    "add": _f(2, add=1),
    "sub": _f(2, add=1),
    "mul": _f(2, mul=1),
    "div": _f(2, divide=1),
    "pow": _f(2, exp=2, mul=1),
    "mod": _f(2, divide=1, mul=1, add=1),
    "floordiv": _f(2, divide=1),
    "maximum": _f(2, compare=1),
    "minimum": _f(2, compare=1),
    "neg": _f(1, mul=1),
    "abs": _f(1, compare=1),
    "sign": _f(1, compare=1),
    "floor": _f(1, add=1),
    "ceil": _f(1, add=1),
    "round": _f(1, add=1),
    "trunc": _f(1, add=1),
    "reciprocal": _f(1, divide=1),
    "sqrt": _f(1, sqrt=1),
    "rsqrt": _f(1, sqrt=1),
    "exp": _f(1, exp=1),
    "log": _f(1, exp=1),
    "log1p": _f(1, exp=1, add=1),
    "expm1": _f(1, exp=1, add=1),
    "exp2": _f(1, exp=1),
    "log2": _f(1, exp=1),
    "sin": _f(1, exp=1),
    "cos": _f(1, exp=1),
    "erf": _f(1, exp=1),
    "fmod": _f(2, divide=1, mul=1, add=1),
    "tan": _f(1, exp=1, divide=1),
    "asin": _f(1, exp=1, sqrt=1),
    "acos": _f(1, exp=1, sqrt=1),
    "atan": _f(1, exp=1),
    "atan2": _f(2, exp=1, divide=1, compare=2),
    "sinh": _f(1, exp=2, add=1, mul=1),
    "cosh": _f(1, exp=2, add=1, mul=1),
    "asinh": _f(1, exp=1, sqrt=1, add=2),
    "acosh": _f(1, exp=1, sqrt=1, add=2),
    "atanh": _f(1, exp=1, divide=1, add=2),
    "log10": _f(1, exp=1),
    "hypot": _f(2, mul=1, fma=1, sqrt=1),
    "copysign": _f(2, add=1),
    "nextafter": _f(2, compare=2, add=1),
    "fmax": _f(2, compare=2),
    "fmin": _f(2, compare=2),
    "signbit": _f(1, "i1", compare=1),
    "gcd": _f(2, divide=16, compare=16),  # steps of Euclid's algorithm
    "lcm": _f(2, divide=17, compare=16, mul=1),
    # special functions: polynomials of about ten terms, with one or two other functions
    "erfc": _f(1, exp=1, fma=10),
    "erfcx": _f(1, exp=1, fma=10),
    "erfinv": _f(1, exp=1, sqrt=1, fma=10),
    "ndtri": _f(1, exp=1, sqrt=1, fma=10),
    "log_ndtr": _f(1, exp=2, fma=10),
    "lgamma": _f(1, exp=1, fma=10),
    "digamma": _f(1, exp=2, divide=1, fma=10),
    "polygamma": _f(2, exp=2, divide=10, fma=20),
    "zeta": _f(2, exp=10, divide=10, fma=20),
    "igamma": _f(2, exp=2, divide=20, fma=20),
    "igammac": _f(2, exp=2, divide=20, fma=20),
    "bessel_i0": _f(1, exp=1, fma=10),
    "bessel_i0e": _f(1, exp=1, fma=10),
    "bessel_i1": _f(1, exp=1, fma=10),
    "bessel_i1e": _f(1, exp=1, fma=10),
    "bessel_j0": _f(1, exp=2, sqrt=1, fma=10),
    "bessel_j1": _f(1, exp=2, sqrt=1, fma=10),
    "bessel_y0": _f(1, exp=2, sqrt=1, fma=10),
    "bessel_y1": _f(1, exp=2, sqrt=1, fma=10),
    "bessel_k0": _f(1, exp=2, sqrt=1, fma=10),
    "bessel_k0e": _f(1, exp=2, sqrt=1, fma=10),
    "bessel_k1": _f(1, exp=2, sqrt=1, fma=10),
    "bessel_k1e": _f(1, exp=2, sqrt=1, fma=10),
    "spherical_bessel_j0": _f(1, exp=1, divide=1),
    "airy_ai": _f(1, exp=2, sqrt=1, fma=10),
    # orthogonal polynomials of x, of a degree that is an operand too
    "chebyshev_polynomial_t": _f(2, fma=16),
    "chebyshev_polynomial_u": _f(2, fma=16),
    "chebyshev_polynomial_v": _f(2, fma=16),
    "chebyshev_polynomial_w": _f(2, fma=16),
    "hermite_polynomial_h": _f(2, fma=16),
    "hermite_polynomial_he": _f(2, fma=16),
    "laguerre_polynomial_l": _f(2, fma=16),
    "legendre_polynomial_p": _f(2, fma=16),
    "shifted_chebyshev_polynomial_t": _f(2, fma=16),
    "shifted_chebyshev_polynomial_u": _f(2, fma=16),
    "shifted_chebyshev_polynomial_v": _f(2, fma=16),
    "shifted_chebyshev_polynomial_w": _f(2, fma=16),
    # activations
    "relu": _f(1, compare=1),
    "sigmoid": _f(1, exp=1),
    "tanh": _f(1, exp=1),
    "silu": _f(1, exp=1, mul=1),
    "gelu": _f(1, exp=1, mul=1),
    "gelu_tanh": _f(1, exp=1, mul=1),
    "softplus": _f(1, exp=2),
    "mish": _f(1, exp=3, mul=1),
    "hardswish": _f(1, fma=1, compare=1, mul=1),
    "hardsigmoid": _f(1, fma=1, compare=1),
    # comparison and logic
    "eq": _f(2, "i1", compare=1),
    "ne": _f(2, "i1", compare=1),
    "lt": _f(2, "i1", compare=1),
    "le": _f(2, "i1", compare=1),
    "gt": _f(2, "i1", compare=1),
    "ge": _f(2, "i1", compare=1),
    "isnan": _f(1, "i1", compare=1),
    "logical_and": _f(2, "i1", compare=1),
    "logical_or": _f(2, "i1", compare=1),
    "logical_xor": _f(2, "i1", compare=1),
    "logical_not": _f(1, "i1", compare=1),
    "bitwise_and": _f(2, add=1),
    "bitwise_or": _f(2, add=1),
    "bitwise_xor": _f(2, add=1),
    "bitwise_not": _f(1, add=1),
    "bitwise_left_shift": _f(2, add=1),
    "bitwise_right_shift": _f(2, add=1),
}


def broadcast(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """NumPy's broadcasting. Raises ValueError where two sizes differ and neither is 1."""
    rank = max(map(len, shapes), default=0)
    out = [1] * rank
    for shape in shapes:
        for i, n in enumerate(shape, rank - len(shape)):
            if n != 1:
                if out[i] not in (1, n):
                    raise ValueError(f"shapes {' and '.join(map(str, shapes))} do not broadcast")
                out[i] = n
    return tuple(out)
