"""How NeuSight's script went through its batched products, and where a board could rest meanwhile.

`Dataset/collect.py` takes one shape after the other, calls the op 25 times, waiting for each call, keeps the mean of
the fastest five, and calls it once more under the profiler. A board that its power limit slows down runs at its full
clock after a rest, until it reacts: the first calls are the fastest, but for the very first, which allocates its
result. Shapes follow one another without a rest, except where one does not fit in memory: then PyTorch hands all of it
back to the driver before it gives up. That such a shape is a rest, and that the profiler is none, shows in the table:
calls after one are up to twice as fast as equal ones elsewhere, until about a tenth of a second of work later.
"""

from __future__ import annotations

from functools import cache
from itertools import product

Shape = tuple[int, int, int, int]  # batch, rows, depth, columns

CALLS, FASTEST, PROFILED = 25, 5, 1  # of a shape (collect.py)

# Boards renew the power that they report every 100 ms (Yang et al., SC24, arXiv 2312.02741, on A100 and H100), and are
# taken to react as often: half of that from now, on average.
REACTION_S = 0.05

# Rough, for how long a call keeps a limited board busy; only whether calls add up to REACTION_S matters.
MACS_PER_S = 4.4e12  # an L4's base clock, 795 MHz (datasheet), on three quarters of 58 x 128 lanes
BYTES_PER_S = 240e9  # four fifths of its 300 GB/s (datasheet)

# What an L4 of 24 GB has left for tensors: the table has shapes that need up to 20.5 GB, and none above.
MEMORY_BYTES = 21e9


def batched_products() -> list[Shape]:
    """The attention products of transformers, forwards and backwards, in the order in which the script takes them: that
    of a set of tuples in CPython, which is the order of the rows too."""
    batches, heads = [2**i for i in range(10)], [12, 16, 20, 40, 96, 128]
    lengths, sizes = [196, 384, 512, 1024, 2048, 3072, 4096], [64, 96, 128, 256]
    forward = [
        shape
        for batch, head, length, size in product(batches, heads, lengths, sizes)
        for shape in ((batch * head, length, size, length), (batch * head, length, length, size))
    ]
    return list({s for b, m, n, k in forward for s in ((b, m, n, k), (b, m, k, n), (b, n, m, k))})


def _bytes(shape: Shape) -> int:
    b, m, n, k = shape
    return 4 * b * (m * n + n * k + m * k)


def _call_s(shape: Shape) -> float:
    b, m, n, k = shape
    return max(b * m * n * k / MACS_PER_S, _bytes(shape) / BYTES_PER_S)


@cache
def _grace() -> dict[Shape, float]:
    found: dict[Shape, float] = {}
    busy = 0.0  # seconds since the last rest
    for shape in batched_products():
        if _bytes(shape) > MEMORY_BYTES:
            busy = 0.0
            continue
        call_s = _call_s(shape)
        found[shape] = max(0.0, REACTION_S - busy - call_s) / FASTEST
        busy += (CALLS + PROFILED) * call_s
    return found


def grace_s(shape: Shape) -> float:
    """Seconds that each of the fastest calls of a batched product ran before an L4's power limit held; 0 for a shape
    that is not the script's."""
    return _grace().get(shape, 0.0)
