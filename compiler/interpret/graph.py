"""Runs a graph-level module with numpy."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Block, Module, Operation, Value

from .kernels import evaluate
from .numerics import Arith, Array, check_inputs, error, one_blas_thread
from .parameters import parameter_array

SMALL_MACS = 1 << 27  # a few milliseconds of one core


def run_graph(module: Module, inputs: Sequence[Array], arith: Arith = "native") -> list[Array]:
    """The outputs of `main` on `inputs`, in order. Values are dropped after their last use.

    Raises InterpretError for inputs that do not fit, parameters without data, and ops that are not of this level.
    """
    body = module.main.body
    types = [(a.name or f"#{a.index}", a.type) for a in body.args]
    values = dict(zip(body.args, check_inputs(types, inputs, arith), strict=True))
    return _run(module, body, values, arith)


def _run(module: Module, block: Block, values: dict[Value, Array], arith: Arith) -> list[Array]:
    """Executes a block whose arguments are in `values`; gives the operands of its terminator."""
    dying = last_uses(block)

    def read(value: Value) -> Array:
        if value not in values and isinstance(value.owner, graph.Parameter):  # looked up when it is needed
            values[value] = parameter_array(module, value.owner.key, value.type, arith)
        return values[value]

    for op in block:
        if isinstance(op, graph.Parameter):
            continue
        arrays = [read(v) for v in op.operands]
        if op.terminator:
            return arrays
        if isinstance(op, graph.Fuse):
            results = _run(module, op.body, dict(zip(op.body.args, arrays, strict=True)), arith)
        elif isinstance(op, graph.GraphOp):
            with one_blas_thread() if _small(op) else nullcontext():
                results = evaluate(op, arrays, arith)
        else:
            raise error(op, "is no op of the graph level")
        for r, array in zip(op.results, results, strict=True):
            if array.shape != r.type.shape:
                raise error(op, f"gave the shape {array.shape} for {r.type}")
            values[r] = array
        del arrays, results
        for v in dying.get(op, ()):
            values.pop(v, None)
    raise error(block.parent or module, "its body has no terminator")


def _small(op: graph.GraphOp) -> bool:
    """Whether its products are too small to share among threads; those of attention are, one a head."""
    return isinstance(op, graph.Attention) or 0 < op.macs() < SMALL_MACS


def last_uses(block: Block) -> dict[Operation, list[Value]]:
    """For each op of the block, the values that nothing uses after it."""
    last: dict[Value, Operation] = {}
    for op in block:
        for inner in op.walk():
            last.update(dict.fromkeys(inner.operands, op))
        last.update({r: op for r in op.results})
    dying: dict[Operation, list[Value]] = {}
    for value, op in last.items():
        dying.setdefault(op, []).append(value)
    return dying
