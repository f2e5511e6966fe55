"""A tensor processor: systolic arrays that hold weights, a vector unit, and one software-managed memory.

The arrays take the next weights in while they work on the last ones (see `array`), so that a product pays for folds
that are padded, for streams too short to hide the preload, and once for fill and drain: the next one waits for it, but
its weights do not. Rows that are multiplied with the same matrix of a batch are one stream. A convolution is a product
for each tap of its kernel: the channels of a tap are padded to whole rows, and the arrays share its output channels.
Products of depthwise kernels and of dtypes that the arrays do not have are done by the vector unit.

The vector unit works on registers of `sublanes` x `lanes` elements, several operations a cycle. What crosses lanes, the
end of a reduction along them, goes through a unit of its own: a register at a time.

A fused attention is a kernel whose steps are one command each, unless the target sets arrays aside for its scores: two
products that depend on each other, head by head, with the softmax beside them.

Of the memory, `windows` is left to each operation for its own blocks; the rest is the target's `memory.slc`, a
scratchpad to which the compiler brings operands of products whole, and keys and values that are read again, and in
which it keeps what passes from one operation to the next. A block is at most `window` by `window`, as the kernels are
built.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
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
Buffers = Annotated[Quantity, count("buffers", 16)]
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
    heads: Elements  # of queries, in a step of a fused attention
    buffers: Buffers  # of each block of a fused attention that changes; with one, a step waits for its blocks
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

    def stream_rate(self) -> int:
        return self.dram.sustained_bytes_per_s

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
        self.vmem_rate, self.heads, self.attention_buffers = float(vmem.bandwidth), int(vmem.heads), int(vmem.buffers)
        self.input_space = self.weight_space = Space(f"{name}.vmem", int(vmem.windows))
        self.accumulator_space = Space(f"{name}.acc", int(array.accumulators))
        self.resident_bytes = memory.slc_bytes if memory.slc.policy == "scratchpad" else 0
        self.dram = memory.dram

    # ------------------------------------------------ products

    def peak_macs(self, dtype: str) -> float:
        array = self.array
        elements = array.rows * array.columns * array.arrays
        return max(elements / self.passes[dtype] if dtype in self.passes else 0.0, self._vector_macs(dtype))

    def _vector_macs(self, dtype: str) -> float:
        """Multiply-adds a cycle of the vector unit."""
        return self.lanes * self.sublanes * self.slots / (self.cost["fma"] * self._width(dtype))

    def unit_of(self, op: Operation) -> str:
        """A product that adds to nothing, which only a fused attention has, runs on the arrays that there are for
        scores. Without such arrays, a step of the attention is one command of the matrix unit."""
        if self.scores_unit == self.matrix_unit and any(map(_makes_scores, op.parent or ())):
            return self.matrix_unit
        return self.bounding_unit(op)

    def bounding_unit(self, op: Operation) -> str:
        return self.scores_unit if _makes_scores(op) else super().unit_of(op)

    def command_cycles(self, unit: str, products: Sequence[tuple[Gemm, float]], chain: float) -> float:
        """In a step of a fused attention, the vector unit works on some rows of scores while others pass through the
        arrays: what takes longer counts. Filling and draining the arrays, once a head and product, hides nothing, as a
        product starts with what the last one gave. What follows the last step is a part of it."""
        if unit != self.matrix_unit:
            return super().command_cycles(unit, products, chain)
        skew = (self.array.rows + self.array.columns - 2) / self.sustained
        heads = [_matrices(gemm) if len(products) > 1 else 1 for gemm, _ in products]
        arrays = sum(cycles + (n - 1) * skew for n, (_, cycles) in zip(heads, products, strict=True))
        return max(arrays, sum(heads) * skew + chain) + (self._start if products else 0.0)

    def gemm_cycles(self, gemm: Gemm, dtype: str) -> float:
        return self.gemm_cycles_on(self.matrix_unit, gemm, dtype)

    def gemm_cycles_on(self, unit: str, gemm: Gemm, dtype: str) -> float:
        if dtype not in self.passes or gemm.grouped:
            return gemm.macs / self._vector_macs(dtype)
        array = self.array if unit == self.matrix_unit else self.scores_array
        channels = -(-gemm.depth // gemm.taps)
        depth = gemm.taps * -(-channels // array.rows) * array.rows
        matrices = _matrices(gemm)
        columns = matrices * -(-gemm.cols // array.columns) * array.columns
        passes = self.passes[dtype]  # of rows past weights that stay; narrow operands fill the array in less than one
        rows = math.ceil(gemm.batch // matrices * gemm.rows * max(passes, 1.0))
        if gemm.depth < array.rows:  # no more rows of weights are taken in than there are
            faster = array.preload_rows * array.rows // (-(-gemm.depth // self.sublanes) * self.sublanes)
            array = replace(array, preload_rows=max(array.preload_rows, faster))
        cycles = array.cycles(rows, columns, depth, split_rows=gemm.taps == 1) - array.preload
        return cycles * min(passes, 1.0) / self.sustained

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
        if isinstance(op, graph.Attention):
            return self._attention_blocks(op)
        if isinstance(op, graph.Copy):  # one transfer, if the windows hold it
            return {d.name: d.size for d in op.structure().dims}
        inner = last_dim(op)
        multiples = {inner: self.lanes} if inner else {}
        return {"o": columns, "c": rows, **multiples} if name == "conv" else multiples

    def largest(self, op: Operation) -> dict[str, int]:
        lead = _lead(op)
        if isinstance(lead, graph.Matmul):
            return {"m": self.window, "n": self.window}
        if isinstance(lead, graph.Attention):
            return self._attention_blocks(lead)
        return {}

    def _attention_blocks(self, op: graph.Attention) -> dict[str, int]:
        """The blocks of the kernel, of one sequence. Heads that share keys are the last to be taken apart."""
        structure = op.structure()
        own = structure.operands[1].dims - {"n"}  # sequences, and heads that have keys of their own
        left, blocks = self.heads, {"m": self.queries, "n": self.keys}
        for d in reversed(structure.dims):
            if d.name not in blocks:
                blocks[d.name] = min(d.size, left)
                left = left // blocks[d.name] if d.name not in own else 1
        return blocks

    def buffers(self, ops: Iterable[Operation], wanted: int) -> int:
        return min(wanted, self.attention_buffers) if any(map(_makes_scores, ops)) else wanted

    def resident(self, op: Operation) -> tuple[int, ...]:
        lead = _lead(op)
        if not self.resident_bytes or not isinstance(lead, (graph.Matmul, graph.Conv, graph.Attention)):
            return ()
        if lead.dtype() not in self.passes or (isinstance(lead, graph.Matmul) and lead.shape(0)[-2] == 1):
            return ()
        if isinstance(lead, graph.Matmul) and lead.result.type.rank > 2:
            return ()  # of a batch, blocks stream past one after the other
        wanted = (0, 1)
        if isinstance(lead, graph.Attention):  # keys and values, if they are read again for other queries
            wanted = (1, 2) if lead.shape(0)[-2] > self.queries else ()
        if isinstance(op, graph.Fuse):
            inside = {arg: i for i, arg in enumerate(op.body.args)}
            return tuple(inside[v] for v in (lead.operands[i] for i in wanted) if v in inside)
        return wanted


def _matrices(gemm: Gemm) -> int:
    """How many matrices the arrays hold for a batch of products: those that share one stream past it together."""
    return max(1, min(gemm.batch, gemm.b_elements // (gemm.cols * gemm.depth)))


def _makes_scores(op: Operation) -> bool:
    return isinstance(op, tile.Matmul) and op.acc is None


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
