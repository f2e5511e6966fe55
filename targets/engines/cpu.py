"""A CPU cluster: cores with SIMD pipes, and a matrix unit that they may share. It takes every op and every dtype.

The matrix unit adds outer products into squares of accumulators; several independent ones must be in flight to fill
its pipeline, so a product is rounded up to whole groups of squares. Where that wastes most of the work (one row, one
channel a group) and for dtypes that it lacks, the cores' SIMD pipes do the job (of i8, with dot products of as many
elements as a register holds), as libraries would choose: the cheaper is priced.
Vector work is shared out evenly over the cores and rounded up to whole registers.

A target may describe the cores' software too, where a framework's kernels are what runs: which part of the peak a
library's products reach, what it costs to pack their operands into blocks for its caches, what a function of a math
library costs an element, and when work is worth a second thread. What is computed on streams from the smallest level of
cache that holds it; from memory, cores draw no more than the misses that they keep in flight allow.
A framework's op is one kernel, priced as a whole: its threads are woken once, and its blocks take a share each. What
goes over elements works on a block while the next one comes; a library that packs its operands first does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar

from tilewright.compiler.dialects.graph import GraphOp
from tilewright.compiler.ir import DTYPE_BITS, Operation, is_float
from tilewright.targets.memory import Memory
from tilewright.targets.parameter import (
    Bandwidth,
    Bytes,
    BytesPerCycle,
    Cores,
    Cycles,
    Fraction,
    MacsPerCycle,
    Quantity,
    Section,
    Time,
    count,
    measure,
)

from .base import WHOLE, Space, Work
from .demand import Gemm, Vector, base_name
from .pricing import Chain, EngineParameters, PricedEngine, RateTable, Step, last_dim

Pipes = Annotated[Quantity, measure("number of pipes", "pipes", 0.1, 64)]


MOST_PIECES = 16  # more leave less exposed than can be told from noise

Lines = Annotated[Quantity, measure("number of lines", "lines", 0.1, 1e4)]
Elements = Annotated[Quantity, count("elements", 1e9)]


class MatrixParameters(Section):
    """The matrix unit of the cluster."""

    rate: dict[str, MacsPerCycle]  # by dtype, accumulating in f32 (f64 for f64)
    square: Bytes  # side of one square of accumulators
    in_flight: Annotated[Quantity, count("squares", 64)]  # for full rate


class FunctionParameters(Section):
    """What a library's vectorised function costs, in operations as in the table `cost`."""

    element: Cycles  # of a pool: each element of each window
    reduction: Cycles  # across the lanes: one a row and sweep that reduces
    exposed: Fraction | None = None  # of the shorter of computing and memory's time, what the other does not hide
    ahead: Bytes | None = None  # of a row that it goes over again: what does not wait for memory
    rest: Fraction | None = None  # as `exposed`, of what of a row is beyond `ahead`


class SimdParameters(Section):
    """The SIMD pipes of one core."""

    width: Bytes  # of a register
    pipes: Pipes  # whole-register operations a cycle
    cost: RateTable
    scalar: Pipes  # operations a cycle on what SIMD registers cannot multiply (64-bit integers)
    functions: dict[str, FunctionParameters] = {}  # by the op's name, in place of what its steps cost


class CacheParameters(Section):
    l1: Bytes  # a core
    l1_read: BytesPerCycle
    l1_write: BytesPerCycle
    l2: Bytes  # of the cluster; of a core where there is an l3
    l2_bandwidth: BytesPerCycle  # of a core
    l3: Bytes | None = None  # of the cluster
    l3_bandwidth: BytesPerCycle | None = None  # of a core
    misses: Lines | None = None  # that a core and its prefetchers keep in flight to memory


class KernelParameters(Section):
    """A library's matrix product: operands are packed into blocks, which registers then multiply.

    Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication (2008).
    """

    sustained: Fraction  # of the SIMD pipes' peak
    pack: Cycles  # of a core, an element of the second operand
    stream: Cycles  # of a core, an element of the first operand and of the result
    start: Time  # finding the kernel, and setting it up
    ragged: Cycles | None = None  # of a core, more for an element in a block of channels that is not whole
    together: KernelParameters | None = None  # where several cores work, which all pack and are woken in its start


class LibraryParameters(Section):
    matmul: KernelParameters
    pointwise: KernelParameters  # 1 x 1 convolutions as matrix products
    blocked: KernelParameters  # 1 x 1 convolutions on blocks of channels
    conv: KernelParameters
    grouped: KernelParameters  # convolutions of channels that share no input
    product_below: Elements  # of an image, where a convolution is a matrix product
    vector: Bandwidth  # a product of one row draws its matrix from memory, on one core
    vector_serial: Fraction  # of such a product, what more cores do not share (Amdahl)


class ThreadParameters(Section):
    """How a framework shares work out over the cores."""

    grain: Elements  # the least that a thread is woken for
    barrier: Time  # waking the threads and waiting for the last


class CpuParameters(EngineParameters):
    cores: Cores
    matrix: MatrixParameters | None = None
    simd: SimdParameters
    cache: CacheParameters
    library: LibraryParameters | None = None
    threads: ThreadParameters | None = None


class Cpu(PricedEngine):
    """See the head of this file."""

    kind = "cpu"
    matrix, vector = "mat", "simd"
    in_place = True
    Parameters: ClassVar[type[EngineParameters]] = CpuParameters

    def __init__(self, name: str, parameters: CpuParameters, memory: Memory):
        super().__init__(name, parameters, memory)
        p, cache = parameters, parameters.cache
        self.cores = int(p.cores)
        self.rates = {dtype: float(rate) for dtype, rate in p.matrix.rate.items()} if p.matrix else {}
        self.square, self.in_flight = (int(p.matrix.square), int(p.matrix.in_flight)) if p.matrix else (0, 0)
        self.register, self.pipes, self.scalar = int(p.simd.width), float(p.simd.pipes), float(p.simd.scalar)
        self.cost = p.simd.cost.costs()
        self.functions = {n: (float(f.element), float(f.reduction)) for n, f in p.simd.functions.items()}
        self.library, self.threads = p.library, p.threads
        self.by_kernel = p.threads is not None
        if self.by_kernel:  # blocks that come one after the other, for prefetchers to run ahead of
            self.wait_ps = memory.fabric_latency_ps + memory.slc_latency_ps + memory.dram_latency_ps
        self.exposed = {
            n: (float(f.exposed), float(f.ahead or 0), float(f.rest or 0))
            for n, f in p.simd.functions.items()
            if f.exposed is not None
        }
        self.l1_bytes = self.cores * int(cache.l1)
        self.l1_read, self.l1_write = self.cores * float(cache.l1_read), self.cores * float(cache.l1_write)
        self.l2_rate = self.cores * float(cache.l2_bandwidth)
        if cache.l3 is None:
            self.l2_bytes, self.l3_rate = int(cache.l2), self.l2_rate
            self.input_space = self.weight_space = Space(f"{name}.l2", int(cache.l2))
        else:
            self.l2_bytes = self.cores * int(cache.l2)
            self.l3_rate = self.cores * float(cache.l3_bandwidth or cache.l2_bandwidth)
            self.input_space = self.weight_space = Space(f"{name}.l3", int(cache.l3))
            self.port_bytes_per_s = int(self.l3_rate * self.clock_hz)
        # without squares of accumulators, sums go back to the caches
        self.accumulator_space = Space(f"{name}.l1", self.l1_bytes) if p.matrix else self.input_space
        if cache.misses is not None:
            latency = (memory.fabric_latency_ps + memory.slc_latency_ps + memory.dram_latency_ps) * 1e-12
            self.dram_bytes_per_s = int(self.cores * float(cache.misses) * memory.line_bytes / latency)

    # ------------------------------------------------ kernels and their parts

    def exec_ps(self, unit: str, work: Sequence[Work]) -> int:
        """A command's share of its kernel, where a framework's kernels run."""
        if not self.by_kernel or not work or any(w.whole is None for w in work):
            return super().exec_ps(unit, work)
        return self.share_ps(unit, work)

    def pieces(self, op: Operation) -> int | None:
        """One for a library's product, which packs its operands first: it loads all, computes, and stores. A product of
        one row has nothing to pack. Of n pieces, one nth of the shorter of computing and memory's time is not hidden by
        the other: as many as a function's measured share says."""
        name = base_name(op)
        if name in ("matmul", "conv", "attention", "grouped_matmul"):
            row = name == "matmul" and 1 in op.result.type.shape[-2:]  # type: ignore[attr-defined]
            return 1 if self.library is not None and not row else None
        if name not in self.exposed:
            return None
        share, ahead, rest = self.exposed[name]
        operand = op.operands[0].type
        row = math.prod(operand.shape[-1:]) * DTYPE_BITS[operand.dtype] / 8
        share = max(share, rest * (1 - ahead / row) if row else 0.0)
        share = max(share, 1 / MOST_PIECES)
        return min(math.floor(1 / share), math.ceil(1 / share), key=lambda n: abs(1 / n - share))

    # ------------------------------------------------ matrix products

    def lanes(self, dtype: str, widened: bool = False) -> float:
        """Elements that a register holds while they are computed on; bf16 and rows of halves are widened to f32."""
        bits = max(DTYPE_BITS[dtype], 8)  # packed elements are unpacked to bytes
        if dtype == "bf16" or (widened and is_float(dtype)):
            bits = max(bits, DTYPE_BITS["f32"])
        return self.register * 8 / bits

    def simd_macs(self, dtype: str) -> float:
        """Multiply-adds a cycle of all cores without the matrix unit."""
        if dtype == "i64":
            return self.cores * self.scalar
        return self.cores * self.pipes * self.lanes(dtype)

    def peak_macs(self, dtype: str) -> float:
        return max(self.rates.get(_signed(dtype), 0.0), self.simd_macs(dtype))

    def gemm_cycles(self, gemm: Gemm, dtype: str) -> float:
        size = DTYPE_BITS[dtype] / 8
        if self.library is not None:
            return self._library_product(self.library, gemm, dtype, size)
        # without reuse in registers, as in a matrix-vector product, one operand of each product comes from L1
        simd = gemm.macs / min(self.simd_macs(dtype), self.l1_read / size)
        best = min(simd, self._outer_products(gemm, _signed(dtype))) if _signed(dtype) in self.rates else simd
        return max(best, (gemm.a_elements + gemm.b_elements) * size / self.l2_rate)

    def _library_product(self, library: LibraryParameters, gemm: Gemm, dtype: str, size: float) -> float:
        moved = self._from_caches((gemm.a_elements + gemm.b_elements) * size)
        if not gemm.conv and min(gemm.rows, gemm.cols) == 1:  # each element is used once: nothing to pack
            serial = float(library.vector_serial)
            matrix = (gemm.b_elements if gemm.rows == 1 else gemm.a_elements) * size
            drawn = matrix / float(library.vector) * self.clock_hz * (serial + (1 - serial) / self.cores)
            return max(drawn, moved, gemm.macs / self.simd_macs(dtype))
        alone = self._kernel(library, gemm)
        kernel = alone.together if alone.together is not None and self.cores > 1 else alone
        results = gemm.batch * gemm.rows * gemm.cols
        streamed = float(kernel.stream) * (gemm.a_elements + results)
        macs = float(gemm.macs)
        if kernel.ragged is not None:
            padding, ragged = self._channel_blocks(gemm, dtype)
            macs *= padding
            streamed += float(kernel.ragged) * ragged
        if alone is library.pointwise and gemm.taps > 1:  # its windows are laid out as a matrix
            streamed += gemm.rows * gemm.depth / self.lanes(dtype)
        packed = float(kernel.pack) * gemm.b_elements / (self.cores if kernel is alone else 1)
        work = macs / (self.simd_macs(dtype) * float(kernel.sustained)) + streamed / self.cores + packed
        woken = self._barrier(gemm.macs) if kernel is alone else 0.0
        return float(kernel.start) * self.clock_hz + max(work, moved) + woken

    def _channel_blocks(self, gemm: Gemm, dtype: str) -> tuple[float, int]:
        """How many times the multiply-adds they are padded to, and the elements of the image and the result in blocks
        of channels that are not whole."""
        lanes = int(self.lanes(dtype))
        channels = gemm.depth // gemm.taps
        padding, ragged = 1.0, 0
        for n, elements in ((channels, gemm.a_elements), (gemm.cols, gemm.rows * gemm.cols)):
            padded, over = in_blocks(n, lanes)
            padding *= padded / n
            ragged += elements * over // n
        return padding, ragged

    def _kernel(self, library: LibraryParameters, gemm: Gemm) -> KernelParameters:
        """The kernel that PyTorch takes (use_mkldnn in aten/src/ATen/native/Convolution.cpp): a convolution is a
        matrix product where its image is small, and where it is 1 x 1 without stride and has one thread."""
        if not gemm.conv:
            return library.matmul
        if gemm.grouped:
            return library.grouped
        strided = gemm.a_elements * gemm.taps > gemm.rows * gemm.depth
        alone = gemm.taps == 1 and self.cores == 1 and not strided
        if alone or gemm.a_elements <= int(library.product_below):
            return library.pointwise
        return library.conv if gemm.taps > 1 else library.blocked

    def _from_caches(self, size: float) -> float:
        """Cycles in which all cores read so many bytes from the smallest level that holds them."""
        rates = ((self.l1_bytes, self.l1_read), (self.l2_bytes, self.l2_rate))
        return size / next((rate for capacity, rate in rates if size <= capacity), self.l3_rate)

    def _used(self, elements: int) -> int:
        """Cores that are woken for so many elements."""
        grain = int(self.threads.grain) if self.threads else 1
        return max(min(self.cores, -(-elements // grain)), 1)

    def _barrier(self, elements: int) -> float:
        """Cycles of waking the other cores and waiting for them, where they take part."""
        return float(self.threads.barrier) * self.clock_hz if self.threads and self._used(elements) > 1 else 0.0

    def _outer_products(self, gemm: Gemm, dtype: str) -> float:
        side = self.square // (8 if dtype == "f64" else 4)  # accumulators are f64 or f32
        cols = gemm.cols if not gemm.grouped else 1  # no two channels share their inputs
        copies = gemm.batch if not gemm.grouped else gemm.cols
        squares = -(-gemm.rows // side) * -(-cols // side)
        squares = -(-squares // self.in_flight) * self.in_flight
        return copies * squares * side * side * gemm.depth / self.rates[dtype]

    # ------------------------------------------------ the SIMD pipes

    def operations(self, step: Step) -> float:
        """Whole-register operations of a block."""
        v = step.vector
        lanes = self.lanes(step.dtype, v.widened)
        if v.name in self.functions:
            element, reduction = self.functions[v.name]
            return element * _passed(v) / lanes + v.trees * reduction
        total = sum(self.cost[name] * n for name, n in v.steps) / lanes
        return total + v.trees * self.cost["add"] * max(math.ceil(lanes) - 1, 1)

    def chain_cycles(self, chain: Chain) -> float:
        elements = max(step.vector.elements for step in chain.steps)
        cores = self._used(elements)
        share = -(-elements // cores)
        lanes = int(max(self.lanes(step.dtype, step.vector.widened) for step in chain.steps))
        waste = max(-(-share // lanes) * lanes * cores / elements, 1.0)
        compute = sum(map(self.operations, chain.steps)) * waste / (self.pipes * cores)
        size, idle = chain.read_bytes + chain.write_bytes, self.cores / cores
        if size > self.l1_bytes:
            moved = self._from_caches(size) * idle
        else:
            moved = max(chain.read_bytes / self.l1_read, chain.write_bytes / self.l1_write) * idle
        return max(compute, moved) + self._barrier(elements)

    def least_cycles(self, step: Step) -> float:
        v = step.vector
        lanes = self.lanes(step.dtype, v.widened)
        if v.name in self.functions:
            return self.functions[v.name][0] * _passed(v) / lanes / (self.pipes * self.cores)
        return sum(self.cost[name] * n for name, n in v.steps) / lanes / (self.pipes * self.cores)

    # ------------------------------------------------ placement

    def granularity(self, op: Operation) -> dict[str, int]:
        name, side = base_name(op), (self.square or self.register) // 4
        structure = op.structure() if isinstance(op, GraphOp) else None
        pieces = self.pieces(op) if structure is not None else None
        if structure is not None and pieces is not None:
            whole = {d.name: WHOLE for d in structure.dims}
            widest = max((d for d in structure.dims if d.kind != "red"), key=lambda d: d.size, default=None)
            cut = {widest.name: max(-(-widest.size // pieces), 1)} if widest is not None and pieces > 1 else {}
            return {**whole, **cut}
        row = self.loads.line_bytes * 8 // DTYPE_BITS["f16"]
        if name == "matmul":
            return {"m": side, "n": side, "k": row}
        if name == "attention":
            return {"m": side, "n": side}
        inner = last_dim(op)
        multiples = {inner: row} if inner else {}
        return {"o": side, **multiples} if name == "conv" else multiples


def in_blocks(channels: int, lanes: int) -> tuple[int, int]:
    """Where channels lie in blocks of a register's lanes: to how many they are padded, and how many of them lie in a
    block that is not whole. Fewer channels than a block has are not laid out so (oneDNN, nChw16c and its first layer's
    kernels)."""
    over = channels % lanes if channels > lanes else 0
    return channels + -over % lanes, over


def _passed(v: Vector) -> int:
    """Elements that a function goes over; of a pool, those of all windows."""
    return max(n for _, n in v.steps) if v.name == "pool" else v.elements


def _signed(dtype: str) -> str:
    """Products of either sign have one rate."""
    return "i8" if dtype == "ui8" else dtype


__all__ = ["Cpu", "CpuParameters", "in_blocks"]
