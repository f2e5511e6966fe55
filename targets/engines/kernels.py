"""Kernels of a GPU's matrix library: how many of their thread-blocks share a core, and how long a grid of them takes.

A library holds a few kernels for each dtype, each with one size of thread-block, and takes the one that will be done
first. The blocks of a grid are dealt out to the cores; a core keeps as many resident as its registers, shared memory
and threads allow, and the busiest core decides. A block goes over the depth in steps: it brings the next slices of both
operands into shared memory while the pipes work on the ones before. What is not hidden is the barrier of each step with
the first reads after it, and, once for each set of resident blocks, the first loads and the results on their way out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from .demand import Gemm

_FORM = re.compile(r"(\d+)x(\d+)x(\d+)@(\d+)")
SPLITS = (1, 2, 3, 4, 6, 8, 12, 16)  # of the depth, over blocks that add up their results
WARP = 32
OPERAND_REGISTERS = 64  # of a thread, for addresses and fragments, beside its accumulators
STAGES = 2  # slices of the operands in shared memory


@dataclass(frozen=True, slots=True)
class Kernel:
    """A thread-block that makes rows x cols results, `depth` of the sums at a time, with so many threads."""

    rows: int
    cols: int
    depth: int
    threads: int

    @classmethod
    def parse(cls, text: str) -> Kernel:
        """From `128x64x8@128`: rows, columns, depth of a step, threads. Raises ValueError."""
        match = _FORM.fullmatch(text)
        if not match or not all(int(n) for n in match.groups()):
            raise ValueError(f"'{text}' is no kernel; expected rows x columns x depth @ threads, as 128x64x8@128")
        return cls(*map(int, match.groups()))

    def issued_macs(self, gemm: Gemm) -> int:
        """Multiply-adds of all blocks, whole ones at the edges too."""
        rows, cols = -(-gemm.rows // self.rows) * self.rows, -(-gemm.cols // self.cols) * self.cols
        return gemm.batch * rows * cols * gemm.depth

    def registers(self) -> int:
        """Bytes of a block: the accumulators, in 32 bits, and what each thread needs besides."""
        return 4 * (self.rows * self.cols + OPERAND_REGISTERS * self.threads)

    def shared(self, item: float) -> float:
        """Bytes of shared memory of a block, with elements of `item` bytes."""
        return STAGES * (self.rows + self.cols) * self.depth * item


@dataclass(frozen=True, slots=True)
class Data:
    """What a product is of: bytes of an element, and the multiply-adds that a core's pipes make a cycle.
    `through_registers`: threads load operands and store them to shared memory, in turns with their multiply-adds.
    `split`: the library spreads the depth of a lone product over several blocks where that is faster."""

    rate: float
    item: float
    through_registers: bool
    split: bool = True


@dataclass(frozen=True, slots=True)
class Core:
    """What a core offers to blocks, and how fast. Rates are a cycle."""

    cores: int
    registers: int
    shared: int
    threads: int  # resident at once
    blocks: int
    schedulers: int  # each with a part of the pipes, and with warps of its own
    local_rate: float  # bytes from and to shared memory
    l2_rate: float  # bytes from and to the L2
    step_cycles: float  # of a step of the depth, that nothing hides
    latency: float  # cycles until the first data of a block are there

    def resident(self, kernel: Kernel, item: float) -> int:
        """Blocks that a core holds at once; at least one, as libraries hold only kernels that fit."""
        fits = (
            self.registers // kernel.registers(),
            int(self.shared // kernel.shared(item)),
            self.threads // kernel.threads,
            self.blocks,
        )
        return max(1, min(fits))

    def grid_cycles(self, kernel: Kernel, gemm: Gemm, data: Data, split: int = 1) -> float:
        """All blocks of a product. The parts of a split depth are summed in 32 bits."""
        blocks = split * gemm.batch * -(-gemm.rows // kernel.rows) * -(-gemm.cols // kernel.cols)
        each = -(-blocks // self.cores)  # blocks of the busiest core
        steps = -(-gemm.depth // (split * kernel.depth))
        output = kernel.rows * kernel.cols * (data.item if split == 1 else 4) / self.l2_rate
        resident = self.resident(kernel, data.item)
        sets, last = divmod(each, resident)
        cycles = sets * (resident * steps * self._step_cycles(kernel, data, resident) + self.latency + output)
        if last:
            cycles += last * steps * self._step_cycles(kernel, data, last) + self.latency + output
        if split > 1:  # a second kernel adds up the parts
            parts = gemm.batch * gemm.rows * gemm.cols * (4 * split + data.item)
            cycles += 2 * self.latency + parts / (self.l2_rate * self.cores)
        return cycles

    def _step_cycles(self, kernel: Kernel, data: Data, blocks: int) -> float:
        """A block's share of the core for one step, with so many blocks at work on it."""
        warps = blocks * -(-kernel.threads // WARP)
        rate = data.rate * min(1.0, warps / self.schedulers)
        operands = (kernel.rows + kernel.cols) * kernel.depth * data.item
        compute, local = kernel.rows * kernel.cols * kernel.depth / rate, operands / self.local_rate
        inner = compute + local if data.through_registers else max(compute, local)
        return max(inner, operands / self.l2_rate) + self.step_cycles


def best_cycles(
    core: Core, library: tuple[Kernel, ...], gemm: Gemm, data: Data, limited: Callable[[float, int], float]
) -> float:
    """The kernel of the library that is done first; where it splits depths, that of a lone product may be.

    `limited` says what power makes of a kernel's cycles and its multiply-adds, those of padded edges among them.
    """
    splits = SPLITS if gemm.batch == 1 and data.split else (1,)
    return min(
        limited(core.grid_cycles(kernel, gemm, data, split), kernel.issued_macs(gemm))
        for kernel in library
        for split in splits
        if split == 1 or gemm.depth >= 16 * split * kernel.depth
    )
