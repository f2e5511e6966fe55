"""A GPU: thread-blocks on cores, with matrix pipes and ALUs, through shared memory and an L2.

A loop's commands are parts of one kernel. The kernel is priced as a whole, with the sizes of all iterations together,
and a command takes its share; so waves of blocks are counted once, however the loop is cut.

- A matrix product runs as one of the library's kernels (`kernels.py`). For few rows or columns, no more than a matrix
  instruction has, plain multiply-adds that stream their operands from local memory are priced too, and the cheaper way
  is taken; of grouped channels they are the only one.
- Elementwise work comes in waves: a core hides its latencies only with enough threads in flight.
- A row of a softmax or a norm belongs to a block, or, if it is short, to a warp that keeps it in registers. A block
  goes over its row again from L1 or L2, which hold the rows of resident blocks, or do not.
- Under a power limit a kernel takes no less than its energy needs, unless it is done before the board reacts.

Compressed weights are expanded by the ALUs inside the kernel of their product, one after the other: the lanes are the
same. A block of a large product shares what it expands through its shared memory; of a product with few rows each
thread has its own weights, which never leave its registers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Self

from pydantic import model_validator
from tilewright.compiler.dialects.graph import WholeOp
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
    Power,
    Quantity,
    Section,
    Time,
    count,
)

from .base import Space, Work
from .demand import Gemm, UnpricedError, Vector, base_name, demand, is_factor, priced_dtype, product
from .kernels import Core, Data, Kernel, best_cycles
from .pricing import Chain, EngineParameters, PricedEngine, RateTable, Step, last_dim
from .rows import RowParameters

Lanes = Annotated[Quantity, count("lanes", 1e5)]
Elements = Annotated[Quantity, count("elements", 1e6)]
Threads = Annotated[Quantity, count("threads", 1e5)]
Blocks = Annotated[Quantity, count("blocks", 1e4)]
Schedulers = Annotated[Quantity, count("schedulers", 64)]


class MatrixParameters(Section):
    """Matrix products, per core."""

    rate: dict[str, MacsPerCycle]  # of the pipes while a kernel keeps them busy, by dtype
    side: Elements  # of the matrix instruction's operands
    step: Cycles  # of a step of the depth, not hidden: the barrier and the first reads after it
    kernels: dict[str, Names]  # of the library, by dtype; "f32_batched": of many products at once
    mixed: Names  # dtypes of a factor that need not become the other's, wider one
    through_registers: Names  # dtypes whose kernels bring operands to shared memory by instructions of their own
    split: Names  # dtypes whose kernels may spread the depth of a lone product over several blocks

    @model_validator(mode="after")
    def _check_kernels(self) -> Self:
        for key, names in self.kernels.items():
            if not names.value:
                raise ValueError(f"kernels.{key} is empty; expected at least one, as 128x64x8@128")
            for text in names.value:
                Kernel.parse(text)
        for dtype in self.rate:
            if dtype not in self.kernels:
                raise ValueError(f"kernels.{dtype} is missing; the pipes have a rate for {dtype}")
        return self


class AluParameters(Section):
    """The ALUs of one core."""

    lanes: Lanes  # results of a cheap operation a cycle
    wave: Elements  # in flight for full rate
    tree: Cycles  # of a reduction across a SIMD group
    simd: Lanes  # of a SIMD group
    cost: RateTable
    integer_multiply: Annotated[Quantity, count("operations", 64)]  # an integer mul or fma, in cheap operations
    wide_integer: Annotated[Quantity, count("operations", 64)]  # a 64-bit operation, in 32-bit ones


class ResidencyParameters(Section):
    """What may be resident on one core at once, besides registers and shared memory."""

    threads: Threads
    blocks: Blocks
    schedulers: Schedulers  # of a core, each with a part of the pipes and with SIMD groups of its own


class PowerParameters(Section):
    """What the board may draw. What work takes of it is in the tables `energy` of the engine and of the memory."""

    limit: Power
    grace: Time | None = None  # of each kernel, before the limit holds; without it, none


class GpuParameters(EngineParameters):
    """Copies go through the cores, each with its own path to the L2: `dma` states what the L2 gives all of them, where
    that is less."""

    cores_copy: ClassVar[bool] = True
    cores: Cores
    matrix: MatrixParameters
    alu: AluParameters
    residency: ResidencyParameters
    rows: RowParameters
    power: PowerParameters | None = None  # without it, the clock holds
    threadgroup_memory: Bytes  # a core
    registers: Bytes  # a core
    local_bandwidth: BytesPerCycle  # of a core to its threadgroup memory and L1
    l2_bandwidth: BytesPerCycle  # of a core to the L2
    dtypes: Names
    whole: Names  # ops on whole tensors in memory that it has kernels for


class Gpu(PricedEngine):
    """See the head of this file."""

    kind = "gpu"
    matrix, vector = "mat", "alu"
    expands_inline = True
    by_kernel = True
    co_resident = 2
    Parameters: ClassVar[type[EngineParameters]] = GpuParameters

    def stream_rate(self) -> int:
        return self.dram.sustained_bytes_per_s

    def __init__(self, name: str, parameters: GpuParameters, memory: Memory):
        super().__init__(name, parameters, memory)
        p = parameters
        self.dtypes, self.whole = p.dtypes, p.whole
        self.cores = int(p.cores)
        self.rates = {dtype: float(rate) for dtype, rate in p.matrix.rate.items()}
        self.side = int(p.matrix.side)
        self.through_registers, self.split = p.matrix.through_registers.value, p.matrix.split.value
        self.mixed = p.matrix.mixed.value
        self.library = {key: tuple(map(Kernel.parse, names.value)) for key, names in p.matrix.kernels.items()}
        self.lanes, self.wave = float(p.alu.lanes), int(p.alu.wave)
        self.tree = float(p.alu.tree) * float(p.alu.simd)  # a tree keeps the lanes of its SIMD group busy
        self.cost = p.alu.cost.costs()
        self.integer_multiply, self.wide_integer = float(p.alu.integer_multiply), float(p.alu.wide_integer)
        self.local = float(p.local_bandwidth)
        latency = memory.fabric_latency_ps + memory.slc_latency_ps + memory.dram_latency_ps
        self.core = Core(
            self.cores,
            int(p.registers),
            int(p.threadgroup_memory),
            int(p.residency.threads),
            int(p.residency.blocks),
            int(p.residency.schedulers),
            self.local,
            float(p.l2_bandwidth),
            float(p.matrix.step),
            latency * 1e-12 * self.clock_hz,
        )
        self.rows = p.rows
        self.budget_w, self.grace = math.inf, 0.0  # what the limit leaves for work; cycles before it holds
        if p.power is not None:
            if p.energy is None or memory.energy is None:
                raise ValueError(f"power.limit: needs the tables {name}.energy and memory.energy")
            self.budget_w = float(p.power.limit) - float(p.energy.static) - float(memory.energy.static)
            if self.budget_w <= 0:
                raise ValueError(f"power.limit: {p.power.limit} is no more than what is drawn at rest")
            self.dram_j = float(memory.energy.dram)
            self.grace = float(p.power.grace or 0.0) * self.clock_hz
        self.wait_ps, self.dram = latency, memory.dram
        self.input_space = Space(f"{name}.tg", self.cores * int(p.threadgroup_memory))
        self.weight_space = self.input_space
        self.accumulator_space = Space(f"{name}.reg", self.cores * int(p.registers))

    def copy_rate(self, parameters: EngineParameters, stated: Quantity | None) -> int:
        """What all cores take from the L2 together, or what it has for them."""
        assert isinstance(parameters, GpuParameters)
        cores = int(int(parameters.cores) * float(parameters.l2_bandwidth) * self.clock_hz)
        return cores if stated is None else min(cores, int(stated))

    # ------------------------------------------------ kernels and their parts

    def exec_ps(self, unit: str, work: Sequence[Work]) -> int:
        """A command's share of its kernel: of the time that the whole loop takes."""
        if not work or any(w.whole is None for w in work):
            return super().exec_ps(unit, work)
        products = [w for w in work if isinstance(self.demand(w), Gemm)]
        if not products or len(products) == len(work):
            return self.share_ps(unit, work)
        # blocks expand the weights that they multiply with, each for itself
        rows = sum(w.inputs[0][-2] if len(w.inputs[0]) > 1 else 1 for w in products)
        times = -(-rows // max(k.rows for library in self.library.values() for k in library))
        expansions = [w for w in work if w not in products]
        shared = [w for w in expansions if not self.streams(w.op)]
        tiled = self.share_ps(unit, products) + (times * self.share_ps(unit, shared) if shared else 0)
        streamed = self._streamed_ps(products, expansions)
        return tiled if streamed is None else min(tiled, streamed)

    def _streamed_ps(self, products: Sequence[Work], expansions: Sequence[Work]) -> int | None:
        """Products of few rows or columns whose threads expand weights in registers and multiply them there: only what
        is stored is read from local memory. None for larger ones, which share what they expand."""
        stored = sum(w.op.operands[0].type.bytes_for(product(w.inputs[0])) for w in expansions)
        operations = sum(self._operations(w) for w in expansions)
        joules = 0.0
        for w in products:
            gemm, dtype = self.demand(w), priced_dtype(w.op, w.dtype)
            if not isinstance(gemm, Gemm) or min(gemm.rows, gemm.cols) > self.side:
                return None
            operations += gemm.macs * self._weight("fma", dtype)
            joules += self._joules(gemm, dtype, gemm.macs)
        cycles = max(operations / self.lanes, stored / self.local) / self.cores
        return self.ps(self._start + self._limited(cycles, joules))

    def streams(self, op: Operation) -> bool:
        """A narrower factor that instructions take as it is."""
        return base_name(op) == "cast" and op.operands[0].type.dtype in self.mixed and is_factor(op)

    def _operations(self, work: Work) -> float:
        if self.streams(work.op):
            return 0.0
        asked = self.demand(work)
        assert isinstance(asked, Vector)
        return self.operations(Step(asked, priced_dtype(work.op, work.dtype)))

    def demand(self, work: Work) -> Gemm | Vector:
        """Softmax and norms as the library's kernels do them; all else as anywhere."""
        asked = demand(work)
        known = base_name(work.op) in ("softmax", "layer_norm", "rms_norm")
        if not known or not isinstance(asked, Vector) or not asked.elements:
            return asked
        n = asked.elements
        if base_name(work.op) == "softmax":
            in_warp = asked.row <= int(self.rows.warp_columns)
            # the maximum; difference, exponential and sum; quotient. A block does the second again rather than keep it
            times = 1 if in_warp else 2
            steps = [("compare", n), ("add", (1 + times) * n), ("exp", times * n), ("divide", n)]
            sweeps = 1 if in_warp else 3
        else:
            steps, sweeps = list(asked.steps), 2  # statistics; scale
        if work.op.operands[0].type.dtype in ("f16", "bf16"):
            steps.append(("move", (sweeps + 1) * n))  # to 32 bits and back
        return asked._replace(steps=tuple(steps), sweeps=sweeps)

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

        def limited(cycles: float, macs: int) -> float:
            return self._limited(cycles, self._joules(gemm, dtype, macs))

        plain = limited(gemm.macs / (self.cores * self.plain_macs(dtype)), gemm.macs)
        if dtype not in self.rates or gemm.grouped:
            return plain
        library = self.library[dtype]
        if gemm.batch > 1:
            library = self.library.get(f"{dtype}_batched", library)
        item = DTYPE_BITS[dtype] / 8
        data = Data(self.rates[dtype], item, dtype in self.through_registers, dtype in self.split)
        tiled = best_cycles(self.core, library, gemm, data, limited)
        return min(plain, tiled) if min(gemm.rows, gemm.cols) <= self.side else tiled

    def _joules(self, gemm: Gemm, dtype: str, macs: int) -> float:
        """The energy of so many multiply-adds. Each operand comes from DRAM once; the way of a kernel's operands
        through the L2 is in the energy of its multiply-adds."""
        if math.isinf(self.budget_w) or self.energy is None or dtype not in self.energy.mac:
            return 0.0
        moved = gemm.a_elements + gemm.b_elements + gemm.batch * gemm.rows * gemm.cols
        return macs * float(self.energy.mac[dtype]) + moved * DTYPE_BITS[dtype] / 8 * self.dram_j

    def _limited(self, cycles: float, joules: float) -> float:
        """A kernel's cycles under the limit. Until it holds, a part of the kernel is done at the clock's own pace."""
        if cycles <= self.grace:
            return cycles
        return self.grace + (1 - self.grace / cycles) * max(cycles, joules / self.budget_w * self.clock_hz)

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
        moved = chain.read_bytes + chain.write_bytes
        return max(compute, moved / (self.local * self.cores), self._row_cycles(chain, moved))

    def _row_cycles(self, chain: Chain, moved: int) -> float:
        """Rows that a block goes over more than once: what neither L1 nor L2 holds, and what blocks wait for.

        The blocks of a wave go in step: each of their sweeps begins with a load that nothing hides. Tensors that fit
        in the L2 may lie there already; their copies say whether they do.
        """
        longest = 0.0
        for step in chain.steps:
            v = step.vector
            if not v.row or v.sweeps < 2:
                continue
            item = DTYPE_BITS[step.dtype] / 8
            threads = self.rows.threads(v, item)
            at_once = self.cores * max(1, min(self.core.threads // threads, self.core.blocks))
            rows = -(-v.elements // v.row)
            missed = self.rows.missed(min(at_once, rows) * v.row * item, self.cores)
            again = (v.sweeps - 1) * v.elements * item
            streamed = (moved - again if moved - again > float(self.rows.cache) else 0) + again * missed
            memory = streamed / (self.stream_bytes_per_s / self.clock_hz)
            loads = v.sweeps * (1 + self.rows.tail_loads(v, item))
            longest = max(longest, memory + -(-rows // at_once) * loads * self.core.latency)
        return longest

    def least_cycles(self, step: Step) -> float:
        return self.operations(step) / (self.lanes * self.cores)

    # ------------------------------------------------ placement

    def granularity(self, op: Operation) -> dict[str, int]:
        name = base_name(op)
        row = self.loads.line_bytes * 8 // DTYPE_BITS["f16"]
        tile = min(min(k.rows, k.cols) for library in self.library.values() for k in library)
        if name == "matmul":
            return {"m": tile, "n": tile, "k": self.side}
        if name == "attention":
            return {"m": tile, "n": tile}
        inner = last_dim(op)
        multiples = {inner: row} if inner else {}
        return {"o": tile, "c": self.side, **multiples} if name == "conv" else multiples

    def reaches(self, op: WholeOp) -> bool:
        return base_name(op) in self.whole.value

    def _refuses(self, op: Operation) -> str | None:
        for value in (*op.operands, *op.results):
            if value.type.dtype not in self.dtypes.value and value.type.dtype not in PACKED_BITS:  # unpacked by shifts
                return f"{self.name} has no {value.type.dtype} ({self.dtypes.source})"
        return None


__all__ = ["Gpu", "GpuParameters"]
