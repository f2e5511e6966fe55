"""A tensor processor: systolic arrays that hold weights, a vector unit, and one software-managed memory.

The arrays take the next weights in while they work on the last ones (see `array`), so that a product pays for folds
that are padded, for streams too short to hide the preload, and once for fill and drain: the next one waits for it, but
its weights do not. A convolution is a product for
each tap of its kernel: the channels of a tap are padded to whole rows, and the arrays share its output
channels. Products of
depthwise kernels and of dtypes that the arrays do not have are done by the vector unit.

The vector unit works on registers of `sublanes` x `lanes` elements, several operations a cycle. What crosses lanes, the
end of a reduction along them, goes through a unit of its own: a register at a time.

Of the memory, `windows` is left to each operation for its own blocks; the rest is the target's `memory.slc`, a
scratchpad to which the compiler brings operands of products whole, and in which it keeps what passes from one
operation to the next. A block is at most `window` by `window`, as the kernels are built.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

from tilewright.compiler.dialects import graph, tile
from tilewright.compiler.ir import DTYPE_BITS, Operation
from tilewright.targets.memory import Memory
from tilewright.targets.parameter import Bytes, BytesPerCycle, Cycles, Fraction, Quantity, Section, count, measure

from ..base import Space
from ..demand import Gemm, base_name
from ..pricing import ACCUMULATOR, Chain, EngineParameters, PricedEngine, RateTable, Step, last_dim
from .array import SystolicArray

Elements = Annotated[Quantity, count("elements", 1e6)]
Count = Annotated[Quantity, count("arrays", 1e4)]
ScoreArrays = Annotated[Quantity, measure("number of arrays", "arrays", 0, 1e4)]
Passes = Annotated[Quantity, measure("number of passes", "passes", 0.1, 64)]
Operations = Annotated[Quantity, measure("number of operations", "operations", 0.01, 64)]


class ArrayParameters(Section):
    """The systolic arrays."""

    rows: Elements
    columns: Elements
    arrays: Count
    preload_rows: Elements  # rows of weights that are taken in a cycle
    passes: dict[str, Passes]  # of the array for a product, by dtype
    sustained: Fraction  # of the arrays' cycles, the rest being lost between steps of a kernel
    accumulators: Bytes
    scores: ScoreArrays  # that compute the scores of a fused attention beside the others; 0: all take turns


class VectorParameters(Section):
    """The vector unit."""

    lanes: Elements
    sublanes: Elements
    slots: Operations  # that a cycle has room for, each on a whole register
    cross_lane: Cycles  # of a register's reduction over its lanes
    wide: Operations  # 64-bit operations, in 32-bit ones
    cost: RateTable


class VmemParameters(Section):
    """The memory beside the units."""

    windows: Bytes  # for the blocks of one operation
    window: Elements  # side of a block of a product
    queries: Elements  # of a step of a fused attention, for each head
    keys: Elements
    bandwidth: BytesPerCycle  # to and from the vector registers


class SystolicParameters(EngineParameters):
    array: ArrayParameters
    vector: VectorParameters
    vmem: VmemParameters


class Systolic(PricedEngine):
    """See the head of this file."""

    kind = "systolic"
    matrix, vector = "mxu", "vpu"
    in_place = True  # scatters, sorts and the like go over tensors where they lie
    Parameters: ClassVar[type[EngineParameters]] = SystolicParameters

    def __init__(self, name: str, parameters: SystolicParameters, memory: Memory):
        super().__init__(name, parameters, memory)
        array, vector, vmem = parameters.array, parameters.vector, parameters.vmem
        self.array = SystolicArray(
            int(array.rows),
            int(array.columns),
            overlapped=True,
            preload_rows=int(array.preload_rows),
            arrays=int(array.arrays),
        )
        self.scores_unit = self.matrix_unit
        if scores := int(array.scores):
            self.scores_unit, self.crossing_slots = f"{name}.scores", 2  # the next ones are made meanwhile
            self.compute_units = (*self.compute_units, self.scores_unit)
            self.scores_array = replace(self.array, arrays=scores)
        self.passes = {dtype: float(passes) for dtype, passes in array.passes.items()}
        self.sustained = float(array.sustained)
        self.lanes, self.sublanes, self.slots = int(vector.lanes), int(vector.sublanes), float(vector.slots)
        self.rows_together = self.sublanes  # arrays lie in tiles of a register (openxla.org/xla/tiled_layout)
        self.cross_lane, self.wide, self.cost = float(vector.cross_lane), float(vector.wide), vector.cost.costs()
        self.window, self.queries, self.keys = int(vmem.window), int(vmem.queries), int(vmem.keys)
        self.vmem_rate = float(vmem.bandwidth)
        self.input_space = self.weight_space = Space(f"{name}.vmem", int(vmem.windows))
        self.accumulator_space = Space(f"{name}.acc", int(array.accumulators))
        self.resident_bytes = memory.slc_bytes if memory.slc.scratchpad else 0
        self.stream_bytes_per_s = memory.dram.sustained_bytes_per_s

    # ------------------------------------------------ products

    def peak_macs(self, dtype: str) -> float:
        array = self.array
        elements = array.rows * array.columns * array.arrays
        return max(elements / self.passes[dtype] if dtype in self.passes else 0.0, self._vector_macs(dtype))

    def _vector_macs(self, dtype: str) -> float:
        """Multiply-adds a cycle of the vector unit."""
        return self.lanes * self.sublanes * self.slots / (self.cost["fma"] * self._width(dtype))

    def unit_of(self, op: Operation) -> str:
        """Of a product that adds to nothing, which only a fused attention has: the arrays that it has for scores."""
        if isinstance(op, tile.Matmul) and op.acc is None:
            return self.scores_unit
        return super().unit_of(op)

    def gemm_cycles(self, gemm: Gemm, dtype: str) -> float:
        return self.gemm_cycles_on(self.matrix_unit, gemm, dtype)

    def gemm_cycles_on(self, unit: str, gemm: Gemm, dtype: str) -> float:
        if dtype not in self.passes or gemm.grouped:
            return gemm.macs / self._vector_macs(dtype)
        array = self.array if unit == self.matrix_unit else self.scores_array
        channels = -(-gemm.depth // gemm.taps)
        depth = gemm.taps * -(-channels // array.rows) * array.rows
        columns = gemm.batch * -(-gemm.cols // array.columns) * array.columns
        cycles = array.cycles(gemm.rows, columns, depth, split_rows=gemm.taps == 1) - array.preload
        return cycles * self.passes[dtype] / self.sustained

    # ------------------------------------------------ the vector unit

    def _width(self, dtype: str) -> float:
        return self.wide if DTYPE_BITS[dtype] > 32 else 1.0

    def operations(self, step: Step) -> float:
        """Operations of a block, counted in elements. XLA moves the scale of a product to an operand."""
        if ACCUMULATOR in step.origins and _scales(step):
            return 0.0
        return sum(self.cost[name] * n for name, n in step.vector.steps) * self._width(step.dtype)

    def chain_cycles(self, chain: Chain) -> float:
        register = self.lanes * self.sublanes
        elements = max(step.vector.elements for step in chain.steps)
        waste = -(-elements // register) * register / elements
        cycles = sum(map(self.operations, chain.steps)) * waste / (register * self.slots)
        cycles += self.cross_lane * sum(-(-step.vector.trees // self.sublanes) for step in chain.steps)
        return max(cycles, (chain.read_bytes + chain.write_bytes) / self.vmem_rate)

    def least_cycles(self, step: Step) -> float:
        return 0.0 if _scales(step) else self.operations(step) / (self.lanes * self.sublanes * self.slots)

    # ------------------------------------------------ how the compiler tiles

    def granularity(self, op: Operation) -> dict[str, int]:
        name, rows, columns = base_name(op), self.array.rows, self.array.columns
        if name == "matmul":
            return {"m": self.sublanes, "n": columns, "k": rows}
        if name == "attention":
            return {"m": self.queries, "n": self.keys}  # the kernel's blocks
        inner = last_dim(op)
        multiples = {inner: self.lanes} if inner else {}
        return {"o": columns, "c": rows, **multiples} if name == "conv" else multiples

    def largest(self, op: Operation) -> dict[str, int]:
        lead = _lead(op)
        if isinstance(lead, graph.Matmul):
            return {"m": self.window, "n": self.window}
        if isinstance(lead, graph.Attention):
            keys = lead.structure().operands[1].dims - {"n"}  # a step has the heads that share keys, of one sequence
            return {"m": self.queries, "n": self.keys, **dict.fromkeys(keys, 1)}
        return {}

    def resident(self, op: Operation) -> tuple[int, ...]:
        lead = _lead(op)
        if not self.resident_bytes or not isinstance(lead, (graph.Matmul, graph.Conv)):
            return ()
        if lead.dtype() not in self.passes or (isinstance(lead, graph.Matmul) and lead.shape(0)[-2] == 1):
            return ()
        if isinstance(op, graph.Fuse):
            inside = {arg: i for i, arg in enumerate(op.body.args)}
            return tuple(inside[v] for v in lead.operands[:2] if v in inside)
        return (0, 1)


def _scales(step: Step) -> bool:
    """Whether the step multiplies a tensor by a number."""
    v = step.vector
    return v.elementwise and v.wide_inputs == 1 and [name for name, _ in v.steps] == ["mul"]


def _lead(op: Operation) -> Operation:
    """The product of a group, or the op itself."""
    if isinstance(op, graph.Fuse):
        return next((o for o in op.body if isinstance(o, (graph.Matmul, graph.Conv, graph.Attention))), op)
    return op


__all__ = ["Systolic", "SystolicParameters"]
