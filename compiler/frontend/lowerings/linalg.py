"""Matrix factorisations and what follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Value

from ..dtypes import ir_dtype
from ..emitter import Emitter
from .creation import tril
from .registry import aten, lowers


def _matrix(e: Emitter, kind: str, like: torch.Tensor, *operands: Value, flags: Sequence[Any] = ()) -> Value:
    """One result, with the shape and dtype of torch's own."""
    if like.is_complex():
        e.unsupported("a complex result")
    options: dict[str, Any] = {"flags": tuple(flags)} if flags else {}
    return e.add(graph.Linalg(*operands, kind=kind, of=tuple(like.shape), to=ir_dtype(like.dtype), **options))


def _info(e: Emitter, like: torch.Tensor) -> Value:
    """LAPACK's report: nothing went wrong."""
    return e.constant(0, ir_dtype(like.dtype), tuple(like.shape))


@lowers(aten.linalg_cholesky_ex.default)
def cholesky_ex(e: Emitter, a: Value, *, upper: bool = False, check_errors: bool = False) -> list[Value]:
    return [_matrix(e, "cholesky", e.expected[0], a, flags=(upper,)), _info(e, e.expected[1])]


@lowers(aten.cholesky.default)
def cholesky(e: Emitter, a: Value, upper: bool = False) -> Value:
    return _matrix(e, "cholesky", e.expected, a, flags=(upper,))


@lowers(aten.cholesky_inverse.default)
def cholesky_inverse(e: Emitter, a: Value, upper: bool = False) -> Value:
    return _matrix(e, "cholesky_inverse", e.expected, a, flags=(upper,))


@lowers(aten.cholesky_solve.default)
def cholesky_solve(e: Emitter, b: Value, a: Value, upper: bool = False) -> Value:
    return _matrix(e, "cholesky_solve", e.expected, b, a, flags=(upper,))


@lowers(aten.linalg_inv_ex.default)
def inv_ex(e: Emitter, a: Value, *, check_errors: bool = False) -> list[Value]:
    return [_matrix(e, "inv", e.expected[0], a), _info(e, e.expected[1])]


def _factors(e: Emitter, a: Value) -> tuple[Value, Value]:
    """The packed LU factors, and the pivots."""
    shape, n = a.type.shape, min(a.type.shape[-2:])
    packed = e.add(graph.Linalg(a, kind="lu.packed", of=shape, to=a.type.dtype))
    return packed, e.add(graph.Linalg(a, kind="lu.pivots", of=(*shape[:-2], n), to="i32"))


@lowers(aten._linalg_det.default)
def det(e: Emitter, a: Value) -> list[Value]:
    return [_matrix(e, "det", e.expected[0], a), *_factors(e, a)]


@lowers(aten._linalg_slogdet.default)
def slogdet(e: Emitter, a: Value) -> list[Value]:
    sign = _matrix(e, "slogdet.sign", e.expected[0], a)
    return [sign, _matrix(e, "slogdet.log", e.expected[1], a), *_factors(e, a)]


@lowers(aten._linalg_solve_ex.default)
def solve_ex(e: Emitter, a: Value, b: Value, *, left: bool = True, check_errors: bool = False) -> list[Value]:
    vector = b.type.rank == 1 or (b.type.rank == a.type.rank - 1 and b.type.shape == a.type.shape[:-1])
    if vector:
        right = e.reshape(b, (*b.type.shape, 1))
        y = _solved(e, "solve", a, right, (*e.expected[0].shape, 1), left=True)
        y = e.reshape(y, tuple(e.expected[0].shape))
    else:
        y = _solved(e, "solve", a, b, tuple(e.expected[0].shape), left)
    return [y, *_factors(e, a), _info(e, e.expected[3])]


def _solved(
    e: Emitter, kind: str, a: Value, b: Value, of: Sequence[int], left: bool, flags: Sequence[Any] = ()
) -> Value:
    """A solution of A X = B, or of X A = B through the transposes."""
    options: dict[str, Any] = {"flags": tuple(flags)} if flags else {}
    if left:
        return e.add(graph.Linalg(a, b, kind=kind, of=tuple(of), to=b.type.dtype, **options))
    turned = (*of[:-2], of[-1], of[-2])
    operands = (e.swap_last(a), e.swap_last(b))
    return e.swap_last(e.add(graph.Linalg(*operands, kind=kind, of=turned, to=b.type.dtype, **options)))


@lowers(aten.linalg_solve_triangular.default)
def solve_triangular(
    e: Emitter, a: Value, b: Value, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Value:
    flags = (upper if left else not upper, unitriangular)
    return _solved(e, "triangular", a, b, tuple(e.expected.shape), left, flags)


@lowers(aten.triangular_solve.default)
def triangular_solve(
    e: Emitter, b: Value, a: Value, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> list[Value]:
    flags = (upper, unitriangular, transpose)
    y = _matrix(e, "triangular", e.expected[0], a, b, flags=flags)
    return [y, e.expand(a, tuple(e.expected[1].shape))]


@lowers(aten.linalg_qr.default)
def qr(e: Emitter, a: Value, mode: str = "reduced") -> list[Value]:
    r = _matrix(e, "qr.r", e.expected[1], a, flags=(mode,))
    if mode == "r":
        return [e.constant(0, a.type.dtype, tuple(e.expected[0].shape)), r]
    return [_matrix(e, "qr.q", e.expected[0], a, flags=(mode,)), r]


@lowers(aten._linalg_svd.default)
def svd(
    e: Emitter, a: Value, full_matrices: bool = False, compute_uv: bool = True, *, driver: str | None = None
) -> list[Value]:
    s = _matrix(e, "svd.s", e.expected[1], a)
    if not compute_uv:
        empty = [e.constant(0, a.type.dtype, tuple(e.expected[i].shape)) for i in (0, 2)]
        return [empty[0], s, empty[1]]
    u = _matrix(e, "svd.u", e.expected[0], a, flags=(full_matrices,))
    return [u, s, _matrix(e, "svd.v", e.expected[2], a, flags=(full_matrices,))]


@lowers(aten._linalg_eigh.default)
def eigh(e: Emitter, a: Value, uplo: str = "L", compute_v: bool = True) -> list[Value]:
    upper = (uplo.upper() == "U",)
    values = _matrix(e, "eigh.values", e.expected[0], a, flags=upper)
    if not compute_v:
        return [values, e.constant(0, a.type.dtype, tuple(e.expected[1].shape))]
    return [values, _matrix(e, "eigh.vectors", e.expected[1], a, flags=upper)]


@lowers(aten.linalg_pinv.atol_rtol_tensor)
def pinv(
    e: Emitter, a: Value, *, atol: Value | None = None, rtol: Value | None = None, hermitian: bool = False
) -> Value:
    """Singular values below the larger of atol and rtol times the greatest count as zero."""
    m, n = a.type.shape[-2:]
    if not min(m, n):
        return e.constant(0, a.type.dtype, tuple(e.expected.shape))
    if hermitian:  # only the lower triangle is looked at
        low = tril(e, a)
        a = e.apply("add", low, e.swap_last(tril(e, a, -1)))
    eps = torch.finfo(e.expected.dtype).eps * max(m, n)
    k, batch = min(m, n), a.type.shape[:-2]

    def part(kind: str, of: Sequence[int], flags: Sequence[Any] = ()) -> Value:
        return e.add(graph.Linalg(a, kind=kind, of=(*batch, *of), to=a.type.dtype, flags=tuple(flags)))

    u, s, v = part("svd.u", (m, k), (False,)), part("svd.s", (k,)), part("svd.v", (k, n), (False,))
    top = e.reduce("max", s, (len(batch),), keepdims=True)
    given = {name: e.reshape(t, (*t.type.shape, 1)) for name, t in (("atol", atol), ("rtol", rtol)) if t is not None}
    relative: Value | float = given.get("rtol", eps if atol is None else 0.0)
    if rtol is None and atol is not None:
        relative = e.where(e.apply("gt", given["atol"], 0.0), 0.0, eps, a.type.dtype)
    limit = e.apply("mul", top, relative)
    limit = e.apply("maximum", limit, e.cast(given["atol"], a.type.dtype)) if atol is not None else limit
    inverse = e.where(e.apply("gt", s, limit), e.apply("reciprocal", s), 0.0, a.type.dtype)
    rows = e.apply("mul", e.swap_last(v), e.reshape(inverse, (*inverse.type.shape[:-1], 1, k)))
    return e.add(graph.Matmul(e.expand(rows, (*batch, n, k)), e.swap_last(u)))


@lowers(aten.linalg_lu_factor_ex.default)
def lu_factor_ex(e: Emitter, a: Value, *, pivot: bool = True, check_errors: bool = False) -> list[Value]:
    if not pivot:
        e.unsupported("an LU factorisation without pivots")
    return [*_factors(e, a), _info(e, e.expected[2])]


@lowers(aten.linalg_lu.default)
def lu(e: Emitter, a: Value, *, pivot: bool = True) -> list[Value]:
    if not pivot:
        e.unsupported("an LU factorisation without pivots")
    return [_matrix(e, f"lu.{part}", e.expected[i], a) for i, part in enumerate("plu")]


@lowers(aten.lu_unpack.default)
def lu_unpack(
    e: Emitter, packed: Value, pivots: Value, unpack_data: bool = True, unpack_pivots: bool = True
) -> list[Value]:
    kinds = ("unpack.p" if unpack_pivots else "", "unpack.l" if unpack_data else "", "unpack.u" if unpack_data else "")
    return [
        _matrix(e, kind, like, packed, pivots) if kind else e.constant(0, packed.type.dtype, tuple(like.shape))
        for kind, like in zip(kinds, e.expected, strict=True)
    ]


@lowers(aten.linalg_lu_solve.default)
def lu_solve(e: Emitter, packed: Value, pivots: Value, b: Value, *, left: bool = True, adjoint: bool = False) -> Value:
    return _matrix(e, "lu_solve", e.expected, packed, pivots, b, flags=(left, adjoint))


@lowers(aten.linalg_matrix_exp.default)
def matrix_exp(e: Emitter, a: Value) -> Value:
    return _matrix(e, "expm", e.expected, a)


@lowers(aten.geqrf.default)
def geqrf(e: Emitter, a: Value) -> list[Value]:
    return [_matrix(e, f"geqrf.{part}", e.expected[i], a) for i, part in enumerate(("a", "tau"))]


@lowers(aten.linalg_householder_product.default)
def householder_product(e: Emitter, a: Value, tau: Value) -> Value:
    return _matrix(e, "householder", e.expected, a, tau)


@lowers(aten.ormqr.default)
def ormqr(e: Emitter, a: Value, tau: Value, other: Value, left: bool = True, transpose: bool = False) -> Value:
    return _matrix(e, "ormqr", e.expected, a, tau, other, flags=(left, transpose))
