"""Fold what depends on weights and constants alone into weights that are made when the program is loaded."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from tilewright.compiler.dialects import graph
from tilewright.compiler.interpret import run_graph
from tilewright.compiler.interpret.numerics import Arith
from tilewright.compiler.ir import Block, Func, Module, Operation, Return, Value
from tilewright.compiler.ir.rewriter import LogEntry

from .base import Pass, PassContext, register_pass
from .loop_spec import is_expansion


@register_pass
@dataclass(frozen=True)
class FoldConstants(Pass):
    """Replace an op over weights and constants by a weight of its own; its value is computed only if the program runs.

    before:  %c = graph.constant {value = 2.0} : tensor<f16>
             %1 = graph.mul %w, %c : tensor<8x8xf16>
    after:   %1 = graph.parameter {key = "folded.0"} : tensor<8x8xf16>

    What a compressed weight expands to is not folded: the weight stays as small as it is stored. Only a sparse tensor
    that not only products multiply by is dense from then on: there is no way to find a part of it.
    """

    max_elements: int = 1 << 26  # larger results would cost more memory than the work they save
    max_cast: int = 1 << 12  # bytes of scales and zero points, whose casts are not worth a loop

    def run(self, module: Module, context: PassContext) -> None:
        numbers = itertools.count(sum(k.startswith("folded.") for k in module.parameters))
        constant: set[Value] = set()
        expanded: set[Value] = set()  # of those, what takes more memory than the compressed weights behind it
        for op in module.main.body:
            if isinstance(op, graph.SOURCES) or self.folds(op, constant):
                constant.update(op.results)
                expanded.update(r for r in op.results if self.expands(op, expanded))
        folded = constant - expanded
        for op in list(module.main.body):
            if isinstance(op, graph.SOURCES) or not op.results or op.result not in folded:
                continue
            if self.needed(op, folded):
                key = f"folded.{next(numbers)}"
                self.materialise(module, op, key)
                context.log.append(LogEntry(self.name, "applied", op.name, op.location, f"made {key} at load time"))

    def folds(self, op: Operation, constant: set[Value]) -> bool:
        """Whether the op's result is known at load time."""
        return (
            isinstance(op, graph.GraphOp)
            and len(op.results) == 1
            and not isinstance(op, graph.Fuse)
            and op.result.type.elements <= self.max_elements
            and all(v in constant for v in op.operands)
        )

    def expands(self, op: Operation, expanded: set[Value]) -> bool:
        """Whether the op makes a compressed weight larger, or passes on, with no fewer elements, one that was."""
        if any(v in expanded and op.result.type.elements >= v.type.elements for v in op.operands):
            return True
        if isinstance(op, graph.ToDense) and not all(isinstance(u, graph.PRODUCTS) for u in op.result.users):
            return False
        size = op.result.type.bytes
        if isinstance(op, graph.Cast) and size <= self.max_cast:
            return False
        return is_expansion(op) and size > op.operands[0].type.bytes

    def needed(self, op: Operation, folded: set[Value]) -> bool:
        """Made for its users outside the folded part; a broadcast stays a view of what it repeats."""
        if isinstance(op, graph.Expand):
            return False
        return any(
            not user.results or user.results[0] not in folded or isinstance(user, graph.Expand)
            for user in op.result.users
        )

    def materialise(self, module: Module, op: Operation, key: str) -> None:
        recipe = _recipe(module, op)
        module.parameters[key] = recipe
        fresh = graph.Parameter(key=key, result_types=[op.result.type], location=op.location)
        assert op.parent is not None
        op.parent.insert_before(op, fresh)
        op.result.replace_all_uses(fresh.result)


def _recipe(module: Module, op: Operation) -> _Recipe:
    """A program of its own that computes op's result from the weights it reaches."""
    order: list[Operation] = []
    seen: set[Operation] = set()

    def visit(at: Operation) -> None:
        if at not in seen:
            seen.add(at)
            for v in at.operands:
                assert v.op is not None
                visit(v.op)
            order.append(at)

    visit(op)
    body = Block()
    mapping: dict[Value, Value] = {}
    for step in order:
        body.append(step.clone(mapping))
    body.append(Return(mapping[op.result]))
    program = Module()
    program.body.append(Func(sym_name="main", regions=[body]))
    return _Recipe(program, module)


class _Recipe:
    """Computes a folded weight when it is called, from the weights it came from, in the run's arithmetic."""

    def __init__(self, program: Module, owner: Module):
        self.program, self.owner = program, owner

    def __call__(self, arith: Arith = "native") -> np.ndarray:
        self.program.parameters = self.owner.parameters
        return run_graph(self.program, [], arith=arith)[0]
