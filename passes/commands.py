"""How a loop's body falls into commands: runs of ops on one compute unit, and the values that pass between them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tilewright.compiler.dialects import tile
from tilewright.compiler.dialects.access import Access, Axis
from tilewright.compiler.ir import Operation, Value
from tilewright.targets.engines.base import Engine


@dataclass(eq=False)
class Command:
    """Ops that one unit runs as one. `once`: after the reductions, not at each step."""

    unit: str
    once: bool
    ops: list[Operation] = field(default_factory=list)

    def operands(self) -> list[Value]:
        """Values from outside the command, in order of first use; constants belong to whoever reads them."""
        own = {r for op in self.ops for r in op.results}
        found = (v for op in self.ops for v in op.operands)
        return list(dict.fromkeys(v for v in found if v not in own and not isinstance(v.op, tile.Constant)))


@dataclass
class Body:
    """A loop's commands in order; `crossing` values are made by one command and read by a later one."""

    commands: list[Command]
    crossing: list[Value]
    carried: dict[Value, int]  # value -> accumulator that it becomes


def split(loop: tile.Loop, engine: Engine) -> Body:
    """Cuts a body where the unit changes. What an accumulator becomes lives in the accumulator's buffer, and crosses
    nothing."""
    commands: list[Command] = []
    carried: dict[Value, int] = {}
    once = False
    for op in loop.body:
        if isinstance(op, tile.Last):
            carried = {v: i for i, v in enumerate(op.operands)}
            once = True
        elif not isinstance(op, (tile.Constant, tile.Yield)):
            unit = engine.unit_of(op)
            if not commands or commands[-1].unit != unit or commands[-1].once != once:
                commands.append(Command(unit, once))
            commands[-1].ops.append(op)
    makers = {r: c for c in commands for op in c.ops for r in op.results}
    crossing = [v for c in commands for v in c.operands() if v in makers and v not in carried]
    return Body(commands, list(dict.fromkeys(crossing)), carried)


def without(access: Access, whole: dict[str, int]) -> Access:
    """The access with the dims `whole` (name -> size) taken out: each is a single tile, so its points are all there."""
    axes = []
    for a in access.axes:
        extent = a.extent + sum(c * (whole[d] - 1) for d, c in a.terms if d in whole) // a.divisor
        terms = tuple(t for t in a.terms if t[0] not in whole)
        axes.append(Axis(terms, a.offset, extent, a.divisor if terms else 1))
    return Access(tuple(axes))


def moving_dims(loop: tile.Loop) -> list[str]:
    """Dims of more than one tile, outermost first."""
    return [d for d, n in zip(loop.grid.names, loop.grid.trips, strict=True) if n > 1]


def depth_of(dims: Iterable[str], nest: list[str]) -> int:
    """How many loops of the nest, from the outside, a block that depends on `dims` changes with."""
    wanted = set(dims)
    return max((i + 1 for i, d in enumerate(nest) if d in wanted), default=0)
