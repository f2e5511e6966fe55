"""Give every tensor an address in memory, and every block one on its engine."""

from __future__ import annotations

import bisect
from dataclasses import dataclass

from tilewright.compiler.dialects import graph, soc, tile
from tilewright.compiler.ir import Module, Operation, Value

from .base import Pass, PassContext, PassError, register_pass
from .scratch import assign_scratch
from .tiling import ALIGNMENT


@register_pass
@dataclass(frozen=True)
class Allocate(Pass):
    """Set `address` on sources and empties, `addresses` on loops (and `arg_addresses` on the function), in bytes.

    Inputs, weights and results keep their memory for the whole run. The rest share what is left by lifetime, first fit
    in program order; the soc level gets tokens wherever two tasks share memory, whatever engines they run on.
    """

    def run(self, module: Module, context: PassContext) -> None:
        target = context.need_target(self.name)
        arena = _Arena()
        func = module.main
        func.attributes["arg_addresses"] = tuple(arena.take(a.type.bytes) for a in func.args)
        ops = list(func.body)
        storage = StorageOf()
        ends = _last_uses(ops, storage)
        kept = {storage[v] for v in func.outputs}
        for op in ops:
            if isinstance(op, graph.SOURCES):
                op.attributes["address"] = arena.take(op.result.type.bytes)
        free_after: dict[int, list[tuple[int, int]]] = {}  # last use -> (address, size) of what is given back then
        for at, op in enumerate(ops):
            for address, size in free_after.pop(at - 1, ()):
                arena.give(address, size)
            if isinstance(op, tile.Loop):
                scratch = assign_scratch(op, target.engines[op.engine.name])
                if scratch is None:
                    raise PassError(
                        f"the blocks of '{op.label}' ({op.location}) do not fit {op.engine}: tile them smaller"
                    )
                op.attributes.update(
                    in_addresses=scratch.inputs,
                    acc_addresses=scratch.accs,
                    out_addresses=scratch.outs,
                    crossing_addresses=scratch.crossing,
                )
            if not isinstance(op, (tile.Loop, tile.Empty)) or getattr(op, "into", 0):
                continue
            addresses = tuple(arena.take(r.type.bytes) for r in op.results)
            if isinstance(op, tile.Empty):
                op.attributes["address"] = addresses[0]
            else:
                op.attributes["addresses"] = addresses
            for r, address in zip(op.results, addresses, strict=True):
                if r not in kept:
                    free_after.setdefault(max(ends.get(r, at), at), []).append((address, r.type.bytes))


class StorageOf(dict[Value, Value]):
    """The tensor whose memory a tile-level value lives in, through views and loops that write in place.

    A tensor may be written in as many steps as the program has ops: what is found is kept, while the program stays.
    """

    def __missing__(self, value: Value) -> Value:
        passed = [value]
        while (written := _written_in(passed[-1])) is not None:
            passed.append(written)
            if written in self:
                break
        storage = self.get(passed[-1], passed[-1])
        self.update(dict.fromkeys(passed, storage))
        return storage


def _written_in(value: Value) -> Value | None:
    """The value whose memory this one takes over; None for one with memory of its own."""
    op = value.op
    if isinstance(op, tile.View):
        return op.x
    return op.destinations[value.index] if isinstance(op, tile.Loop) and op.into else None


def _last_uses(ops: list[Operation], storage: StorageOf) -> dict[Value, int]:
    """Index of the last op that touches each tensor's memory."""
    ends: dict[Value, int] = {}
    for at, op in enumerate(ops):
        if isinstance(op, tile.View):
            continue  # a view touches memory where it is used
        for v in op.operands:
            ends[storage[v]] = at
    return ends


class _Arena:
    """First-fit memory: takes and gives back byte ranges. The free list is sorted and has no touching neighbours."""

    def __init__(self) -> None:
        self.end = 0
        self.free: list[tuple[int, int]] = []  # (address, size)

    def take(self, size: int) -> int:
        size = max(ALIGNMENT, -(-size // ALIGNMENT) * ALIGNMENT)
        for i, (address, room) in enumerate(self.free):
            if room >= size:
                self.free[i : i + 1] = [(address + size, room - size)] if room > size else []
                return address
        address = self.end
        self.end += size
        if self.end > soc.MEMORY:
            raise PassError(f"the program's tensors need {self.end:,} bytes; addresses go up to {soc.MEMORY:,}")
        return address

    def give(self, address: int, size: int) -> None:
        size = max(ALIGNMENT, -(-size // ALIGNMENT) * ALIGNMENT)
        i = bisect.bisect(self.free, (address, 0))
        if i < len(self.free) and self.free[i][0] == address + size:
            size += self.free.pop(i)[1]
        if i and sum(self.free[i - 1]) == address:
            i -= 1
            address, before = self.free[i]
            size += before
            self.free[i] = (address, size)
        else:
            self.free.insert(i, (address, size))
