"""From a soc module to arrays: the instructions of each engine, its commands, their prices and their traffic.

Loops stay loops: a program's arrays are as long as its text, whatever its trip counts. `flatten` numbers launches,
tasks, loops and commands in program order; a task's tokens become registers of its engine.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import numpy as np
from tilewright.compiler.dialects import soc
from tilewright.compiler.ir import Func, MemRefType, Module, Operation, Return, Value
from tilewright.targets.engines.base import CopyUnit, Engine
from tilewright.targets.memory.rates import dram_rate, port_rate

from . import machine, program
from .machine import COMMAND, END, FOR, LAUNCH, LAUNCH_END, MOST_DEPTH, MOST_UNITS, NEXT, TASK, TASK_END
from .pricing import Pricer
from .program import Code, Command, Hardware, LoopInfo, Program, TaskInfo
from .timing import SimulationError


def rate(bytes_per_s: float) -> int:
    """Nanobytes per picosecond."""
    return int(bytes_per_s) // 1000


def flatten(module: Module, target: Any) -> Program:
    """Raises SimulationError, with the op and its location, for what this machine cannot run or no engine can price."""
    return _Flattener(module, target).run()


class _Tables:
    """The rows of `Code` as they are written."""

    def __init__(self) -> None:
        self.instructions: list[tuple[int, int]] = []
        self.entry: list[int] = []
        self.loops: dict[int, tuple[int, ...]] = {}
        self.moves: list[tuple[int, int]] = []
        self.launches: list[tuple[int, ...]] = []
        self.tasks: list[tuple[int, ...]] = []
        self.links: list[int] = []
        self.commands: list[tuple[int, ...]] = []
        self.prices: list[tuple[int, int, int]] = []
        self.axes: list[tuple[int, ...]] = []
        self.terms: list[tuple[int, int, int]] = []

    def link(self, targets: Iterable[int]) -> tuple[int, int]:
        """Where in `links` these are."""
        first = len(self.links)
        self.links.extend(targets)
        return first, len(self.links)

    def lengths(self) -> dict[str, int]:
        """Of the tables whose rows are in program order, task by task."""
        names = ("loops", "moves", "links", "commands", "prices", "axes", "terms")
        return {name: len(getattr(self, name)) for name in names}

    def code(self) -> Code:
        return Code(
            instructions=np.array(self.instructions, program.INSTRUCTION),
            entry=np.array(self.entry, np.int64),
            loops=np.array([self.loops[i] for i in range(len(self.loops))], program.LOOP),
            moves=np.array(self.moves, program.MOVE),
            launches=np.array(self.launches, program.LAUNCH_ROW),
            tasks=np.array(self.tasks, program.TASK_ROW),
            links=np.array(self.links, np.int64),
            commands=np.array(self.commands, program.COMMAND_ROW),
            prices=np.array(self.prices, program.PRICE),
            axes=np.array(self.axes, program.AXIS),
            terms=np.array(self.terms, program.TERM),
        )


class _Flattener:
    def __init__(self, module: Module, target: Any):
        self.module, self.target = module, target
        self.main: Func = module.main
        self.tables = _Tables()
        self.launch_ids: dict[Value, int] = {}
        self.tasks: list[TaskInfo] = []
        self.commands: list[Command] = []
        self.loops = 0
        names = dict.fromkeys(op.engine.name for op in self.main.body if isinstance(op, soc.Launch))
        for op in self.main.body:
            if isinstance(op, soc.Launch) and op.engine.name not in target.engines:
                self.fail(op, f"the target has no engine '{op.engine.name}'; it has {', '.join(target.engines)}")
        self.engines: list[Engine] = [target.engines[n] for n in target.engines if n in names]
        self.engine_ids = {e.name: i for i, e in enumerate(self.engines)}
        self.pricers = [Pricer(e, target.memory.line_bytes) for e in self.engines]
        self.units, self.unit_engine, self.copy_units = self._find_units()
        self.unit_ids = {u: i for i, u in enumerate(self.units)}
        self.streams: list[list[tuple[int, int]]] = [[] for _ in self.engines]

    def fail(self, op: Operation, message: str) -> NoReturn:
        raise SimulationError(f"'{op.name}' ({op.location}): {message}")

    def _find_units(self) -> tuple[list[str], list[int], dict[str, CopyUnit]]:
        """All units: an engine's copy units first, then its compute units in the order of their first use."""
        computes: dict[str, dict[str, None]] = {e.name: {} for e in self.engines}
        for launch in self.main.body:
            if isinstance(launch, soc.Launch):
                for op in launch.walk():
                    if isinstance(op, soc.Exec):
                        computes[launch.engine.name][op.unit.name] = None
        units: list[str] = []
        owner: list[int] = []
        copies: dict[str, CopyUnit] = {}
        for i, e in enumerate(self.engines):
            own = {c.name: c for c in (e.loads, e.weights, e.stores)}
            copies |= own
            for name in [*own, *(u for u in computes[e.name] if u not in own)]:
                if name in units:
                    raise SimulationError(f"unit @{name} belongs to two engines")
                units.append(name)
                owner.append(i)
        if len(units) > MOST_UNITS:
            raise SimulationError(f"{len(units)} units; this machine has room for {MOST_UNITS}")
        return units, owner, copies

    def run(self) -> Program:
        tables = self.tables
        waited: dict[int, None] = {}
        launches: list[list[int]] = []
        launch_tasks: list[list[int]] = []
        outputs: list[soc.Buffer] = []
        for op in self.main.body:
            if isinstance(op, soc.Launch):
                after = list(dict.fromkeys([*waited, *(self.launch_ids[v] for v in op.operands)]))
                first = len(self.tasks) if op.tasks else -1
                tables.launches.append((first, *tables.link(after), 0))
                launch_tasks.append(self.launch(op, len(launches)))
                self.launch_ids[op.token] = len(launches)
                launches.append(after)
            elif isinstance(op, soc.Wait):
                waited |= dict.fromkeys(self.launch_ids[v] for v in op.operands)
            elif isinstance(op, Return):
                outputs = [dram_buffer(v) for v in op.operands]
            elif not isinstance(op, (soc.Buffer, soc.View)):
                self.fail(op, "the soc level has no such op outside a launch")
        self._join_streams()
        code, hardware = tables.code(), self._hardware()
        self._add_up(code)
        return Program(
            code, hardware, self.engines, self.units, self.tasks, self.commands, launches, launch_tasks, outputs
        )

    def _join_streams(self) -> None:
        """One instruction array: the engines' streams, one after the other."""
        tables = self.tables
        for e, stream in enumerate(self.streams):
            offset = len(tables.instructions)
            tables.entry.append(offset)
            tables.instructions += [*stream, (END, 0)]
            for op, arg in stream:
                if op == FOR:
                    size, tile, bit, depth, body, *moves = tables.loops[arg]
                    tables.loops[arg] = (size, tile, bit, depth, body + offset, *moves)
            for task in self.tasks:
                if task.engine == e:
                    task.first += offset
                    task.last += offset

    def _hardware(self) -> Hardware:
        memory = self.target.memory

        first = [self.unit_engine.index(i) for i in range(len(self.engines))] + [len(self.units)]
        # a body that uses DRAM in place does so through its engine's load path
        fallback = [self.engines[e].loads for e in self.unit_engine]
        paths = [self.copy_units.get(u, f) for u, f in zip(self.units, fallback, strict=True)]
        units = [(e, rate(p.bytes_per_s), int(p.queued)) for e, p in zip(self.unit_engine, paths, strict=True)]
        engines = [
            (first[i], first[i + 1], rate(port_rate(memory, e)), e.launch_ps, e.task_ps)
            for i, e in enumerate(self.engines)
        ]
        sustained = [rate(memory.slc_bytes_per_s), rate(dram_rate(memory, self.target.engines.values()))]
        if min(*sustained, *(row[1] for row in units), *(row[2] for row in engines), 1000) < 1000:
            raise SimulationError("a unit, a port or a memory of the target moves less than 1 MB/s")
        return Hardware(
            units=np.array(units, program.UNIT_ROW),
            engines=np.array(engines, program.ENGINE_ROW),
            memory_rate=np.array(sustained, np.int64),
            dram_peak=rate(memory.dram_bytes_per_s),
            contention=self._contention(),
        )

    def _contention(self) -> int:
        demand = self.target.memory.demand
        return round((demand.contention if demand and len(self.engines) > 1 else 1.0) * (1 << machine.WEIGHT_BITS))

    def launch(self, op: soc.Launch, index: int) -> list[int]:
        engine = self.engine_ids[op.engine.name]
        stream = self.streams[engine]
        stream.append((LAUNCH, index))
        first = len(self.tasks)
        for task in op.tasks:
            self.task(task, engine, index)
        stream.append((LAUNCH_END, index))
        return list(range(first, len(self.tasks)))

    def task(self, op: soc.Task, engine: int, launch: int) -> None:
        tables, stream = self.tables, self.streams[engine]
        index = len(self.tasks)
        info = TaskInfo(op, engine, launch, len(stream))
        self.tasks.append(info)
        # an engine runs its tasks in order, so that only tokens of launches can hold one up
        after = tables.link(self.launch_ids[v] for v in op.operands if v in self.launch_ids)
        before = tables.lengths()
        walk = _TaskWalk(self, info, index, engine)
        start = walk.register(op.body.args[0])
        stream.append((TASK, index))
        ends = walk.region(op.body, ())
        ends = tables.link(walk.registers[v] for v in ends)
        tables.tasks.append((start, *after, *ends, 0, 0, index, -1, 0, -1, 0))
        stream.append((TASK_END, index))
        info.last, info.registers = len(stream), len(walk.registers)
        info.rows = {name: (before[name], n) for name, n in tables.lengths().items()}

    def _add_up(self, code: Code) -> None:
        """Totals of each command, and of each task's MACs, from the trip counts."""
        for c in self.commands:
            if isinstance(c.op, soc.Copy):
                uses = set(c.op.block.dims)
                inner = [loop for loop in c.loops if loop.dim in uses]
                indices = np.array([loop.index for loop in inner], np.int64)
                row, axes, terms, at = code.commands[c.index], code.axes, code.terms, code.loops
                once, c.largest_bytes = machine.total_bytes(row, axes, terms, at, indices)
                repeats = 1
                for loop in c.loops:
                    repeats *= 1 if loop in inner else loop.trips
                c.total_bytes = int(once) * repeats
                c.read_bytes, c.write_bytes = (c.total_bytes, 0) if c.op.loads else (0, c.total_bytes)
                c.total_ps = c.count * self.copy_units[self.units[c.unit]].setup_ps
            if c.largest_bytes >= 1 << 33:
                self.fail(c.op, f"moves {c.largest_bytes} bytes at once; a transfer has less than 8 GiB")
        for task in self.tasks:
            macs = sum(p.macs * n for c in task.commands for p, n in c.prices)
            if macs != task.op.macs:
                self.fail(task.op, f"'{task.op.label}' is to do {task.op.macs} MACs, but its commands do {macs}")


class _TaskWalk:
    """Writes the instructions of one task's region."""

    def __init__(self, flattener: _Flattener, info: TaskInfo, index: int, engine: int):
        self.f, self.tables, self.info, self.index, self.engine = flattener, flattener.tables, info, index, engine
        self.stream = flattener.streams[engine]
        self.registers: dict[Value, int] = {}

    def register(self, token: Value) -> int:
        return self.registers.setdefault(token, len(self.registers))

    def region(self, block: Any, loops: tuple[LoopInfo, ...]) -> Sequence[Value]:
        """Returns the tokens that the region yields."""
        for op in block:
            if isinstance(op, soc.For):
                self.loop(op, loops)
            elif isinstance(op, soc.Copy):
                self.copy(op, loops)
            elif isinstance(op, soc.Exec):
                self.exec(op, loops)
            elif isinstance(op, soc.Yield):
                return op.operands
            elif not isinstance(op, soc.Buffer):
                self.f.fail(op, "a task holds buffers, loops, copies and execs")
        return ()

    def loop(self, op: soc.For, loops: tuple[LoopInfo, ...]) -> None:
        if len(loops) == MOST_DEPTH:
            self.f.fail(op, f"is inside {MOST_DEPTH} other loops; this machine has room for no more")
        if any(outer.dim == op.dim for outer in loops):
            self.f.fail(op, f"runs over '{op.dim}' inside a loop over '{op.dim}'")
        edges = sum(1 for outer in loops if outer.bit)
        info = LoopInfo(self.f.loops, op.dim, op.size, op.tile, 1 << edges if op.size % op.tile else 0)
        self.f.loops += 1
        init = [(self.registers[v], self.register(a)) for v, a in zip(op.operands, op.body.args, strict=True)]
        self.stream.append((FOR, info.index))
        body = len(self.stream)
        ends = self.region(op.body, (*loops, info))
        self.stream.append((NEXT, info.index))
        following = [(self.registers[v], self.registers[a]) for v, a in zip(ends, op.body.args, strict=True)]
        out = [(self.registers[a], self.register(r)) for a, r in zip(op.body.args, op.results, strict=True)]
        moves = self.tables.moves
        at = [len(moves)]
        for some in (init, following, out):
            moves += some
            at.append(len(moves))
        self.tables.loops[info.index] = (info.size, info.tile, info.bit, len(loops), body, *at, 0, 0)

    def copy(self, op: soc.Copy, loops: tuple[LoopInfo, ...]) -> None:
        tables, name = self.tables, op.unit.name
        unit = self.f.copy_units.get(name)
        if unit is None or self.f.unit_engine[self.f.unit_ids[name]] != self.engine:
            self.f.fail(op, f"@{name} is no copy unit of engine {self.f.engines[self.engine].name}")
        far = op.source if op.loads else op.target
        by_dim = {loop.dim: loop.index for loop in loops}
        kind: MemRefType = far.type
        item, first = math.ceil(kind.bits * machine.BIT), len(tables.axes)
        for i in sorted(range(kind.rank), key=lambda i: kind.strides[i]):
            axis = op.block.axes[i]
            term = len(tables.terms)
            for dim, factor in axis.terms:
                if dim not in by_dim:
                    self.f.fail(op, f"uses '{dim}', which no loop round it runs over")
                tables.terms.append((by_dim[dim], factor, axis.divisor))
            stride = kind.strides[i] * item if kind.density is None else machine.PACKED
            tables.axes.append((axis.offset, axis.extent, kind.shape[i], stride, term, len(tables.terms)))
        command = self.command(op, loops, name, (-1, unit.setup_ps, item, unit.line_bytes, first, len(tables.axes)))
        command.buffer = dram_buffer(far)

    def exec(self, op: soc.Exec, loops: tuple[LoopInfo, ...]) -> None:
        edges = [loop for loop in loops if loop.bit]
        occurs = {
            sum(bits): times
            for bits, times in (_case(choice) for choice in itertools.product(*map(_cases, edges)))
            if times
        }
        extents = {loop.dim: loop.tile for loop in loops if not loop.bit}
        sizes = [(loop.dim, loop.tile, loop.last) for loop in edges]
        whole = {loop.dim: loop.size for loop in loops}
        try:
            prices = self.f.pricers[self.engine].table(op, sizes, extents, set(occurs), whole)
        except KeyError as error:
            self.f.fail(op, f"a buffer's access uses {error}, which no loop round the exec runs over")
        command = self.command(op, loops, op.unit.name, (len(self.tables.prices), 0, 0, 1, 0, 0))
        repeats = command.count
        for loop in edges:
            repeats //= loop.trips
        for mask, price in enumerate(prices):
            self.tables.prices.append((price.ps, price.read + price.write, price.macs) if price else (0, 0, 0))
            if price:
                times = occurs[mask] * repeats
                command.prices.append((price, times))
                command.total_ps += price.ps * times
                command.read_bytes += price.read * times
                command.write_bytes += price.write * times
                command.largest_bytes = max(command.largest_bytes, price.read + price.write)
        command.total_bytes = command.read_bytes + command.write_bytes
        if command.total_bytes:
            command.buffer = next(dram_buffer(v) for v in (*op.inputs, *op.outputs) if v.type.space == "dram")

    def command(
        self, op: soc.Copy | soc.Exec, loops: tuple[LoopInfo, ...], unit: str, price: tuple[int, ...]
    ) -> Command:
        """Adds a command. `price`: the columns price, setup, item, line, axis, axis_end; what depends on the cache plan
        (latency, DRAM traffic) is written later."""
        count = 1
        for loop in loops:
            count *= loop.trips
        command = Command(len(self.f.commands), op, self.f.unit_ids[unit], self.index, loops, count)
        self.f.commands.append(command)
        self.info.commands.append(command)
        self.stream.append((COMMAND, command.index))
        after = self.tables.link(self.registers[v] for v in op.after)
        inside = self.tables.link(loop.index for loop in loops)
        row = (command.unit, self.index, self.register(op.token), *after, *price, 0, *inside, 0, 0, 0, 0)
        self.tables.commands.append(row)
        return command


def _cases(loop: LoopInfo) -> list[tuple[int, int]]:
    """(edge bit, iterations) of a loop's full tiles and of its last one."""
    return [(0, loop.trips - 1), (loop.bit, 1)]


def _case(choice: tuple[tuple[int, int], ...]) -> tuple[list[int], int]:
    times = 1
    for _, n in choice:
        times *= n
    return [bit for bit, _ in choice], times


def dram_buffer(value: Value) -> soc.Buffer:
    """The buffer behind a memref, through a view."""
    op = value.op
    if isinstance(op, soc.View):
        op = op.x.op
    if not isinstance(op, soc.Buffer):
        raise SimulationError(f"{value!r} is no buffer")
    return op
