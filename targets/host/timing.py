"""Times of short calls on a machine that others use too: the least of many, and how far they scatter.

Work on one thread is timed by that thread's own clock, which stands still while others have the core. Work on several
is timed by the wall, where only a call that nobody interrupts counts: calls must be short against a scheduler's slice
of some milliseconds, and many.
"""

from __future__ import annotations

import itertools
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

Call = Callable[[], object]

TASKS = Path("/proc/self/task")
LEAST_S = 20e-6  # of a sample: shorter calls are repeated in it
TURN_S = 200e-6  # where calls take turns: one whose data happens to be near does not make a sample


@dataclass(frozen=True, slots=True)
class Time:
    """Seconds of one call, and how much longer than that half of the samples took, as a fraction."""

    seconds: float
    spread: float
    samples: int


def clock(threads: int) -> Callable[[], int]:
    """Nanoseconds: of this thread, or of the wall where others work for it."""
    return time.thread_time_ns if threads == 1 else time.perf_counter_ns


def least(calls: Sequence[Call], threads: int = 1, budget_s: float = 0.3, rounds: int = 5, most: int = 2000) -> Time:
    """The least time of a call, after `budget_s` of wall time, but not before `rounds` samples, or after `most`.

    `calls` do the same on different data and take turns, so that none finds its data in a cache if together they have
    more than fits. On one thread their time is what a quarter of the samples stay below: the thread's clock leaves
    others out, and a few calls find their data near by luck.
    """
    now = clock(threads)
    empty = min(_sample(now, [_nothing]) for _ in range(50))
    for call in calls[:2]:
        call()
    with _spread_out(threads):
        once = max(min(_sample(now, [call]) for call in calls[:3]) - empty, 1)
        count = max(1, int((LEAST_S if len(calls) == 1 else TURN_S) * 1e9 / once))
        turns = itertools.cycle(calls)
        samples: list[float] = []
        end = time.perf_counter() + budget_s
        while len(samples) < rounds or (time.perf_counter() < end and len(samples) < most):
            batch = list(itertools.islice(turns, count))
            samples.append((_sample(now, batch) - empty) / count)
    lucky = len(calls) > 1 and threads == 1
    best = max(sorted(samples)[len(samples) // 4] if lucky else min(samples), 1.0)
    return Time(best * 1e-9, statistics.median(samples) / best - 1, len(samples))


def undisturbed(calls: Sequence[Call], threads: int, alone: Time, budget_s: float, tries: int = 6) -> Time:
    """`least` on several threads, tried again while that takes longer than on one: others had one of the cores."""
    best = least(calls, threads, budget_s)
    for _ in range(tries - 1):
        if best.seconds <= alone.seconds:
            break
        best = min(best, least(calls, threads, budget_s), key=lambda t: t.seconds)
    return best


@contextmanager
def _spread_out(threads: int) -> Iterator[None]:
    """Holds this thread on one core and those that work for it on the others, where the system can: two that share a
    core wait for each other a scheduler's slice at a time."""
    if threads == 1 or not hasattr(os, "sched_setaffinity") or not TASKS.is_dir():
        yield
        return
    own = threading.get_native_id()
    allowed = sorted(os.sched_getaffinity(own))
    others = [tid for p in TASKS.iterdir() if (tid := int(p.name)) != own]
    try:
        _pin(own, {allowed[0]})
        for i, tid in enumerate(others):
            _pin(tid, {allowed[1 + i % (len(allowed) - 1)]})
        yield
    finally:
        for tid in (own, *others):
            _pin(tid, set(allowed))


def _pin(tid: int, cores: set[int]) -> None:
    with suppress(ProcessLookupError):  # it has ended
        os.sched_setaffinity(tid, cores)


def _nothing() -> None:
    pass


def _sample(now: Callable[[], int], calls: Sequence[Call]) -> int:
    start = now()
    for call in calls:
        call()
    return now() - start
