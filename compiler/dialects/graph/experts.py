"""Products with weights that are chosen while the model runs: the experts of a mixture."""

from __future__ import annotations

from tilewright.compiler.ir import operand, result

from .base import Shape
from .whole import WholeOp


class GroupedMatmul(WholeOp, name="graph.grouped_matmul"):
    """`y[i] = x[i] @ w[g]` for rows sorted by group: x[s, k], w[groups, k, n], ends[groups]; accumulates in f32.

    Group g has the rows from `ends[g - 1]` up to `ends[g]`; rows after the last end are zero. How many rows a group
    gets is known only when the program runs. Costs assume that they spread evenly: no group waits for another, and
    the weights of min(groups, s) groups are read. Each row meets one group's weights, so the products are s * k * n.

    `%y = graph.grouped_matmul %x, %w, %ends : tensor<6x16xf16>`
    with `%x: tensor<6x8xf16>, %w: tensor<4x8x16xf16>, %ends: tensor<4xi32>`
    """

    __slots__ = ()
    x = operand()
    w = operand()
    ends = operand()
    y = result()

    def shapes(self) -> list[tuple[Shape, str]]:
        (s, k), w, ends = self.shape(0), self.shape(1), self.shape(2)
        if len(w) != 3 or w[1] != k or ends != w[:1] or self.dtype(0) != self.dtype(1):
            raise ValueError(f"x {(s, k)}, w {w} and ends {ends} do not fit together")
        return [((s, w[2]), self.dtype())]

    def macs(self) -> int:
        return self.result.type.elements * self.shape(0)[-1]

    @property
    def groups_read(self) -> int:
        """How many groups' weights are read where rows spread evenly."""
        return min(self.shape(0)[0], self.shape(1)[0])
