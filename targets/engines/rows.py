"""Softmax and norms of a GPU's library: the block that a row belongs to, how it loads the row, and what the caches keep
of it until the block goes over it again."""

from __future__ import annotations

import math
from typing import Annotated

from tilewright.targets.parameter import Bytes, Quantity, Section, count

from .demand import Vector
from .kernels import WARP

Elements = Annotated[Quantity, count("elements", 1e6)]
Threads = Annotated[Quantity, count("threads", 1e5)]


class RowParameters(Section):
    """Kernels for rows. A row of a softmax that is no longer than a warp keeps in its registers is read once."""

    warp_columns: Elements  # of a softmax: up to this many, a row stays in the registers of a warp
    softmax_block: Threads  # at most, of a row that is longer
    softmax_thread: Bytes  # of such a row, at least, for each thread: blocks are the next power of two
    softmax_vector: Bytes | None = None  # of a load; what is left of a row comes by elements. Without it, all vectors
    norm_block: Threads  # at most, of a row
    cache: Bytes  # of the L2, that rows of resident blocks find
    near: Bytes | None = None  # of a core's L1, that rows of its own blocks find; without it, none

    def threads(self, v: Vector, item: float) -> int:
        """Of the block that a row belongs to; `item`: bytes of an element."""
        if not _is_softmax(v):
            return min(int(self.norm_block), -(-v.row // WARP) * WARP)
        wanted = max(WARP, math.ceil(v.row * item / float(self.softmax_thread)))
        return min(int(self.softmax_block), 1 << (wanted - 1).bit_length())

    def tail_loads(self, v: Vector, item: float) -> int:
        """Loads of single elements in a sweep, one after the other: of what is left of a softmax's row after as many
        vectors for all threads of its block as it has."""
        if self.softmax_vector is None or not _is_softmax(v):
            return 0
        threads = self.threads(v, item)
        return math.ceil(v.row % (float(self.softmax_vector) / item * threads) / threads)

    def missed(self, resident: float, cores: int) -> float:
        """The part of rows that must come from memory again for another sweep. `resident`: bytes of the rows of all
        blocks that are resident on `cores` cores."""
        missed = _missed(resident, float(self.cache))
        return missed if self.near is None else missed * _missed(resident / cores, float(self.near))


def _is_softmax(v: Vector) -> bool:
    return any(name == "exp" for name, _ in v.steps)


def _missed(rows: float, cache: float) -> float:
    """Between two sweeps over a row the other resident rows and as many bytes of results pass through the cache: all of
    it is found again if both fit, nothing if not even the rows do (least recently used)."""
    return 1.0 - min(1.0, max(0.0, 2.0 - 2.0 * rows / cache))
