"""Matrix factorisations and solutions, a batch at a time: LAPACK through numpy and scipy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .numerics import Array

Flags = Sequence[Any]


def evaluate(kind: str, arrays: Sequence[Array], flags: Flags) -> Array:
    """One result. Raises ValueError for a kind that is not in the table, or a matrix that LAPACK refuses."""
    if kind not in KINDS:
        raise ValueError(f"knows no matrix function '{kind}'")
    try:
        return np.asarray(KINDS[kind](*arrays, *flags))
    except np.linalg.LinAlgError as problem:
        raise ValueError(str(problem)) from problem


def _batched(function: Callable[..., Any], *arrays: Array, rank: int = 2) -> Array:
    """`function` on each matrix of the batch; batch axes broadcast."""
    batch = np.broadcast_shapes(*(a.shape[:-rank] for a in arrays))
    full = [np.broadcast_to(a, (*batch, *a.shape[-rank:])).reshape(math.prod(batch), *a.shape[-rank:]) for a in arrays]
    results = [np.asarray(function(*m)) for m in zip(*full, strict=True)]
    if not results:
        return np.zeros((0,), arrays[0].dtype)
    return np.stack(results).reshape(*batch, *results[0].shape)


def _cholesky(a: Array, upper: bool = False) -> Array:
    y = np.linalg.cholesky(_mirrored(a, upper))
    return y.swapaxes(-1, -2) if upper else y


def _mirrored(a: Array, upper: bool) -> Array:
    """A symmetric matrix of which only one triangle is looked at."""
    half = np.triu(a) if upper else np.tril(a)
    return half + (np.triu(a, 1) if upper else np.tril(a, -1)).swapaxes(-1, -2)


def _lu(a: Array) -> tuple[Array, Array]:
    """The packed factors, and the pivots from 1, of one matrix."""
    from scipy.linalg import get_lapack_funcs

    if not a.size:
        return a.copy(), np.zeros(min(a.shape), np.int32)
    (factor,) = get_lapack_funcs(("getrf",), (a,))
    packed, pivots, _ = factor(a)
    return packed, pivots.astype(np.int32) + 1


def _order(pivots: Array, rows: int) -> Array:
    """The permutation that pivots from 1 stand for: row i of P^T a is row order[i] of a."""
    order = np.arange(rows)
    for i, p in enumerate(np.asarray(pivots, np.int64) - 1):
        order[[i, p]] = order[[p, i]]
    return order


def _permutation(pivots: Array, rows: int) -> Array:
    """P of `a = P L U`."""
    p = np.zeros((rows, rows), np.float64)
    p[_order(pivots, rows), np.arange(rows)] = 1
    return p


def _pivots(packed: Array, pivots: Array) -> Array:
    batch, rows = pivots.shape[:-1], packed.shape[-2]
    found = [_permutation(p, rows) for p in pivots.reshape(math.prod(batch), pivots.shape[-1])]
    return np.array(found).reshape(*batch, rows, rows)


def _lower(packed: Array) -> Array:
    n = min(packed.shape[-2:])
    low = np.tril(packed[..., :, :n], -1)
    return low + np.eye(*low.shape[-2:], dtype=packed.dtype)


def _upper(packed: Array) -> Array:
    return np.triu(packed[..., : min(packed.shape[-2:]), :])


def _lu_solve(packed: Array, pivots: Array, b: Array, left: bool, adjoint: bool) -> Array:
    """Solves A X = B or X A = B for A, or its transpose, of these factors."""
    a = (_pivots(packed, pivots) @ _lower(packed) @ _upper(packed)).astype(np.float64)
    a = a.swapaxes(-1, -2) if adjoint else a
    return np.linalg.solve(a, b) if left else np.linalg.solve(a.swapaxes(-1, -2), b.swapaxes(-1, -2)).swapaxes(-1, -2)


def _cholesky_of(a: Array, upper: bool) -> Array:
    """The matrix that a factor is of."""
    a = (np.triu(a).swapaxes(-1, -2) if upper else np.tril(a)).astype(np.float64)
    return a @ a.swapaxes(-1, -2)


def _triangular(a: Array, b: Array, upper: bool, unit: bool, transposed: bool = False) -> Array:
    a = np.triu(a) if upper else np.tril(a)
    if unit:
        a = a * (1 - np.eye(a.shape[-1], dtype=a.dtype)) + np.eye(a.shape[-1], dtype=a.dtype)
    if not a.size or not b.size:
        return np.zeros((*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), *b.shape[-2:]), b.dtype)
    return np.linalg.solve((a.swapaxes(-1, -2) if transposed else a).astype(np.float64), b).astype(b.dtype)


def _geqrf(a: Array, part: str) -> Array:
    """Householder vectors below the diagonal of R, or their factors."""
    from scipy.linalg import get_lapack_funcs

    (function,) = get_lapack_funcs(("geqrf",), (a,))

    def one(m: Array) -> Array:
        if not m.size:
            return m.copy() if part == "a" else np.zeros(min(m.shape), m.dtype)
        packed, tau, _, _ = function(m)
        return packed if part == "a" else tau

    return _batched(one, a)


def _householder(a: Array, tau: Array, square: bool = False) -> Array:
    """The product, or as many columns as a has, of reflections I - tau v v^T."""
    y = np.broadcast_to(np.eye(a.shape[-2], dtype=a.dtype), (*a.shape[:-2], a.shape[-2], a.shape[-2])).copy()
    for i in range(tau.shape[-1]):
        v = np.concatenate([np.zeros_like(a[..., :i, i]), np.ones_like(a[..., :1, i]), a[..., i + 1 :, i]], axis=-1)[
            ..., None
        ]
        y = y - tau[..., i, None, None] * (y @ v) @ v.swapaxes(-1, -2)
    return y if square else y[..., : a.shape[-1]]


def _ormqr(a: Array, tau: Array, other: Array, left: bool, transpose: bool) -> Array:
    q = _householder(a, tau, square=True)
    q = q.swapaxes(-1, -2) if transpose else q
    return q @ other if left else other @ q


def _lu_part(a: Array, part: str) -> Array:
    if not a.size:  # nothing to pivot on
        n, batch = min(a.shape[-2:]), a.shape[:-2]
        rows, cols = a.shape[-2:]
        shapes = {"packed": a.shape, "pivots": (*batch, n), "l": (*batch, rows, n), "u": (*batch, n, cols)}
        eye = np.broadcast_to(np.eye(rows), (*batch, rows, rows))
        return eye if part == "p" else np.zeros(shapes[part])
    packed = _batched(lambda m: _lu(m)[0], a)
    if part == "packed":
        return packed
    pivots = _batched(lambda m: _lu(m)[1], a)
    if part == "pivots":
        return pivots
    return _pivots(packed, pivots) if part == "p" else _lower(packed) if part == "l" else _upper(packed)


def _svd(a: Array, part: int, full: bool) -> Array:
    return np.linalg.svd(a, full_matrices=full)[part]


def _expm(a: Array) -> Array:
    from scipy import linalg

    return linalg.expm(a) if a.size else a.copy()


KINDS: dict[str, Callable[..., Any]] = {
    "cholesky": _cholesky,
    "cholesky_inverse": lambda a, upper: np.linalg.inv(_cholesky_of(a, upper)),
    "cholesky_solve": lambda b, a, upper: np.linalg.solve(_cholesky_of(a, upper), b),
    "inv": np.linalg.inv,
    "det": np.linalg.det,
    "slogdet.sign": lambda a: np.linalg.slogdet(a)[0],
    "slogdet.log": lambda a: np.linalg.slogdet(a)[1],
    "solve": np.linalg.solve,
    "triangular": _triangular,
    "qr.q": lambda a, mode: np.linalg.qr(a, mode)[0],
    "qr.r": lambda a, mode: np.linalg.qr(a, "reduced" if mode == "r" else mode)[1],
    "svd.u": lambda a, full: _svd(a, 0, full),
    "svd.s": lambda a: np.linalg.svd(a, compute_uv=False),
    "svd.v": lambda a, full: _svd(a, 2, full),
    "eigh.values": lambda a, upper: np.linalg.eigvalsh(a, "U" if upper else "L"),
    "eigh.vectors": lambda a, upper: np.linalg.eigh(a, "U" if upper else "L")[1],
    "lu.packed": lambda a: _lu_part(a, "packed"),
    "lu.pivots": lambda a: _lu_part(a, "pivots"),
    "lu.p": lambda a: _lu_part(a, "p"),
    "lu.l": lambda a: _lu_part(a, "l"),
    "lu.u": lambda a: _lu_part(a, "u"),
    "unpack.p": _pivots,
    "unpack.l": lambda packed, pivots: _lower(packed),
    "unpack.u": lambda packed, pivots: _upper(packed),
    "lu_solve": _lu_solve,
    "geqrf.a": lambda a: _geqrf(a, "a"),
    "geqrf.tau": lambda a: _geqrf(a, "tau"),
    "householder": _householder,
    "expm": _expm,
    "ormqr": _ormqr,
}
