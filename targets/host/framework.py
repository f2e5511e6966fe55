"""Micro-benchmarks of PyTorch: what a call costs, an element of each function, and the products of its libraries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its customary name

from .convolutions import probe_blocked
from .law import fit
from .record import Kernel, Probe
from .timing import Call, Time, least, least_each, undisturbed

Function = Callable[[Tensor], Any]

SIDE = 256  # of the square that a function is measured on: it lies in the L2

# By the name of the op in the IR.
FUNCTIONS: dict[str, Function] = {
    "exp": torch.exp,
    "log": lambda x: torch.log(x),
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "tanh": torch.tanh,
    "erf": torch.erf,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "div": lambda x: x / x,
    "transpose": lambda x: x.t().contiguous(),
}

LENGTHS = (48, 100, 200, 384, 768, 1536)  # of rows; few are whole numbers of a loop's steps
LONG = (640, 896, 1280, 2048, 3072, 6144)  # elements of rows, of which a core holds some in its queues
LEAST = 1e-3  # that a share can be told from nothing
PIECES = 8  # times as much from memory as near

# Over rows: (the function, reductions of a row across lanes as the demand counts them).
ROWS: dict[str, tuple[Function, int]] = {
    "softmax": (lambda x: F.softmax(x, -1), 2),
    "layer_norm": (lambda x: F.layer_norm(x, x.shape[-1:], x[0], x[0]), 2),
    "reduce": (lambda x: x.sum(-1), 1),
}


def probe_calls(before: Call) -> dict[str, Probe]:
    """The cost of an op on next to nothing: called as a function again and again, and on the average of a network's
    modules, among others."""
    x, image = torch.ones(1, 16), torch.ones(1, 1, 2, 2)
    relu, linear, norm, conv = nn.ReLU(), nn.Linear(16, 16), nn.LayerNorm(16), nn.Conv2d(1, 1, 1)
    call = least([lambda: torch.relu(x)])

    def modules() -> None:
        conv(image)
        y = norm(linear(x))
        relu(y + x)

    took = least([modules], budget_s=0.5, rounds=20, before=before)
    how = (
        "the mean of a module's relu, linear, layer norm and convolution, and of a sum, of 16 elements, among other ops"
    )
    return {
        "call": Probe(call.seconds, "relu of 16 elements", call.spread),
        "task": Probe(took.seconds / 5, how, took.spread),
    }


def probe_functions(call_s: float) -> dict[str, tuple[Probe, Probe]]:
    """Seconds an element and a reduction, beyond the call itself, on one thread."""
    x = torch.rand(SIDE, SIDE) + 0.5
    nothing = Probe(0.0, "no reduction")
    found = {}
    times = least_each([partial(function, x) for function in FUNCTIONS.values()], budget_s=0.12)
    for name, took in zip(FUNCTIONS, times, strict=True):
        cost = max(took.seconds - call_s, 0.0) / x.numel()
        found[name] = (Probe(cost, f"{SIDE} x {SIDE} elements", took.spread), nothing)
    for name, (function, reductions) in ROWS.items():
        found[name] = _rows(function, reductions, call_s)
    image = torch.rand(1, 32, 64, 64)
    took = least([lambda: F.max_pool2d(image, 3, 2, 1)], budget_s=0.2)
    cost = (took.seconds - call_s) / (9 * image.numel() / 4)
    how = "3 x 3 maxima, two apart, of 32 channels of 64 x 64, an element of a window"
    found["pool"] = (Probe(cost, how, took.spread), nothing)
    return found


def _rows(function: Function, reductions: int, call_s: float) -> tuple[Probe, Probe]:
    """From rows of several lengths, of about as many elements: t = elements x element + rows x row."""
    sizes = [(SIDE * SIDE // length, length) for length in LENGTHS]
    times = least_each([partial(function, torch.rand(size)) for size in sizes], budget_s=0.12)
    element, row = fit([(n * length, n) for n, length in sizes], [max(t.seconds - call_s, 1e-9) for t in times], [0])
    spread = max(t.spread for t in times)
    how = f"{SIDE * SIDE} elements in rows of {', '.join(map(str, LENGTHS))}"
    return Probe(element, how, spread), Probe(row / reductions, how, spread)


def probe_exposed(
    call_s: float, beyond: int, bytes_per_s: float
) -> tuple[dict[str, Probe], dict[str, tuple[Probe, Probe]]]:
    """How much of the shorter of computing and memory's time shows beside the longer: nothing where a core computes on
    one piece while the next one comes, all where they take turns. On pieces that no cache holds, and that take long
    against a call. What goes over a row again waits for memory where the row is long: the second, the bytes that it
    does not wait for, and how much shows of the rest."""

    def share(function: Function, length: int) -> Probe:
        near = torch.rand(SIDE * SIDE // length, length) + 0.5
        hot = least([partial(function, near)], budget_s=0.05)
        size = PIECES * near.numel()
        count = max(2, beyond // (8 * size))
        pieces = list(torch.rand(count, PIECES * near.shape[0], length) + 0.5)
        results = [pieces[0]] * count

        def call(i: int) -> None:
            results[i] = function(pieces[i])

        took = least([partial(call, i) for i in range(count)], budget_s=0.15)
        computing, memory = PIECES * max(hot.seconds - call_s, 1e-9), 8 * size / bytes_per_s
        exposed = (took.seconds - call_s - max(computing, memory)) / min(computing, memory)
        how = f"{count} pieces of {pieces[0].shape[0]} x {length} elements from memory"
        return Probe(min(max(exposed, LEAST), 1.0), how, took.spread)

    rows = {name: ROWS[name][0] for name in ("softmax", "layer_norm")}
    simple = {name: f for name, f in FUNCTIONS.items() if name not in ("div", "transpose")}
    found = {name: share(function, SIDE) for name, function in (simple | rows).items()}
    long = {name: _beyond_ahead([share(function, length) for length in LONG]) for name, function in rows.items()}
    return found, long


def _beyond_ahead(shares: Sequence[Probe]) -> tuple[Probe, Probe]:
    """The bytes of a row that nothing waits for, and how much of the rest of a row shows, from the shares of LONG."""
    sizes, values = np.array(LONG) * 4.0, np.array([s.value for s in shares])
    best = (np.inf, 0.0, 0.0)
    for ahead in np.arange(0.0, sizes[-2], 256):
        rest = np.maximum(1 - ahead / sizes, 0)
        shown = float(values @ rest / (rest @ rest))
        best = min(best, (float(((values - shown * rest) ** 2).sum()), float(ahead), shown))
    how = f"rows of {', '.join(map(str, LONG))} elements, each {shares[-1].how}"
    spread = max(s.spread for s in shares)
    return Probe(max(best[1], 1.0), how, spread), Probe(min(max(best[2], LEAST), 1.0), how, spread)


def probe_vector(threads: int, call_s: float, beyond: int) -> dict[str, Probe]:
    """Products of one row, with matrices that no cache holds: what one thread draws, and what more do not share."""
    side = 1024
    copies = max(3, beyond // (4 * side * side))
    x, weights = torch.rand(1, side), list(torch.rand(copies, side, side))
    calls = [lambda w=w: F.linear(x, w) for w in weights]
    alone = least(calls, budget_s=0.5)
    how = f"a row by one of {copies} matrices of {side} x {side}"
    found = {"vector": Probe(4 * side * side / (alone.seconds - call_s), how, alone.spread)}
    if threads == 1:
        return {**found, "vector_serial": Probe(1.0, "one thread")}
    torch.set_num_threads(threads)
    took = undisturbed(calls, threads, alone, budget_s=0.5)
    torch.set_num_threads(1)
    serial = (took.seconds / alone.seconds - 1 / threads) / (1 - 1 / threads)
    return {**found, "vector_serial": Probe(min(max(serial, 0.0), 1.0), f"{how}, {threads} threads", took.spread)}


@dataclass(frozen=True, slots=True)
class Around:
    """What products are measured in: the cost of a call, bytes a second that one thread and all of them draw from
    memory, bytes that no cache holds, what waking the threads costs, elements of a register, and the other ops of a
    program."""

    call_s: float
    one_bytes_per_s: float
    all_bytes_per_s: float
    beyond: int
    threads: int
    barrier_s: float
    lanes: int
    others: Call


def probe_kernels(around: Around) -> dict[str, Kernel]:
    """The products of PyTorch's libraries on one thread, in f32."""
    return {
        "matmul": _matmul(around),
        "pointwise": _pointwise(around),
        **probe_blocked(around.call_s, around.threads, around.lanes, around.others),
    }


def _none() -> Probe:
    return Probe(0.0, "part of the other figures")


def _matmul(around: Around) -> Kernel:
    """The rate of a square product; packing shows where matrices of weights that lie in memory meet few rows."""
    n, rows, wide = 384, 8, 512
    a, x = torch.rand(n, n), torch.rand(rows, wide)
    weights = list(torch.rand(max(2, around.beyond // (4 * wide * wide)), wide, wide))
    large = least([lambda: a @ a], budget_s=0.4)
    rate = n**3 / (large.seconds - around.call_s)
    calls = [lambda w=w: F.linear(x, w) for w in weights]
    how = f"{rows} rows by {wide} x {wide} weights, beyond their multiply-adds and reading them once"
    pack, together = _packing(calls, around, around.call_s, rows * wide * wide / rate, wide**2, how)
    alone = Kernel(Probe(rate, f"a product of {n} x {n} matrices", large.spread), pack, _none(), _none())
    return _with(alone, together, around)


def _packing(
    calls: Sequence[Call], around: Around, fixed_s: float, multiply_s: float, size: int, how: str
) -> tuple[Probe, Probe]:
    """Seconds an element of weights of one thread alone, and of each where all work: what calls take beyond a fixed
    time, multiplying, and reading the weights once."""
    alone = least(calls, budget_s=0.4)
    cost = max(alone.seconds - fixed_s - multiply_s - 4 * size / around.one_bytes_per_s, 0.0) / size
    pack = Probe(cost, how, alone.spread)
    if around.threads == 1:
        return pack, pack
    torch.set_num_threads(around.threads)
    took = undisturbed(calls, around.threads, alone, budget_s=0.8)
    torch.set_num_threads(1)
    rest = took.seconds - fixed_s - multiply_s / around.threads - 4 * size / around.all_bytes_per_s
    return pack, Probe(max(rest, 0.0) / size, f"{how}, {around.threads} threads", took.spread)


def _with(alone: Kernel, pack: Probe, around: Around) -> Kernel:
    """With the same kernel on all threads, which are woken and all pack."""
    if around.threads == 1:
        return alone
    start = replace(alone.start, value=alone.start.value + around.barrier_s)
    return alone._replace(together=alone._replace(pack=pack, start=start))


Layer = tuple[Time, int, int]  # time, multiply-adds, elements of the image and the result


def _layer(kernel: int, images: int, channels: int, side: int) -> Layer:
    """A convolution without stride."""
    x = torch.rand(images, channels, side, side)
    w = torch.rand(channels, channels, kernel, kernel)
    took = least([lambda: F.conv2d(x, w, padding=kernel // 2)], budget_s=0.5)
    return took, w.numel() * images * side * side, 2 * x.numel()


def _deep(kernel: int, images: int, channels: int, side: int, beyond: int) -> list[Call]:
    """Convolutions of few pixels with as many weights in turns as `beyond` bytes."""
    x = torch.rand(images, channels, side, side)
    weights = torch.rand(max(2, beyond // (4 * channels**2 * kernel**2)), channels, channels, kernel, kernel)
    return [lambda w=w: F.conv2d(x, w, padding=kernel // 2) for w in weights]


def _pointwise(around: Around) -> Kernel:
    """1 x 1 convolutions as PyTorch runs them on one thread or on small images: as matrix products. The rate shows
    where pixels are many, packing where many weights meet few pixels."""
    many, many_macs, _ = _layer(1, 1, 64, 64)
    small, small_macs, _ = _layer(1, 1, 16, 40)
    rate = (many_macs - small_macs) / (many.seconds - small.seconds)
    start = max(small.seconds - around.call_s - small_macs / rate, 0.0)
    channels, side = 384, 7
    calls = _deep(1, 1, channels, side, around.beyond)
    how = f"1 x 1, {channels} channels, {side} x {side} pixels, beyond its multiply-adds and reading its weights once"
    multiply = (channels * side) ** 2 / rate
    pack, together = _packing(calls, around, around.call_s + start, multiply, channels**2, how)
    alone = Kernel(
        Probe(rate, "1 x 1, 64 channels, 64 x 64 pixels", many.spread),
        pack,
        _none(),
        Probe(start, "1 x 1, 16 channels, 40 x 40 pixels", small.spread),
    )
    return _with(alone, together, around)


def probe_barrier(threads: int, call_s: float, beyond: int) -> dict[str, Probe]:
    """What waking all threads costs: the least op that is shared out, less its share of the work on one thread. Its
    work is computing, so that it is no less when the caches of several cores hold it, on pieces that lie in memory: a
    thread that is woken finds nothing near."""
    if threads == 1:
        return {"barrier": Probe(0.0, "one thread")}
    count = max(2, beyond // (8 * GRAIN * threads))
    pairs = zip(torch.ones(count, GRAIN * threads), torch.ones(count, GRAIN * threads), strict=True)
    calls = [lambda x=x, y=y: torch.exp(x, out=y) for x, y in pairs]
    alone = least(calls, 1, budget_s=0.2)
    torch.set_num_threads(threads)
    took = undisturbed(calls, threads, alone, budget_s=0.5)
    torch.set_num_threads(1)
    cost = max(took.seconds - call_s - (alone.seconds - call_s) / threads, 0.0)
    return {"barrier": Probe(cost, f"exp of {GRAIN} elements by each of {threads} threads", took.spread)}


GRAIN = 32768  # at::internal::GRAIN_SIZE, aten/src/ATen/TensorIterator.h
