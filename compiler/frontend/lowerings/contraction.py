"""Contractions: matrix products in all their spellings, down to einsum of two operands."""

from __future__ import annotations

from collections.abc import Sequence

from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Value, is_float

from ..dtypes import result_type
from ..emitter import Emitter, Number, product
from .movement import diagonal
from .registry import aten, lowers


def matrix_product(e: Emitter, a: Value, b: Value, bias: Value | None = None, transpose_b: bool = False) -> Value:
    """graph.matmul of tensors of rank 2 or more; of integers products and a sum, which stay exact."""
    dtype = result_type(a, b)
    parts = [e.cast(a, dtype), e.cast(b, dtype)]
    if not is_float(dtype):
        columns = parts[1] if transpose_b else e.swap_last(parts[1])
        rows = e.reshape(parts[0], (*a.type.shape[:-1], 1, a.type.shape[-1]))
        columns = e.reshape(columns, (*columns.type.shape[:-2], 1, *columns.type.shape[-2:]))
        y = e.reduce("sum", e.apply("mul", rows, columns), (max(rows.type.rank, columns.type.rank) - 1,))
        return y if bias is None else e.apply("add", y, bias, dtype=dtype)
    if bias is not None:
        parts.append(e.cast(bias, dtype))
    return e.add(graph.Matmul(*parts, transpose_b=True) if transpose_b else graph.Matmul(*parts))


def along_axis(e: Emitter, x: Value, axis: int, matrix: Value) -> Value:
    """Each vector v of x along `axis` becomes matrix[rows, len(v)] v."""
    order = [*(a for a in range(x.type.rank) if a != axis), axis]
    y = matrix_product(e, e.transpose(x, order), matrix, transpose_b=True)
    return e.transpose(y, tuple(order.index(a) for a in range(x.type.rank)))


@lowers(aten.linear)
def linear(e: Emitter, x: Value, weight: Value, bias: Value | None = None) -> Value:
    rows = x if x.type.rank > 1 else e.reshape(x, (1, *x.type.shape))
    if weight.type.rank == 1:
        y = matrix_product(e, rows, e.reshape(weight, (1, weight.type.elements)), bias, transpose_b=True)
        return e.reshape(y, x.type.shape[:-1])
    y = matrix_product(e, rows, weight, bias, transpose_b=True)
    return e.reshape(y, (*x.type.shape[:-1], weight.type.shape[0]))


@lowers(aten.matmul.default, aten.mm.default, aten.bmm.default, aten.mv.default, aten.dot.default)
def matmul(e: Emitter, a: Value, b: Value) -> Value:
    """A vector counts as a row on the left and as a column on the right, and its axis goes away again."""
    left = a if a.type.rank > 1 else e.reshape(a, (1, a.type.elements))
    right = b if b.type.rank > 1 else e.reshape(b, (b.type.elements, 1))
    y = matrix_product(e, left, right)
    shape = list(y.type.shape)
    if b.type.rank == 1:
        del shape[-1]
    if a.type.rank == 1:
        del shape[-1 if b.type.rank == 1 else -2]
    return e.reshape(y, shape)


@lowers(aten.addmm.default, aten.baddbmm.default)
def addmm(e: Emitter, x: Value, a: Value, b: Value, beta: Number = 1, alpha: Number = 1) -> Value:
    if alpha == 1 and beta in (0, 1):
        return matrix_product(e, a, b, x if beta == 1 else None)
    y = matrix_product(e, a, b)
    y = y if alpha == 1 else e.apply("mul", y, alpha)
    return e.apply("add", y, x if beta == 1 else e.apply("mul", x, beta)) if beta else y


@lowers(aten.addbmm.default)
def addbmm(e: Emitter, x: Value, a: Value, b: Value, beta: Number = 1, alpha: Number = 1) -> Value:
    """The sum of the products of a batch: one product of matrices side by side."""
    batch, rows, depth = a.type.shape
    wide = e.reshape(e.transpose(a, (1, 0, 2)), (rows, batch * depth))
    return addmm(e, x, wide, e.reshape(b, (batch * depth, b.type.shape[2])), beta, alpha)


@lowers(aten._trilinear.default)
def trilinear(
    e: Emitter,
    a: Value,
    b: Value,
    c: Value,
    expand1: Sequence[int],
    expand2: Sequence[int],
    expand3: Sequence[int],
    sumdim: Sequence[int],
    unroll_dim: int = 1,
) -> Value:
    """The product of three tensors, each with new axes, summed over `sumdim`."""
    rank = a.type.rank + len(expand1)

    def spread(x: Value, new: Sequence[int]) -> Value:
        sizes = iter(x.type.shape)
        return e.reshape(x, [1 if i in [n % rank for n in new] else next(sizes) for i in range(rank)])

    y = e.apply("mul", e.apply("mul", spread(a, expand1), spread(b, expand2)), spread(c, expand3))
    return e.reduce("sum", y, [d % rank for d in sumdim])


@lowers(aten.outer.default)
def outer(e: Emitter, a: Value, b: Value) -> Value:
    return e.apply("mul", e.reshape(a, (a.type.elements, 1)), b)


@lowers(aten.einsum.default)
def einsum(e: Emitter, equation: str, operands: Sequence[Value], path: Sequence[int] | None = None) -> Value:
    """Of one operand, a sum and a transpose; of more, products of two, in torch's order, which is from left to right
    unless it says otherwise."""
    inputs, output = _letters(e, equation, operands)
    terms = [_without_repeats(e, x, letters) for x, letters in zip(operands, inputs, strict=True)]
    pairs = iter(path or ())
    while len(terms) > 2:
        i, j = sorted((next(pairs, 0), next(pairs, 1)))
        second, first = terms.pop(j), terms.pop(i)
        needed = {*output, *(c for _, letters in terms for c in letters)}
        kept = "".join(c for c in dict.fromkeys(first[1] + second[1]) if c in needed)
        terms.insert(0 if path is None else len(terms), (_einsum_of_two(e, first, second, kept), kept))
    if len(terms) == 1:
        ((x, letters),) = terms
        return _arrange(e, x, letters, output, output)
    first, second = terms
    return _einsum_of_two(e, first, second, output)


Term = tuple[Value, str]  # a tensor, and a letter for each of its axes


def _einsum_of_two(e: Emitter, left_term: Term, right_term: Term, output: str) -> Value:
    """A batched product over the letters that both have and the result lacks."""
    operands, (a, b) = (left_term[0], right_term[0]), (left_term[1], right_term[1])
    batch = "".join(c for c in output if c in a and c in b)
    rows = "".join(c for c in output if c in a and c not in b)
    columns = "".join(c for c in output if c in b and c not in a)
    shared = "".join(c for c in a if c in b and c not in output)
    size = {c: n for x, letters in (left_term, right_term) for c, n in zip(letters, x.type.shape, strict=True)}

    def count(letters: str) -> int:
        return product([size[c] for c in letters])

    head = tuple(size[c] for c in batch)
    left = e.reshape(
        _arrange(e, operands[0], a, batch + rows + shared, output + shared), (*head, count(rows), count(shared))
    )
    right = e.reshape(
        _arrange(e, operands[1], b, batch + shared + columns, output + shared), (*head, count(shared), count(columns))
    )
    y = e.reshape(matrix_product(e, left, right), tuple(size[c] for c in batch + rows + columns))
    return e.transpose(y, tuple((batch + rows + columns).index(c) for c in output))


def _letters(e: Emitter, equation: str, operands: Sequence[Value]) -> tuple[list[str], str]:
    """The letters of each operand and of the result, with the ellipsis spelt out as capitals that are free."""
    terms, _, output = equation.replace(" ", "").partition("->")
    inputs = terms.split(",")
    free = [c for c in "ZYXWVUTSRQPONMLKJIHGFEDCBA" if c not in equation]
    longest = max(
        (x.type.rank - len(t.replace("...", "")) for t, x in zip(inputs, operands, strict=True) if "..." in t),
        default=0,
    )
    spelt = []
    for term, x in zip(inputs, operands, strict=True):
        count = x.type.rank - len(term.replace("...", ""))
        spelt.append(term.replace("...", "".join(free[longest - count : longest])))
    if "->" not in equation:
        letters = "".join(spelt)
        output = "".join(free[:longest] if "..." in terms else "") + "".join(
            sorted(c for c in set(letters) - set(free[:longest]) if letters.count(c) == 1)
        )
    output = output.replace("...", "".join(free[:longest]))
    return spelt, output


def _without_repeats(e: Emitter, x: Value, letters: str) -> tuple[Value, str]:
    """The diagonal of axes that share a letter."""
    for letter in dict.fromkeys(letters):
        while letters.count(letter) > 1:
            a, b = letters.index(letter), letters.rindex(letter)
            x = diagonal(e, x, 0, a, b).read(e, x)
            letters = letters[:a] + letters[a + 1 : b] + letters[b + 1 :] + letter
    return x, letters


def _arrange(e: Emitter, x: Value, letters: str, order: str, keep: str) -> Value:
    """Sums the axes that are not kept and puts the others in order."""
    x = e.reduce("sum", x, [i for i, c in enumerate(letters) if c not in keep])
    left = [c for c in letters if c in keep]
    return e.transpose(x, tuple(left.index(c) for c in order))
