"""A GPU: cores that run threadgroups of SIMD groups, with matrix instructions on the same lanes as the ALUs.

A command covers all cores. A matrix product is cut into threadgroup tiles of `tile` x `tile` results; a core takes one
at a time, so `ceil(tiles / cores)` waves of them run, each at the matrix rate that real kernels sustain. Where that
wastes most of a tile (one row, one channel a group), the kernel falls back to plain multiply-adds that stream their
operands from local memory; the cheaper way is priced. Elementwise work comes in waves too: a core hides its latencies
only with enough SIMD groups in flight, so elements are rounded up to whole waves of `wave` elements a core. Compressed
weights are expanded by the ALUs inside the kernel of their product, one after the other: the lanes are the same.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from tilewright.compiler.dialects.graph import GroupedMatmul, Linalg, WholeOp
from tilewright.compiler.ir import DTYPE_BITS, Operation, is_float
from tilewright.compiler.ir.types import PACKED_BITS
from tilewright.targets.memory import Memory
from tilewright.targets.parameter import (
    Bytes,
    BytesPerCycle,
    Cores,
    Cycles,
    MacsPerCycle,
    Names,
    Quantity,
    Section,
    count,
)

from .base import Space
from .demand import Gemm, UnpricedError, base_name
from .pricing import Chain, EngineParameters, PricedEngine, RateTable, Step, last_dim

Lanes = Annotated[Quantity, count("lanes", 1e5)]
Elements = Annotated[Quantity, count("elements", 1e6)]


class MatrixParameters(Section):
    """Matrix products, per core."""

    rate: dict[str, MacsPerCycle]  # sustained in matmul kernels, by dtype
    side: Elements  # of the matrix instruction's operands
    tile: Elements  # side of the results of a threadgroup


class AluParameters(Section):
    """The ALUs of one core."""

    lanes: Lanes  # results of a cheap operation a cycle
    wave: Elements  # in flight for full rate
    tree: Cycles  # of a reduction across a SIMD group
    simd: Lanes  # of a SIMD group
    cost: RateTable
    integer_multiply: Annotated[Quantity, count("operations", 64)]  # an integer mul or fma, in cheap operations
    wide_integer: Annotated[Quantity, count("operations", 64)]  # a 64-bit operation, in 32-bit ones


class GpuParameters(EngineParameters):
    cores: Cores
    matrix: MatrixParameters
    alu: AluParameters
    threadgroup_memory: Bytes  # a core
    registers: Bytes  # a core
    local_bandwidth: BytesPerCycle  # of a core to its threadgroup memory and L1
    dtypes: Names


class Gpu(PricedEngine):
    """See the head of this file."""

    kind = "gpu"
    matrix, vector = "mat", "alu"
    expands_inline = True
    Parameters: ClassVar[type[EngineParameters]] = GpuParameters

    def __init__(self, name: str, parameters: GpuParameters, memory: Memory):
        super().__init__(name, parameters, memory)
        p = parameters
        self.dtypes = p.dtypes
        self.cores = int(p.cores)
        self.rates = {dtype: float(rate) for dtype, rate in p.matrix.rate.items()}
        self.side, self.tile = int(p.matrix.side), int(p.matrix.tile)
        self.lanes, self.wave = float(p.alu.lanes), int(p.alu.wave)
        self.tree = float(p.alu.tree) * float(p.alu.simd)  # a tree keeps the lanes of its SIMD group busy
        self.cost = p.alu.cost.costs()
        self.integer_multiply, self.wide_integer = float(p.alu.integer_multiply), float(p.alu.wide_integer)
        self.local = float(p.local_bandwidth)
        self.input_space = Space(f"{name}.tg", self.cores * int(p.threadgroup_memory))
        self.weight_space = self.input_space
        self.accumulator_space = Space(f"{name}.reg", self.cores * int(p.registers))

    # ------------------------------------------------ matrix products

    def check_dtype(self, dtype: str) -> None:
        if dtype not in self.dtypes.value:
            raise UnpricedError(f"'{self.name}' computes on {self.dtypes}, not on {dtype}")

    def plain_macs(self, dtype: str) -> float:
        """Multiply-adds a cycle and core without matrix instructions: one operand of each is read from local memory."""
        alu = self.lanes / self._weight("fma", dtype)
        return min(alu, self.local * 8 / DTYPE_BITS[dtype])

    def peak_macs(self, dtype: str) -> float:
        self.check_dtype(dtype)
        return self.cores * max(self.rates.get(dtype, 0.0), self.plain_macs(dtype))

    def gemm_cycles(self, gemm: Gemm, dtype: str) -> float:
        plain = gemm.macs / (self.cores * self.plain_macs(dtype))
        if dtype not in self.rates or gemm.grouped:
            return plain
        side = self.side
        rows, cols = min(self.tile, -(-gemm.rows // side) * side), min(self.tile, -(-gemm.cols // side) * side)
        tiles = gemm.batch * -(-gemm.rows // rows) * -(-gemm.cols // cols)
        depth = -(-gemm.depth // side) * side
        return min(plain, -(-tiles // self.cores) * rows * cols * depth / self.rates[dtype])

    # ------------------------------------------------ the ALUs

    def _weight(self, name: str, dtype: str) -> float:
        """Cheap operations that one operation of a class takes on this dtype."""
        weight = self.cost[name]
        if not is_float(dtype):
            if name in ("mul", "fma"):
                weight = self.integer_multiply
            if DTYPE_BITS[dtype] > 32:
                weight *= self.wide_integer
        return weight

    def operations(self, step: Step) -> float:
        return sum(self._weight(name, step.dtype) * n for name, n in step.vector.steps)

    def chain_cycles(self, chain: Chain) -> float:
        elements = max(step.vector.elements for step in chain.steps)
        wave = self.cores * self.wave
        waste = -(-elements // wave) * wave / elements
        operations = sum(self.operations(s) + self.tree * s.vector.trees for s in chain.steps)
        compute = operations * waste / (self.lanes * self.cores)
        return max(compute, (chain.read_bytes + chain.write_bytes) / (self.local * self.cores))

    def least_cycles(self, step: Step) -> float:
        return self.operations(step) / (self.lanes * self.cores)

    # ------------------------------------------------ placement

    def granularity(self, op: Operation) -> dict[str, int]:
        name = base_name(op)
        row = self.loads.line_bytes * 8 // DTYPE_BITS["f16"]
        if name == "matmul":
            return {"m": self.tile, "n": self.tile, "k": self.side}
        if name == "attention":
            return {"m": self.tile, "n": self.tile}
        inner = last_dim(op)
        multiples = {inner: row} if inner else {}
        return {"o": self.tile, "c": self.side, **multiples} if name == "conv" else multiples

    def reaches(self, op: WholeOp) -> bool:
        return isinstance(op, GroupedMatmul)  # each threadgroup finds its expert's weights by the ends of the groups

    def _refuses(self, op: Operation) -> str | None:
        if isinstance(op, Linalg):
            return f"{self.name}: the steps of a matrix factorisation wait for each other; a CPU's work"
        for value in (*op.operands, *op.results):
            if value.type.dtype not in self.dtypes.value and value.type.dtype not in PACKED_BITS:  # unpacked by shifts
                return f"{self.name} has no {value.type.dtype} ({self.dtypes.source})"
        return None


__all__ = ["Gpu", "GpuParameters"]
