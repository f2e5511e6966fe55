"""Times of short calls on a machine that others use too: the least of many, and how far they scatter.

Work on one thread is timed by that thread's own clock, which stands still while others have the core. Work on several
is timed by the wall, where only a call that nobody interrupts counts: calls must be short against a scheduler's slice
of some milliseconds, and many. Meanwhile this process goes before others, where the system lets it, and keeps the
memory that it has freed, so that no call waits for pages.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .nearness import nearness

Call = Callable[[], object]

TASKS = Path("/proc/self/task")
AUTOGROUP = Path("/proc/self/autogroup")
FIRST = -20  # the priority before all others: sched(7)
LEAST_S = 20e-6  # of a sample: shorter calls are repeated in it
HELPED = 0.7  # of the time on one thread
SLICE_S = 0.03  # between looks at where the cores are
TURN_S = 200e-6  # where calls take turns: one whose data happens to be near does not make a sample


@dataclass(frozen=True, slots=True)
class Time:
    """Seconds of one call, and how much longer than that half of the samples took, as a fraction. `apart`: the cores
    lay apart from each other, and did not come near again."""

    seconds: float
    spread: float
    samples: int
    apart: bool = False


def clock(threads: int) -> Callable[[], int]:
    """Nanoseconds: of this thread, or of the wall where others work for it."""
    return time.thread_time_ns if threads == 1 else time.perf_counter_ns


def least(
    calls: Sequence[Call],
    threads: int = 1,
    budget_s: float = 0.3,
    rounds: int = 5,
    most: int = 2000,
    before: Call | None = None,
) -> Time:
    """The least time of a call, after `budget_s` of wall time, but not before `rounds` samples, or after `most`.

    `calls` do the same on different data and take turns, so that none finds its data in a cache if together they have
    more than fits. Their time is what a tenth of the samples stay below: a few calls find their data near by luck.
    `before` runs before each call and is not timed: what it leaves in the caches is what the call finds. Samples of
    several threads count while their cores are near each other.
    """
    _keep_memory()
    now = clock(threads)
    empty = min(_sample(now, [_nothing]) for _ in range(50))
    for call in calls[:2]:
        call()
    by_luck = len(calls) > 1 or before is not None
    cores = nearness(threads)
    with _spread_out(threads):
        once = max(min(_sample(now, [call]) for call in calls[:3]) - empty, 1)
        count = 1 if before else max(1, int((LEAST_S if len(calls) == 1 else TURN_S) * 1e9 / once))
        turns = itertools.cycle(calls)
        samples: list[float] = []
        spent, apart = 0.0, False
        while len(samples) < rounds or (spent < budget_s and len(samples) < most):
            near = cores.wait()
            start = time.perf_counter()
            taken: list[float] = []
            while not taken or time.perf_counter() < start + SLICE_S:
                batch = list(itertools.islice(turns, count))
                if before is not None:
                    before()
                taken.append((_sample(now, batch) - empty) / count)
            took_s = time.perf_counter() - start
            if near and cores.patience_s > 0 and cores.apart():  # they have parted meanwhile
                cores.patience_s -= took_s
                continue
            spent += took_s
            samples += taken
            apart |= not near
    best = max(sorted(samples)[len(samples) // 10] if by_luck else min(samples), 1.0)
    return Time(best * 1e-9, statistics.median(samples) / best - 1, len(samples), apart)


def least_each(
    calls: Sequence[Call], threads: int = 1, budget_s: float = 0.3, passes: int = 3, before: Call | None = None
) -> list[Time]:
    """`least` of each call by itself, in so many passes over all of them: what disturbs one for a while is gone when
    its turn comes again."""
    found = [least([call], threads, budget_s / passes, before=before) for call in calls]
    for _ in range(passes - 1):
        for i, call in enumerate(calls):
            again = least([call], threads, budget_s / passes, before=before)
            found[i] = min(found[i], again, key=lambda t: t.seconds)
    return found


def undisturbed(calls: Sequence[Call], threads: int, alone: Time, budget_s: float, tries: int = 6) -> Time:
    """`least` on several threads, tried again while they hardly help: others may have had one of the cores."""
    best = least(calls, threads, budget_s)
    for _ in range(tries - 1):
        if best.seconds <= HELPED * alone.seconds:
            break
        best = min(best, least(calls, threads, budget_s), key=lambda t: t.seconds)
    return best


@contextmanager
def _spread_out(threads: int) -> Iterator[None]:
    """Where the system can: puts this process before others, and holds this thread on one core and those that work for
    it on the others. Two that share a core wait for each other a scheduler's slice at a time."""
    if not hasattr(os, "sched_setaffinity") or not TASKS.is_dir():
        yield
        return
    own = threading.get_native_id()
    allowed = sorted(os.sched_getaffinity(own))
    others = [tid for p in TASKS.iterdir() if (tid := int(p.name)) != own]
    nice = {tid: os.getpriority(os.PRIO_PROCESS, tid) for tid in (own, *others)}
    group = _group_nice()
    try:
        for tid in nice:
            _set_nice(tid, FIRST)
        _set_group_nice(FIRST)
        if threads > 1:
            _pin(own, {allowed[0]})
            for i, tid in enumerate(others):
                _pin(tid, {allowed[1 + i % (len(allowed) - 1)]})
        yield
    finally:
        for tid in nice:
            _pin(tid, set(allowed))
            _set_nice(tid, nice[tid])
        _set_group_nice(group)


def _set_nice(tid: int, nice: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # it has ended; or the system does not allow it
        os.setpriority(os.PRIO_PROCESS, tid, nice)


def _group_nice() -> int:
    """Of the session, between which Linux shares the cores out where it groups processes by session."""
    text = AUTOGROUP.read_text() if AUTOGROUP.is_file() else ""
    return int(text.split()[-1]) if text.strip() else 0


def _set_group_nice(nice: int) -> None:
    with suppress(OSError):  # no groups; or the system does not allow it
        AUTOGROUP.write_text(str(nice))


@cache
def _keep_memory() -> None:
    """Has glibc give nothing back to the system: what is freed and taken again costs no page faults. Elsewhere: as is.

    M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of mallopt(3); the second can be 32 MiB at most.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-1, -1)
        mallopt(-3, 32 << 20)


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
