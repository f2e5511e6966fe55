"""Addresses of a loop's blocks in its engine's memories."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.compiler.dialects import tile
from tilewright.compiler.ir import TileType
from tilewright.targets.engines.base import Engine

from .commands import split
from .tiling import ALIGNMENT


@dataclass(frozen=True, slots=True)
class Scratch:
    """Byte addresses, one a block; inputs by reference have -1. Slots follow each other, aligned."""

    inputs: tuple[int, ...]
    accs: tuple[int, ...]
    outs: tuple[int, ...]
    crossing: tuple[int, ...]


def slot_bytes(block: TileType) -> int:
    """Size of one slot: the largest block, rounded up to whole lines."""
    return -(-block.bytes // ALIGNMENT) * ALIGNMENT


def assign_scratch(loop: tile.Loop, engine: Engine) -> Scratch | None:
    """Places every block of the loop one after the other; None if a memory overflows."""
    limits = {s.name: s.bytes for s in (engine.input_space, engine.weight_space, engine.accumulator_space)}
    used = dict.fromkeys(limits, 0)

    def place(block: TileType, space: str, slots: int) -> int:
        if space == "dram":
            return -1
        at = used[space]
        used[space] += slots * slot_bytes(block)
        return at

    body = loop.body
    args = [a.type for a in body.args]
    n = len(loop.ins)
    accs = loop.acc_buffers or (1,) * len(loop.accs)
    inputs = tuple(place(t, t.space, s) for t, s in zip(args[:n], loop.buffers, strict=True))
    totals = tuple(place(t, t.space, s) for t, s in zip(args[n:], accs, strict=True))
    yields = [v.type for v in body.terminator.operands]
    outs = tuple(place(t, s, b) for t, s, b in zip(yields, loop.out_spaces, loop.out_buffers, strict=True))
    scratch = engine.input_space.name
    crossing = tuple(place(v.type, scratch, engine.crossing_slots) for v in split(loop, engine).crossing)
    return None if any(used[s] > limits[s] for s in used) else Scratch(inputs, totals, outs, crossing)
