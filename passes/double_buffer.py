"""Give each block that moves a second buffer, so that the next one loads while this one is in use."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.compiler.dialects import tile
from tilewright.compiler.ir import Module
from tilewright.compiler.ir.rewriter import LogEntry
from tilewright.targets.engines.base import Engine

from .base import Pass, PassContext, register_pass
from .scratch import assign_scratch
from .tiling import slots_of


@register_pass
@dataclass(frozen=True)
class DoubleBuffer(Pass):
    """Set `buffers`, `out_buffers` and `acc_buffers` of a loop to `slots` where the block changes and there is room.

    before:  ins(%xt = %x[m, k] : !tile.tile<64x128xf16, "ane.l2">)
    after:   ins(%xt = %x[m, k] : !tile.tile<64x128xf16, "ane.l2"> buffers 2)
    """

    slots: int = 2

    def run(self, module: Module, context: PassContext) -> None:
        target = context.need_target(self.name)
        for loop in module.main.walk():
            if isinstance(loop, tile.Loop):
                engine = target.engines[loop.engine.name]
                missed = give_slots(loop, engine, slots_of(engine, self.slots, loop.body))
                if missed:
                    context.log.append(LogEntry(self.name, "missed", loop.name, loop.location, f"no room for {missed}"))


def give_slots(loop: tile.Loop, engine: Engine, slots: int) -> str:
    """Hands out slots in order of need: inputs, results, accumulators. Returns what stayed single for lack of room."""
    grid = loop.grid
    moving = {d for d, trips in zip(grid.names, grid.trips, strict=True) if trips > 1}
    lists = {"buffers": list(loop.buffers), "out_buffers": list(loop.out_buffers), "acc_buffers": [1] * len(loop.accs)}
    accesses = {"buffers": loop.ins, "out_buffers": loop.outs, "acc_buffers": loop.accs}
    missed = []
    for name, entries in lists.items():
        for i in range(len(entries)):
            dims = tile.parse_access(accesses[name][i]).dims
            if not dims & moving or (name == "buffers" and loop.body.args[i].type.space == "dram"):
                continue
            entries[i] = slots
            loop.attributes.update({k: tuple(v) for k, v in lists.items()})
            if assign_scratch(loop, engine) is None:
                entries[i] = 1
                loop.attributes.update({k: tuple(v) for k, v in lists.items()})
                missed.append(f"{name}[{i}]")
    return ", ".join(missed)
