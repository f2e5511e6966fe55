"""Micro-benchmarks of one core and of memory, in loops of our own."""

from __future__ import annotations

import numpy as np
import torch

from .kernels import BLOCK, CHAIN_CYCLES, HORNER_FMAS, chain, chase, horner, read, ring, write
from .machine import Machine
from .record import Probe
from .timing import Time, least, undisturbed

STEPS = 50_000  # of a chain of dependent operations
TIMES = 50  # that a short loop is repeated in a call
BEYOND = 6  # times the last cache: what is read from memory
MOST_BYTES = 1 << 30  # of all arrays together


def probe_core(machine: Machine) -> dict[str, Probe]:
    """The clock, the multiply-adds, and each level's bandwidth, of one core."""
    took = least([lambda: chain(1, 3, 5, STEPS)])
    hz = STEPS * CHAIN_CYCLES / took.seconds
    found = {"clock": Probe(hz, f"a chain of {STEPS} dependent adds and xors, a cycle each", took.spread)}
    for name, dtype in (("f32", np.float32), ("f64", np.float64)):
        x = np.full(machine.caches[1] // 4 // np.dtype(dtype).itemsize // BLOCK * BLOCK, 0.5, dtype)
        y, c = np.empty_like(x), dtype(0.5)
        took = least([lambda x=x, y=y, c=c: horner(x, y, c, TIMES)])
        rate = HORNER_FMAS * len(x) * TIMES / took.seconds
        found[f"fma_{name}"] = Probe(rate, "polynomials of degree 16, one a lane", took.spread)
    for level, size in sorted(machine.caches.items()):
        took, size = _read(min(size // 2, 8 << 20))
        found[f"read_l{level}"] = Probe(size / took.seconds, f"summing {size >> 10} KiB", took.spread)
    x = np.zeros(machine.caches[1] // 8, np.float32)
    took = least([lambda: write(x, TIMES)])
    found["write_l1"] = Probe(x.nbytes * TIMES / took.seconds, f"filling {x.nbytes >> 10} KiB", took.spread)
    return found


def _read(size: int) -> tuple[Time, int]:
    """The time of one sum over an array that stays in a cache, and the array's bytes."""
    x = np.ones(size // 32 * 8, np.float32)
    times = max(1, (1 << 20) // size)
    took = least([lambda: read(x, times)])
    return Time(took.seconds / times, took.spread, took.samples), x.nbytes


def last_cache(machine: Machine) -> int:
    return machine.caches[max(machine.caches)]


def beyond_caches(machine: Machine) -> int:
    """Bytes of which next to nothing is met again in a cache by what goes round through all of them. Caches do not
    forget the oldest first, and several cores may reach several: the rate of memory seems to fall until well beyond the
    last one. What is measured and what it is measured for go round through as much."""
    return min(BEYOND * last_cache(machine), MOST_BYTES)


def probe_latency(machine: Machine) -> dict[str, Probe]:
    """Of a load that hits the last cache, and of one that goes to memory."""
    cache = last_cache(machine)
    sizes = {"latency_cache": min(cache // 2, 4 << 20), "latency_dram": beyond_caches(machine)}
    found = {}
    for name, size in sizes.items():
        after = ring(size, machine.line_bytes)
        steps = min(2 * size // machine.line_bytes, 20_000)
        chase(after, 0, size // machine.line_bytes)
        place = [0]

        def walk(after: np.ndarray = after, steps: int = steps, place: list[int] = place) -> None:
            place[0] = chase(after, place[0], steps)

        took = least([walk], rounds=10, budget_s=0.5)
        how = f"following random pointers through {size >> 20} MiB"
        found[name] = Probe(took.seconds / steps, how, took.spread)
    return found


def probe_streams(machine: Machine, threads: int) -> dict[str, Probe]:
    """What one core and all of them draw from memory, reads and writes together, in pieces that are never met again
    while they are in a cache."""
    piece = 1 << 18  # elements
    pieces = max(3, beyond_caches(machine) // (4 * piece) // 3)
    a, b, c = (list(torch.ones(pieces, piece)) for _ in range(3))
    calls = [lambda x=x, y=y, z=z: torch.add(x, y, alpha=3.0, out=z) for x, y, z in zip(a, b, c, strict=True)]
    torch.set_num_threads(1)
    alone = least(calls, 1, budget_s=1.0)
    found = {"dram_1": Probe(12 * piece / alone.seconds, _triad(pieces, piece, 1), alone.spread)}
    found["dram_all"] = found["dram_1"]
    if threads > 1:
        torch.set_num_threads(threads)
        took = undisturbed(calls, threads, alone, budget_s=1.0, tries=4)
        torch.set_num_threads(1)
        rate = max(12 * piece / took.seconds, found["dram_1"].value)  # more cores draw no less than one
        found["dram_all"] = Probe(rate, _triad(pieces, piece, threads), took.spread)
    return found


def fastest(one: dict[str, Probe], other: dict[str, Probe]) -> dict[str, Probe]:
    """Of rates that were measured at two times, the greater: others draw from memory too."""
    return {name: max(one[name], other[name], key=lambda probe: probe.value) for name in one}


def _triad(pieces: int, piece: int, threads: int) -> str:
    return f"a triad over {3 * pieces} pieces of {piece >> 18} MiB on {threads} thread{'s' * (threads > 1)}"
