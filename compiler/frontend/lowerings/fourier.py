"""Discrete Fourier transforms as products with matrices of cosines and sines, made when the program is loaded.

A transform of n points costs n products a point. A long one of n = p q points is taken apart into q transforms of p
points, a turn of each number, and p transforms of q points (Cooley and Tukey, 1965).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tilewright.compiler.ir import Value

from ..aliasing import Windows
from ..complex_tensors import Parts
from ..emitter import Emitter, axis_of
from .complex_numbers import filled, multiply, part_dtype
from .contraction import matrix_product
from .indexing import flip
from .registry import aten, lowers, lowers_complex

DIRECT = 512  # points of a transform by one matrix; that of 512 takes 2 MiB of f32
LARGEST = 1 << 13  # points that are prime and take one matrix all the same


def _waves(
    e: Emitter, rows: int, columns: int, points: int, dtype: str, forward: bool, scale: float = 1.0
) -> tuple[Value, Value]:
    """The parts of exp(2 pi i r c / points), forward with -i, each [rows, columns]; turns are counted whole."""
    steps = e.apply("mul", e.reshape(e.iota(rows), (rows, 1)), e.iota(columns))
    turn = e.cast(e.apply("mod", steps, points), "f64" if dtype == "f64" else "f32")
    angle = e.apply("mul", turn, (-2 if forward else 2) * math.pi / points)
    cos, sin = (e.apply(f, angle) for f in ("cos", "sin"))
    if scale != 1:
        cos, sin = (e.apply("mul", w, scale) for w in (cos, sin))
    return e.cast(cos, dtype), e.cast(sin, dtype)


def _scale(points: Sequence[int], normalization: int) -> float:
    """torch's codes: 0 is none, 1 divides by the root of the number of points, 2 by the number."""
    return math.prod(points) ** -(0.0, 0.5, 1.0)[normalization]


def _transform(e: Emitter, z: Parts, kept: int, forward: bool, scale: float) -> Parts:
    """Along the last axis; the first `kept` frequencies. A number as imaginary part is 0 all over."""
    assert isinstance(z.re, Value)
    *batch, n = z.re.type.shape
    p = _factor(n)
    if p == 1:
        if n > LARGEST:
            e.unsupported(f"a Fourier transform of {n} points, which is prime")
        return _by_matrix(e, z, kept, forward, scale)
    q = n // p  # point q i + j of frequency k + p l
    grid = Parts(*(e.swap_last(e.reshape(v, (*batch, p, q))) if isinstance(v, Value) else v for v in (z.re, z.im)))
    inner = _transform(e, grid, p, forward, scale)  # [.., j, k]
    turned = multiply(e, inner, Parts(*_waves(e, q, p, n, z.re.type.dtype, forward)))
    columns = Parts(*(e.swap_last(v) if isinstance(v, Value) else v for v in (turned.re, turned.im)))
    outer = _transform(e, columns, q, forward, 1.0)  # [.., k, l]
    flat = (e.reshape(e.swap_last(v), (*batch, n)) for v in (outer.re, outer.im) if isinstance(v, Value))
    return Parts(*(e.slice_axis(v, len(batch), 0, kept) for v in flat))


def _factor(n: int) -> int:
    """The largest divisor up to the root of n; 1 where one matrix serves n points."""
    if n <= DIRECT:
        return 1
    return next(p for p in range(math.isqrt(n), 0, -1) if n % p == 0)


def _by_matrix(e: Emitter, z: Parts, kept: int, forward: bool, scale: float) -> Parts:
    assert isinstance(z.re, Value)
    n, rank = z.re.type.shape[-1], z.re.type.rank
    both = e.concat(_waves(e, n, kept, n, z.re.type.dtype, forward, scale), 1)

    def product(x: Value) -> tuple[Value, Value]:
        rows = x if rank > 1 else e.reshape(x, (1, n))
        y = matrix_product(e, rows, both)
        halves = (e.slice_axis(y, y.type.rank - 1, i * kept, kept) for i in (0, 1))
        cos, sin = (e.reshape(h, (*x.type.shape[:-1], kept)) for h in halves)
        return cos, sin

    re_cos, re_sin = product(z.re)
    if not isinstance(z.im, Value):
        return Parts(re_cos, re_sin)
    im_cos, im_sin = product(z.im)
    return Parts(e.apply("sub", re_cos, im_sin), e.apply("add", im_cos, re_sin))


def _along(e: Emitter, z: Parts, axis: int, kept: int, forward: bool, scale: float) -> Parts:
    assert isinstance(z.re, Value)
    rank = z.re.type.rank
    order = [*(a for a in range(rank) if a != axis), axis]
    back = [order.index(a) for a in range(rank)]
    moved = Parts(*(e.transpose(v, order) if isinstance(v, Value) else v for v in (z.re, z.im)))
    y = _transform(e, moved, kept, forward, scale)
    return Parts(*(e.transpose(v, back) for v in (y.re, y.im) if isinstance(v, Value)))


@lowers_complex(aten._fft_c2c.default)
def fft_c2c(e: Emitter, z: Parts, dim: Sequence[int], normalization: int, forward: bool) -> Parts:
    shape = tuple(e.expected.shape)
    axes = [axis_of(d, len(shape)) for d in dim]
    scale = _scale([shape[a] for a in axes], normalization)
    for axis in axes:
        z, scale = _along(e, z, axis, shape[axis], forward, scale), 1.0
    return filled(e, z)


@lowers_complex(aten._fft_r2c.default)
def fft_r2c(e: Emitter, x: Value, dim: Sequence[int], normalization: int, onesided: bool) -> Parts:
    """The last of `dim` first, of which half the frequencies say all."""
    shape = x.type.shape
    axes = [axis_of(d, len(shape)) for d in dim]
    scale = _scale([shape[a] for a in axes], normalization)
    last = shape[axes[-1]]
    z = _along(e, Parts(x, 0), axes[-1], last // 2 + 1 if onesided else last, True, scale)
    for axis in axes[:-1]:
        z = _along(e, z, axis, shape[axis], True, 1.0)
    return filled(e, z)


@lowers_complex(aten._fft_c2r.default)
def fft_c2r(e: Emitter, z: Parts, dim: Sequence[int], normalization: int, last_dim_size: int) -> Value:
    """The inverse, of half the frequencies of a real result."""
    shape = tuple(e.expected.shape)
    axes = [axis_of(d, len(shape)) for d in dim]
    scale = _scale([shape[a] for a in axes], normalization)
    for axis in axes[:-1]:
        z, scale = _along(e, z, axis, shape[axis], False, scale), 1.0
    return _real_inverse(e, z, axes[-1], last_dim_size, scale)


def _real_inverse(e: Emitter, z: Parts, axis: int, n: int, scale: float) -> Value:
    re, im = (e.value(v, part_dtype(e)) for v in (z.re, z.im))
    half, rank = re.type.shape[axis], re.type.rank
    if _factor(n) > 1:  # a long one, of all frequencies
        rest = [flip(e, e.slice_axis(v, axis, 1, n - half), (axis,)) for v in (re, im)]
        whole = Parts(e.concat([re, rest[0]], axis), e.concat([im, e.apply("neg", rest[1])], axis))
        return e.value(_along(e, whole, axis, n, False, scale).re, part_dtype(e))
    order = [*(a for a in range(rank) if a != axis), axis]
    cos, sin = _waves(e, half, n, n, re.type.dtype, False, scale)
    twice = e.table([1 if k == 0 or 2 * k == n else 2 for k in range(half)], re.type.dtype, (half, 1))
    products = [
        matrix_product(e, _rows(e, e.transpose(v, order)), e.apply("mul", wave, twice))
        for v, wave in ((re, cos), (im, sin))
    ]
    y = e.apply("sub", *products)
    y = e.reshape(y, (*(re.type.shape[a] for a in order[:-1]), n))
    return e.transpose(y, [order.index(a) for a in range(rank)])


def _rows(e: Emitter, x: Value) -> Value:
    return x if x.type.rank > 1 else e.reshape(x, (1, x.type.elements))


# ---------------------------------------------------------------- windows of a signal


@lowers(aten.stft.default)
@lowers_complex(aten.stft.default)
def stft(
    e: Emitter,
    x: Value,
    points: int,
    hop: int | None = None,
    win_length: int | None = None,
    window: Value | None = None,
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    align_to_window: bool | None = None,
) -> Parts | Value:
    """The spectra [.., frequencies, windows] of windows of a signal x[.., points], every `hop` points."""
    if align_to_window:
        e.unsupported("stft that aligns to its window")
    hop, width = hop or points // 4, win_length or points
    frames = Windows(x.type.rank - 1, points, hop).read(e, x)
    if window is not None:
        left = (points - width) // 2
        frames = e.apply("mul", frames, e.pad(window, (left, points - width - left)))
    kept = points if onesided is False else points // 2 + 1
    spectra = _transform(e, Parts(frames, 0), kept, True, points**-0.5 if normalized else 1.0)
    re, im = (e.swap_last(e.value(v, frames.type.dtype)) for v in (spectra.re, spectra.im))
    if return_complex:
        return filled(e, Parts(re, im))
    return e.concat([e.reshape(v, (*v.type.shape, 1)) for v in (re, im)], re.type.rank)


@lowers_complex(aten.istft.default)
def istft(
    e: Emitter,
    z: Parts,
    points: int,
    hop: int | None = None,
    win_length: int | None = None,
    window: Value | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> Value:
    """The signal whose windows have the spectra z[.., frequencies, windows]; where windows overlap, their mean."""
    if return_complex or onesided is False:
        e.unsupported("istft of all frequencies, or into complex numbers")
    hop, width = hop or points // 4, win_length or points
    dtype, expected = part_dtype(e), tuple(e.expected.shape)
    if window is None:
        window = e.constant(1, dtype, (width,))
    left = (points - width) // 2
    window = e.pad(window, (left, points - width - left))
    spectra = Parts(*(e.swap_last(e.value(v, dtype)) for v in (z.re, z.im)))
    scale = points**-0.5 if normalized else 1 / points
    frames = _real_inverse(e, spectra, len(expected), points, scale)
    count = frames.type.shape[-2]
    signal = _overlapped(e, e.apply("mul", frames, window), hop)
    weight = _overlapped(e, e.expand(e.apply("mul", window, window), (count, points)), hop)
    start = points // 2 if center else 0
    size = min(expected[-1], signal.type.shape[-1] - start)
    signal, weight = (e.slice_axis(v, v.type.rank - 1, start, size) for v in (signal, weight))
    y = e.apply("div", signal, weight)
    return e.pad(y, (*(0, 0) * (len(expected) - 1), 0, expected[-1] - size))


def _overlapped(e: Emitter, frames: Value, hop: int) -> Value:
    """The sum of frames[.., windows, points], each `hop` points after the one before."""
    *batch, count, points = frames.type.shape
    pieces = -(-points // hop)
    rank = len(batch)
    frames = e.pad(frames, (*(0, 0) * (rank + 1), 0, pieces * hop - points))
    total: Value | None = None
    for i in range(pieces):
        piece = e.reshape(e.slice_axis(frames, rank + 1, i * hop, hop), (*batch, count * hop))
        piece = e.pad(piece, (*(0, 0) * rank, i * hop, (pieces - 1 - i) * hop))
        total = piece if total is None else e.apply("add", total, piece)
    assert total is not None
    return e.slice_axis(total, rank, 0, (count - 1) * hop + points)
