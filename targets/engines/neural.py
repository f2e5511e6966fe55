"""A neural engine: cores of multiply-accumulate arrays with their own weight buffers, a vector unit, a banked scratch.

The array. A core holds the weights of `group` output channels and multiplies them with `macs / group` pixels at a
time, one product of each output a cycle; `group = min(16, floor_pow2(weight buffer / bytes of one output channel))`.
Groups of channels and of pixels are dealt out to the cores, so a product takes

    ceil(ceil(cols / group) * ceil(rows / pixels) / cores) * depth   cycles,

over the sustained fraction of the array. A matmul is a 1x1 convolution: the rows of `a` are pixels, the columns of `b`
are output channels. A grouped (depthwise) convolution runs at the full rate: its channels have their own inputs.

The way out. Accumulators leave the array through a stage that adds a bias, scales and applies an activation on the
fly; f32 exists nowhere else on this engine. So the part of a vector chain that starts from f32 and fits that stage
costs only the draining; all else costs passes of the vector unit, at `per_pass` operations an element and pass.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import DTYPE_BITS, Operation
from tilewright.targets.memory import Memory
from tilewright.targets.parameter import (
    Bytes,
    BytesPerCycle,
    Cores,
    ElementsPerCycle,
    Fraction,
    MacsPerCycle,
    Names,
    Quantity,
    Section,
    count,
    measure,
)

from .base import Space
from .demand import Gemm, UnpricedError, base_name, product
from .pricing import ACCUMULATOR, Chain, EngineParameters, PricedEngine, RateTable, Step, last_dim

Channels = Annotated[Quantity, count("channels", 1e4)]
Operations = Annotated[Quantity, measure("number of operations", "operations", 1, 64)]
Elements = Annotated[Quantity, count("elements")]
Axes = Annotated[Quantity, count("axes", 16)]


class Limits(Section):
    """What the engine's compiler accepts."""

    rank: Axes
    dim: Elements  # longest axis
    matmul_depth: Elements
    kernel_width: Elements
    kernel_height: Elements
    kernel_square: Elements
    pool_side: Elements  # of a max pooling window
    dtypes: Names
    functions: Names  # elementwise graph ops that it has
    unsupported: Names  # other graph ops that it has not; `reduce_prod` is the kind prod of reduce


class ArrayParameters(Section):
    """The multiply-accumulate array of one core."""

    macs: dict[str, MacsPerCycle]  # by dtype
    group: Channels  # output channels that a core takes at a time, at most
    weight_buffer: Bytes
    accumulators: Bytes
    sustained: Fraction  # of the peak, for square kernels without dilation
    sustained_irregular: Fraction  # for dilated kernels and others
    drain: ElementsPerCycle  # results that leave a core through its output stage
    drain_operations: Operations  # that the output stage applies on the way


class VectorParameters(Section):
    """The vector unit, of the whole engine."""

    rate: ElementsPerCycle
    per_pass: Operations
    two_inputs: Fraction  # of the rate, with two full inputs
    cost: RateTable


class ScratchParameters(Section):
    size: Bytes
    banks: Annotated[Quantity, count("banks", 1e4)]
    bank: BytesPerCycle


class NeuralParameters(EngineParameters):
    cores: Cores
    array: ArrayParameters
    vector: VectorParameters
    scratch: ScratchParameters
    limits: Limits


class Neural(PricedEngine):
    """See the head of this file."""

    kind = "neural"
    matrix, vector = "mac", "vec"
    Parameters: ClassVar[type[EngineParameters]] = NeuralParameters

    def __init__(self, name: str, parameters: NeuralParameters, memory: Memory):
        super().__init__(name, parameters, memory)
        p, array, vec = parameters, parameters.array, parameters.vector
        self.limits = p.limits
        self.cores = int(p.cores)
        self.macs = {dtype: float(rate) for dtype, rate in array.macs.items()}
        self.group, self.weight_buffer = int(array.group), int(array.weight_buffer)
        self.sustained, self.sustained_irregular = float(array.sustained), float(array.sustained_irregular)
        self.drain = self.cores * float(array.drain)
        self.drain_operations = float(array.drain_operations)
        self.vector_rate, self.per_pass = float(vec.rate), float(vec.per_pass)
        self.two_inputs, self.cost = float(vec.two_inputs), vec.cost.costs()
        self.scratch_rate = int(p.scratch.banks) * float(p.scratch.bank)
        self.input_space = Space(f"{name}.l2", int(p.scratch.size))
        self.weight_space = Space(f"{name}.wbuf", self.cores * self.weight_buffer)
        self.accumulator_space = Space(f"{name}.acc", self.cores * int(array.accumulators))

    # ------------------------------------------------ the array

    def peak_macs(self, dtype: str) -> float:
        if dtype not in self.macs:
            raise UnpricedError(f"the array of '{self.name}' multiplies {', '.join(self.macs)}, not {dtype}")
        return self.cores * self.macs[dtype]

    def channel_group(self, depth: int, dtype: str) -> int:
        """Output channels that a core takes at a time, so that their weights fit its buffer."""
        fits = self.weight_buffer // max(depth * DTYPE_BITS[dtype] // 8, 1)
        return max(min(self.group, 1 << (fits.bit_length() - 1) if fits else 1), 1)

    def gemm_cycles(self, gemm: Gemm, dtype: str) -> float:
        peak = self.peak_macs(dtype)
        group = self.channel_group(gemm.depth, dtype)
        pixels = max(int(peak / self.cores) // group, 1)
        channel_groups = -(-gemm.cols // group)
        blocks = gemm.batch * channel_groups * -(-gemm.rows // pixels)
        sustained = self.sustained if gemm.regular else self.sustained_irregular
        compute = -(-blocks // self.cores) * gemm.depth / sustained
        # cores that work on other channels of the same pixels share what is read; each further round reads it again
        rounds = 1 if gemm.grouped else -(-channel_groups // self.cores)
        read = (gemm.a_elements * rounds + gemm.b_elements) * DTYPE_BITS[dtype] / 8 / self.scratch_rate
        return max(compute, read)

    # ------------------------------------------------ the vector unit

    def check_dtype(self, dtype: str) -> None:
        if dtype not in (*self.limits.dtypes.value, *self.macs, "f32"):  # f32: in accumulators
            raise UnpricedError(f"'{self.name}' computes on {self.limits.dtypes}, not on {dtype}")

    def operations(self, step: Step) -> float:
        """Vector operations of a whole block."""
        return sum(self.cost[name] * n for name, n in step.vector.steps)

    def _drained(self, chain: Chain) -> tuple[set[int], float]:
        """Which steps the output stage does on the way from the accumulators, and cycles of draining them.

        Each read of an accumulator is drained by itself, and has room for a few operations an element.
        """
        done: set[int] = set()
        stream: dict[int, int] = {}  # step -> the step that read the accumulator
        room: dict[int, float] = {}
        drained = 0
        for i, step in enumerate(chain.steps):
            v = step.vector
            if ACCUMULATOR in step.origins:
                drained += v.elements
                stream[i], room[i] = i, self.drain_operations * v.elements
            else:
                root = next((stream[o] for o in step.origins if o in done), None)
                if root is None:
                    continue
                stream[i] = root
            operations = self.operations(step)
            if v.elementwise and v.wide_inputs < 2 and operations <= room[stream[i]]:
                room[stream[i]] -= operations
                done.add(i)
        return done, drained / self.drain

    def chain_cycles(self, chain: Chain) -> float:
        done, cycles = self._drained(chain)
        passes = operations = swept = 0.0  # counted in elements
        wide = 0
        for i, step in enumerate(chain.steps):
            v = step.vector
            if i in done:
                continue
            if v.elementwise:
                operations += self.operations(step)
                wide += v.wide_inputs - 1 if wide else v.wide_inputs
                swept = max(swept, v.elements)
            else:
                passes += max(v.elements * v.sweeps, self.operations(step) / self.per_pass)
        if operations or not (done or passes):
            rate = self.two_inputs if wide > 1 else 1.0
            passes += max(swept, operations / self.per_pass) / rate
        moved = (chain.read_bytes + chain.write_bytes) / self.scratch_rate
        return max(cycles + passes / self.vector_rate, moved)

    def least_cycles(self, step: Step) -> float:
        v, operations = step.vector, self.operations(step)
        on_vector = operations / self.per_pass / self.vector_rate
        if v.elementwise and v.wide_inputs < 2:
            return min(on_vector, operations / self.drain_operations / self.drain)
        return on_vector

    # ------------------------------------------------ placement

    def granularity(self, op: Operation) -> dict[str, int]:
        name, row = base_name(op), self.loads.line_bytes * 8 // DTYPE_BITS["f16"]
        pixels = int(self.macs["f16"]) // self.group
        if name == "matmul":
            return {"m": pixels, "n": self.group, "k": row}
        if name == "attention":
            return {"m": pixels, "n": self.group}
        inner = last_dim(op)
        multiples = {inner: row} if inner else {}
        return {"g": self.group, "o": self.group, **multiples} if name == "conv" else multiples

    def _refuses(self, op: Operation) -> str | None:
        limits, name = self.limits, base_name(op)
        kind = f"{name}_{op.attributes['kind']}" if name == "reduce" else name
        if isinstance(op, graph.WholeOp):
            return f"{self.name} has no caches to reach whole tensors through, as {name} does ({limits.rank.source})"
        for unsupported in (name, kind):
            if unsupported in limits.unsupported.value:
                return f"{self.name} has no {unsupported} ({limits.unsupported.source})"
        if isinstance(op, graph.Elementwise) and name not in limits.functions.value:
            return f"{self.name} has no {name} ({limits.functions.source})"
        for value in (*op.operands, *op.results):
            kind_of = value.type
            if kind_of.dtype not in limits.dtypes.value:
                return f"{self.name} computes in {limits.dtypes}, not in {kind_of.dtype} ({limits.dtypes.source})"
            if kind_of.rank > int(limits.rank):
                return self._over(f"rank {kind_of.rank}", limits.rank)
            if max(kind_of.shape, default=0) > int(limits.dim):
                return self._over(f"an axis of {max(kind_of.shape)}", limits.dim)
        if isinstance(op, graph.Matmul) and op.shape(0)[-1] > int(limits.matmul_depth):
            return self._over(f"a matmul over {op.shape(0)[-1]}", limits.matmul_depth)
        if isinstance(op, graph.Conv):
            return self._refuses_kernel(op.shape(1)[2:])
        if isinstance(op, graph.Pool) and op.kind == "max" and max(op.kernel) > int(limits.pool_side):
            return self._over(f"a max pooling window of {'x'.join(map(str, op.kernel))}", limits.pool_side)
        return None

    def _refuses_kernel(self, kernel: tuple[int, ...]) -> str | None:
        limits = self.limits
        text = f"a kernel of {'x'.join(map(str, kernel))}"
        if len(kernel) == 2 and kernel[0] == kernel[1]:
            return self._over(text, limits.kernel_square) if kernel[0] > int(limits.kernel_square) else None
        if kernel[-1] > int(limits.kernel_width):
            return self._over(text, limits.kernel_width)
        if len(kernel) > 1 and product(kernel[:-1]) > 1 and max(kernel[:-1]) > int(limits.kernel_height):
            return self._over(text, limits.kernel_height)
        return None

    def _over(self, what: str, limit: Quantity) -> str:
        return f"{what} is over {self.name}'s limit of {int(limit)} ({limit.source})"


__all__ = ["Neural", "NeuralParameters"]
