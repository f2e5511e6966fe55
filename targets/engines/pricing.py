"""What all engines share: commands are broken into demands, priced once, and remembered.

A command on a compute unit costs its start, then its matrix products one after the other, then its chain of vector ops
as one fused loop: what an op of the command makes and another takes never leaves the registers, so the chain reads each
outside input once and writes each result that leaves once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple, Self

from pydantic import model_validator
from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import DTYPE_BITS, Operation, bytes_of, is_float, is_integer
from tilewright.targets.memory import Memory
from tilewright.targets.parameter import Bandwidth, Bytes, Clock, Cycles, Quantity, Section, Time

from .base import CopyUnit, EngineEnergy, Space, Work
from .demand import (
    ATTRIBUTES,
    FREE,
    Gemm,
    UnpricedError,
    Vector,
    base_name,
    demand,
    densities,
    extent,
    is_factor,
    moved_bytes,
    priced_dtype,
    product,
)

Key = tuple[Any, ...]

# Graph ops that only place data, or that are lowered to others: they ask nothing of a compute unit by themselves.
_PLACEMENT = frozenset(
    ("parameter", "constant", "iota", "slice", "expand", "concat", "copy", "pad", "update", "batch_norm", "yield")
)

_PRODUCTS = frozenset(("matmul", "grouped_matmul", "conv", "attention"))

# Where an operand of a step comes from, other than an earlier step.
OUTSIDE, ACCUMULATOR = -1, -2


class RateTable(Section):
    """Cost of one element operation of each class, in operations as cheap as an add."""

    move: Cycles
    permute: Cycles  # to another place in the block: a transpose
    add: Cycles
    mul: Cycles
    fma: Cycles
    compare: Cycles
    divide: Cycles
    sqrt: Cycles
    exp: Cycles

    def costs(self) -> dict[str, float]:
        return {name: float(getattr(self, name)) for name in type(self).model_fields}


class DmaParameters(Section):
    """How blocks come and go. Each of the three units has its own rate; they share the rest."""

    load: Bandwidth | None = None  # activations in; may be left out where the engine's cores say it
    weights: Bandwidth | None = None
    store: Bandwidth | None = None
    setup: Time
    line: Bytes


class EngineParameters(Section):
    """What every engine's table has."""

    cores_copy: ClassVar[bool] = False  # whether each core has a path of its own, so that copies need no rate
    clock: Clock
    launch: Time
    task: Time
    start: Cycles  # of a command on a compute unit: filling its pipeline and draining it
    dma: DmaParameters
    energy: EngineEnergy | None = None

    @model_validator(mode="after")
    def _check_rates(self) -> Self:
        for role in ("load", "weights", "store"):
            if getattr(self.dma, role) is None and not self.cores_copy:
                expected = '{ value = ..., unit = "GB/s", source = "...", confidence = "A|B|C|assumed" }'
                raise ValueError(f"dma.{role} is missing; expected {expected}")
        return self


class Step(NamedTuple):
    """One op of a vector chain. `origins` says for each operand which step made it, or OUTSIDE, or ACCUMULATOR: a value
    in f32 or i32 from outside, or a matrix product of the same command."""

    vector: Vector
    dtype: str
    origins: tuple[int, ...] = ()


class Chain(NamedTuple):
    """The vector ops of a command, and the bytes of local memory that they read and write together."""

    steps: tuple[Step, ...]
    read_bytes: int
    write_bytes: int


class PricedEngine:
    """Base of the engines: see `targets/engines/base.py` for what the methods answer.

    A subclass says what a matrix product and a vector chain cost in cycles, the best it could do, and what it refuses.
    """

    kind: ClassVar[str]
    matrix: ClassVar[str]  # what its units are called: "mac"
    vector: ClassVar[str]
    Parameters: ClassVar[type[EngineParameters]]
    crossing_slots: int = 1
    resident_bytes: int = 0
    expands_inline: ClassVar[bool] = False  # what is compressed becomes numbers in the registers of its product
    cores: int = 1
    in_place: ClassVar[bool] = False  # computes on tensors where they lie in memory, through its caches
    by_kernel: bool = False  # a command's price depends on the whole loop that it is a part of
    packs_weights: bool = False  # its compiler lays a parameter out as its task reads it
    co_resident: int = 1
    wait_ps: int = 0

    input_space: Space
    weight_space: Space
    accumulator_space: Space
    cost: dict[str, float]  # of one element operation of each class, in operations as cheap as an add
    port_bytes_per_s: int | None = None  # what it can take and give, where that may be less than its port carries
    rows_together: int = 1  # of a tensor, whose elements lie beside each other in memory
    dram_bytes_per_s: int | None = None  # what it can ask of DRAM, where that may be less than DRAM gives

    def __init__(self, name: str, parameters: EngineParameters, memory: Memory):
        self.name = name
        self.clock_hz = float(parameters.clock)
        self.launch_ps, self.task_ps = parameters.launch.ps, parameters.task.ps
        self.energy = parameters.energy
        self.matrix_unit, self.vector_unit = f"{name}.{self.matrix}", f"{name}.{self.vector}"
        self.compute_units: tuple[str, ...] = (self.matrix_unit, self.vector_unit)
        self._start = float(parameters.start)
        dma, latency = parameters.dma, memory.fabric_latency_ps

        def copy_unit(role: str, rate: Quantity | None) -> CopyUnit:
            return CopyUnit(f"{name}.{role}", self.copy_rate(parameters, rate), dma.setup.ps, latency, int(dma.line))

        self.loads, self.weights = copy_unit("load", dma.load), copy_unit("weights", dma.weights)
        self.stores = copy_unit("store", dma.store)
        self.kept_bytes = self.ahead_bytes = 0
        self.ahead_tasks = self.ahead_runs = 0
        self._prices: dict[Key, int] = {}
        self._stream: int | None = None

    @property
    def stream_bytes_per_s(self) -> int:
        """See `stream_rate`. Asked for when it is first needed: DRAM's model, which may give it, is slow to import."""
        if self._stream is None:
            self._stream = self.stream_rate()
        return self._stream

    # ------------------------------------------------ what a subclass says

    def stream_rate(self) -> int:
        """Bytes a second that tiles are chosen for."""
        return max(u.bytes_per_s for u in (self.loads, self.weights, self.stores))

    def copy_rate(self, parameters: EngineParameters, stated: Quantity | None) -> int:
        """Bytes a second of a copy unit for which the target file states a rate."""
        assert stated is not None, "checked when the parameters are read"
        return int(stated)

    def gemm_cycles(self, gemm: Gemm, dtype: str) -> float:
        """Cycles of a matrix product on the matrix unit. Raises UnpricedError for a dtype it has no rate for."""
        raise NotImplementedError

    def gemm_cycles_on(self, unit: str, gemm: Gemm, dtype: str) -> float:
        """The same on one of several matrix units."""
        return self.gemm_cycles(gemm, dtype)

    def chain_cycles(self, chain: Chain) -> float:
        """Cycles of a fused chain on the vector unit."""
        raise NotImplementedError

    def peak_macs(self, dtype: str) -> float:
        """The most multiply-accumulates a cycle; no product may beat it."""
        raise NotImplementedError

    def least_cycles(self, step: Step) -> float:
        """A lower bound on what this op adds to any chain, in cycles for the whole block."""
        raise NotImplementedError

    def mac_rate(self, dtype: str) -> float:
        """The most multiply-accumulates a second; 0 for a dtype that it does not multiply."""
        try:
            return self.peak_macs(dtype) * self.clock_hz
        except UnpricedError:
            return 0.0

    def check_dtype(self, dtype: str) -> None:
        """Raises UnpricedError if the engine has no such arithmetic."""

    def granularity(self, op: Operation) -> dict[str, int]:
        """For a graph op: the multiples that the tile of each named dim of its structure should have."""
        raise NotImplementedError

    def pieces(self, op: Operation) -> int | None:
        """Into how many pieces at most a graph op is cut; None for as many as pay."""
        return None

    def largest(self, op: Operation) -> dict[str, int]:
        """For a graph op: the largest tile of each named dim of its structure; of others, whatever fits."""
        return {}

    def buffers(self, ops: Iterable[Operation], wanted: int) -> int:
        """How many buffers a block that changes gets in a loop of these body ops."""
        return wanted

    def resident(self, op: Operation) -> tuple[int, ...]:
        """The operands of a graph op that are brought whole into on-chip memory before it starts, if they fit."""
        return ()

    # ------------------------------------------------ pricing

    def unit_of(self, op: Operation) -> str:
        on_matrix = base_name(op) in _PRODUCTS or self.streams(op) or (self.expands_inline and _feeds_product(op))
        return self.matrix_unit if on_matrix else self.vector_unit

    def bounding_unit(self, op: Operation) -> str:
        """The unit whose rate a body op takes up, which may work beside the one that its command is on."""
        return self.unit_of(op)

    def command_cycles(self, unit: str, products: Sequence[tuple[Gemm, float]], chain: float) -> float:
        """Cycles of a command, from those of each of its products and of its vector chain."""
        return self._start + sum(cycles for _, cycles in products) + chain

    def streams(self, op: Operation) -> bool:
        """Whether a body op expands a weight on its way from the weight memory into the array, which takes no time."""
        return False

    def demand(self, work: Work) -> Gemm | Vector:
        """What a body op asks for. Raises UnpricedError."""
        return demand(work)

    def exec_ps(self, unit: str, work: Sequence[Work]) -> int:
        """Time of one command that runs these body ops in order. Raises UnpricedError rather than leave one out."""
        made: dict[object, int] = {w.op: i for i, w in enumerate(work)}
        outside: dict[Any, int] = {}
        key: list[Any] = [unit]
        for w in work:
            op = w.op
            values = op.operands
            # which ops of the command make the operands; others count down from -1, equal numbers being equal values
            sources = tuple(made.get(v.owner, -1 - outside.setdefault(v, len(outside))) for v in values)
            uses = op.results[0].uses
            leaves = not uses or any(user not in made for user, _ in uses)
            attributes = tuple(map(op.attributes.get, ATTRIBUTES.get(base_name(op), ())))
            dtypes = tuple(v.type.dtype for v in values)
            result = op.results[0].type.dtype
            key.append(
                (op.name, attributes, w.inputs, w.output, w.dtype, densities(op), dtypes, result, sources, leaves)
            )
        price = self._prices.get(tuple(key))
        if price is None:
            price = self._prices[tuple(key)] = self._price(unit, work, key)
        return price

    def share_ps(self, unit: str, work: Sequence[Work]) -> int:
        """A command's share of what its kernel takes, the whole of which each work says."""
        whole = [replace(w, inputs=w.whole[0], output=w.whole[1], whole=None) for w in work if w.whole]
        share = max(extent(w) / max(extent(all_), 1) for w, all_ in zip(work, whole, strict=True))
        return max(1, math.ceil(PricedEngine.exec_ps(self, unit, whole) * min(share, 1.0)))

    def _price(self, unit: str, work: Sequence[Work], key: Sequence[Any]) -> int:
        if unit not in self.compute_units:
            raise UnpricedError(f"'{unit}' is no compute unit of '{self.name}': {', '.join(self.compute_units)}")
        if not work:
            raise UnpricedError(f"a command on {unit} holds no op; a plain copy is a tile.reshape to the same shape")
        products: list[tuple[Gemm, float]] = []
        steps: list[Step] = []
        read = written = 0
        seen: set[int] = set()
        origin: list[int] = []  # of each op's result
        for w, (*_, dtypes, _, sources, leaves) in zip(work, key[1:], strict=True):
            dtype = priced_dtype(w.op, w.dtype)
            streams = self.streams(w.op)
            if not streams:
                self.check_dtype(dtype)
            asked = FREE if streams else self.demand(w)
            outside = (ACCUMULATOR if d in ("f32", "i32") else OUTSIDE for d in dtypes)
            origins = tuple(origin[s] if s >= 0 else o for s, o in zip(sources, outside, strict=True))
            if isinstance(asked, Gemm):
                if unit == self.vector_unit:
                    raise UnpricedError(f"'{w.op.name}' ({w.op.location}) runs on {self.matrix_unit}, not on {unit}")
                products.append((asked, self.gemm_cycles_on(unit, asked, dtype)))
                origin.append(ACCUMULATOR)
                continue
            fresh = {i for i, s in enumerate(sources) if s < 0 and s not in seen}
            seen.update(sources)
            r, s = moved_bytes(w, fresh, leaves)
            read += r + bytes_of((asked.sweeps - 1) * asked.elements, dtype)
            written += s
            if asked.elements:
                origin.append(len(steps))
                steps.append(Step(asked, dtype, origins))
            else:  # the same value under another shape
                origin.append(origins[0] if origins else OUTSIDE)
        if not steps and written:  # nothing but constants and reshapes: their block is still moved once
            n = product(work[-1].output)
            steps.append(Step(Vector((("move", n),), n), priced_dtype(work[-1].op, work[-1].dtype)))
        chain = self.chain_cycles(Chain(tuple(steps), read, written)) if steps else 0.0
        return self.ps(self.command_cycles(unit, products, chain))

    def ps(self, cycles: float) -> int:
        return math.ceil(cycles * 1e12 / self.clock_hz)

    def roofline_ps(self, op: Operation, macs: int, elements: int, dtype: str) -> int:
        """A lower bound on compute time: macs at the peak, or elements at the least this op can cost.

        `elements` are the result's (of a reduction or argmax: the operand's). Bounds add up: those of the ops of a
        command are together at most its price, and an op's is at most the prices of its blocks together.
        """
        if macs:
            return int(macs / self.peak_macs(dtype) * 1e12 / self.clock_hz)
        if isinstance(op, graph.Fuse):
            inner = [o for o in op.body if isinstance(o, graph.GraphOp) and o.results and o.operands]
            return max((self.roofline_ps(o, o.macs(), o.result.type.elements, o.dtype()) for o in inner), default=0)
        if base_name(op) in _PLACEMENT or self.streams(op):
            return 0
        dtype = priced_dtype(op, dtype)
        shapes = tuple(v.type.shape for v in op.operands)
        asked = self.demand(Work(op, shapes, op.results[0].type.shape, dtype))
        if isinstance(asked, Gemm) or not asked.elements:
            return 0
        whole = max(asked.elements, product(op.results[0].type.shape))
        return int(self.least_cycles(Step(asked, dtype)) * elements / whole * 1e12 / self.clock_hz)

    # ------------------------------------------------ energy

    def vector_operations(self, work: Work) -> float:
        """An element costs at least one operation a sweep: a block that is only moved is read and written too. What is
        expanded on its way into the array costs none."""
        asked = FREE if self.streams(work.op) else self.demand(work)
        if isinstance(asked, Gemm):
            return 0.0
        return max(sum(self.cost[name] * n for name, n in asked.steps), float(asked.elements * asked.sweeps))

    # ------------------------------------------------ placement

    def refuses(self, op: Operation) -> str | None:
        """Why this engine cannot run a graph-level op; None if it can. A group is refused for its first refused op."""
        if isinstance(op, graph.Fuse):
            return next((why for o in op.body if (why := self.refuses(o))), None)
        if isinstance(op, (graph.Parameter, graph.Constant, graph.Iota, graph.Yield)) or not op.results:
            return None
        if isinstance(op, graph.WholeOp) and not self.reaches(op):
            return f"{self.name} computes on blocks that are loaded, and {base_name(op)} needs whole tensors in place"
        return self._refuses(op)

    def drains_through(self, op: Operation) -> bool:
        """Whether a product's results can pass through a pointwise graph op on their way out, in the product's loop."""
        return True

    def in_parts(self, op: Operation) -> bool:
        """Whether a graph op runs as several tasks, one for each of its steps: attention, a softmax."""
        return False

    def reaches(self, op: graph.WholeOp) -> bool:
        """Whether the engine can work on this op's tensors where they lie in memory."""
        return self.in_place

    def _refuses(self, op: Operation) -> str | None:
        return None


def _feeds_product(op: Operation) -> bool:
    """Whether a body op makes numbers of something compressed, for products of the same body alone."""
    name = base_name(op)
    if name not in ("dequantize", "lookup", "cast", "to_dense"):
        return False
    stored, users = op.operands[0].type.dtype, list(op.results[0].users)
    if name == "cast" and is_float(stored):
        return DTYPE_BITS[stored] < DTYPE_BITS[op.results[0].type.dtype] and is_factor(op)
    if name != "to_dense" and not is_integer(stored):
        return False
    return bool(users) and all(base_name(u) in ("matmul", "conv") or _feeds_product(u) for u in users)


def last_dim(op: Operation) -> str | None:
    """The name of the parallel dim that runs along memory in the result of a graph op."""
    structure = op.structure() if isinstance(op, graph.GraphOp) else None
    if structure is None or not structure.results or not structure.results[0].axes:
        return None
    dims = structure.results[0].axes[-1].dims
    return dims[-1] if dims else None
