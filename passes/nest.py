"""The loop nest of one task: where each copy and command stands, and the tokens that order them.

Every block has a buffer of `slots` slots that changes with the `depth` outermost loops. Three rules give the tokens:

- who reads a block waits for the command that wrote it;
- who writes the next block into a slot waits until the block that was there, `slots` blocks ago, has been read;
- who updates a block in place (an accumulator) waits for the update before.

Units run in order, so a command never waits for its own unit, and of the commands of one unit that read a block only
the last matters. Tokens that the next iteration needs go round the loops; loops drop the ones that nothing changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tilewright.compiler.dialects import soc, tile
from tilewright.compiler.dialects.access import Access, parse_access
from tilewright.compiler.ir import (
    TOKEN,
    Block,
    MemRefType,
    Symbol,
    TileType,
    Value,
    contiguous_strides,
)
from tilewright.targets.engines.base import Engine

from .commands import Command, depth_of, moving_dims, split, without
from .loop_spec import is_expansion
from .scratch import slot_bytes

Key = tuple[str, ...]


@dataclass(eq=False)
class _Slot:
    """A buffer on chip, how many loops it changes with, the unit that writes it, and the other units that read it."""

    name: str
    buffer: Value
    depth: int
    slots: int
    writer: str = ""
    readers: tuple[str, ...] = ()


class NestBuilder:
    """Builds the region of a soc.task from a tile.loop. `memrefs` gives the memory behind each tensor."""

    def __init__(self, loop: tile.Loop, engine: Engine, memrefs: dict[Value, Value]):
        self.loop, self.engine, self.memrefs = loop, engine, memrefs
        grid = loop.grid
        self.nest = moving_dims(loop)
        self.parallel = [d for d in self.nest if d in grid.parallel]
        self.sizes = dict(zip(grid.names, grid.sizes, strict=True))
        self.tiles = dict(zip(grid.names, grid.tiles, strict=True))
        self.whole = {d: n for d, n in self.sizes.items() if d not in self.nest}
        self.body = split(loop, engine)
        self.tokens: dict[Key, Value] = {}
        self.slot_of: dict[Value, _Slot] = {}  # body value -> its buffer

    def build(self) -> Block:
        region = Block([TOKEN], ["start"])
        self.start = region.args[0]
        self.block = region
        self._buffers()
        self._level(0)
        done = [v for k, v in self.tokens.items() if k[0] == "stored"]
        region.append(soc.Yield(*done))
        _drop_idle(region)
        return region

    # -------------------------------------------------------------- buffers

    def _buffers(self) -> None:
        loop, args = self.loop, self.loop.body.args
        a = loop.attributes
        n = len(loop.ins)
        for i, arg in enumerate(args[:n]):
            if arg.type.space != "dram":
                self._buffer(f"in{i}", arg, loop.in_access(i), a["in_addresses"][i], loop.buffers[i])
        slots = loop.acc_buffers or (1,) * len(loop.accs)
        for i, arg in enumerate(args[n:]):
            self._buffer(f"acc{i}", arg, loop.acc_access(i), a["acc_addresses"][i], slots[i], len(self.parallel))
        for v, i in self.body.carried.items():
            self.slot_of[v] = self.slot_of[args[n + i]]
        scratch = self.engine.input_space.name
        makers = {r: c for c in self.body.commands for op in c.ops for r in op.results}
        for i, v in enumerate(self.body.crossing):
            depth = len(self.parallel) if makers[v].once else len(self.nest)
            access = parse_access(v.op.attributes["access"])  # type: ignore[union-attr]
            slots_between = self.engine.crossing_slots
            self._buffer(f"mid{i}", v, access, a["crossing_addresses"][i], slots_between, depth, scratch)
        for i, v in enumerate(loop.body.terminator.operands):
            if loop.out_spaces[i] != "dram" and v not in self.slot_of:
                self._buffer(
                    f"out{i}",
                    v,
                    loop.out_access(i),
                    a["out_addresses"][i],
                    loop.out_buffers[i],
                    len(self.parallel),
                    loop.out_spaces[i],
                )
        for slot in dict.fromkeys(self.slot_of.values()):
            slot.writer = self._writer(slot)
            slot.readers = self._readers(slot)
            for unit in slot.readers:
                for age in range(slot.slots):
                    self.tokens["read", slot.name, unit, str(age)] = self.start
            self.tokens["write", slot.name] = self.start

    def _buffer(
        self,
        name: str,
        value: Value,
        access: Access,
        address: int,
        slots: int,
        depth: int | None = None,
        space: str | None = None,
    ) -> None:
        kind: TileType = value.type
        inner = without(access, self.whole).text
        if depth is None:
            depth = depth_of(access.dims, self.nest)
        memory = MemRefType(
            kind.shape, kind.dtype, contiguous_strides(kind.shape), 0, space or kind.space, kind.density
        )
        buffer = soc.Buffer(
            address=address,
            slots=slots,
            slot_bytes=slot_bytes(kind),
            depth=depth,
            access=inner,
            result_types=[memory],
            location=self.loop.location,
        )
        self.block.append(buffer).result.name = name
        self.slot_of[value] = _Slot(name, buffer.result, depth, slots)

    def _writer(self, slot: _Slot) -> str:
        for c in self.body.commands:
            if any(self.slot_of.get(r) is slot for op in c.ops for r in op.results):
                return c.unit
        return self.engine.weights.name if self._takes_weights(slot) else self.engine.loads.name

    def _readers(self, slot: _Slot) -> tuple[str, ...]:
        """Units other than the writer that read the buffer."""
        units = [c.unit for c in self.body.commands for v in c.operands() if self.slot_of.get(v) is slot]
        stored = [v for v in self.loop.body.terminator.operands if self.slot_of.get(v) is slot]
        if stored:
            units.append(self.engine.stores.name)
        return tuple(u for u in dict.fromkeys(units) if u != slot.writer)

    # -------------------------------------------------------------- levels

    def _level(self, level: int) -> None:
        """What stands in the body of the level-th loop: loads, the loop inside it, then what the reductions leave."""
        for slot in dict.fromkeys(self.slot_of.values()):
            if slot.depth == level:
                self._next_block(slot)
        for i, arg in enumerate(self.loop.body.args[: len(self.loop.ins)]):
            slot = self.slot_of.get(arg)
            if slot is not None and slot.depth == level:
                self._load(i, slot)
        if level < len(self.nest):
            self._for(level)
        else:
            for command in self.body.commands:
                if not command.once:
                    self._exec(command)
        if level == len(self.parallel):
            for command in self.body.commands:
                if command.once:
                    self._exec(command)
            self._store()

    def _for(self, level: int) -> None:
        dim = self.nest[level]
        keys = list(self.tokens)
        inits = [self.tokens[k] for k in keys]
        body = Block([TOKEN] * len(keys))
        loop = soc.For(
            *inits, dim=dim, size=self.sizes[dim], tile=self.tiles[dim], regions=[body], location=self.loop.location
        )
        outer, self.block = self.block, body
        self.tokens.update(zip(keys, body.args, strict=True))
        self._level(level + 1)
        for key in self.tokens:
            if key not in keys:  # first made inside: before the first iteration there is nothing to wait for
                keys.append(key)
                loop.set_operands([*loop.operands, self.start])
                loop.results.append(Value(TOKEN, loop, len(loop.results)))
                body.add_arg(TOKEN)
        body.append(soc.Yield(*(self.tokens[k] for k in keys)))
        self.block = outer
        outer.append(loop)
        self.tokens.update(zip(keys, loop.results, strict=True))

    # -------------------------------------------------------------- tokens

    def _next_block(self, slot: _Slot) -> None:
        """The slot turns to the next block: whoever writes it waits for the readers of the block that was there."""
        for unit in slot.readers:
            ages = [("read", slot.name, unit, str(age)) for age in range(slot.slots)]
            self.tokens["free", slot.name, unit] = self.tokens[ages[-1]]
            for newer, older in reversed(list(pairwise(ages))):
                self.tokens[older] = self.tokens[newer]

    def _to_read(self, slot: _Slot, unit: str) -> list[Value]:
        return [] if unit == slot.writer else [self.tokens["write", slot.name]]

    def _to_write(self, slot: _Slot) -> list[Value]:
        return [self.tokens["free", slot.name, unit] for unit in slot.readers]

    def _was_read(self, slot: _Slot, unit: str, token: Value) -> None:
        if unit in slot.readers:
            self.tokens["read", slot.name, unit, "0"] = token

    def _waits(self, tokens: list[Value]) -> list[Value]:
        """Each token once; the task's start only where nothing else is waited for."""
        distinct = list(dict.fromkeys(tokens))
        return [t for t in distinct if t is not self.start] or [self.start]

    # -------------------------------------------------------------- commands

    def _load(self, i: int, slot: _Slot) -> None:
        loop = self.loop
        copy = soc.Copy(
            self.memrefs[loop.inputs[i]],
            slot.buffer,
            *self._waits(self._to_write(slot)),
            unit=Symbol(slot.writer),
            access=without(loop.in_access(i), self.whole).text,
            pad=loop.pads[i],
            location=loop.location,
        )
        self.tokens["write", slot.name] = self.block.append(copy).result

    def _takes_weights(self, slot: _Slot) -> bool:
        """Whether the weight DMA fills the buffer: what makes the second operand of a product, known at load time."""
        for i, arg in enumerate(self.loop.body.args[: len(self.loop.ins)]):
            if self.slot_of.get(arg) is slot:
                return _multiplies(arg) and _known(self.loop.inputs[i])
        return False

    def _exec(self, command: Command) -> None:
        loop = self.loop
        reads = command.operands()
        carried = self.body.carried
        made = [r for op in command.ops for r in op.results]
        yields = list(loop.body.terminator.operands)
        writes = [v for v in made if v in self.slot_of or v in yields]
        after: list[Value] = []
        for v in reads:
            if v in self.slot_of:
                after += self._to_read(self.slot_of[v], command.unit)
        for v in writes:
            if v in self.slot_of:
                after += self._to_write(self.slot_of[v])
                if v in carried:
                    after += self._to_read(self.slot_of[v], command.unit)
        region = Block([v.type for v in reads])
        inside: dict[Value, Value] = dict(zip(reads, region.args, strict=True))
        for op in command.ops:
            for v in op.operands:
                if v not in inside and isinstance(v.op, tile.Constant):
                    inside[v] = region.append(v.op.clone({})).result
            region.append(op.clone(inside))
        region.append(tile.Yield(*(inside[v] for v in writes)))
        n = len(loop.ins)
        inits = tuple(loop.inits[v.index - n] if v.owner is loop.body and v.index >= n else tile.NONE for v in reads)
        sources = [self.slot_of[v].buffer if v in self.slot_of else self.memrefs[loop.inputs[v.index]] for v in reads]
        targets = [
            self.slot_of[v].buffer if v in self.slot_of else self.memrefs[loop.results[yields.index(v)]] for v in writes
        ]
        attributes: dict[str, Any] = {}
        if any(i != tile.NONE for i in inits):
            attributes["inits"] = inits
            attributes["reductions"] = tuple(d for d in self.nest if d not in self.parallel)
        op = soc.Exec(
            *sources,
            *targets,
            *self._waits(after),
            unit=Symbol(command.unit),
            reads=len(reads),
            writes=len(writes),
            regions=[region],
            location=loop.location,
            **attributes,
        )
        token = self.block.append(op).result
        for v in reads:
            if v in self.slot_of:
                self._was_read(self.slot_of[v], command.unit, token)
        for v in writes:
            if v in self.slot_of:
                self.tokens["write", self.slot_of[v].name] = token
            else:
                self.tokens["stored", str(yields.index(v))] = token

    def _store(self) -> None:
        loop = self.loop
        for i, v in enumerate(loop.body.terminator.operands):
            slot = self.slot_of.get(v)
            if slot is None:
                continue
            copy = soc.Copy(
                slot.buffer,
                self.memrefs[loop.results[i]],
                *self._waits(self._to_read(slot, self.engine.stores.name)),
                unit=Symbol(self.engine.stores.name),
                access=without(loop.out_access(i), self.whole).text,
                location=loop.location,
            )
            token = self.block.append(copy).result
            self._was_read(slot, self.engine.stores.name, token)
            self.tokens["stored", str(i)] = token


def _multiplies(block: Value) -> bool:
    """Whether a block is the second operand of a product, as it is or expanded."""
    return any(
        index == 1 if isinstance(op, (tile.Matmul, tile.Conv)) else _multiplies(op.result)
        for op, index in block.uses
        if isinstance(op, (tile.Matmul, tile.Conv)) or is_expansion(op)
    )


def _known(value: Value) -> bool:
    """Known at load time."""
    op = value.op
    while isinstance(op, tile.View):
        op = op.operands[0].op
    return op is not None and op.name in ("graph.parameter", "graph.constant")


def _drop_idle(block: Block) -> None:
    """Removes the tokens that loops carry for nothing: never changed inside, or never asked for."""
    for op in block:
        if isinstance(op, soc.For):
            _forward_unchanged(op)
    for op in reversed(list(block)):
        if isinstance(op, soc.For):
            _drop_unasked(op)
            _drop_idle(op.body)


def _forward_unchanged(loop: soc.For) -> None:
    for op in loop.body:
        if isinstance(op, soc.For):
            _forward_unchanged(op)
    end = loop.body.terminator
    for init, arg, result, last in zip(loop.operands, loop.body.args, loop.results, end.operands, strict=True):
        if last is arg or last is init:
            arg.replace_all_uses(init)
            result.replace_all_uses(init)
    _keep(loop, [i for i, (init, last) in enumerate(zip(loop.operands, end.operands, strict=True)) if last is not init])


def _drop_unasked(loop: soc.For) -> None:
    """An entry is needed if its result is used, or its argument is, by anything but an entry that is not needed."""
    end = loop.body.terminator
    needed = {i for i, r in enumerate(loop.results) if r.uses}
    needed |= {i for i, a in enumerate(loop.body.args) if any(user is not end for user, _ in a.uses)}
    grown = True
    while grown:
        more = {v.index for i in needed for v in (end.operands[i],) if v.owner is loop.body and v.index not in needed}
        grown = bool(more)
        needed |= more
    _keep(loop, sorted(needed))


def _keep(loop: soc.For, indices: list[int]) -> None:
    """Leaves only these entries of operands, arguments, yields and results."""
    if len(indices) == len(loop.results):
        return
    end = loop.body.terminator
    ends, inits = [end.operands[i] for i in indices], [loop.operands[i] for i in indices]
    end.set_operands(ends)
    loop.set_operands(inits)
    loop.body.args = [loop.body.args[i] for i in indices]
    loop.results = [loop.results[i] for i in indices]
    for i, (a, r) in enumerate(zip(loop.body.args, loop.results, strict=True)):
        a.index = r.index = i
