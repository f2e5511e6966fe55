"""Core ATen, op by op: each has a lowering or a decomposition, or a reason why it has none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from tilewright.compiler.frontend.decompose import decompositions
from tilewright.compiler.frontend.lowerings import NOTHING, find

GRADIENT = "the gradient of another op, in programs that train"
RANDOM = "random numbers"
DATA = "a number or a shape that depends on data"
SIZE = "a size, which is a number once the program's sizes are bound"

WITHOUT = {
    "aten._adaptive_avg_pool2d_backward.default": GRADIENT,
    "aten.avg_pool2d_backward.default": GRADIENT,
    "aten.convolution_backward.default": GRADIENT,
    "aten._local_scalar_dense.default": DATA,
    "aten.nonzero.default": DATA,
    "aten.rand.default": RANDOM,
    "aten.randperm.default": RANDOM,
    "aten.resize_.default": "a change of size in place, which may uncover memory that nobody wrote",
    "aten.sym_is_contiguous.default": SIZE,
    "aten.sym_size.int": SIZE,
    "aten.sym_stride.int": SIZE,
    "aten.sym_storage_offset.default": SIZE,
}


def core_ops() -> Iterator[Any]:
    """All that torch has registered: `dir(torch.ops.aten)` lists only those that somebody has used."""
    for name in torch._C._dispatch_get_all_op_names():
        namespace, _, rest = name.partition("::")
        packet, _, overload = rest.partition(".")
        found = getattr(torch.ops.aten, packet, None) if namespace == "aten" else None
        op = getattr(found, overload or "default", None)
        if op is not None and torch.Tag.core in op.tags:
            yield op


def test_every_core_op_is_covered_or_has_its_reason() -> None:
    ops = list(core_ops())
    assert len(ops) > 180
    missing = {str(op) for op in ops if find(op) is None and op not in NOTHING and op not in decompositions()}
    assert missing == set(WITHOUT)
