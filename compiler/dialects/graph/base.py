"""What a graph op is: its shapes, its structured view, and helpers to say both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tilewright.compiler.ir import Operation, TensorType, dense_tensor

from ..access import Access, Axis

PAR, RED = "par", "red"


@dataclass(frozen=True, slots=True)
class Dim:
    """An iteration dim: its name, its size in points, and whether it is parallel or a reduction."""

    name: str
    size: int
    kind: str = PAR


@dataclass(frozen=True, slots=True)
class Structure:
    """The structured view of an op. `pads[i]` is what operand i reads outside its bounds."""

    dims: tuple[Dim, ...]
    operands: tuple[Access, ...]
    results: tuple[Access, ...]
    pads: tuple[float | None, ...] = ()

    @property
    def reductions(self) -> tuple[Dim, ...]:
        return tuple(d for d in self.dims if d.kind == RED)


Shape = tuple[int, ...]


class GraphOp(Operation):
    """Base of graph ops. `self.shape(i)` is the shape of operand i."""

    __slots__ = ()
    view: ClassVar[bool] = False  # only changes how the same elements are seen
    takes_sparse: ClassVar[bool] = False  # reads a sparse tensor as it is stored; a view of one is sparse too

    def shape(self, index: int) -> Shape:
        return self._operands[index].type.shape

    def dtype(self, index: int = 0) -> str:
        return self._operands[index].type.dtype

    def shapes(self) -> list[tuple[Shape, str]]:
        """(shape, dtype) of each result."""
        raise NotImplementedError

    def infer(self) -> Sequence[TensorType]:
        try:
            check_dense(self)
            if self.view and self.takes_sparse and self._operands[0].type.density is not None:
                return [TensorType(s, d, density=self._operands[0].type.density) for s, d in self.shapes()]
            return [dense_tensor(s, d) for s, d in self.shapes()]
        except (ValueError, IndexError) as error:
            self.fail(str(error))
            raise

    def verify(self) -> None:
        for r, expected in zip(self.results, self.infer(), strict=True):
            if (r.type.shape, r.type.dtype, r.type.density) != (expected.shape, expected.dtype, expected.density):
                self.fail(f"result is {r.type}, but the operands give {expected}")

    def structure(self) -> Structure | None:
        """The structured view, or None for an op that is a view or makes data from nothing."""
        return None

    def macs(self) -> int:
        """Multiply-accumulates of the whole op."""
        return 0


def check_dense(op: Operation) -> None:
    """Raises ValueError where the op reads a sparse tensor or block that it does not take as it is stored."""
    sparse = next((v.type for v in op.operands if v.type.density is not None), None)
    if sparse is not None and not op.takes_sparse:  # type: ignore[attr-defined]
        raise ValueError(f"reads {sparse}, which is sparse; make it dense with graph.to_dense")


def dim_names(rank: int) -> tuple[str, ...]:
    return tuple(f"d{i}" for i in range(rank))


def broadcast_access(shape: Shape, out: Shape, names: Sequence[str]) -> Access:
    """How an operand of `shape` is read when it is broadcast to `out`, whose axes are the dims `names`."""
    skip = len(out) - len(shape)
    return Access(tuple(Axis() if n == 1 else Axis(((names[i + skip], 1),)) for i, n in enumerate(shape)))


def rowwise(op: GraphOp, full: Sequence[int], names: Sequence[str] = ()) -> Structure:
    """The structure of an op that needs whole axes `full` of operand 0 and treats the others independently.

    Further operands must be vectors over the full axes, or broadcast against operand 0.
    """
    shape = op.shape(0)
    names = names or dim_names(len(shape))
    full = [a % len(shape) for a in full]

    def access(s: Shape) -> Access:
        skip = len(shape) - len(s)
        return Access(
            tuple(
                Axis(extent=n) if (i + skip) in full or n == 1 else Axis(((names[i + skip], 1),))
                for i, n in enumerate(s)
            )
        )

    dims = tuple(Dim(names[i], n) for i, n in enumerate(shape) if i not in full)
    return Structure(
        dims, tuple(access(v.type.shape) for v in op.operands), tuple(access(r.type.shape) for r in op.results)
    )


def window_sizes(space: Shape, kernel: Shape, strides: Shape, padding: Shape, dilations: Shape) -> Shape:
    """Output sizes of a sliding window. Raises ValueError where the window does not fit."""
    out = []
    for i, n in enumerate(space):
        reach = (kernel[i] - 1) * dilations[i] + 1
        size = (n + padding[2 * i] + padding[2 * i + 1] - reach) // strides[i] + 1
        if size < 1:
            raise ValueError(f"a window of {reach} does not fit an axis of {n}")
        out.append(size)
    return tuple(out)


def window_axes(
    names: Sequence[str], kernel: Shape, strides: Shape, padding: Shape, dilations: Shape
) -> tuple[Axis, ...]:
    return tuple(
        Axis(((n, strides[i]),), -padding[2 * i], (kernel[i] - 1) * dilations[i] + 1) for i, n in enumerate(names)
    )
