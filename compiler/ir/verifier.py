"""Checks a program: declarations, types, dominance, uses, terminators, and the levels' own rules."""

from __future__ import annotations

import math
from functools import cache

from .core import Block, IRError, Operation, Value, VerifyError, attribute


def verify(op: Operation) -> None:
    """Raises VerifyError at the first op that breaks a rule; the message names the op and its location."""
    _verify(op, set())


def _verify(op: Operation, visible: set[Value]) -> None:
    _verify_declaration(op)
    for i, v in enumerate(op._operands):
        if v not in visible:
            op.fail(f"operand {i} ({v!r}) is not defined before it is used")
        if (op, i) not in v.uses:
            op.fail(f"operand {i} does not list this op among its uses")
    for block in op.regions:
        if block.parent is not op:
            op.fail("a region does not point back to its op")
        _verify_block(op, block, visible)
    try:
        op.verify()
    except VerifyError:
        raise
    except IRError as error:
        op.fail(str(error))
    except (TypeError, ValueError, AttributeError, IndexError, KeyError, ZeroDivisionError) as error:
        op.fail(f"its operands or attributes are of the wrong kind: {type(error).__name__}: {error}")
    visible.update(op.results)


def _verify_block(op: Operation, block: Block, visible: set[Value]) -> None:
    defined = set(block.args)
    visible.update(defined)
    for inner in block:
        if inner.parent is not block:
            inner.fail("the op does not point back to its block")
        if inner.terminator and inner.next is not None:
            inner.fail("a terminator must be the last op of its block")
        _verify(inner, visible)
        defined.update(inner.results)
    visible -= defined  # what a region defines is seen only inside it


class _Declaration:
    """How many operands and results a class of ops takes, and what its attributes may be."""

    def __init__(self, cls: type[Operation]):
        operands, results = cls.operand_defs, cls.result_defs
        self.least = sum(not (d.optional or d.variadic) for d in operands)
        self.most = math.inf if any(d.variadic for d in operands) else len(operands)
        self.results = None if any(d.variadic for d in results) else len(results)
        self.attributes = [(n, d.default, _accepted(d.type), d.type) for n, d in cls.attribute_defs.items()]

    @property
    def operands(self) -> str:
        if self.most == self.least:
            return f"{self.least}"
        return f"at least {self.least}" if self.most == math.inf else f"{self.least} to {self.most}"


_declaration = cache(_Declaration)


def _verify_declaration(op: Operation) -> None:
    declared = _declaration(type(op))
    count = len(op._operands)
    if not declared.least <= count <= declared.most:
        op.fail(f"has {count} operands, expected {declared.operands}")
    if declared.results is not None and len(op.results) != declared.results:
        op.fail(f"has {len(op.results)} results, expected {declared.results}")
    if len(op.regions) != op.region_count:
        op.fail(f"has {len(op.regions)} regions, expected {op.region_count}")
    for name, default, accepted, kind in declared.attributes:
        value = op.attributes.get(name, default)
        if value is attribute.REQUIRED:
            op.fail(f"needs the attribute '{name}'")
        if value is not None and not isinstance(value, accepted):
            op.fail(f"attribute '{name}' is {value!r}, expected {kind.__name__}")


def _accepted(declared: type) -> tuple[type, ...]:
    return (float, int) if declared is float else (declared,)
