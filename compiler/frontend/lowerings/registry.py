"""The table of lowerings: what each ATen op becomes at the graph level.

    @lowers(aten.relu, aten.relu6.default)      # every overload of a packet, or one overload
    def relu(e: Emitter, x: Value) -> Value: ...

A lowering is called with the arguments of the ATen op, each tensor as the Value that it holds now. It gives a Value, a
list of them, or a View (of its first argument: the model may later write through it). An op that writes, such as `add_`,
needs no lowering of its own: that of `add` makes the new contents. A form that cannot be compiled ends in
`e.unsupported(why)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

Lowering = Callable[..., Any]
AnyLowering = TypeVar("AnyLowering", bound=Lowering)
LOWERINGS: dict[Any, Lowering] = {}

aten = torch.ops.aten


def overloads(target: Any) -> list[Any]:
    """The overload itself, or all overloads of a packet."""
    return [getattr(target, name) for name in target.overloads()] if hasattr(target, "overloads") else [target]


def lowers(*targets: Any) -> Callable[[AnyLowering], AnyLowering]:
    """Registers a lowering for overloads, or for all overloads of packets."""

    def register(function: AnyLowering) -> AnyLowering:
        LOWERINGS.update(dict.fromkeys((o for t in targets for o in overloads(t)), function))
        return function

    return register
