"""Pattern rewriting with a log: what each rule did, and why a near match was left alone.

    P(graph.Add, P(graph.Matmul, "x", "w", bind="mm"), "b")

matches an add whose first operand is a matmul; the strings name values, `bind` names ops. `commutes=True` tries both
orders of a two-operand op.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .core import Module, Operation, Value
from .location import Location


class P:
    """A pattern over an op and its operands. An operand is a nested pattern, a name that binds the value, or None."""

    def __init__(
        self,
        op: type[Operation] | tuple[type[Operation], ...],
        *operands: P | str | None,
        bind: str = "",
        commutes: bool = False,
        **attributes: Any,
    ):
        self.op, self.operands, self.bind = op, operands, bind
        self.commutes, self.attributes = commutes, attributes

    def match(self, op: Operation) -> dict[str, Any] | None:
        """The bindings, or None. A name that occurs twice must be the same value."""
        if not isinstance(op, self.op):
            return None
        if any(getattr(op, k, None) != v for k, v in self.attributes.items()):
            return None
        orders = [op.operands]
        if self.commutes:
            orders.append(op.operands[::-1])
        for operands in orders:
            found = self._match_operands(op, operands)
            if found is not None:
                return found
        return None

    def _match_operands(self, op: Operation, operands: Sequence[Value]) -> dict[str, Any] | None:
        if self.operands and len(self.operands) != len(operands):
            return None
        found: dict[str, Any] = {self.bind: op} if self.bind else {}
        for pattern, value in zip(self.operands, operands, strict=False):
            if pattern is None:
                continue
            if isinstance(pattern, str):
                inner: dict[str, Any] | None = {pattern: value}
            else:
                inner = pattern.match(value.op) if value.op is not None else None
            if inner is None or any(found.get(k, v) is not v for k, v in inner.items()):
                return None
            found.update(inner)
        return found


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One thing that a rule did ("applied") or left alone ("missed"), where, and why."""

    rule: str
    outcome: str
    op: str
    location: Location
    reason: str = ""

    def __str__(self) -> str:
        tail = f": {self.reason}" if self.reason else ""
        return f"{self.outcome:7} {self.rule} at {self.op} ({self.location}){tail}"


@dataclass
class Rewriter:
    """Changes ops in place and records it. A rule returns True if it changed something."""

    log: list[LogEntry] = field(default_factory=list)
    rule: str = ""

    def insert(self, anchor: Operation, op: Operation) -> Operation:
        """Puts `op` before `anchor`; a new op without a location takes the anchor's."""
        assert anchor.parent is not None
        if not op.location.node:
            op.location = anchor.location
        return anchor.parent.insert_before(anchor, op)

    def replace(self, op: Operation, *values: Value | Operation, reason: str = "") -> bool:
        """Every use of op's results becomes the values (or the new ops' results), and op goes."""
        self.log.append(LogEntry(self.rule, "applied", op.name, op.location, reason))
        fresh: list[Value] = []
        for v in values:
            if isinstance(v, Operation):
                if v.parent is None:
                    self.insert(op, v)
                fresh.extend(v.results)
            else:
                fresh.append(v)
        for old, new in zip(op.results, fresh, strict=True):
            new.name = new.name or old.name
            old.replace_all_uses(new)
        op.erase()
        return True

    def erase(self, op: Operation, reason: str = "") -> bool:
        self.log.append(LogEntry(self.rule, "applied", op.name, op.location, reason))
        op.erase()
        return True

    def missed(self, op: Operation, reason: str) -> bool:
        """A near match that was left alone, and why."""
        entry = LogEntry(self.rule, "missed", op.name, op.location, reason)
        if entry not in self.log[-64:]:
            self.log.append(entry)
        return False


Rule = Callable[..., bool]


def apply_rules(module: Module, rules: Sequence[tuple[str, P, Rule]], log: list[LogEntry], rounds: int = 32) -> bool:
    """Applies rules (name, pattern, action) at every op, front to back, until a round changes nothing.

    Raises RuntimeError when rules still fire after `rounds` rounds: they undo each other.
    """
    rewriter = Rewriter(log)
    ever = False
    for _ in range(rounds):
        changed = False
        for op in _ops(module):
            for name, pattern, action in rules:
                found = pattern.match(op)
                if found is None:
                    continue
                rewriter.rule = name
                if action(rewriter, op, **found):
                    changed = True
                    if op.parent is None:
                        break
        if not changed:
            return ever
        ever = True
    raise RuntimeError(f"rules {sorted({n for n, _, _ in rules})} still change the program after {rounds} rounds")


def _ops(module: Module) -> Iterator[Operation]:
    for op in list(module.walk()):
        if op.parent is not None:
            yield op


def erase_dead(module: Module, pure: Callable[[Operation], bool]) -> int:
    """Removes pure ops whose results nobody uses, back to front; returns how many."""
    count = 0
    for op in reversed(list(module.walk())):
        if op.parent is not None and op.results and op.unused and pure(op):
            op.erase()
            count += 1
    return count
