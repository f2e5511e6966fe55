"""A graph op as one loop: its grid, the blocks that it reads and writes, and its body, before any size is chosen.

Every value of the body knows its block as an access over the dims, so that a tiling is priced without building it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from tilewright.compiler.dialects import graph, tile
from tilewright.compiler.dialects.access import Access, Axis
from tilewright.compiler.ir import DTYPE_BITS, Block, Operation, Return, TileType, Value, is_float, is_integer
from tilewright.targets.engines.demand import is_factor


@dataclass(frozen=True, slots=True)
class Input:
    """A tensor that the loop reads: as "data", as a "weight" (known at load time), or in place as a "ref"."""

    value: Value
    access: Access
    pad: float | None
    role: str

    @property
    def dtype(self) -> str:
        return self.value.type.dtype


@dataclass(frozen=True, slots=True)
class Step:
    """One body op: operands are indices into the body's values (inputs, accumulators, then steps)."""

    cls: type[Operation]
    operands: tuple[int, ...]
    attributes: dict[str, Any]
    access: Access  # the block it makes
    dtype: str
    space: str = "reg"


@dataclass
class LoopSpec:
    """A loop without tile sizes. `steps[:carried_at]` run at each step of the reductions, the rest after the last."""

    op: Operation
    dims: tuple[graph.Dim, ...]
    inputs: list[Input] = field(default_factory=list)
    accs: list[tuple[Access, float, str]] = field(default_factory=list)  # (block, initial value, dtype)
    steps: list[Step] = field(default_factory=list)
    carried: tuple[int, ...] = ()
    carried_at: int = 0
    yields: list[int] = field(default_factory=list)
    outs: list[Access] = field(default_factory=list)
    out_dtypes: list[str] = field(default_factory=list)
    out_refs: bool = False  # results are written in place by the body itself
    into: list[Value] = field(default_factory=list)
    macs: int = 0
    fixed: dict[str, int] = field(default_factory=dict)  # tile sizes that the op dictates
    tight: dict[str, int] = field(default_factory=dict)  # others that do as well, where those do not fit
    groups: dict[str, set[int]] = field(default_factory=dict)  # tiles of a dim are multiples of these, or divide them

    def add_input(self, value: Value, access: Access, pad: float | None = None, role: str = "data") -> int:
        assert not self.accs and not self.steps, "inputs come first"
        for i, known in enumerate(self.inputs):
            if known.value is value and known.access == access and known.pad == pad:
                return i
        self.inputs.append(Input(value, access, pad, role))
        for axis in access.axes:
            if axis.divisor > 1:
                self.groups.setdefault(axis.terms[0][0], set()).add(axis.divisor)
        return len(self.inputs) - 1

    def add_acc(self, access: Access, init: float, dtype: str) -> int:
        assert not self.steps, "accumulators come before steps"
        self.accs.append((access, init, dtype))
        return len(self.inputs) + len(self.accs) - 1

    def add(
        self,
        cls: type[Operation] | str,
        *operands: int,
        access: Access,
        dtype: str,
        space: str = "reg",
        **attributes: Any,
    ) -> int:
        kind = tile.on_blocks(cls) if isinstance(cls, str) else cls
        self.steps.append(Step(kind, operands, attributes, access, dtype, space))
        return len(self.inputs) + len(self.accs) + len(self.steps) - 1

    def cast(self, value: int, dtype: str) -> int:
        """`value` as `dtype`, with nothing to do where it is that already."""
        access, have = self.block(value)
        return value if have == dtype else self.add("cast", value, access=access, dtype=dtype, to=dtype)

    def number(self, value: float, dtype: str, rank: int = 0) -> int:
        return self.add(tile.Constant, access=Access((Axis(),) * rank), dtype=dtype, value=value)

    def last(self, *values: int) -> None:
        """What comes after runs once the reductions are done."""
        self.carried, self.carried_at = values, len(self.steps)

    def finish(self, values: list[int], outs: list[Access]) -> LoopSpec:
        self.yields, self.outs = values, outs
        self.out_dtypes = [self.block(v)[1] for v in values]
        return self

    def block(self, index: int) -> tuple[Access, str]:
        """(access, dtype) of a body value."""
        if index < len(self.inputs):
            return self.inputs[index].access, self.inputs[index].dtype
        index -= len(self.inputs)
        if index < len(self.accs):
            return self.accs[index][0], self.accs[index][2]
        step = self.steps[index - len(self.accs)]
        return step.access, step.dtype

    def build(self, tiles: dict[str, int], spaces: dict[str, str]) -> Block:
        """The region at these tile sizes. `spaces` maps the roles data, weight, ref and acc to memory spaces."""
        types = [TileType(i.access.block(tiles), i.dtype, spaces[i.role], i.value.type.density) for i in self.inputs]
        types += [TileType(a.block(tiles), dtype, spaces["acc"]) for a, _, dtype in self.accs]
        body = Block(types)
        values: list[Value] = list(body.args)
        for at, step in enumerate(self.steps):
            if at == self.carried_at and self.accs:
                body.append(tile.Last(*(values[c] for c in self.carried)))
            kind = TileType(step.access.block(tiles), step.dtype, step.space)
            op = step.cls(
                *(values[i] for i in step.operands), result_types=[kind], location=self.op.location, **step.attributes
            )
            values.append(body.append(op).result)
        if self.accs and self.carried_at == len(self.steps):
            body.append(tile.Last(*(values[c] for c in self.carried)))
        body.append(tile.Yield(*(values[i] for i in self.yields)))
        return body


def accumulate_dtype(dtype: str) -> str:
    """What sums of `dtype` are kept in."""
    return "f32" if is_float(dtype) and DTYPE_BITS[dtype] < 32 else dtype


def is_expansion(op: Operation | None) -> bool:
    """Whether the op makes numbers to compute with of what is stored with fewer bits, element by element. A cast of
    floats is one where products multiply by what it makes, and nothing else reads it."""
    if isinstance(op, graph.Cast):
        stored = op.x.type.dtype
        if DTYPE_BITS[stored] >= DTYPE_BITS[op.to] or op.to == "i1":
            return False
        return is_integer(stored) or (is_float(stored) and is_factor(op))
    return isinstance(op, (graph.Dequantize, graph.Lookup, graph.ToDense))


def expands_weight(op: Operation | None) -> bool:
    """Whether the op expands what is known at load time, at once or in steps (a palette of integers)."""
    if op is None or not is_expansion(op):
        return False
    return is_weight(op.operands[0]) or expands_weight(op.operands[0].op)


def number_of(value: Value) -> float | None:
    """The number that a constant of one element holds."""
    op = value.op
    if not isinstance(op, graph.Constant) or value.type.elements != 1:
        return None
    return op.value[0] if isinstance(op.value, tuple) else op.value


def origin(value: Value) -> Value:
    """What a value is a view of, through all views."""
    while isinstance(value.op, graph.GraphOp) and value.op.view:
        value = value.op.operands[0]
    return value


def is_weight(value: Value) -> bool:
    """Known at load time, through views."""
    return isinstance(origin(value).op, (graph.Parameter, graph.Constant))


def in_main_memory(value: Value) -> bool:
    """An argument, a parameter or a constant, through views: no op of the program made it."""
    op = origin(value).op
    return op is None or isinstance(op, (graph.Parameter, graph.Constant))


def is_returned(op: Operation) -> bool:
    """Whether a result of the op, or a view of it, is a result of the program."""
    users = [user for r in op.results for user in r.users]
    return any(isinstance(u, Return) or (getattr(u, "view", False) and is_returned(u)) for u in users)


def broadcast_to(shape: graph.Shape, out: tuple[Axis, ...]) -> Access:
    """How an operand of `shape` is read beside a block whose axes are `out`."""
    skip = len(out) - len(shape)
    return Access(tuple(Axis() if n == 1 else out[i + skip] for i, n in enumerate(shape)))


def elements(access: Access, tiles: dict[str, int]) -> int:
    return math.prod(access.block(tiles))
