"""Checks a program: declarations, types, dominance, uses, terminators, and the levels' own rules."""

from __future__ import annotations

from .core import Block, IRError, Operation, Value, VerifyError, attribute


def verify(op: Operation) -> None:
    """Raises VerifyError at the first op that breaks a rule; the message names the op and its location."""
    _verify(op, set())


def _verify(op: Operation, visible: set[Value]) -> None:
    _verify_declaration(op)
    for i, v in enumerate(op.operands):
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


def _verify_declaration(op: Operation) -> None:
    defs = op.operand_defs
    least = sum(not (d.optional or d.variadic) for d in defs)
    most = None if any(d.variadic for d in defs) else len(defs)
    count = len(op.operands)
    if count < least or (most is not None and count > most):
        expected = f"{least}" if most == least else f"at least {least}" if most is None else f"{least} to {most}"
        op.fail(f"has {count} operands, expected {expected}")
    if not any(d.variadic for d in op.result_defs) and len(op.results) != len(op.result_defs):
        op.fail(f"has {len(op.results)} results, expected {len(op.result_defs)}")
    if len(op.regions) != op.region_count:
        op.fail(f"has {len(op.regions)} regions, expected {op.region_count}")
    for name, declared in op.attribute_defs.items():
        value = op.attributes.get(name, declared.default)
        if value is attribute.REQUIRED:
            op.fail(f"needs the attribute '{name}'")
        if value is not None and not isinstance(value, _accepted(declared.type)):
            op.fail(f"attribute '{name}' is {value!r}, expected {declared.type.__name__}")


def _accepted(declared: type) -> tuple[type, ...]:
    return (float, int) if declared is float else (declared,)
