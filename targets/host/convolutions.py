"""Convolutions of PyTorch on layouts in blocks of channels, by oneDNN, as ops among others: laws of what they cost on
one thread and on all, from layers of several sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from tilewright.targets.engines.cpu import in_blocks
from torch.nn import functional as F  # noqa: N812 - its customary name

from .law import fit
from .record import Kernel, Probe
from .timing import Call, least_each

DIRECT_FROM = 20_480  # elements of an image, to which PyTorch leaves oneDNN aside: Convolution.cpp, use_mkldnn


class Layer(NamedTuple):
    """A convolution without stride that keeps its image's size. PyTorch takes oneDNN for an image of more elements than
    DIRECT_FROM; of 1 x 1 on one thread, only where there are 16 images or more."""

    images: int
    inner: int
    outer: int
    side: int

    def call(self, kernel: int, grouped: bool) -> Call:
        x = torch.rand(self.images, self.inner, self.side, self.side)
        w = torch.rand(self.outer, 1 if grouped else self.inner, kernel, kernel)
        groups = self.inner if grouped else 1
        return lambda: F.conv2d(x, w, padding=kernel // 2, groups=groups)

    def parts(self, kernel: int, threads: int, lanes: int) -> list[float]:
        """A start, a core's multiply-adds, its elements of the image and the result, those of them in blocks of
        channels that are not whole, and the weights."""
        pixels = self.images * self.side**2
        padded = macs = self.inner * self.outer * pixels * kernel**2
        ragged = 0
        for channels in (self.inner, self.outer):
            whole, over = in_blocks(channels, lanes)
            padded = padded // channels * whole
            ragged += over * pixels
        elements = (self.inner + self.outer) * pixels
        weights = macs / pixels
        return [1.0, padded / threads, elements / threads, ragged / threads, weights]


POINTWISE = (
    Layer(16, 16, 16, 10), Layer(16, 32, 32, 16), Layer(16, 128, 128, 16), Layer(16, 24, 72, 16),
)  # fmt: skip
POINTWISE_TOGETHER = (
    *POINTWISE, Layer(1, 16, 16, 40), Layer(1, 48, 96, 48), Layer(1, 96, 48, 48), Layer(1, 24, 120, 48),
    Layer(1, 72, 24, 48), Layer(1, 40, 160, 30), Layer(1, 192, 48, 24), Layer(1, 320, 80, 12), Layer(1, 640, 160, 10),
    Layer(1, 320, 320, 20), Layer(1, 768, 384, 10),
)  # fmt: skip
SQUARE = (
    Layer(1, 16, 16, 40), Layer(1, 48, 48, 48), Layer(1, 40, 72, 30), Layer(1, 96, 96, 24), Layer(1, 192, 192, 12),
    Layer(1, 320, 320, 10), Layer(1, 64, 64, 64),
)  # fmt: skip
GROUPED = (
    Layer(1, 16, 16, 40), Layer(1, 96, 96, 32), Layer(1, 48, 48, 80), Layer(1, 192, 192, 24), Layer(1, 400, 400, 12),
    Layer(1, 800, 800, 8),
)  # fmt: skip


def probe_blocked(call_s: float, threads: int, lanes: int, before: Call) -> dict[str, Kernel]:
    """1 x 1 and 3 x 3 convolutions, and 3 x 3 of each channel by itself, with `lanes` channels in a block."""
    tables = {
        "blocked": (1, False, {1: POINTWISE, threads: POINTWISE_TOGETHER if threads > 1 else POINTWISE}),
        "conv": (3, False, dict.fromkeys((1, threads), SQUARE)),
        "grouped": (3, True, dict.fromkeys((1, threads), GROUPED)),
    }
    found = {}
    for name, (kernel, grouped, layers) in tables.items():
        each = {n: _law(kernel, grouped, layers[n], n, lanes, call_s, before) for n in layers}
        found[name] = each[1]._replace(together=each[threads]) if threads > 1 else each[1]
    return found


def _law(
    kernel: int, grouped: bool, layers: Sequence[Layer], threads: int, lanes: int, call_s: float, before: Call
) -> Kernel:
    torch.set_num_threads(threads)
    times = least_each([layer.call(kernel, grouped) for layer in layers], threads, budget_s=0.2, before=before)
    torch.set_num_threads(1)
    seconds, spread = [max(t.seconds - call_s, 1e-9) for t in times], max(t.spread for t in times)
    parts = [layer.parts(kernel, threads, lanes) for layer in layers]
    if grouped:  # its multiply-adds are part of passing over the elements
        start, stream, pack = fit([[p[0], p[2], p[4]] for p in parts], seconds, needed=[1])
        rate, ragged = 1 / (2 * stream / kernel**2), None
    else:
        start, mac, stream, ragged, pack = fit(parts, seconds, needed=[1])
        rate = 1 / mac
    kind = f"{kernel} x {kernel}{' of each channel' if grouped else ''}"
    how = f"{kind}, {len(layers)} layers among other ops on {threads} thread{'s' * (threads > 1)}"

    def probe(value: float) -> Probe:
        return Probe(value, how, spread)

    return Kernel(probe(rate), probe(pack), probe(stream), probe(start), None if ragged is None else probe(ragged))
