"""Compressed tensors: integers with a scale a block, indices into look-up tables, and sparse ones.

A `block` has one entry an axis of the tensor: element i of an axis of n elements belongs to block i // block, so that
there are ceil(n / block) of them and the last may be smaller. The whole axis in one block (`block` = n) and an axis of
blocks of one element are the usual cases: per tensor [n, k], per channel [1, k], in groups of 32 along k [1, 32].

How many elements of a sparse tensor are other than zero is a part of its type.
"""

from __future__ import annotations

from typing import Any, ClassVar

from tilewright.compiler.ir import DTYPE_BITS, attribute, int_range, is_float, is_integer, operand, result

from ..access import Access, Axis, identity, whole
from ..elementwise import Scalar
from .base import Dim, GraphOp, Shape, Structure, dim_names
from .elementwise import Elementwise

Rates = tuple[tuple[str, int], ...]


def block_counts(shape: Shape, block: Shape) -> Shape:
    """Blocks along each axis. Raises ValueError where `block` does not fit `shape`."""
    if len(block) != len(shape) or any(b < 1 for b in block):
        raise ValueError(f"block {list(block)} needs one entry of at least 1 for each axis of {shape}")
    return tuple(-(-n // b) for n, b in zip(shape, block, strict=True))


class Blocked(GraphOp):
    """Base of the ops whose operands after the first hold one entry a block of the first (`tail` axes of it)."""

    __slots__ = ()
    TAILS: ClassVar[tuple[int, ...]] = (0, 0)  # how many axes an entry of each further operand has
    block: Any  # an attribute of each op

    @property
    def rates(self) -> Rates:
        """(rate class, passes) of the work on each element, as in dialects/elementwise.py."""
        raise NotImplementedError

    def _check(self) -> None:
        counts = block_counts(self.shape(0), self.block)
        for i in range(1, len(self.operands)):
            shape, tail = self.shape(i), self.TAILS[i - 1]
            if len(shape) != len(counts) + tail or shape[: len(counts)] != counts:
                entries = f"{list(counts)}{' and the entries of a block' if tail else ''}"
                raise ValueError(
                    f"operand {i} is {shape}, but blocks of {list(self.block)} in {self.shape(0)} take {entries}"
                )

    def entry_access(self, index: int, blocks: Access) -> Access | None:
        """How operand `index` is read beside blocks of operand 0 that lie as `blocks` says; None where no access can
        say it: a block of more than one element along an axis that is not one dim alone."""
        axes = []
        for axis, n, b in zip(blocks.axes, self.shape(0), self.block, strict=True):
            if b == 1:
                axes.append(axis)
            elif b >= n:
                axes.append(Axis())
            elif not axis.terms and axis.offset == 0 and axis.extent == n:
                axes.append(Axis(extent=-(-n // b)))
            elif len(axis.terms) == 1 and axis.terms[0][1] == 1 and axis.offset == 0 and axis.extent == 1:
                axes.append(Axis(axis.terms, divisor=b))
            else:
                return None
        tail = self.shape(index)[len(axes) :]
        return Access((*axes, *whole(tail).axes))

    def structure(self) -> Structure:
        shape = self.shape(0)
        names = dim_names(len(shape))
        points = identity(names)
        further = [self.entry_access(i, points) for i in range(1, len(self.operands))]
        dims = tuple(Dim(n, s) for n, s in zip(names, shape, strict=True))
        return Structure(dims, (points, *(a for a in further if a is not None)), (points,))


class Dequantize(Blocked, name="graph.dequantize"):
    """`(q - zero) * scale`: integers back to floats, with a scale (and a zero point) for each block.

    `zero` may be an integer or a float. Computed in f32 (f64 for f64) and rounded once.

    `%y = graph.dequantize %q, %scale, %zero {block = [1, 32], to = "f16"} : tensor<8x64xf16>`
    with `%q: tensor<8x64xi4>, %scale: tensor<8x2xf16>, %zero: tensor<8x2xi8>`
    """

    __slots__ = ()
    q = operand()
    scale = operand()
    zero = operand(optional=True)
    y = result()
    block = attribute(tuple)
    to = attribute(str)

    @property
    def rates(self) -> Rates:
        return ("move", 1), ("mul" if self.zero is None else "fma", 1)

    def shapes(self) -> list[tuple[Shape, str]]:
        if not is_integer(self.dtype(0)) or not is_float(self.dtype(1)) or not is_float(self.to):
            raise ValueError(f"takes an integer to a float by a float scale, not {self.dtype(0)} to {self.to}")
        self._check()
        return [(self.shape(0), self.to)]


class Quantize(Blocked, name="graph.quantize"):
    """`clamp(round(x / scale) + zero, low, high)`, halves to even: floats to integers, with a scale for each block.

    With `inverse` the operand scale holds 1 / scale, and x is multiplied by it, as PyTorch's kernels do: the two round
    differently. Without `low` and `high` they are the ends of the dtype `to`.

    `%q = graph.quantize %x, %scale {block = [4, 64], to = "i8", low = -127, high = 127} : tensor<4x64xi8>`
    with `%x: tensor<4x64xf16>, %scale: tensor<1x1xf32>`
    """

    __slots__ = ()
    x = operand()
    scale = operand()
    zero = operand(optional=True)
    y = result()
    block = attribute(tuple)
    to = attribute(str)
    low = attribute(int, None)
    high = attribute(int, None)
    inverse = attribute(bool, False)

    @property
    def rates(self) -> Rates:
        """A product with 1 / scale and a conversion that rounds and saturates, and a clamp to less than the dtype."""
        scale = "mul" if self.zero is None else "fma"
        return (scale, 1), ("move", 1), ("compare", 0 if self.limits == int_range(self.to) else 2)

    @property
    def limits(self) -> tuple[int, int]:
        low, high = int_range(self.to)
        return low if self.low is None else self.low, high if self.high is None else self.high

    def shapes(self) -> list[tuple[Shape, str]]:
        if not is_float(self.dtype(0)) or not is_float(self.dtype(1)) or not is_integer(self.to):
            raise ValueError(f"takes a float to an integer by a float scale, not {self.dtype(0)} to {self.to}")
        least, most = int_range(self.to)
        low, high = self.limits
        if not least <= low <= high <= most:
            raise ValueError(f"the limits {low} and {high} are no range within {self.to}, {least} to {most}")
        self._check()
        return [(self.shape(0), self.to)]


class Lookup(Blocked, name="graph.lookup"):
    """`table[block of the element, index]`: a palettised tensor. Each block has a palette, the table's last axis.

    `%y = graph.lookup %i, %table {block = [16, 64]} : tensor<32x64xf16>`
    with `%i: tensor<32x64xui4>, %table: tensor<2x1x16xf16>`
    """

    __slots__ = ()
    TAILS = (1,)
    index = operand()
    table = operand()
    y = result()
    block = attribute(tuple)

    @property
    def rates(self) -> Rates:
        return (("permute", 1),)

    def shapes(self) -> list[tuple[Shape, str]]:
        dtype = self.dtype(0)
        if not is_integer(dtype) or not dtype.startswith("u"):
            raise ValueError(f"looks up unsigned integers, not {dtype}")
        self._check()
        if not 1 <= self.shape(1)[-1] <= 1 << DTYPE_BITS[dtype]:
            raise ValueError(f"a palette of {self.shape(1)[-1]} entries is not one for {dtype}")
        return [(self.shape(0), self.dtype(1))]


class ToDense(Elementwise, name="graph.to_dense"):
    """A sparse tensor with its zeros back in their places.

    It is stored as a mask of a bit an element and the numbers that are not zero, packed, as `constexpr_sparse_to_dense`
    of Core ML takes it: 4 bytes and 16 in this example, of 64.

    `%y = graph.to_dense %x : tensor<4x8xf16>`
    with `%x: tensor<4x8xf16, "density 1/4">`
    """

    __slots__ = ()
    takes_sparse = True
    x = operand()
    scalar = Scalar(1, (("compare", 1), ("permute", 1)))  # of its bit; to its place

    def shapes(self) -> list[tuple[Shape, str]]:
        if self._operands[0].type.density is None:
            raise ValueError(f'takes a sparse tensor, such as tensor<4x8xf16, "density 1/4">, not {self.x.type}')
        return [(self.shape(0), self.dtype())]
