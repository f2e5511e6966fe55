"""How long a systolic array takes for a product, in closed form.

An array of R x C processing elements works on one *fold* at a time: the part of the operands that it holds. With the
weights held (ws), element (r, c) keeps b[r, c], rows of `a` come in from the left, one row of the array later each, and
sums leave at the bottom; a fold takes

    R to take the weights in, and M + R + C - 2 for M rows to pass: the skew of the first and of the last element.

Holding the inputs (is) is the same of the transposed product. Holding the outputs (os), both operands stream, for
K + R + C - 2 cycles, and R more if the sums are shifted out by the same wires.

Without a second set of registers the folds follow each other whole, as SCALE-Sim counts them (A. Samajdar et al.,
ISPASS 2020), which reports the number of the last cycle, from 0: one less. With a second set (`overlapped`) the next
fold's operand is taken in while this one is in use, and its stream follows without a gap, so that a fold costs its
stream or its preload, whichever is longer; fill and drain are paid once. `register_transfer` is the proof.
"""

from __future__ import annotations

from dataclasses import dataclass

DATAFLOWS = ("ws", "is", "os")


@dataclass(frozen=True, slots=True)
class SystolicArray:
    """One array, or `arrays` equal ones that share a product.

    `preload_rows` rows of the operand that is held are taken in a cycle. `drains`: os shifts its sums out through the
    array (SCALE-Sim leaves that out). `accumulator_rows` is how many rows of sums fit behind the array, 0 for any
    number: a longer stream is cut, and the operand that is held comes in again for each piece.
    """

    rows: int
    columns: int
    dataflow: str = "ws"
    overlapped: bool = False
    preload_rows: int = 1
    drains: bool = False
    arrays: int = 1
    accumulator_rows: int = 0

    def __post_init__(self) -> None:
        if self.dataflow not in DATAFLOWS:
            raise ValueError(f"'{self.dataflow}' is no dataflow; expected one of {', '.join(DATAFLOWS)}")
        if min(self.rows, self.columns, self.preload_rows, self.arrays) < 1 or self.accumulator_rows < 0:
            raise ValueError(f"an array has at least one row, column and row of preload: {self}")

    @property
    def preload(self) -> int:
        """Cycles in which the operand that is held comes in, or the sums that are held go out."""
        return -(-self.rows // self.preload_rows)

    def cycles(self, m: int, n: int, k: int, split_rows: bool = True) -> int:
        """Cycles of an [m, k] by [k, n] product, from the first operand in to the last sum out.

        Several arrays share the columns that are held or, with `split_rows`, the rows that stream, whichever is sooner
        done.
        """
        if min(m, n, k) < 1:
            raise ValueError(f"a product has at least one row, column and term, not {m}x{n}x{k}")
        if self.dataflow == "is":
            m, n = n, m
        if self.arrays == 1:
            return self._one(m, n, k)
        along_n = self._one(m, -(-n // self.columns // self.arrays) * self.columns if n > self.columns else n, k)
        if not split_rows:
            return along_n
        return min(along_n, self._one(-(-m // self.arrays), n, k))

    def _one(self, m: int, n: int, k: int) -> int:
        if self.dataflow == "os":
            folds = -(-m // self.rows) * -(-n // self.columns)
            return self._sequence([k] * folds) if self.overlapped else folds * self.alone(k)
        folds = -(-k // self.rows) * -(-n // self.columns)
        pieces = self._pieces(m)
        if self.overlapped:
            return self._steady(pieces, folds)
        return folds * sum(map(self.alone, pieces))

    def _pieces(self, stream: int) -> list[int]:
        limit = self.accumulator_rows or stream
        return [limit] * (stream // limit) + ([stream % limit] if stream % limit else [])

    def alone(self, stream: int) -> int:
        """Cycles of one fold that nothing overlaps; `stream`: the vectors that pass."""
        skew = self.rows + self.columns - 2
        if self.dataflow == "os":
            return stream + skew + (self.rows if self.drains else 0)
        return self.preload + stream + skew

    def _steady(self, pieces: list[int], folds: int) -> int:
        """Folds one after the other for each piece; all but the last start the next one as soon as they may."""
        starts = sum(folds * max(p, self.preload) for p in pieces) - max(pieces[-1], self.preload)
        return starts + self.alone(pieces[-1])

    def _sequence(self, streams: list[int]) -> int:
        # the sum of the lowest row must have passed row 0 before the next fold's may leave
        gap = 2 * self.rows - 1 if self.drains else 1
        return (len(streams) - 1) * max(streams[0], gap) + self.alone(streams[-1])


def scalesim_cycles(m: int, n: int, k: int, rows: int, columns: int, dataflow: str) -> int:
    """What SCALE-Sim reports for a product on one array without double buffering: the number of the last cycle."""
    return SystolicArray(rows, columns, dataflow).cycles(m, n, k) - 1
