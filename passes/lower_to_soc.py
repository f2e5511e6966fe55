"""Turn loops over tiles into commands on units: launches, tasks, loop nests, copies, execs, and the tokens between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tilewright.compiler.dialects import graph, soc, tile
from tilewright.compiler.ir import (
    TOKEN,
    Block,
    MemRefType,
    Module,
    Return,
    Symbol,
    TensorType,
    Value,
    contiguous_strides,
)

from .allocate import StorageOf
from .base import Pass, PassContext, register_pass
from .nest import NestBuilder


@register_pass
@dataclass(frozen=True)
class LowerToSoc(Pass):
    """Consecutive loops on one engine become one launch, a task each. A launch waits for those before it, on other
    engines, whose memory it touches: reads what they wrote, or writes what they read or wrote.
    """

    def run(self, module: Module, context: PassContext) -> None:
        target = context.need_target(self.name)
        func = module.main
        old = func.body
        lowering = _Lowering(old)
        lowering.buffers_for(func.attributes.pop("arg_addresses", ()))
        for op in old:
            if isinstance(op, tile.Loop):
                lowering.task(op, NestBuilder(op, target.engines[op.engine.name], lowering.memrefs))
            elif not isinstance(op, tile.View) and op.results:
                lowering.source(op)
        lowering.finish(func.outputs)
        for op in reversed(list(old)):
            op.erase()
        func.attributes["inputs"] = tuple(a.name or f"arg{i}" for i, a in enumerate(old.args))
        func.regions[0] = lowering.block
        lowering.block.parent = func


@dataclass(eq=False)
class _Traffic:
    """Byte ranges that a launch reads and writes in memory."""

    op: soc.Launch
    reads: list[tuple[int, int]]
    writes: list[tuple[int, int]]

    def conflicts(self, later: _Traffic) -> bool:
        return (
            _overlap(self.writes, later.reads)
            or _overlap(self.reads, later.writes)
            or _overlap(self.writes, later.writes)
        )


def _overlap(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> bool:
    return any(x < v and u < y for x, y in a for u, v in b)


class _Lowering:
    def __init__(self, old: Block):
        self.old = old
        self.block = Block()
        self.memrefs: dict[Value, Value] = {}
        self.storage = StorageOf()
        self.ranges: dict[Value, tuple[int, int]] = {}
        self.launches: list[_Traffic] = []
        self.last_task: Value | None = None

    # -------------------------------------------------------------- memory

    def buffers_for(self, addresses: tuple[int, ...]) -> None:
        for i, (arg, address) in enumerate(zip(self.old.args, addresses, strict=True)):
            self.add_buffer(arg, address, role="input", index=i)

    def source(self, op: Any) -> None:
        address = op.attributes["address"]
        if isinstance(op, graph.Parameter):
            self.add_buffer(op.result, address, role="parameter", key=op.key)
        elif isinstance(op, graph.Constant):
            self.add_buffer(op.result, address, role="constant", value=op.value)
        elif isinstance(op, graph.Iota):
            self.add_buffer(op.result, address, role="iota", value=(op.start, op.step))
        else:
            self.add_buffer(op.results[0], address, role="temporary")

    def add_buffer(self, tensor: Value, address: int, **attributes: Any) -> None:
        buffer = soc.Buffer(address=address, result_types=[_dram(tensor.type)], **attributes)
        if tensor.op is not None:
            buffer.location = tensor.op.location
        self.block.append(buffer)
        buffer.result.name = tensor.name
        self.memrefs[tensor] = buffer.result
        self.ranges[tensor] = (address, address + max(tensor.type.bytes, 1))

    def memref(self, value: Value) -> Value:
        """The buffer or view that stands for a tile-level value."""
        if value not in self.memrefs:
            op = value.op
            if isinstance(op, tile.View):
                kind = MemRefType(value.type.shape, value.type.dtype, op.strides, op.offset, "dram", value.type.density)
                base = self.memrefs[self.storage[op.x]]
                self.memrefs[value] = self.block.append(
                    soc.View(base, result_types=[kind], location=op.location)
                ).result
            else:
                self.memrefs[value] = self.memrefs[self.storage[value]]
        return self.memrefs[value]

    # -------------------------------------------------------------- tasks

    def task(self, loop: tile.Loop, nest: NestBuilder) -> None:
        if not loop.into:
            for r, address in zip(loop.results, loop.attributes["addresses"], strict=True):
                self.add_buffer(r, address, role="temporary")
        for v in (*loop.operands, *loop.results):
            self.memref(v)
        traffic = self.launch(loop.engine)
        traffic.reads += [self.ranges[self.storage[v]] for v in loop.inputs]
        traffic.writes += [self.ranges[self.storage[r]] for r in loop.results]
        after = [] if self.last_task is None else [self.last_task]
        attributes = {k: loop.attributes[k] for k in ("label", "reason", "macs") if k in loop.attributes}
        task = soc.Task(*after, regions=[nest.build()], location=loop.location, **attributes)
        traffic.op.body.append(task)
        self.last_task = task.result

    def launch(self, engine: Symbol) -> _Traffic:
        """The open launch on this engine, or a new one."""
        if not self.launches or self.launches[-1].op.engine != engine:
            self.close()
            op = soc.Launch(engine=engine, regions=[Block()], result_types=[TOKEN])
            self.launches.append(_Traffic(op, [], []))
            self.last_task = None
        return self.launches[-1]

    def close(self) -> None:
        """Ends the open launch: its tokens are known now that its memory is."""
        if not self.launches:
            return
        current = self.launches[-1]
        assert self.last_task is not None
        current.op.body.append(soc.Yield(self.last_task))
        latest: dict[str, Value] = {}
        for earlier in self.launches[:-1]:  # of each other engine the latest suffices: an engine runs in order
            if earlier.op.engine != current.op.engine and earlier.conflicts(current):
                latest[earlier.op.engine.name] = earlier.op.result
        current.op.set_operands(list(latest.values()))
        self.block.append(current.op)

    def finish(self, outputs: Sequence[Value]) -> None:
        self.close()
        self.block.append(soc.Wait(*(t.op.result for t in self.launches)))
        self.block.append(Return(*(self.memref(v) for v in outputs)))


def _dram(kind: TensorType) -> MemRefType:
    return MemRefType(kind.shape, kind.dtype, contiguous_strides(kind.shape, kind.order), 0, "dram", kind.density)
