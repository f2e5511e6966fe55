"""Linear laws from measured times."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np


def fit(parts: Sequence[Sequence[float]], seconds: Sequence[float], needed: Sequence[int] = ()) -> list[float]:
    """What a unit of each part costs, none of them less than nothing, so that the sums of parts come nearest to the
    measured times, each deviation in proportion to its time. `needed`: the parts that must cost something. Raises
    ValueError where no such costs explain the times."""
    times = np.asarray(seconds, float)
    scaled = np.asarray(parts, float) / times[:, None]
    count = scaled.shape[1]
    best: tuple[float, list[float]] | None = None
    for size in range(1, count + 1):
        for chosen in itertools.combinations(range(count), size):
            if not set(needed) <= set(chosen):
                continue
            costs = np.linalg.lstsq(scaled[:, chosen], np.ones(len(times)), rcond=None)[0]
            if (costs < 0).any() or any(costs[chosen.index(i)] <= 0 for i in needed):
                continue
            error = float(((scaled[:, chosen] @ costs - 1) ** 2).sum())
            if best is None or error < best[0]:
                full = np.zeros(count)
                full[list(chosen)] = costs
                best = error, full.tolist()
    if best is None:
        raise ValueError(f"no costs above zero explain {len(times)} measured times")
    return best[1]
