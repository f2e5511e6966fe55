"""Whether the cores that work together lie near each other.

The cores of a virtual machine are threads of the machine below it, which moves them: now to cores that share a last
cache, now, for seconds or minutes, to cores that do not. What one wrote and another reads then takes several times as
long, and so does waking threads. Times of several threads are those of cores as near as they get.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from functools import cache

from .kernels import chase, ring

APART = 3.0  # times as long as the shortest that was seen, or as a hit in the last cache
PAUSE_S = 0.05
PATIENCE_S = 180.0  # to wait for cores to come near again, in all of a process
SEEK_S = 20.0  # that cores which share a cache are looked for
LINES = 256
TRIES = 5
SETTLED_S = 20e-6  # on a core, before its clock runs at its rate


class Nearness:
    """`crossing`: seconds that a core waits for a line that another one wrote."""

    def __init__(self, crossing: Callable[[], float], patience_s: float = PATIENCE_S):
        self.crossing, self.patience_s = crossing, patience_s
        self.least_s, self.shared_s = float("inf"), 0.0

    def apart(self) -> bool:
        now = self.crossing()
        self.least_s = min(self.least_s, now)
        return now > APART * max(self.least_s, self.shared_s)

    def wait(self) -> bool:
        """Waits until the cores are near; False where no patience is left."""
        while self.apart():
            if self.patience_s <= 0:
                return False
            time.sleep(PAUSE_S)
            self.patience_s -= PAUSE_S
        return True

    def seek(self, shared_s: float, longest_s: float = SEEK_S) -> None:
        """Looks for cores that share a last cache, of which a hit takes `shared_s`; for so long at most."""
        self.shared_s = shared_s
        end = time.perf_counter() + longest_s
        while True:
            self.apart()
            if self.least_s <= APART * shared_s or time.perf_counter() > end:
                return
            time.sleep(PAUSE_S)


def crossing_s(cores: list[int], line_bytes: int = 64) -> float:
    """Seconds a line of following pointers on each other core through lines that the first one wrote: the longest, and
    of each core the median of a few tries. Leaves this thread where it may run now."""
    own = os.sched_getaffinity(0)
    after = ring(LINES * line_bytes, line_bytes)
    longest = 0.0
    try:
        for core in cores[1:]:
            tries = []
            for _ in range(TRIES):
                os.sched_setaffinity(0, {cores[0]})
                after += 0
                os.sched_setaffinity(0, {core})
                settled = time.perf_counter() + SETTLED_S
                while time.perf_counter() < settled:
                    pass
                start = time.perf_counter_ns()
                chase(after, 0, LINES)
                tries.append((time.perf_counter_ns() - start) * 1e-9 / LINES)
            longest = max(longest, statistics.median(tries))
    finally:
        os.sched_setaffinity(0, own)
    return longest


@cache
def nearness(threads: int) -> Nearness:
    """Of the cores that so many threads are held on, in this process; where the system does not say which, they are
    always near."""
    if threads == 1 or not hasattr(os, "sched_setaffinity"):
        return Nearness(lambda: 0.0)
    cores = sorted(os.sched_getaffinity(0))[:threads]
    return Nearness(lambda: crossing_s(cores))
