"""The graph level: what to compute. Named tensor ops at the height that engines and fusion reason about.

Each op says its result shape (`shapes`), its multiply-accumulates (`macs`) and, for compute, its structure: the
iteration dims, parallel or reduction, and which block of each operand an iteration touches. Fusion and tiling read only
the structure. An op that accumulates over reduction dims names the value its accumulator starts from.
"""

from __future__ import annotations

from typing import Any

from ..elementwise import broadcast
from .base import (
    PAR,
    RED,
    Dim,
    GraphOp,
    Shape,
    Structure,
    broadcast_access,
    check_dense,
    dim_names,
    rowwise,
    window_axes,
    window_sizes,
)
from .contraction import Attention, Conv, Matmul, accumulate_dtype
from .elementwise import ELEMENTWISE, Cast, Clamp, Elementwise, Elu, LeakyRelu, Where
from .experts import GroupedMatmul
from .grouping import Fuse, Yield
from .movement import Concat, Copy, Expand, Gather, Pad, Reshape, Scatter, Slice, Transpose, Update
from .quantization import Blocked, Dequantize, Lookup, Quantize, ToDense, block_counts
from .reduction import (
    Argmax,
    Argsort,
    BatchNorm,
    Cumsum,
    GroupNorm,
    LayerNorm,
    Pool,
    PoolIndex,
    Reduce,
    Resize,
    RmsNorm,
    RowOp,
    Scan,
    Softmax,
)
from .sources import Constant, Iota, Parameter, is_parameter
from .whole import Linalg, ScatterReduce, SearchSorted, WholeOp


def __getattr__(name: str) -> Any:
    """Elementwise ops by class name: `graph.Relu`, `graph.Add`."""
    for cls in ELEMENTWISE.values():
        if cls.__name__ == name:
            return cls
    raise AttributeError(f"module 'graph' has no op '{name}'")


SOURCES = (Parameter, Constant, Iota)  # they compute nothing: what they give is there at load time
PRODUCTS = (Matmul, Conv)  # multiply by a weight, where their second operand is one

__all__ = [
    "ELEMENTWISE",
    "PAR",
    "PRODUCTS",
    "RED",
    "SOURCES",
    "Argmax",
    "Argsort",
    "Attention",
    "BatchNorm",
    "Blocked",
    "Cast",
    "Clamp",
    "Concat",
    "Constant",
    "Conv",
    "Copy",
    "Cumsum",
    "Dequantize",
    "Dim",
    "Elementwise",
    "Elu",
    "Expand",
    "Fuse",
    "Gather",
    "GraphOp",
    "GroupNorm",
    "GroupedMatmul",
    "Iota",
    "LayerNorm",
    "LeakyRelu",
    "Linalg",
    "Lookup",
    "Matmul",
    "Pad",
    "Parameter",
    "Pool",
    "PoolIndex",
    "Quantize",
    "Reduce",
    "Reshape",
    "Resize",
    "RmsNorm",
    "RowOp",
    "Scan",
    "Scatter",
    "ScatterReduce",
    "SearchSorted",
    "Shape",
    "Slice",
    "Softmax",
    "Structure",
    "ToDense",
    "Transpose",
    "Update",
    "Where",
    "WholeOp",
    "Yield",
    "accumulate_dtype",
    "block_counts",
    "broadcast",
    "broadcast_access",
    "check_dense",
    "dim_names",
    "is_parameter",
    "rowwise",
    "window_axes",
    "window_sizes",
]
