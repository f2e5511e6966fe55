"""Loops whose time says what a core can do. Compiled once, for this CPU, without threads."""

from __future__ import annotations

import numpy as np
from numba import njit

CHAIN_CYCLES = 2  # of a step of `chain`: an add and an exclusive or, of one cycle each on x86 and Arm
HORNER_FMAS = 16  # of an element in `horner`
BLOCK = 256  # elements, of which arrays are whole numbers


@njit(cache=True)
def chain(x, a, b, steps):
    """Steps that wait for each other, and that no compiler can put together."""
    for _ in range(steps):
        x = (x + a) ^ b
    return x


@njit(cache=True, fastmath={"contract"})
def horner(x, y, c, times):
    """A polynomial of degree 16 of every element: 16 fused multiply-adds for a load and a store."""
    n = len(x)
    for j in range(times * n // BLOCK):
        at = j * BLOCK % n
        _horner(x[at : at + BLOCK], y[at : at + BLOCK], c)


@njit(cache=True, fastmath={"contract"})
def _horner(x, y, c):
    for i in range(BLOCK):
        v = x[i]
        p = c
        p = p * v + c
        p = p * v + c
        p = p * v + c
        p = p * v + c
        p = p * v + c
        p = p * v + c
        p = p * v + c
        p = p * v + c
        p = p * v + c
        p = p * v + c
        p = p * v + c
        p = p * v + c
        p = p * v + c
        p = p * v + c
        p = p * v + c
        p = p * v + c
        y[i] = p


@njit(cache=True, fastmath=True)
def read(x, times):
    """Sums all of x, `times` times."""
    total = x[0]
    for _ in range(times):
        total += _read(x)
    return total


@njit(cache=True, fastmath=True)
def _read(x):
    """Sums eight stretches side by side, so that no sum waits for itself."""
    n = len(x) // 8
    a = b = c = d = e = f = g = h = x[0]
    for i in range(n):
        a += x[i]
        b += x[i + n]
        c += x[i + 2 * n]
        d += x[i + 3 * n]
        e += x[i + 4 * n]
        f += x[i + 5 * n]
        g += x[i + 6 * n]
        h += x[i + 7 * n]
    return a + b + c + d + e + f + g + h


@njit(cache=True)
def write(x, times):
    for t in range(times):
        value = x.dtype.type(t)
        for i in range(len(x)):
            x[i] = value


@njit(cache=True)
def chase(after, start, steps):
    """Follows pointers: each load's address is what the one before it loaded."""
    at = start
    for _ in range(steps):
        at = after[at]
    return at


def ring(size: int, line: int) -> np.ndarray:
    """Indices that lead through every line of `size` bytes once, in random order, back to the first."""
    apart = line // 8
    lines = max(size // line, 2)
    order = np.random.default_rng(0).permutation(lines) * apart
    after = np.zeros(lines * apart, np.int64)
    after[order] = np.roll(order, -1)
    return after
