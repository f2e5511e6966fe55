"""Elementwise functions: arithmetic, comparison, logic, activations, selection, conversion."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Value, is_float

from ..aliasing import Same, View
from ..dtypes import ir_dtype, result_type
from ..emitter import Emitter, Number
from ..weights import decoded
from .registry import aten, lowers

Operand = Value | Number

# ---------------------------------------------------------------- one function, one or two operands

FLOAT_FUNCTIONS = {  # an integer operand becomes f32
    aten.reciprocal: "reciprocal",
    aten.sqrt: "sqrt",
    aten.rsqrt: "rsqrt",
    aten.exp: "exp",
    aten.exp2: "exp2",
    aten.expm1: "expm1",
    aten.log: "log",
    aten.log1p: "log1p",
    aten.log2: "log2",
    aten.sin: "sin",
    aten.cos: "cos",
    aten.erf: "erf",
    aten.tan: "tan",
    aten.asin: "asin",
    aten.acos: "acos",
    aten.atan: "atan",
    aten.sinh: "sinh",
    aten.cosh: "cosh",
    aten.asinh: "asinh",
    aten.acosh: "acosh",
    aten.atanh: "atanh",
    aten.log10: "log10",
    aten.erfc: "erfc",
    aten.erfinv: "erfinv",
    aten.lgamma: "lgamma",
    aten.digamma: "digamma",
    aten.i0: "bessel_i0",
    aten.special_i0e: "bessel_i0e",
    aten.special_i1: "bessel_i1",
    aten.special_i1e: "bessel_i1e",
    aten.special_ndtri: "ndtri",
    aten.special_log_ndtr: "log_ndtr",
    aten.special_erfcx: "erfcx",
    aten.special_airy_ai: "airy_ai",
    aten.special_bessel_j0: "bessel_j0",
    aten.special_bessel_j1: "bessel_j1",
    aten.special_bessel_y0: "bessel_y0",
    aten.special_bessel_y1: "bessel_y1",
    aten.special_modified_bessel_i0: "bessel_i0",
    aten.special_modified_bessel_i1: "bessel_i1",
    aten.special_modified_bessel_k0: "bessel_k0",
    aten.special_modified_bessel_k1: "bessel_k1",
    aten.special_scaled_modified_bessel_k0: "bessel_k0e",
    aten.special_scaled_modified_bessel_k1: "bessel_k1e",
    aten.special_spherical_bessel_j0: "spherical_bessel_j0",
    aten.sigmoid: "sigmoid",
    aten.tanh: "tanh",
}
FUNCTIONS = {
    aten.neg: "neg",
    aten.abs: "abs",
    aten.sign: "sign",
    aten.sgn: "sign",
    aten.floor: "floor",
    aten.ceil: "ceil",
    aten.round.default: "round",
    aten.trunc: "trunc",
    aten.relu: "relu",
    aten.silu: "silu",
    aten.mish: "mish",
    aten.hardswish: "hardswish",
    aten.hardsigmoid: "hardsigmoid",
    aten.isnan: "isnan",
    aten.signbit: "signbit",
}
ARITHMETIC = {
    aten.mul: "mul",
    aten.maximum: "maximum",
    aten.minimum: "minimum",
    aten.max.other: "maximum",
    aten.min.other: "minimum",
    aten.remainder: "mod",
    aten.floor_divide: "floordiv",
    aten.fmod: "fmod",
    aten.fmax: "fmax",
    aten.fmin: "fmin",
    aten.gcd: "gcd",
    aten.lcm: "lcm",
    aten.hypot: "hypot",
    aten.copysign: "copysign",
    aten.nextafter: "nextafter",
    aten.igamma: "igamma",
    aten.igammac: "igammac",
    aten.bitwise_left_shift: "bitwise_left_shift",
    aten.__lshift__: "bitwise_left_shift",
    aten.bitwise_right_shift: "bitwise_right_shift",
    aten.__rshift__: "bitwise_right_shift",
}
FLOAT_ARITHMETIC = {  # integer operands become f32
    aten.atan2: "atan2",
    aten.special_zeta: "zeta",
    aten.special_chebyshev_polynomial_t: "chebyshev_polynomial_t",
    aten.special_chebyshev_polynomial_u: "chebyshev_polynomial_u",
    aten.special_chebyshev_polynomial_v: "chebyshev_polynomial_v",
    aten.special_chebyshev_polynomial_w: "chebyshev_polynomial_w",
    aten.special_hermite_polynomial_h: "hermite_polynomial_h",
    aten.special_hermite_polynomial_he: "hermite_polynomial_he",
    aten.special_laguerre_polynomial_l: "laguerre_polynomial_l",
    aten.special_legendre_polynomial_p: "legendre_polynomial_p",
    aten.special_shifted_chebyshev_polynomial_t: "shifted_chebyshev_polynomial_t",
    aten.special_shifted_chebyshev_polynomial_u: "shifted_chebyshev_polynomial_u",
    aten.special_shifted_chebyshev_polynomial_v: "shifted_chebyshev_polynomial_v",
    aten.special_shifted_chebyshev_polynomial_w: "shifted_chebyshev_polynomial_w",
}
COMPARISONS = {aten.eq: "eq", aten.ne: "ne", aten.lt: "lt", aten.le: "le", aten.gt: "gt", aten.ge: "ge"}
LOGIC = {aten.logical_and: "logical_and", aten.logical_or: "logical_or", aten.logical_xor: "logical_xor"}
BITWISE = {
    aten.bitwise_and: "and",
    aten.__and__: "and",
    aten.bitwise_or: "or",
    aten.__or__: "or",
    aten.bitwise_xor: "xor",
    aten.__xor__: "xor",
}


def floating(dtype: str) -> str:
    """The dtype in which torch computes a float function of such an operand."""
    return dtype if is_float(dtype) else "f32"


def _float_function(name: str, e: Emitter, x: Value) -> Value:
    return e.apply(name, x, dtype=floating(x.type.dtype))


def _function(name: str, e: Emitter, *operands: Operand) -> Value:
    return e.apply(name, *operands)


def _float_arithmetic(name: str, e: Emitter, a: Operand, b: Operand) -> Value:
    return e.apply(name, a, b, dtype=floating(result_type(a, b)))


def _logic(name: str, e: Emitter, *operands: Operand) -> Value:
    return e.apply(name, *operands, dtype="i1")


def _bitwise(name: str, e: Emitter, a: Operand, b: Operand) -> Value:
    dtype = result_type(a, b)
    return e.apply(f"{'logical' if dtype == 'i1' else 'bitwise'}_{name}", a, b, dtype=dtype)


for _table, _lowering in (
    (FLOAT_FUNCTIONS, _float_function),
    (FUNCTIONS, _function),
    (ARITHMETIC, _function),
    (FLOAT_ARITHMETIC, _float_arithmetic),
    (COMPARISONS, _function),
    (LOGIC, _logic),
    (BITWISE, _bitwise),
):
    for _target, _name in _table.items():
        lowers(_target)(partial(_lowering, _name))


@lowers(aten.logical_not)
def logical_not(e: Emitter, x: Value) -> Value:
    return e.apply("logical_not", x, dtype="i1")


@lowers(aten.bitwise_not)
def bitwise_not(e: Emitter, x: Value) -> Value:
    return e.apply("logical_not" if x.type.dtype == "i1" else "bitwise_not", x)


# ---------------------------------------------------------------- arithmetic with more to say


def scaled(e: Emitter, x: Operand, factor: Number, dtype: str) -> Operand:
    if factor == 1:
        return x
    return e.apply("mul", x, factor, dtype=dtype) if isinstance(x, Value) else x * factor


@lowers(aten.add)
def add(e: Emitter, a: Operand, b: Operand, alpha: Number = 1) -> Value:
    dtype = result_type(a, b)
    return e.apply("add", a, scaled(e, b, alpha, dtype), dtype=dtype)


@lowers(aten.sub)
def sub(e: Emitter, a: Operand, b: Operand, alpha: Number = 1) -> Value:
    dtype = result_type(a, b)
    return e.apply("sub", a, scaled(e, b, alpha, dtype), dtype=dtype)


@lowers(aten.rsub)
def rsub(e: Emitter, a: Operand, b: Operand, alpha: Number = 1) -> Value:
    dtype = result_type(a, b)
    return e.apply("sub", b, scaled(e, a, alpha, dtype), dtype=dtype)


@lowers(aten.div, aten.true_divide)
def div(e: Emitter, a: Operand, b: Operand, rounding_mode: str | None = None) -> Value:
    dtype = result_type(a, b)
    if rounding_mode == "floor":
        return e.apply("floordiv", a, b, dtype=dtype)
    quotient = e.apply("div", a, b, dtype=floating(dtype))
    return e.cast(e.apply("trunc", quotient), dtype) if rounding_mode == "trunc" else quotient


@lowers(aten.polygamma)
def polygamma(e: Emitter, order: int, x: Value) -> Value:
    return e.apply("polygamma", order, x, dtype=floating(x.type.dtype))


@lowers(aten.float_power)
def float_power(e: Emitter, a: Operand, b: Operand) -> Value:
    return e.apply("pow", a, b, dtype="f64")


@lowers(aten.round.decimals)
def round_decimals(e: Emitter, x: Value, *, decimals: int) -> Value:
    factor = 10.0 ** abs(decimals)
    if not decimals or not is_float(x.type.dtype):
        return e.apply("round", x)
    first, second = ("mul", "div") if decimals > 0 else ("div", "mul")
    return e.apply(second, e.apply("round", e.apply(first, x, factor)), factor)


@lowers(aten.angle)
def angle(e: Emitter, x: Value) -> Value:
    """0 or pi: that of a real number."""
    x = e.cast(x, floating(x.type.dtype))
    turn = e.where(e.apply("lt", x, 0), math.pi, 0.0, x.type.dtype)
    return e.where(e.apply("isnan", x), x, turn, x.type.dtype)


@lowers(aten.frexp.Tensor)
def frexp(e: Emitter, x: Value) -> list[Value]:
    """x = mantissa * 2^exponent, the mantissa in [0.5, 1)."""
    size = e.apply("abs", x)
    finite = e.apply("logical_and", e.apply("gt", size, 0), e.apply("lt", size, math.inf), dtype="i1")
    safe = e.where(finite, size, 1.0, x.type.dtype)
    power = e.apply("add", e.apply("floor", e.apply("log2", safe)), 1)
    half = e.apply("div", safe, e.apply("exp2", power))
    power = e.where(e.apply("ge", half, 1), e.apply("add", power, 1), power)
    power = e.where(e.apply("lt", half, 0.5), e.apply("sub", power, 1), power)
    mantissa = e.where(finite, e.apply("div", x, e.apply("exp2", power)), x, x.type.dtype)
    return [mantissa, e.cast(e.where(finite, power, 0, x.type.dtype), "i32")]


@lowers(aten.pow)
def power(e: Emitter, a: Operand, b: Operand) -> Value:
    """Small powers are products and roots, as torch itself computes them."""
    dtype = result_type(a, b)
    if isinstance(a, Value) and not isinstance(b, Value):
        x = e.cast(a, dtype)
        if b == 1:
            return x
        if b in (2, 3):
            square = e.apply("mul", x, x)
            return square if b == 2 else e.apply("mul", square, x)
        roots = {0.5: "sqrt", -0.5: "rsqrt", -1: "reciprocal"}
        if b in roots and is_float(dtype):
            return e.apply(roots[b], x)
    return e.apply("pow", a, b, dtype=dtype)


@lowers(aten.square)
def square(e: Emitter, x: Value) -> Value:
    return e.apply("mul", x, x)


@lowers(aten.addcmul)
def addcmul(e: Emitter, x: Value, a: Value, b: Value, value: Number = 1) -> Value:
    return add(e, x, e.apply("mul", a, b), alpha=value)


@lowers(aten.addcdiv)
def addcdiv(e: Emitter, x: Value, a: Value, b: Value, value: Number = 1) -> Value:
    return add(e, x, e.apply("div", a, b), alpha=value)


@lowers(aten.lerp)
def lerp(e: Emitter, start: Value, end: Value, weight: Operand) -> Value:
    return e.apply("add", start, e.apply("mul", weight, e.apply("sub", end, start)))


@lowers(aten.clamp.default)
def clamp(e: Emitter, x: Value, low: Number | None = None, high: Number | None = None) -> Value:
    dtype = result_type(x, *(n for n in (low, high) if n is not None))
    limits: dict[str, Any] = {name: n for name, n in (("low", low), ("high", high)) if n is not None}
    return e.add(graph.Clamp(e.cast(x, dtype), **limits))


@lowers(aten.hardtanh)
def hardtanh(e: Emitter, x: Value, low: Number = -1.0, high: Number = 1.0) -> Value:
    return clamp(e, x, low, high)


@lowers(aten.relu6)
def relu6(e: Emitter, x: Value) -> Value:
    return clamp(e, x, 0.0, 6.0)


@lowers(aten.clamp.Tensor)
def clamp_tensor(e: Emitter, x: Value, low: Value | None = None, high: Value | None = None) -> Value:
    x = x if low is None else e.apply("maximum", x, low)
    return x if high is None else e.apply("minimum", x, high)


@lowers(aten.clamp_min)
def clamp_min(e: Emitter, x: Value, low: Operand) -> Value:
    return clamp_tensor(e, x, low=low) if isinstance(low, Value) else clamp(e, x, low=low)


@lowers(aten.clamp_max)
def clamp_max(e: Emitter, x: Value, high: Operand) -> Value:
    return clamp_tensor(e, x, high=high) if isinstance(high, Value) else clamp(e, x, high=high)


@lowers(aten.isinf)
def isinf(e: Emitter, x: Value) -> Value:
    return e.apply("eq", e.apply("abs", x), math.inf) if is_float(x.type.dtype) else e.apply("ne", x, x)


@lowers(aten.nan_to_num)
def nan_to_num(
    e: Emitter, x: Value, nan: float | None = None, posinf: float | None = None, neginf: float | None = None
) -> Value:
    dtype = x.type.dtype
    if not is_float(dtype):
        return x
    limits = torch.finfo(e.expected.dtype)
    x = e.where(e.apply("isnan", x), 0.0 if nan is None else nan, x, dtype)
    if posinf is None and neginf is None:
        return clamp(e, x, limits.min, limits.max)
    x = e.where(e.apply("eq", x, math.inf), limits.max if posinf is None else posinf, x, dtype)
    return e.where(e.apply("eq", x, -math.inf), limits.min if neginf is None else neginf, x, dtype)


# ---------------------------------------------------------------- activations


@lowers(aten.gelu)
def gelu(e: Emitter, x: Value, approximate: str = "none") -> Value:
    return e.apply("gelu" if approximate == "none" else "gelu_tanh", x)


@lowers(aten.leaky_relu)
def leaky_relu(e: Emitter, x: Value, slope: float = 0.01) -> Value:
    return e.add(graph.LeakyRelu(x, slope=float(slope)))


@lowers(aten.prelu)
def prelu(e: Emitter, x: Value, weight: Value) -> Value:
    channels = weight.type.elements
    if channels == 1:
        weight = e.reshape(weight, ())
        return e.where(e.apply("gt", x, 0), x, e.apply("mul", weight, x))
    shape = (1, channels, *(1,) * (x.type.rank - 2)) if x.type.rank > 1 else (channels,)
    weight = e.reshape(weight, shape)
    return e.where(e.apply("gt", x, 0), x, e.apply("mul", weight, x))


@lowers(aten.elu)
def elu(e: Emitter, x: Value, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Value:
    if input_scale != 1:
        e.unsupported("input_scale other than 1")
    y = e.add(graph.Elu(x, alpha=float(alpha)))
    return y if scale == 1 else e.apply("mul", y, scale)


@lowers(aten.rrelu_with_noise.default)
def rrelu(
    e: Emitter,
    x: Value,
    noise: Value,
    lower: float = 0.125,
    upper: float = 1 / 3,
    training: bool = False,
    generator: Any = None,
) -> Value:
    if training:
        e.unsupported("a random slope in training; call model.eval()")
    return leaky_relu(e, x, (lower + upper) / 2)


@lowers(aten.selu)
def selu(e: Emitter, x: Value) -> Value:
    return elu(e, x, 1.6732632423543772, 1.0507009873554805)


@lowers(aten.celu)
def celu(e: Emitter, x: Value, alpha: float = 1.0) -> Value:
    negative = e.apply("mul", e.apply("expm1", e.apply("div", x, alpha)), alpha)
    return e.where(e.apply("gt", x, 0), x, negative)


@lowers(aten.softplus)
def softplus(e: Emitter, x: Value, beta: float = 1.0, threshold: float = 20.0) -> Value:
    """Past the threshold torch returns x; log1p(exp(x)) is the same to rounding there."""
    if beta == 1 and threshold == 20:
        return e.apply("softplus", x)
    if threshold < 20:
        scaled_x = e.apply("mul", x, beta)
        y = e.apply("div", e.apply("log1p", e.apply("exp", scaled_x)), beta)
        return e.where(e.apply("gt", scaled_x, threshold), x, y, x.type.dtype)
    return e.apply("div", e.apply("softplus", e.apply("mul", x, beta)), beta)


@lowers(aten.log_sigmoid)
def log_sigmoid(e: Emitter, x: Value) -> Value:
    return e.apply("neg", e.apply("softplus", e.apply("neg", x)))


@lowers(aten.threshold)
def threshold(e: Emitter, x: Value, limit: Number, value: Number) -> Value:
    return e.where(e.apply("gt", x, limit), x, value, x.type.dtype)


@lowers(aten.glu)
def glu(e: Emitter, x: Value, dim: int = -1) -> Value:
    axis = dim % x.type.rank
    half = x.type.shape[axis] // 2
    gate = e.apply("sigmoid", e.slice_axis(x, axis, half, half))
    return e.apply("mul", e.slice_axis(x, axis, 0, half), gate)


# ---------------------------------------------------------------- selection


@lowers(aten.where.self, aten.where.ScalarSelf, aten.where.ScalarOther, aten.where.Scalar)
def where(e: Emitter, condition: Value, a: Operand, b: Operand) -> Value:
    return e.where(condition, a, b)


@lowers(aten.masked_fill)
def masked_fill(e: Emitter, x: Value, mask: Value, value: Operand) -> Value:
    return e.where(mask, value, x, x.type.dtype)


@lowers(aten.copy.default)
def copy(e: Emitter, x: Value, source: Value, non_blocking: bool = False) -> Value:
    return e.expand(e.cast(source, x.type.dtype), x.type.shape)


@lowers(aten.fill.Scalar, aten.fill.Tensor)
def fill(e: Emitter, x: Value, value: Operand) -> Value:
    return e.expand(e.value(value, x.type.dtype), x.type.shape)


@lowers(aten.zero.default)
def zero(e: Emitter, x: Value) -> Value:
    return e.constant(0, x.type.dtype, x.type.shape)


# ---------------------------------------------------------------- conversion


@lowers(aten.to, aten.type_as)
def convert(e: Emitter, x: Value, *args: Any, copy: bool = False, **options: Any) -> Value | View:
    """To whatever dtype torch's own result has; devices mean nothing here. With nothing to do, the tensor itself."""
    dtype = ir_dtype(e.expected.dtype)
    flags = [a for a in args if isinstance(a, bool)]  # non_blocking, copy
    fresh = copy or any(flags[1:]) or options.get("memory_format") is not None
    return Same(always=not fresh) if dtype == x.type.dtype else decoded(e, x, dtype) or e.cast(x, dtype)


@lowers(torch.ops.prims.convert_element_type.default)
def convert_element_type(e: Emitter, x: Value, dtype: torch.dtype) -> Value:
    return e.cast(x, ir_dtype(dtype))


@lowers(aten._to_copy)
def converted_copy(e: Emitter, x: Value, **_: Any) -> Value | View:
    dtype = ir_dtype(e.expected.dtype)
    return Same() if dtype == x.type.dtype else decoded(e, x, dtype) or e.cast(x, dtype)
