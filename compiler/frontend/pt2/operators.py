"""Operators by their serialized names. Only those that the importer could take are looked up.

Nothing is imported because a file asks for it, but for the modules in LIBRARIES, when it uses one of their operators.
"""

from __future__ import annotations

import importlib
import math
import operator
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch._decomp
import torch.ao.quantization.fx._decomposed  # registers torch.ops.quantized_decomposed
from torch._higher_order_ops.wrap import wrap_with_autocast, wrap_with_set_grad_enabled

from .. import palettes as palettes  # registers torch.ops.tilewright.lookup
from .. import sparsity as sparsity  # and to_dense
from ..errors import MissingPackage
from ..export import quiet
from ..lowerings import NAMED, NOTHING, find

NAMESPACES = ("aten", "prims", "quantized_decomposed", "tilewright")
LIBRARIES = {"torchao": "torchao.quantization.quant_primitives"}  # namespace -> the module that registers its operators
SCOPES: dict[str, Any] = {
    "torch.ops.higher_order.wrap_with_set_grad_enabled": wrap_with_set_grad_enabled,
    "torch.ops.higher_order.wrap_with_autocast": wrap_with_autocast,
}
SIZES: dict[str, Callable[..., Any]] = {  # of Python numbers: arithmetic on sizes
    **{
        f"_operator.{f.__name__}": f
        for f in (
            *(operator.eq, operator.ne, operator.le, operator.ge, operator.lt, operator.gt, operator.neg, operator.pos),
            *(
                operator.mul,
                operator.add,
                operator.sub,
                operator.floordiv,
                operator.truediv,
                operator.mod,
                operator.pow,
            ),
        )
    },
    "_operator.and_": operator.and_,
    "_operator.or_": operator.or_,
    "math.trunc": math.trunc,
    **{
        f"torch.{f.__name__}": f
        for f in (torch.sym_not, torch.sym_int, torch.sym_float, torch.sym_ite, torch.sym_max, torch.sym_min)
    },
}
_NAME = re.compile(r"torch\.ops\.([a-z_]+)\.([A-Za-z0-9_]{1,100})\.([A-Za-z0-9_]{1,60})")
# Kernels that torch writes as compositions, but that touch sparse storage, prepacked objects or a tensor's own parts.
_INTERNAL = re.compile(
    r"_?sparse|to_sparse|_?to_mkldnn|_validate|fbgemm|_wrapped|_pack_|_pad_packed|_test|_sobol|_add_batch|_remove_batch"
    r"|_lu|set_|_set_|data$|pin_memory|_cufft|nested|_nested|combinations|_propagate|_reshape_from|get_gradients|.*_backward"
)


@cache
def resolve(name: str) -> Any:
    """The operator that a serialized name stands for; None for one that cannot be imported, or that is none."""
    if name in SCOPES:
        return SCOPES[name]
    if name in SIZES:
        return SIZES[name]
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    if f"{match[1]}::{match[2]}" in NAMED and match[1] in LIBRARIES:
        _load(match[1], name)
    elif match[1] not in NAMESPACES:
        return None
    packet = getattr(getattr(torch.ops, match[1]), match[2], None)
    target = getattr(packet, match[3], None) if isinstance(packet, torch._ops.OpOverloadPacket) else None
    return target if isinstance(target, torch._ops.OpOverload) and _importable(target) else None


def _load(namespace: str, name: str) -> None:
    """Has the operators of a library registered. Raises MissingPackage."""
    try:
        with quiet():
            importlib.import_module(LIBRARIES[namespace])
    except ImportError as error:
        raise MissingPackage(
            f"the program uses {name.removeprefix('torch.ops.')}, an operator of {namespace}, which is not installed "
            f"({error}): pip install {namespace}"
        ) from None


def _importable(target: Any) -> bool:
    """A lowering, or a decomposition by torch, exists; or it asks for a size."""
    if target in NOTHING or find(target) is not None or target in _decomposed():
        return True
    packet = target._schema.name.partition("::")[2]
    if packet.startswith("sym_"):
        return True
    returns = target._schema.returns
    makes_tensors = bool(returns) and all(isinstance(r.type, (torch.TensorType, torch.ListType)) for r in returns)
    composite = torch._C._dispatch_has_kernel_for_dispatch_key(target.name(), "CompositeImplicitAutograd")
    return makes_tensors and composite and _INTERNAL.match(packet) is None


@cache
def _decomposed() -> frozenset[Any]:
    return frozenset(torch._decomp.global_decomposition_table["post_autograd"])
