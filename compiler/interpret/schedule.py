"""Which command runs when: engines walk their programs into the queues of their units, as far as tokens allow.

Walking is lazy: an engine issues commands until a bounded number wait in its queues, as a sequencer in hardware does.
Any command at the head of a queue whose tokens are done may run next; an order chooses among them.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tilewright.compiler.dialects import soc
from tilewright.compiler.ir import Func, Return, Value

from .commands import Plan, make_plan
from .memory import Point
from .numerics import Arith, InterpretError, error

WINDOW = 256  # commands that an engine may have in its queues

# Kinds of commands, most eager first. `youngest_first` lets every unit run as far ahead as its tokens allow.
PRIORITIES: dict[str, tuple[str, ...]] = {
    "loads_first": ("load", "store", "exec"),
    "loads_late": ("exec", "store", "load"),
    "stores_first": ("store", "load", "exec"),
    "stores_late": ("exec", "load", "store"),
}
ORDERS = ("program", "random", "youngest_first", *PRIORITIES)


class Done:
    """Something that is or will be complete: the completion of its parts, once they are known."""

    __slots__ = ("parts",)

    def __init__(self, parts: Sequence[Completion] | None = None):
        self.parts = parts

    @property
    def done(self) -> bool:
        if self.parts is None:
            return False
        if all(p.done for p in self.parts):
            self.parts = ()  # nothing to hold on to
            return True
        return False


class Command:
    """A command at one point of its loops: issued, then executed."""

    __slots__ = ("after", "clock", "done", "number", "plan", "point", "task")

    def __init__(self, plan: Plan, point: Point, after: Sequence[Completion], number: int, task: soc.Task):
        self.plan, self.point, self.after, self.number, self.task = plan, point, after, number, task
        self.done = False
        self.clock: Any = None  # what came before it, where somebody asks

    @property
    def ready(self) -> bool:
        return all(t.done for t in self.after)

    def __str__(self) -> str:
        at = ", ".join(f"{d}={s}" for d, s in zip(self.plan.frame.dims, self.point.starts, strict=True))
        op = self.plan.op
        place = op.location if str(op.location) != "unknown location" else self.task.location
        return f"{op.name} on {op.unit} [{at}] of '{self.task.label}' ({place})"


Completion = Done | Command


class Program:
    """The launches of a soc program, ready to be walked."""

    def __init__(self, main: Func, arith: Arith, scale: int):
        self.main, self.scale = main, scale
        self.arith: Arith = arith
        self.plans: dict[soc.SocOp, Plan] = {}
        self.tokens: dict[Value, Completion] = {}
        self.launches: list[tuple[soc.Launch, list[Value]]] = []  # with the tokens that the program waited for
        self.waits: list[Value] = []
        self.outputs: Sequence[Value] = ()
        self.issued = 0
        for op in main.body:
            if isinstance(op, soc.Launch):
                self.launches.append((op, list(self.waits)))
                self.tokens[op.token] = Done()
            elif isinstance(op, soc.Wait):
                self.waits += op.tokens
            elif isinstance(op, Return):
                self.outputs = op.operands
            elif not isinstance(op, (soc.Buffer, soc.View)):
                raise error(op, "is no op of the soc level")

    def engines(self) -> dict[str, list[tuple[soc.Launch, list[Value]]]]:
        by_name: dict[str, list[tuple[soc.Launch, list[Value]]]] = {}
        for launch, waited in self.launches:
            by_name.setdefault(launch.engine.name, []).append((launch, waited))
        return by_name

    def walk(self, launches: Sequence[tuple[soc.Launch, list[Value]]]) -> Iterator[Command | Done]:
        """The commands of these launches of one engine, in program order; a Done means: go on when it is."""
        before: Completion | None = None
        for launch, waited in launches:
            yield self._all([*launch.after, *waited])
            if before is not None:
                yield Done([before])
            previous: Completion = Done(())
            for task in launch.tasks:
                yield Done([previous, *(self.tokens[t] for t in task.after)])
                self.tokens[task.body.args[0]] = Done(())
                yield from self._block(task, task.body, (), Point())
                previous = self.tokens[task.token] = self._all(task.body.terminator.operands)
            before = self.tokens[launch.token]
            assert isinstance(before, Done)
            before.parts = [previous]

    def _all(self, tokens: Sequence[Value]) -> Done:
        return Done([self.tokens[t] for t in tokens])

    def _block(self, task: soc.Task, block: Any, loops: tuple[soc.For, ...], point: Point) -> Iterator[Command | Done]:
        tokens = self.tokens
        for op in block:
            if isinstance(op, (soc.Copy, soc.Exec)):
                plan = self.plans.get(op)
                if plan is None:
                    plan = self.plans[op] = make_plan(op, loops, self.arith, self.scale)
                self.issued += 1
                command = Command(plan, point, [tokens[t] for t in op.after], self.issued, task)
                tokens[op.token] = command
                yield command
            elif isinstance(op, soc.For):
                carried = [tokens[t] for t in op.operands]
                ends = op.body.terminator.operands
                for i in range(op.trips):
                    start = i * op.tile
                    tokens.update(zip(op.body.args, carried, strict=True))
                    inner = point.inner(i, start, min(op.tile, op.size - start))
                    yield from self._block(task, op.body, (*loops, op), inner)
                    carried = [tokens[t] for t in ends]
                tokens.update(zip(op.results, carried, strict=True))
            elif not isinstance(op, (soc.Buffer, soc.View, soc.Yield)):
                raise error(op, "does not stand in a task")


def in_program_order(program: Program) -> Iterator[Command]:
    """Every command, one after the other, as the text has them. The caller runs each before it asks for the next."""
    for launch in program.launches:
        for item in program.walk([launch]):
            if isinstance(item, Command):
                if not item.ready:
                    raise error(item.plan.op, "waits for a command that comes after it")
                yield item
                item.done, item.after = True, ()
            elif not item.done:
                raise error(launch[0], "waits for something that comes after it")


def in_any_order(program: Program, order: str, seed: int, awaited: Callable[[], None]) -> Iterator[Command]:
    """Every command in an order that tokens and queues allow; the caller runs each before it asks for the next.

    `awaited` is called once, as soon as all that the program waits for is done. Raises InterpretError on a deadlock.
    """
    choose = _chooser(order, seed)
    engines = [_Engine(program.walk(launches)) for launches in program.engines().values()]
    queues: dict[str, deque[Command]] = {}
    finished = Done([program.tokens[t] for t in program.waits])
    told = False
    while True:
        for engine in engines:
            engine.issue(queues)
        if not told and finished.done:
            told = True
            awaited()
        ready = [(q[0], q) for q in queues.values() if q and q[0].ready]
        if not ready:
            break
        command, queue = choose(ready)
        yield command
        queue.popleft()
        command.done, command.after = True, ()
        next(e for e in engines if command in e.pending).pending.discard(command)
    stuck = [q[0] for q in queues.values() if q]
    if stuck or not told or any(e.blocked for e in engines):
        heads = "; ".join(map(str, stuck)) or "no command is left"
        raise InterpretError(
            f"the program is stuck: its tokens wait for one another. At the head of the queues: {heads}"
        )


class _Engine:
    """One engine's walk and the commands that it has issued."""

    def __init__(self, items: Iterator[Command | Done]):
        self.items = items
        self.pending: set[Command] = set()
        self.blocked: Done | None = None

    def issue(self, queues: dict[str, deque[Command]]) -> None:
        while len(self.pending) < WINDOW:
            if self.blocked is not None:
                if not self.blocked.done:
                    return
                self.blocked = None
            item = next(self.items, None)
            if item is None:
                return
            if isinstance(item, Done):
                self.blocked = item
            else:
                self.pending.add(item)
                queues.setdefault(item.plan.unit, deque()).append(item)


Ready = list[tuple[Command, deque[Command]]]


def _chooser(order: str, seed: int) -> Callable[[Ready], tuple[Command, deque[Command]]]:
    if order == "random":
        rng = random.Random(seed)
        return lambda ready: ready[rng.randrange(len(ready))]
    if order == "youngest_first":
        return lambda ready: max(ready, key=lambda r: r[0].number)
    if order in PRIORITIES:
        rank = {kind: i for i, kind in enumerate(PRIORITIES[order])}
        return lambda ready: min(ready, key=lambda r: (rank[r[0].plan.kind], r[0].number))
    raise InterpretError(f"knows the orders {', '.join(ORDERS)}, not '{order}'")
