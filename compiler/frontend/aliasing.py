"""Tensors that share storage. The model may write through any of them; the graph has only values.

A `Tensor` is what an FX node stands for: a storage of its own, or a view of another Tensor. A write through a view
becomes a new value for the storage under it; a view that is read after a write is taken anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tilewright.compiler.dialects import graph
from tilewright.compiler.ir import Value

from .emitter import Emitter, Shape


class View(Protocol):
    """A way to see the elements of a tensor."""

    def read(self, e: Emitter, base: Value) -> Value:
        """The view of `base`."""
        ...

    def write(self, e: Emitter, base: Value, value: Value) -> Value:
        """`base` with the elements of the view replaced by `value`."""
        ...


@dataclass(frozen=True, slots=True)
class Same:
    """All elements, as they are. `always`: torch hands back the tensor itself, though its tracing makes a new one."""

    always: bool = False

    def read(self, e: Emitter, base: Value) -> Value:
        return base

    def write(self, e: Emitter, base: Value, value: Value) -> Value:
        return value


@dataclass(frozen=True, slots=True)
class Reshaped:
    shape: Shape

    def read(self, e: Emitter, base: Value) -> Value:
        return e.reshape(base, self.shape)

    def write(self, e: Emitter, base: Value, value: Value) -> Value:
        return e.reshape(value, base.type.shape)


@dataclass(frozen=True, slots=True)
class Permuted:
    permutation: tuple[int, ...]

    def read(self, e: Emitter, base: Value) -> Value:
        return e.transpose(base, self.permutation)

    def write(self, e: Emitter, base: Value, value: Value) -> Value:
        return e.transpose(value, tuple(self.permutation.index(i) for i in range(len(self.permutation))))


@dataclass(frozen=True, slots=True)
class Sliced:
    """`size` elements from `start`, every `step`, along one axis; `drop` takes the axis (of size 1) away."""

    axis: int
    start: int
    size: int
    step: int = 1
    drop: bool = False

    def read(self, e: Emitter, base: Value) -> Value:
        part = e.slice_axis(base, self.axis, self.start, self.size, self.step)
        shape = part.type.shape
        return e.reshape(part, (*shape[: self.axis], *shape[self.axis + 1 :])) if self.drop else part

    def write(self, e: Emitter, base: Value, value: Value) -> Value:
        shape = base.type.shape
        if self.drop:
            value = e.reshape(value, tuple(1 if i == self.axis else n for i, n in enumerate(shape)))
        if value.type.shape == shape:
            return value
        starts = tuple(self.start if i == self.axis else 0 for i in range(len(shape)))
        steps = tuple(self.step if i == self.axis else 1 for i in range(len(shape)))
        return e.add(graph.Update(base, value, starts=starts, steps=steps))


@dataclass(frozen=True, slots=True)
class Expanded:
    shape: Shape

    def read(self, e: Emitter, base: Value) -> Value:
        return e.expand(base, self.shape)

    def write(self, e: Emitter, base: Value, value: Value) -> Value:
        return value if base.type.shape == self.shape else e.unsupported("a write through an expanded tensor")


@dataclass(frozen=True, slots=True)
class Strided:
    """Elements at `offset` and so many `strides` along each axis of the tensor's elements in row-major order."""

    shape: Shape
    strides: Shape
    offset: int = 0

    def read(self, e: Emitter, base: Value) -> Value:
        flat = e.reshape(base, (base.type.elements,))
        return e.add(graph.Gather(flat, self.index(e), axis=0))

    def write(self, e: Emitter, base: Value, value: Value) -> Value:
        flat, index = e.reshape(base, (base.type.elements,)), self.index(e)
        points = (index.type.elements,)
        value = e.reshape(value, points)
        return e.reshape(e.add(graph.Scatter(flat, e.reshape(index, points), value, axis=0)), base.type.shape)

    def index(self, e: Emitter) -> Value:
        total: Value | None = None
        for axis, (n, step) in enumerate(zip(self.shape, self.strides, strict=True)):
            rest = (1,) * (len(self.shape) - 1 - axis)
            part = e.reshape(e.iota(n, start=0 if total is not None else self.offset, step=step), (n, *rest))
            total = part if total is None else e.apply("add", total, part)
        return e.constant(self.offset, "i64") if total is None else total


MOST_PIECES = 64  # slices that are joined to overlapping windows; more would be many ops for one


@dataclass(frozen=True, slots=True)
class Windows:
    """`size` elements along an axis, every `step`, in a new last axis."""

    axis: int
    size: int
    step: int

    def read(self, e: Emitter, base: Value) -> Value:
        """Pieces of `step` elements: a window is so many that follow each other, each of which is a slice."""
        axis, shape = self.axis, base.type.shape
        pieces = -(-self.size // self.step)
        if not base.type.elements or not self.size or pieces > MOST_PIECES:
            return self.strided(base).read(e, base)
        count = (shape[axis] - self.size) // self.step + 1
        total = (count + pieces - 1) * self.step
        if total > shape[axis]:
            sides = [(0, total - shape[axis]) if a == axis else (0, 0) for a in range(len(shape))]
            base = e.pad(base, [p for side in sides for p in side])
        base = e.slice_axis(base, axis, 0, total)
        base = e.reshape(base, (*shape[:axis], total // self.step, self.step, *shape[axis + 1 :]))
        windows = e.concat([e.slice_axis(base, axis, i, count) for i in range(pieces)], axis + 1)
        windows = e.slice_axis(windows, axis + 1, 0, self.size)
        rank = len(shape) + 1
        return e.transpose(windows, [*(a for a in range(rank) if a != axis + 1), axis + 1])

    def write(self, e: Emitter, base: Value, value: Value) -> Value:
        return self.strided(base).write(e, base, value)

    def strided(self, base: Value) -> Strided:
        shape, axis = base.type.shape, self.axis
        strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
        counts = (*shape[:axis], (shape[axis] - self.size) // self.step + 1, *shape[axis + 1 :])
        moves = (*strides[:axis], strides[axis] * self.step, *strides[axis + 1 :])
        return Strided((*counts, self.size), (*moves, strides[axis]))


class Tensor:
    """One tensor of the model. `load` makes the first value of a storage when it is first read."""

    __slots__ = ("_value", "base", "load", "version", "view")

    def __init__(
        self,
        value: Value | None = None,
        load: Callable[[], Value] | None = None,
        base: Tensor | None = None,
        view: View | None = None,
    ):
        self._value, self.load, self.base, self.view = value, load, base, view
        self.version = (
            -1 if base is not None else 0
        )  # of a storage: how often it was written; of a view: when it was taken

    @property
    def root(self) -> Tensor:
        tensor = self
        while tensor.base is not None:
            tensor = tensor.base
        return tensor

    def stamp(self) -> int:
        """How often the storage was written, of a root."""
        return self.version

    def read(self, e: Emitter) -> Value:
        """The value that the tensor holds now."""
        if self.base is None:
            if self._value is None:
                assert self.load is not None
                self._value = self.load()
        elif self._value is None or self.version != self.root.stamp():
            assert self.view is not None
            self._value = self.view.read(e, self.base.read(e))
            self.version = self.root.stamp()
        return self._value

    def write(self, e: Emitter, value: Value) -> None:
        """Gives the tensor, and with it all that share its storage, new contents."""
        if self.base is None:
            self.version += 1
        else:
            assert self.view is not None
            self.base.write(e, self.view.write(e, self.base.read(e), value))
            self.version = self.root.stamp()
        self._value = value


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A tensor subclass of the class `name`, by the tensors inside it."""

    name: str
    tensors: dict[str, Tensor | Wrapped]
