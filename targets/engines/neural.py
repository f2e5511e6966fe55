"""A neural engine: cores of multiply-accumulate arrays with their own weight buffers, a vector unit, a banked scratch.

The array. A core holds the weights of `group` output channels and multiplies them with `macs / group` pixels at a
time, one product of each output a cycle; `group = min(16, floor_pow2(weight buffer / bytes of one output channel))`.
Groups of channels and of pixels are dealt out to the cores, so a product takes

    ceil(ceil(cols / group) * ceil(rows / pixels) / cores) * depth   cycles,

over the sustained fraction of the array. A matmul is a 1x1 convolution: the rows of `a` are pixels, the columns of `b`
are output channels. A grouped (depthwise) convolution runs at the full rate: its channels have their own inputs.

Winograd. An array that has it takes the products of 3x3 kernels without strides and dilation, all input channels of
each, at `winograd` times its rate: the transforms of pixels and kernels take back a part of the 2.25 times that the
algorithm saves on tiles of 2x2 results. Weights come as they are.

The clock. Calls that follow one another run at `clock`. An engine that idled ramps up to it over many of them;
`clock_ramp` says how far it has come, and a call is short beside the ramp: its clock stays.

The way out. Accumulators leave the array through a stage that adds a bias, scales and applies an activation on the
fly; f32 exists nowhere else on this engine. So the part of a vector chain that starts from f32 and fits that stage
costs only the draining; all else costs passes of the vector unit, at `per_pass` operations an element and pass. An op
on two tensors does not fit: it is a task of the vector unit, after the product's (ane_microbench times adds as such).

The scratch. A tensor that one task leaves there for others is read and written where it lies: the array and the
vector unit reach it at their own pace. Layers of chains of convolutions take what their MACs take (ane_microbench).

Compressed weights. Formats that the weight path expands (`limits.weight_formats`) lie in the weight buffers as they
are stored and become numbers on the way into the array, in no time of their own; others are refused. An array that
skips zeros takes, of the time of a product with a dense weight, the part of a sparse one that is not zero and `mask` to
go over its mask, however the zeros lie; there is no Winograd transform of sparse kernels. Integers are
multiplied where the array has a rate for them; elsewhere they only pass from a quantize to a dequantize, as floats that
are rounded.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction as Density
from typing import Annotated, ClassVar

from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import DTYPE_BITS, Operation, Value
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
from .compressed import expands_weight, weight_format
from .demand import Gemm, UnpricedError, base_name, product, weight_density
from .pricing import ACCUMULATOR, Chain, EngineParameters, PricedEngine, RateTable, Step, last_dim

Channels = Annotated[Quantity, count("channels", 1e4)]
Operations = Annotated[Quantity, measure("number of operations", "operations", 1, 64)]
Elements = Annotated[Quantity, count("elements")]
Rows = Annotated[Quantity, count("rows")]
Axes = Annotated[Quantity, count("axes", 16)]
Tasks = Annotated[Quantity, count("tasks", 127)]
Copies = Annotated[Quantity, count("copies", 64)]  # the queue of a copy unit
Speedup = Annotated[Quantity, measure("speed-up", "times", 1, 2.25)]


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
    scatter_rows: Rows  # that one write at positions known at run time may have
    weight_formats: Names  # compressed weights that it expands as they stream in, by op and stored dtype
    functions: Names  # elementwise graph ops that it has
    unsupported: Names  # other graph ops that it has not; `reduce_prod` is the kind prod of reduce
    in_parts: Names  # graph ops that run as several tasks, whose results between lie where any tensor does


class ArrayParameters(Section):
    """The multiply-accumulate array of one core."""

    macs: dict[str, MacsPerCycle]  # by dtype
    group: Channels  # output channels that a core takes at a time, at most
    weight_buffer: Bytes
    ahead: Fraction  # of the weight buffers, which a task's last blocks leave to the first weights of the next tasks
    ahead_tasks: Tasks  # how many these are
    ahead_runs: Copies  # blocks of one weight that come so
    accumulators: Bytes
    sustained: Fraction  # of the peak, for square kernels without dilation
    sustained_irregular: Fraction  # for dilated kernels and others
    drain: ElementsPerCycle  # results that leave a core through its output stage
    drain_operations: Operations  # that the output stage applies on the way
    winograd: Speedup | None = None  # of 3x3 kernels; None: the array has no Winograd transforms
    mask: Fraction | None = None  # of a dense product, to go over a sparse weight's mask; None: zeros are multiplied


class VectorParameters(Section):
    """The vector unit, of the whole engine."""

    rate: ElementsPerCycle
    per_pass: Operations
    two_inputs: Fraction  # of the rate, with two full inputs
    cost: RateTable


class ScratchParameters(Section):
    """The scratch, which holds blocks and the tensors that stay between tasks."""

    size: Bytes
    kept: Fraction  # of the size, that tensors between tasks may have; blocks that come and go have the rest
    banks: Annotated[Quantity, count("banks", 1e4)]
    bank: BytesPerCycle


class NeuralParameters(EngineParameters):
    cores: Cores
    clock_ramp: Fraction  # of the clock, that the engine has reached
    array: ArrayParameters
    vector: VectorParameters
    scratch: ScratchParameters
    limits: Limits


WINOGRAD_TAPS = 9  # 3x3


class Neural(PricedEngine):
    """See the head of this file."""

    kind = "neural"
    packs_weights = True
    matrix, vector = "mac", "vec"
    Parameters: ClassVar[type[EngineParameters]] = NeuralParameters

    def __init__(self, name: str, parameters: NeuralParameters, memory: Memory):
        super().__init__(name, parameters, memory)
        p, array, vec = parameters, parameters.array, parameters.vector
        self.clock_hz *= float(p.clock_ramp)
        self.limits = p.limits
        self.cores = int(p.cores)
        self.macs = {dtype: float(rate) for dtype, rate in array.macs.items()}
        self.group, self.weight_buffer = int(array.group), int(array.weight_buffer)
        self.sustained, self.sustained_irregular = float(array.sustained), float(array.sustained_irregular)
        self.winograd = float(array.winograd) if array.winograd is not None else 1.0
        self.mask = float(array.mask) if array.mask is not None else 1.0
        self.drain = self.cores * float(array.drain)
        self.drain_operations = float(array.drain_operations)
        self.vector_rate, self.per_pass = float(vec.rate), float(vec.per_pass)
        self.two_inputs, self.cost = float(vec.two_inputs), vec.cost.costs()
        self.scratch_rate = int(p.scratch.banks) * float(p.scratch.bank)
        self.input_space = Space(f"{name}.l2", int(p.scratch.size))
        self.weight_space = Space(f"{name}.wbuf", self.cores * self.weight_buffer)
        self.ahead_bytes = int(self.weight_space.bytes * float(array.ahead))
        self.ahead_tasks, self.ahead_runs = int(array.ahead_tasks), int(array.ahead_runs)
        self.kept_bytes = int(int(p.scratch.size) * float(p.scratch.kept))
        self.loads, self.stores = (replace(u, queued=True, in_place=True) for u in (self.loads, self.stores))
        self.weights = replace(self.weights, queued=True)
        self.accumulator_space = Space(f"{name}.acc", self.cores * int(array.accumulators))

    # ------------------------------------------------ the array

    def peak_macs(self, dtype: str) -> float:
        dtype = {"ui8": "i8"}.get(dtype, dtype)  # the array's integers are of either sign
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
        compute = -(-blocks // self.cores) * gemm.depth / sustained * self.multiplied(gemm.density)
        if gemm.density is None and gemm.taps == WINOGRAD_TAPS and gemm.regular and gemm.dense and not gemm.grouped:
            compute /= self.winograd
        # cores that work on other channels of the same pixels share what is read; each further round reads it again
        rounds = 1 if gemm.grouped else -(-channel_groups // self.cores)
        read = (gemm.a_elements * rounds + gemm.b_elements) * DTYPE_BITS[dtype] / 8 / self.scratch_rate
        return max(compute, read)

    def multiplied(self, density: Density | None) -> float:
        """The part of a product's time with a dense weight that it takes with a weight of this density."""
        return 1.0 if density is None else min(1.0, float(density) + self.mask)

    def roofline_ps(self, op: Operation, macs: int, elements: int, dtype: str) -> int:
        ops = list(op.body) if isinstance(op, graph.Fuse) else [op]
        product = next((o for o in ops if base_name(o) in ("conv", "matmul")), None)
        density = weight_density(product) if product is not None else None
        if density is not None:
            macs = int(macs * self.multiplied(density))
        elif product is not None and base_name(product) == "conv":
            macs = int(macs / self.winograd)
        return super().roofline_ps(op, macs, elements, dtype)

    def streams(self, op: Operation) -> bool:
        if weight_format(op) not in self.limits.weight_formats.value:
            return False
        source = op.operands[0]
        in_buffer = getattr(source.type, "space", None) == self.weight_space.name
        return in_buffer or (source.op is not None and self.streams(source.op))

    # ------------------------------------------------ the vector unit

    def check_dtype(self, dtype: str) -> None:
        if dtype not in (*self.limits.dtypes.value, *self.macs, "f32") and not (dtype == "ui8" and "i8" in self.macs):
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

    def in_parts(self, op: Operation) -> bool:
        return base_name(op) in self.limits.in_parts.value

    def drains_through(self, op: Operation) -> bool:
        whole = {v for v in op.operands if v.type.shape == op.results[0].type.shape and v.type.elements > 1}
        return len(whole) < 2 or isinstance(op, graph.Blocked)

    def _refuses(self, op: Operation) -> str | None:
        limits, name = self.limits, base_name(op)
        kind = f"{name}_{op.attributes['kind']}" if name == "reduce" else name
        if isinstance(op, graph.WholeOp):
            return f"{self.name} has no caches to reach whole tensors through, as {name} does ({limits.rank.source})"
        for unsupported in (name, kind):
            if unsupported in limits.unsupported.value:
                return f"{self.name} has no {unsupported} ({limits.unsupported.source})"
        if isinstance(op, graph.ToDense):
            return self._refuses_sparse(op)
        if isinstance(op, graph.Elementwise) and name not in limits.functions.value:
            return f"{self.name} has no {name} ({limits.functions.source})"
        values = [*op.operands, *op.results]
        if isinstance(op, graph.Scatter):
            rows = op.shape(1)[0]
            if rows > int(limits.scatter_rows):
                return self._over(f"a write of {rows} rows at positions known at run time", limits.scatter_rows)
            values.remove(op.indices)  # a position sets where the DMA writes; nothing computes with it
        for value in values:
            kind_of = value.type
            if kind_of.dtype not in limits.dtypes.value and not self._takes_compressed(op, value):
                if isinstance(op, graph.GraphOp) and value is op.operands[0] and expands_weight(op):
                    formats, found = limits.weight_formats, weight_format(op, op.shape(0))
                    return f"{self.name} streams weights as {formats}, not as {found} ({formats.source})"
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

    def _takes_compressed(self, op: Operation, value: Value) -> bool:
        """Whether an operand or result of a dtype that the engine does not compute in may stand here all the same."""
        if value in op.operands[1:] and isinstance(op, graph.Blocked):
            return True  # scales, zero points and palettes are settings of the units
        if expands_weight(op) and weight_format(op, op.operands[0].type.shape) in self.limits.weight_formats.value:
            return True
        maker = value.op
        dequantized = len(value.uses) == 1 and all(isinstance(u, graph.Dequantize) for u in value.users)
        if value.type.dtype in ("i8", "ui8"):
            if "i8" in self.macs:
                return isinstance(op, (*graph.PRODUCTS, graph.Blocked, graph.Copy, graph.Pad, graph.Concat))
            return isinstance(maker, graph.Quantize) and dequantized  # a rounding of floats
        return "i8" in self.macs and isinstance(maker, graph.PRODUCTS) and dequantized  # a sum, in its accumulator

    def _refuses_sparse(self, op: graph.ToDense) -> str | None:
        formats = self.limits.weight_formats
        if not expands_weight(op):
            return f"{self.name} makes nothing dense but weights of products ({formats.source})"
        if (found := weight_format(op)) not in formats.value:
            return f"{self.name} streams weights as {formats}, not as {found} ({formats.source})"
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
