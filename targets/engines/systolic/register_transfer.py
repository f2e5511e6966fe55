"""A systolic array cycle by cycle: every operand in a register, every register moved to its neighbour at each cycle.

This is the reference that the closed forms of `array` are held to; it gives the product as well. It is slow, and
nothing but tests and curious readers run it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .array import SystolicArray

EMPTY = -1  # the number of no row: a register without a value


def run(array: SystolicArray, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, int]:
    """(a @ b, cycles until its last sum has left) for integers a[m, k] and b[k, n], on one array."""
    if array.arrays != 1:
        raise ValueError("the reference is of one array")
    if array.dataflow == "is":
        product, cycles = _Stationary(array, b.T, a.T).run()
        return product.T, cycles
    machine = _Outputs(array, a, b) if array.dataflow == "os" else _Stationary(array, a, b)
    return machine.run()


def _padded(x: np.ndarray, rows: int, columns: int) -> np.ndarray:
    return np.pad(x, ((0, -x.shape[0] % rows), (0, -x.shape[1] % columns)))


@dataclass
class _Fold:
    """What is held and what streams by. The preload enters row by row from cycle `enters`, the stream from `starts`."""

    held: np.ndarray  # [rows, columns]
    stream: np.ndarray  # [vectors, rows]
    first: int  # row of the product that the first vector gives
    column: int
    enters: int = 0
    starts: int = 0


class _Stationary:
    """Weights held. Each element has its weight, the next one, a value on its way right and a sum on its way down.

    The weight of row r enters column c at the top c cycles after it enters column 0, moves down one row a cycle, and is
    kept by the element whose row it bears; the element changes to it with the first value of the fold.
    """

    def __init__(self, array: SystolicArray, a: np.ndarray, b: np.ndarray):
        self.array = array
        self.result = np.zeros((a.shape[0], _padded(b, 1, array.columns).shape[1]), np.int64)
        self.columns = b.shape[1]
        self.folds = self._schedule(list(self._cut(a, b)))

    def _cut(self, a: np.ndarray, b: np.ndarray):
        rows, columns = self.array.rows, self.array.columns
        a, b = _padded(a, 1, rows), _padded(b, rows, columns)
        piece = self.array.accumulator_rows or len(a)
        for first in range(0, len(a), piece):
            for c in range(0, b.shape[1], columns):
                for r in range(0, b.shape[0], rows):
                    held = b[r : r + rows, c : c + columns]
                    yield _Fold(held, a[first : first + piece, r : r + rows], first, c)

    def _schedule(self, folds: list[_Fold]) -> list[_Fold]:
        """When each fold may start: its weights in; the stream before it through; without a second set of weights,
        the sums of the one before it out."""
        array = self.array
        for before, fold in zip([None, *folds], folds, strict=False):
            if before is None:
                fold.enters = 0
            elif array.overlapped:
                fold.enters = before.starts
            else:
                fold.enters = before.starts + len(before.stream) + array.rows + array.columns - 2
            fold.starts = fold.enters + array.preload
            if before is not None:
                fold.starts = max(fold.starts, before.starts + len(before.stream))
        return folds

    def run(self) -> tuple[np.ndarray, int]:
        array = self.array
        height, width, wires = array.rows, array.columns, array.preload_rows
        active, waiting = np.zeros((height, width), np.int64), np.zeros((height, width), np.int64)
        value, total = np.zeros((height, width), np.int64), np.zeros((height, width), np.int64)
        tag = np.full((height, width), EMPTY)  # which vector of which fold a value is of
        down = np.zeros((wires, height, width), np.int64)  # weights on their way, and the row that each is for
        down_row = np.full((wires, height, width), EMPTY)
        row_number = np.arange(height)[:, None]
        vectors = [(f, i) for f in self.folds for i in range(len(f.stream))]
        entry = {f.starts + i: at for at, (f, i) in enumerate(vectors)}
        left, t, last = len(vectors) * width, 0, 0
        while left:
            value[:, 1:], tag[:, 1:] = value[:, :-1].copy(), tag[:, :-1].copy()
            for r in range(height):
                at = entry.get(t - r, EMPTY)
                tag[r, 0] = at
                value[r, 0] = vectors[at][0].stream[vectors[at][1], r] if at >= 0 else 0
            first = np.isin(tag, [at for at, (_, i) in enumerate(vectors) if i == 0])
            active = np.where(first, waiting, active)
            self._preload(t, down, down_row)
            for q in range(wires):
                waiting = np.where(down_row[q] == row_number, down[q], waiting)
            above = np.vstack([np.zeros((1, width), np.int64), total[:-1]])
            total = above + value * active
            for c in range(width):
                at = tag[height - 1, c]
                if at >= 0:
                    fold, i = vectors[at]
                    self.result[fold.first + i, fold.column + c] += total[height - 1, c]
                    left, last = left - 1, t
            t += 1
        return self.result[:, : self.columns], last + 1

    def _preload(self, t: int, down: np.ndarray, down_row: np.ndarray) -> None:
        """Weights move down by one; at the top, rows r = 0, 1, ... of a fold enter, `preload_rows` of them a cycle."""
        wires = self.array.preload_rows
        down[:, 1:], down_row[:, 1:] = down[:, :-1].copy(), down_row[:, :-1].copy()
        down_row[:, 0] = EMPTY
        for c in range(self.array.columns):
            for fold in self.folds:
                step = t - c - fold.enters
                if 0 <= step < self.array.preload:
                    for q in range(wires):
                        r = step * wires + q
                        if r < self.array.rows:
                            down[q, 0, c], down_row[q, 0, c] = fold.held[r, c], r


@dataclass
class _Outputs:
    """Sums held. Values move right, weights down; a finished sum moves up and out if the array drains itself."""

    array: SystolicArray
    a: np.ndarray
    b: np.ndarray
    result: np.ndarray = field(init=False)

    def run(self) -> tuple[np.ndarray, int]:
        array = self.array
        height, width, depth = array.rows, array.columns, self.a.shape[1]
        a, b = _padded(self.a, height, 1), _padded(self.b, 1, width)
        folds = [(r, c) for r in range(0, len(a), height) for c in range(0, b.shape[1], width)]
        gap = max(depth, 2 * height - 1 if array.drains else 1) if array.overlapped else array.alone(depth)
        entry = {f * gap + k: (f, k) for f in range(len(folds)) for k in range(depth)}
        self.result = np.zeros((len(a), b.shape[1]), np.int64)
        right, down, total = (np.zeros((height, width), np.int64) for _ in range(3))
        at = np.full((height, width), EMPTY)  # number of the term that is being added: fold * depth + k
        up, up_from = (
            np.zeros((height, width), np.int64),
            np.full((height, width), EMPTY),
        )  # sums on their way out: fold * height + row
        left, t, last = len(folds) * height * width, 0, 0
        while left:
            if array.drains:
                for c in range(width):
                    if up_from[0, c] >= 0:
                        fold, r = divmod(int(up_from[0, c]), height)
                        self.result[folds[fold][0] + r, folds[fold][1] + c] = up[0, c]
                        left, last = left - 1, t
                up = np.vstack([up[1:], np.zeros((1, width), np.int64)])
                up_from = np.vstack([up_from[1:], np.full((1, width), EMPTY)])
            right[:, 1:], down[1:], at[:, 1:] = right[:, :-1].copy(), down[:-1].copy(), at[:, :-1].copy()
            for r in range(height):
                f, k = entry.get(t - r, (EMPTY, 0))
                at[r, 0] = f * depth + k if f >= 0 else EMPTY
                right[r, 0] = a[folds[f][0] + r, k] if f >= 0 else 0
            for c in range(width):
                f, k = entry.get(t - c, (EMPTY, 0))
                down[0, c] = b[k, folds[f][1] + c] if f >= 0 else 0
            total = np.where(at % depth == 0, 0, total) + right * down
            for r, c in zip(*np.nonzero((at >= 0) & (at % depth == depth - 1)), strict=True):
                fold = int(at[r, c]) // depth
                if array.drains:
                    assert up_from[r, c] == EMPTY, "two sums meet on the way out"
                    up[r, c], up_from[r, c] = total[r, c], fold * height + r
                else:
                    self.result[folds[fold][0] + r, folds[fold][1] + c] = total[r, c]
                    left, last = left - 1, t
            t += 1
        return self.result[: len(self.a), : self.b.shape[1]], last + 1
