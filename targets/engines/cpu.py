"""A CPU cluster: cores with SIMD pipes, and one matrix unit that they share. It takes every op and every dtype.

The matrix unit adds outer products into squares of accumulators; several independent ones must be in flight to fill
its pipeline, so a product is rounded up to whole groups of squares. Where that wastes most of the work (one row, one
channel a group) and for dtypes that it lacks, the cores' SIMD pipes do the job (of i8, with dot products of as many
elements as a register holds), as libraries would choose: the cheaper is priced.
Vector work is shared out evenly over the cores and rounded up to whole registers.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

from tilewright.compiler.ir import DTYPE_BITS, Operation, is_float
from tilewright.targets.memory import Memory
from tilewright.targets.parameter import Bytes, BytesPerCycle, Cores, MacsPerCycle, Quantity, Section, count, measure

from .base import Space
from .demand import Gemm, base_name
from .pricing import Chain, EngineParameters, PricedEngine, RateTable, Step, last_dim

Pipes = Annotated[Quantity, measure("number of pipes", "pipes", 0.1, 64)]


class MatrixParameters(Section):
    """The matrix unit of the cluster."""

    rate: dict[str, MacsPerCycle]  # by dtype, accumulating in f32 (f64 for f64)
    square: Bytes  # side of one square of accumulators
    in_flight: Annotated[Quantity, count("squares", 64)]  # for full rate


class SimdParameters(Section):
    """The SIMD pipes of one core."""

    width: Bytes  # of a register
    pipes: Pipes  # whole-register operations a cycle
    cost: RateTable
    scalar: Pipes  # operations a cycle on what SIMD registers cannot multiply (64-bit integers)


class CacheParameters(Section):
    l1: Bytes  # a core
    l1_read: BytesPerCycle
    l1_write: BytesPerCycle
    l2: Bytes  # of the cluster
    l2_bandwidth: BytesPerCycle  # of a core


class CpuParameters(EngineParameters):
    cores: Cores
    matrix: MatrixParameters
    simd: SimdParameters
    cache: CacheParameters


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
        self.rates = {dtype: float(rate) for dtype, rate in p.matrix.rate.items()}
        self.square, self.in_flight = int(p.matrix.square), int(p.matrix.in_flight)
        self.register, self.pipes, self.scalar = int(p.simd.width), float(p.simd.pipes), float(p.simd.scalar)
        self.cost = p.simd.cost.costs()
        self.l1_bytes = self.cores * int(cache.l1)
        self.l1_read, self.l1_write = self.cores * float(cache.l1_read), self.cores * float(cache.l1_write)
        self.l2_rate = self.cores * float(cache.l2_bandwidth)
        self.input_space = self.weight_space = Space(f"{name}.l2", int(cache.l2))
        self.accumulator_space = Space(f"{name}.l1", self.l1_bytes)

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
        # without reuse in registers, as in a matrix-vector product, one operand of each product comes from L1
        simd = gemm.macs / min(self.simd_macs(dtype), self.l1_read / size)
        best = min(simd, self._outer_products(gemm, _signed(dtype))) if _signed(dtype) in self.rates else simd
        return max(best, (gemm.a_elements + gemm.b_elements) * size / self.l2_rate)

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
        total = sum(self.cost[name] * n for name, n in v.steps) / lanes
        return total + v.trees * self.cost["add"] * max(math.ceil(lanes) - 1, 1)

    def chain_cycles(self, chain: Chain) -> float:
        elements = max(step.vector.elements for step in chain.steps)
        share = -(-elements // self.cores)
        lanes = int(max(self.lanes(step.dtype, step.vector.widened) for step in chain.steps))
        waste = max(-(-share // lanes) * lanes * self.cores / elements, 1.0)
        compute = sum(map(self.operations, chain.steps)) * waste / (self.pipes * self.cores)
        if chain.read_bytes + chain.write_bytes > self.l1_bytes:
            return max(compute, (chain.read_bytes + chain.write_bytes) / self.l2_rate)
        return max(compute, chain.read_bytes / self.l1_read, chain.write_bytes / self.l1_write)

    def least_cycles(self, step: Step) -> float:
        v = step.vector
        lanes = self.lanes(step.dtype, v.widened)
        return sum(self.cost[name] * n for name, n in v.steps) / lanes / (self.pipes * self.cores)

    # ------------------------------------------------ placement

    def granularity(self, op: Operation) -> dict[str, int]:
        name, side = base_name(op), self.square // 4
        row = self.loads.line_bytes * 8 // DTYPE_BITS["f16"]
        if name == "matmul":
            return {"m": side, "n": side, "k": row}
        if name == "attention":
            return {"m": side, "n": side}
        inner = last_dim(op)
        multiples = {inner: row} if inner else {}
        return {"o": side, **multiples} if name == "conv" else multiples


def _signed(dtype: str) -> str:
    """Products of either sign have one rate."""
    return "i8" if dtype == "ui8" else dtype


__all__ = ["Cpu", "CpuParameters"]
