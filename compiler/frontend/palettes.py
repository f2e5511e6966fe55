"""Palettised weights: each weight is an index of a few bits into a look-up table that its tensor or channels share.

    from tilewright.compiler.frontend.palettes import palettise
    palettise(model, bits=4)               # one table of 16 entries a weight tensor
    palettise(model, bits=2, group=8)      # one of 4 entries for every 8 output channels

The model runs in PyTorch as before, exports, and is costed with its indices at `bits` bits each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from .weight_storage import LAYERS, Storage, store

BITS = (1, 2, 3, 4, 6, 8)
MAX_STEPS = 100  # of k-means; what is left to gain then is little
MAX_BINS = 4096  # of the histogram that says where k-means starts


@torch.library.custom_op("tilewright::lookup", mutates_args=())
def lookup(index: Tensor, table: Tensor, block: Sequence[int]) -> Tensor:
    """`table[block of the element, index]`: a tensor from indices into palettes.

    Element i of an axis lies in block i // block[axis]; `table` has one entry for each block along each axis, and then
    the palette. Gives the shape of index and the dtype of table. Raises ValueError where they do not fit.
    """
    _check(index, table, block)
    if table.numel() == table.shape[-1]:
        return table.reshape(-1)[index.long()]
    axes = [torch.arange(n, device=index.device) // b for n, b in zip(index.shape, block, strict=True)]
    return table[(*torch.meshgrid(*axes, indexing="ij"), index.long())]


@lookup.register_fake
def _(index: Tensor, table: Tensor, block: Sequence[int]) -> Tensor:
    _check(index, table, block)
    return index.new_empty(index.shape, dtype=table.dtype)


def _check(index: Tensor, table: Tensor, block: Sequence[int]) -> None:
    fits = len(block) == index.dim() and all(b > 0 for b in block)
    counts = [-(-n // b) for n, b in zip(index.shape, block, strict=True)] if fits else []
    if not fits or list(table.shape[:-1]) != counts or not table.shape[-1]:
        raise ValueError(
            f"a table of {list(table.shape)} holds no palette for each block of {list(block)} in {list(index.shape)}"
        )


class Palette(Storage):
    """A weight as its indices and its table. One that is assigned later becomes a palette of its own."""

    def __init__(self, bits: int, block: tuple[int, ...], first: tuple[Tensor, Tensor]):
        super().__init__(first)
        self.bits, self.block = bits, block

    def forward(self, index: Tensor, table: Tensor) -> Tensor:
        return lookup(index, table, self.block)

    def stored(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return to_palettes(weight, self.bits, self.block[0])

    def extra_repr(self) -> str:
        return f"bits={self.bits}, block={self.block}"


def palettise(
    model: nn.Module,
    bits: int = 4,
    group: int | None = None,
    layers: tuple[type[nn.Module], ...] = LAYERS,
    where: Callable[[str, nn.Module], bool] = lambda name, layer: True,
) -> nn.Module:
    """Replaces the weight of every layer by indices of `bits` bits (1, 2, 3, 4, 6 or 8) into look-up tables.

    The tables come from k-means on the weights, which always gives the same result. `group` output channels (axis 0 of
    the weight) share a table, all of them by default; the last group may be smaller. `layers` are the classes to
    change, and `where` picks among them by name. Layers that share a weight go on sharing it. Works in place, on
    models without data (on the meta device or fake) too; gives the model back. Raises ValueError where there is
    nothing to change, and for a weight that is no float or is made by a parametrisation already.
    """
    if bits not in BITS:
        raise ValueError(f"palettes have indices of {', '.join(map(str, BITS))} bits, not {bits}")
    if group is not None and (isinstance(group, bool) or not isinstance(group, int) or group < 1):
        raise ValueError(f"group is a number of output channels that share a table, or None for all, not {group!r}")

    def make(weight: Tensor, tied: tuple[Tensor, Tensor] | None) -> Palette:
        rows = min(group or weight.shape[0], weight.shape[0])
        return Palette(bits, (rows, *weight.shape[1:]), tied or to_palettes(weight, bits, rows))

    store(model, make, layers, where, "palettise")
    return model


# ---------------------------------------------------------------- k-means


def to_palettes(weight: Tensor, bits: int, group: int) -> tuple[Tensor, Tensor]:
    """Indices of uint8 in the shape of the weight, and a table [ceil(n / group), 1, ..., 2 ** bits] in its dtype."""
    count = -(-weight.shape[0] // group)
    shape = (count, *((1,) * (weight.dim() - 1)), 1 << bits)
    if weight.is_meta or isinstance(weight, FakeTensor):
        return weight.new_empty(weight.shape, dtype=torch.uint8), weight.new_empty(shape)
    values = weight.detach().cpu().float().reshape(weight.shape[0], -1).numpy()
    tables = np.empty((count, 1 << bits), np.float32)
    index = np.empty(values.shape, np.uint8)
    for i in range(count):
        rows = slice(i * group, (i + 1) * group)
        tables[i] = k_means(values[rows].reshape(-1), 1 << bits)
        index[rows] = nearest(values[rows], tables[i])
    table = torch.from_numpy(tables).reshape(shape).to(weight.device, weight.dtype)
    return torch.from_numpy(index).reshape(weight.shape).to(weight.device), table


def k_means(values: np.ndarray, k: int) -> np.ndarray:
    """`k` centres of the numbers in order: Lloyd's iteration on sorted numbers, until it settles.

    Fewer distinct numbers are the centres themselves, the last one repeated. Raises ValueError for infinities and NaN.
    """
    if not np.isfinite(values).all():
        raise ValueError("infinities and NaN have no place in a palette")
    ordered = np.sort(values.astype(np.float64))
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    distinct = ordered[np.concatenate([[True], np.diff(ordered) > 0])]
    if distinct.size <= k:
        return np.pad(distinct, (0, k - distinct.size), mode="edge").astype(np.float32)
    centres = _spread(ordered, k)
    for _ in range(MAX_STEPS):
        ends = np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2)
        ends = np.concatenate([[0], ends, [ordered.size]])
        counts = np.diff(ends)
        means = (sums[ends[1:]] - sums[ends[:-1]]) / np.maximum(counts, 1)
        moved = np.where(counts > 0, means, centres)
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres.astype(np.float32)


def _spread(ordered: np.ndarray, k: int) -> np.ndarray:
    """Where many centres lie best: as densely as the cube root of the density of the numbers.

    Panter and Dite, "Quantization distortion in pulse-count modulation with nonuniform spacing of levels", 1951.
    """
    counts, edges = np.histogram(ordered, bins=max(k, min(MAX_BINS, ordered.size // 16)))
    share = np.concatenate([[0.0], np.cumsum(np.cbrt(counts))])
    return np.interp((np.arange(k) + 0.5) / k * share[-1], share, edges)


def nearest(values: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Which of the ascending centres is nearest to each number."""
    middles = (centres[1:] + centres[:-1]) / 2
    return np.searchsorted(middles, values).astype(np.uint8)
