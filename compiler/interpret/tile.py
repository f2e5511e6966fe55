"""Runs a tile-level module with numpy: walks each loop's grid and computes on its blocks.

Every tensor owns dense storage in the axis order of its type; a tile.view is a strided view of it. Storage that nobody
wrote reads as NaN, and a block that leaves a tensor where no padding is meant is an error.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from tilewright.compiler.dialects import graph, tile
from tilewright.compiler.ir import Module, Return, TensorType, Value, contiguous_strides

from .blocks import Body, Window, fits, pad_value, read_block, unwritten, write_block
from .graph import last_uses
from .kernels import evaluate
from .numerics import Arith, Array, check_inputs, error, numpy_dtype, one_blas_thread
from .parameters import parameter_array

SOURCES = (graph.Constant, graph.Iota)


def run_tile(module: Module, inputs: Sequence[Array], arith: Arith = "native") -> list[Array]:
    """The outputs of `main` on `inputs`, in order; the inputs themselves are left as they are.

    Raises InterpretError for inputs that do not fit, parameters without data, reads out of bounds, blocks larger than
    their types say, and ops that are not of this level.
    """
    body = module.main.body
    types = [(a.name or f"#{a.index}", a.type) for a in body.args]
    arrays = check_inputs(types, inputs, arith)
    values = {a: stored(x, a.type) for a, x in zip(body.args, arrays, strict=True)}
    dying = last_uses(body)

    def read(value: Value) -> Array:
        if value not in values and isinstance(value.owner, graph.Parameter):  # looked up when it is needed
            values[value] = stored(parameter_array(module, value.owner.key, value.type, arith), value.type)
        return values[value]

    for op in body:
        if isinstance(op, graph.Parameter):
            continue
        if isinstance(op, Return):
            return [np.array(read(v), order="C") for v in op.operands]
        tensors = [read(v) for v in op.operands]
        if isinstance(op, tile.Loop):
            with one_blas_thread():
                results = _run_loop(op, tensors, arith)
        elif isinstance(op, tile.View):
            results = [_view(op, tensors[0])]
        elif isinstance(op, tile.Empty):
            results = [empty(op.result.type, arith)]
        elif isinstance(op, SOURCES):
            results = [stored(evaluate(op, [], arith)[0], op.result.type)]
        else:
            raise error(op, "is no op of the tile level")
        values.update(zip(op.results, results, strict=True))
        del tensors, results
        for v in dying.get(op, ()):
            values.pop(v, None)
    raise error(module.main, "its body has no terminator")


def stored(array: Array, type: TensorType) -> Array:
    """A copy of `array` that is dense in the axis order of `type`."""
    return np.array(array.transpose(type.order), order="C").transpose(np.argsort(type.order))


def empty(type: TensorType, arith: Arith) -> Array:
    """Storage of `type` that nobody wrote."""
    shape = [type.shape[a] for a in type.order]
    return unwritten(shape, numpy_dtype(type.dtype, arith)).transpose(np.argsort(type.order))


def _view(op: tile.View, base: Array) -> Array:
    kind = op.x.type
    dense = tuple(s * base.itemsize for s in contiguous_strides(kind.shape, kind.order))
    if any(n > 1 and s != d for n, s, d in zip(kind.shape, base.strides, dense, strict=True)):
        raise error(op, "looks at a tensor that does not own its storage")
    storage = base.transpose(kind.order).reshape(-1)
    shape = op.result.type.shape
    return as_strided(storage[op.offset :], shape, [s * base.itemsize for s in op.strides])


def _run_loop(op: tile.Loop, tensors: Sequence[Array], arith: Arith) -> list[Array]:
    """The loop's results: its destinations, updated, or new tensors."""
    results = list(tensors[len(op.ins) :]) or [empty(r.type, arith) for r in op.results]
    _Loop(op, tensors[: len(op.ins)], results, arith).run()
    return results


class _Loop:
    """One tile.loop, made ready to walk."""

    def __init__(self, op: tile.Loop, inputs: Sequence[Array], results: list[Array], arith: Arith):
        self.op, self.inputs, self.results = op, inputs, results
        self.names = op.dims
        self.body = Body(op.body, arith)
        windows = [Window(op.in_access(i), self.names) for i in range(len(op.ins))]
        self.whole = [a.type.space == "dram" for a in op.body.args[: len(op.ins)]]
        self.loads = list(zip(windows, inputs, op.pads, self.whole, strict=True))
        self.accs = [Window(op.acc_access(i), self.names) for i in range(len(op.accs))]
        self.outs = [Window(op.out_access(i), self.names) for i in range(len(op.outs))]

    def run(self) -> None:
        op, grid = self.op, self.op.grid
        parallel = len(grid.names) - grid.reductions
        if grid.reductions and not op.accs:
            raise error(op, "reduces, but has no accumulators")
        ranges = [range(0, n, t) for n, t in zip(grid.sizes, grid.tiles, strict=True)]
        last = [r[-1] if r else 0 for r in ranges]
        for outer in itertools.product(*ranges[:parallel]):
            carried: list[Array] = []
            for inner in itertools.product(*ranges[parallel:]):
                starts = (*outer, *inner)
                extents = [min(t, n - a) for a, n, t in zip(starts, grid.sizes, grid.tiles, strict=True)]
                carried = self._step(starts, extents, carried, list(inner) == last[parallel:])

    def _step(self, starts: tuple[int, ...], extents: list[int], carried: list[Array], last: bool) -> list[Array]:
        """One point of the grid; gives the accumulators for the next."""
        body, at = self.body, dict(zip(self.names, starts, strict=True))
        values: list[Any] = [None] * body.slots
        for i, (window, array, pad, whole) in enumerate(self.loads):
            values[i] = array if whole else self._read(i, window, array, pad, starts, extents)
        for i, window in enumerate(self.accs, len(self.loads)):
            shape, dtype = window.at(starts, extents)[1], body.arguments[i][1]
            init = self.op.inits[i - len(self.loads)]
            values[i] = carried[i - len(self.loads)] if carried else np.full(shape, pad_value(init, dtype), dtype)
        for i, (largest, dtype) in enumerate(body.arguments):
            if values[i].dtype != dtype or not fits(values[i].shape, largest):
                raise error(
                    self.op, f"block {i} is {values[i].dtype}{values[i].shape}, not {self.op.body.args[i].type}"
                )
        if self.accs:
            body.run(values, 0, body.split, at)
            carried = [self._carry(i, values[slot], values[len(self.loads) + i]) for i, slot in enumerate(body.carried)]
            if not last:
                return carried
        body.run(values, body.split, len(body.steps), at)
        for i, slot in enumerate(body.yields):
            self._write(i, values[slot], starts, extents)
        return carried

    def _carry(self, index: int, new: Array, old: Array) -> Array:
        if new.shape != old.shape or new.dtype != old.dtype:
            raise error(
                self.op, f"accumulator {index} is {old.dtype}{old.shape}, its next value {new.dtype}{new.shape}"
            )
        return new

    def _read(
        self, index: int, window: Window, array: Array, pad: Any, starts: tuple[int, ...], extents: list[int]
    ) -> Array:
        try:
            return read_block(array, *window.at(starts, extents), pad)
        except IndexError as problem:
            raise error(
                self.op,
                f"input {index} [{window.access}] {problem} of a tensor {array.shape} "
                f"at {dict(zip(self.names, starts, strict=True))}, and has no padding",
            ) from problem

    def _write(self, index: int, block: Array, starts: tuple[int, ...], extents: list[int]) -> None:
        target = self.results[index]
        if block is target:  # a body that wrote its result in place
            return
        first, size = self.outs[index].at(starts, extents)
        if block.shape != tuple(size) or block.dtype != target.dtype:
            raise error(
                self.op,
                f"yields {block.dtype}{block.shape} for result {index}, where [{self.outs[index].access}] is "
                f"{target.dtype}{tuple(size)} at {dict(zip(self.names, starts, strict=True))}",
            )
        write_block(target, first, block)
