"""Micro-benchmarks of PyTorch: what a call costs, an element of each function, and the products of its libraries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its customary name

from .record import Kernel, Probe
from .timing import Call, Time, least, undisturbed

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

# Over rows: (the function, reductions of a row across lanes as the demand counts them).
ROWS: dict[str, tuple[Function, int]] = {
    "softmax": (lambda x: F.softmax(x, -1), 2),
    "layer_norm": (lambda x: F.layer_norm(x, x.shape[-1:], x[0], x[0]), 2),
    "reduce": (lambda x: x.sum(-1), 1),
}


def probe_calls() -> dict[str, Probe]:
    """The cost of an op on next to nothing: called as a function, and on the average of a network's modules."""
    x, image, w = torch.ones(1, 16), torch.ones(1, 1, 2, 2), torch.ones(1, 1, 1, 1)
    relu, linear, norm = nn.ReLU(), nn.Linear(16, 16), nn.LayerNorm(16)
    call = least([lambda: torch.relu(x)])
    calls = [
        least([c])
        for c in (lambda: relu(x), lambda: linear(x), lambda: norm(x), lambda: x + x, lambda: F.conv2d(image, w))
    ]
    return {
        "call": Probe(call.seconds, "relu of 16 elements", call.spread),
        "task": Probe(
            sum(c.seconds for c in calls) / len(calls),
            "the mean of a module's relu, linear, layer norm and convolution, and of a sum, of 16 elements",
            max(c.spread for c in calls),
        ),
    }


def probe_functions(call_s: float) -> dict[str, tuple[Probe, Probe]]:
    """Seconds an element and a reduction, beyond the call itself, on one thread."""
    x = torch.rand(SIDE, SIDE) + 0.5
    nothing = Probe(0.0, "no reduction")
    found = {}
    for name, function in FUNCTIONS.items():
        took = least([lambda f=function: f(x)], budget_s=0.1)
        cost = max(took.seconds - call_s, 0.0) / x.numel()
        found[name] = (Probe(cost, f"{SIDE} x {SIDE} elements", took.spread), nothing)
    for name, (function, reductions) in ROWS.items():
        found[name] = _rows(function, reductions, call_s)
    image = torch.rand(1, 32, 32, 32)
    took = least([lambda: F.max_pool2d(image, 3, 1, 1)], budget_s=0.2)
    cost = (took.seconds - call_s) / (9 * image.numel())
    found["pool"] = (
        Probe(cost, "3 x 3 maxima of 32 channels of 32 x 32, an element of a window", took.spread),
        nothing,
    )
    return found


def _rows(function: Function, reductions: int, call_s: float) -> tuple[Probe, Probe]:
    """From long and short rows of as many elements: t = elements x element + rows x row."""
    count = SIDE * SIDE
    long, short = torch.rand(count // 1024, 1024), torch.rand(count // 64, 64)
    times = [least([lambda x=x: function(x)], budget_s=0.2) for x in (long, short)]
    a, b = (max(t.seconds - call_s, 0.0) for t in times)
    row = max((b - a) / (short.shape[0] - long.shape[0]), 0.0)
    element = max(a - row * long.shape[0], 0.0) / count
    spread = max(t.spread for t in times)
    how = f"{count} elements in rows of 1024 and of 64"
    return Probe(element, how, spread), Probe(row / reductions, how, spread)


def probe_exposed(
    functions: Mapping[str, tuple[Probe, Probe]], call_s: float, beyond: int, bytes_per_s: float
) -> dict[str, Probe]:
    """How much of the shorter of computing and memory's time shows beside the longer: nothing where a core computes on
    one piece while the next one comes, all where they take turns. On pieces that no cache holds."""
    count = max(2, beyond // (8 * SIDE * SIDE))
    pieces = list(torch.rand(count, SIDE, SIDE) + 0.5)
    memory = 8 * SIDE * SIDE / bytes_per_s
    found = {}
    for name, function in FUNCTIONS.items():
        if name in ("div", "transpose"):
            continue
        results = [pieces[0]] * count

        def call(i: int, f: Function = function, results: list[Tensor] = results) -> None:
            results[i] = f(pieces[i])

        took = least([partial(call, i) for i in range(count)], budget_s=0.15)
        computing = functions[name][0].value * SIDE * SIDE
        exposed = (took.seconds - call_s - max(computing, memory)) / max(min(computing, memory), 1e-12)
        how = f"{count} pieces of {SIDE} x {SIDE} elements from memory"
        found[name] = Probe(min(max(exposed, 0.0), 1.0), how, took.spread)
    return found


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
    memory, and bytes that no cache holds."""

    call_s: float
    one_bytes_per_s: float
    all_bytes_per_s: float
    beyond: int
    threads: int


def probe_kernels(around: Around) -> dict[str, Kernel]:
    """The products of PyTorch's libraries on one thread, in f32."""
    return {
        "matmul": _matmul(around),
        "pointwise": _pointwise(around),
        "blocked": _blocked(1, around),
        "conv": _blocked(3, around),
        "grouped": _grouped(around.call_s),
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
    pack, pack_all = _packing(calls, around, around.call_s, rows * wide * wide / rate, wide**2, how)
    return Kernel(Probe(rate, f"a product of {n} x {n} matrices", large.spread), pack, _none(), _none(), pack_all)


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
    pack, pack_all = _packing(calls, around, around.call_s + start, multiply, channels**2, how)
    return Kernel(
        Probe(rate, "1 x 1, 64 channels, 64 x 64 pixels", many.spread),
        pack,
        _none(),
        Probe(start, "1 x 1, 16 channels, 40 x 40 pixels", small.spread),
        pack_all,
    )


def _blocked(kernel: int, around: Around) -> Kernel:
    """Convolutions on blocks of channels, by oneDNN, to which PyTorch gives 16 images or more also on one thread. The
    start shows where there is next to no work; the rate and what images cost that are laid out in blocks and back, with
    few and with many channels, of which each element is multiplied as often; packing, with many weights."""
    tiny, _, _ = _layer(kernel, 16, 16, 1)
    few, few_macs, few_elements = _layer(1, 16, 32, 16)
    wide, wide_macs, wide_elements = _layer(1, 16, 128, 16)
    more = [max(t.seconds - tiny.seconds, 0.0) for t in (few, wide)]
    ratio = wide_elements / few_elements
    rate = (wide_macs - ratio * few_macs) / max(more[1] - ratio * more[0], 1e-9)
    stream = max(more[0] - few_macs / rate, 0.0) / few_elements
    how, spread = "1 x 1, 128 channels, 16 images of 16 x 16 pixels", wide.spread
    images, channels, side = 16, 448, 2
    if kernel > 1:
        many, macs, elements = _layer(kernel, 1, 64, 64)
        rate = macs / max(many.seconds - tiny.seconds - stream * elements, 1e-9)
        how, spread = f"{kernel} x {kernel}, 64 channels, 64 x 64 pixels", many.spread
        images, side = 1, 7
    size, pixels = (channels * kernel) ** 2, images * side**2
    deep = least(_deep(kernel, images, channels, side, around.beyond), budget_s=0.6)
    known = tiny.seconds + 2 * stream * channels * pixels + size * pixels / rate + 4 * size / around.one_bytes_per_s
    few_pixels = f"{kernel} x {kernel}, {channels} channels, {pixels} pixels, beyond the other figures"
    return Kernel(
        Probe(rate, how, spread),
        Probe(max(deep.seconds - known, 0.0) / size, few_pixels, deep.spread),
        Probe(stream, "1 x 1, 32 channels, 16 images of 16 x 16 pixels, beyond its multiply-adds", few.spread),
        Probe(max(tiny.seconds - around.call_s, 0.0), f"{kernel} x {kernel}, 16 images of one pixel", tiny.spread),
    )


def _grouped(call_s: float) -> Kernel:
    def layer(channels: int, side: int) -> tuple[Time, int]:
        x, w = torch.rand(1, channels, side, side), torch.rand(channels, 1, 3, 3)
        return least([lambda: F.conv2d(x, w, padding=1, groups=channels)], budget_s=0.4), channels * side * side

    small, few = layer(16, 40)
    large, many = layer(96, 32)
    each = max(large.seconds - small.seconds, 1e-9) / (many - few)
    how = "3 x 3 of each of 96 channels, 32 x 32 pixels"
    return Kernel(
        Probe(9 / each, how, large.spread),
        _none(),
        Probe(each / 2, how, large.spread),
        Probe(max(small.seconds - call_s - few * each, 0.0), "of each of 16 channels, 40 x 40 pixels", small.spread),
    )


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


DIRECT_FROM = 20_480  # elements of an image, to which PyTorch leaves oneDNN aside: Convolution.cpp, use_mkldnn
GRAIN = 32768  # at::internal::GRAIN_SIZE, aten/src/ATen/TensorIterator.h
