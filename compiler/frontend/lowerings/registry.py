"""The table of lowerings: what each ATen op becomes at the graph level.

    @lowers(aten.relu, aten.relu6.default)      # every overload of a packet, or one overload
    def relu(e: Emitter, x: Value) -> Value: ...

A lowering is called with the arguments of the ATen op, each tensor as the Value that it holds now. It gives a Value, a
list of them, or a View (of its first argument: the model may later write through it). An op that writes needs none of
its own: for `add_`, that of `add` makes the new contents. One that gives results and writes arguments besides gives
both, as Updated. A form that cannot be compiled ends in `e.unsupported(why)`.

An op of another library exists once that library is loaded. It is registered by its name, "torchao::quantize_affine".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import torch
from tilewright.compiler.ir import Value

Lowering = Callable[..., Any]
AnyLowering = TypeVar("AnyLowering", bound=Lowering)
LOWERINGS: dict[Any, Lowering] = {}
NAMED: dict[str, Lowering] = {}  # ops of other libraries, by their name
COMPLEX: dict[Any, Lowering] = {}  # where an operand or the result is complex: called with Parts for such tensors
BY_PARTS: set[Any] = set()  # whose lowering on the real parts and on the imaginary parts is theirs on complex tensors


@dataclass(frozen=True, slots=True)
class Updated:
    """What a lowering gives of an op that also writes arguments: the new contents, by the argument's position."""

    results: Any
    contents: dict[int, Value]


aten = torch.ops.aten
NOTHING = {  # checks that torch made when it exported
    aten._assert_tensor_metadata.default,
    aten._assert_async.msg,
    aten._assert_scalar.default,
    aten.sym_constrain_range_for_size.default,
    aten._linalg_check_errors.default,
}


STAND_INS = {  # ops of other libraries, which exist once their library is loaded, by the ATen op that means the same
    "transformers::grouped_mm_fallback": aten._grouped_mm.default,
}


def stand_in(target: Any) -> Any:
    """The ATen op that means the same as `target`; `target` itself for all others."""
    return STAND_INS.get(target._schema.name, target)


def overloads(target: Any) -> list[Any]:
    """The overload itself, or all overloads of a packet."""
    return [getattr(target, name) for name in target.overloads()] if hasattr(target, "overloads") else [target]


def lowers(*targets: Any) -> Callable[[AnyLowering], AnyLowering]:
    """Registers a lowering for overloads, for all overloads of packets, or for ops by name."""

    def register(function: AnyLowering) -> AnyLowering:
        for target in targets:
            if isinstance(target, str):
                NAMED[target] = function
            else:
                LOWERINGS.update(dict.fromkeys(overloads(target), function))
        return function

    return register


def lowers_complex(*targets: Any) -> Callable[[AnyLowering], AnyLowering]:
    """Registers a lowering for complex operands or results."""

    def register(function: AnyLowering) -> AnyLowering:
        COMPLEX.update(dict.fromkeys((o for t in targets for o in overloads(t)), function))
        return function

    return register


def find(target: Any) -> Lowering | None:
    """The lowering that makes the op's results; of an op that writes, the one that makes the new contents."""
    if writes(target) and lowering_of(target) is None:
        target = without_write(target)
    return None if target is None else lowering_of(target) or COMPLEX.get(target)


def lowering_of(target: Any) -> Lowering | None:
    """The lowering of just this op on real tensors."""
    return LOWERINGS.get(target) or NAMED.get(target._schema.name)


MAY_COPY = {"contiguous", "flatten", "reshape", "reshape_as", "to"}  # views only where the strides allow


@cache
def views(target: Any) -> bool:
    """Whether the op's results always share the storage of its first argument."""
    returned = target._schema.returns
    if target._schema.name.removeprefix("aten::") in MAY_COPY:
        return False
    return bool(returned) and not writes(target) and all(r.alias_info is not None for r in returned)


def writes(target: Any) -> bool:
    """Whether the op changes one of its arguments."""
    return target._schema.is_mutable


def without_write(target: Any) -> Any:
    """aten.add.Tensor for aten.add_.Tensor, aten.__or__.Tensor for aten.__ior__.Tensor; None if there is none."""
    packet = target._schema.name.removeprefix("aten::")
    if packet.startswith("__i") and packet.endswith("__"):
        name = f"__{packet[3:]}"
    elif packet.endswith("_"):
        name = packet[:-1]
    else:
        return None
    packet = getattr(aten, name, None)
    if packet is None or hasattr(packet, target._overloadname):
        return getattr(packet, target._overloadname, None)
    same = (o for o in overloads(packet) if _parameters(o) == _parameters(target))
    return next(same, None)  # aten.transpose.int for aten.transpose_.default


def _parameters(target: Any) -> list[tuple[str, str]]:
    return [(a.name, str(a.type)) for a in target._schema.arguments]
