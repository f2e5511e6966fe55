"""The passes, and the default pipeline in order."""

from . import (
    allocate,
    canonicalize,
    choose_layout,
    double_buffer,
    expand_attention,
    expand_late,
    fold_batch_norm,
    fold_constants,
    fuse,
    fuse_attention,
    fuse_norm,
    integer_products,
    lower_to_soc,
    place,
    prefetch,
    signed_products,
    split_epilogues,
    tile,
)
from .base import REGISTRY, Pass, PassContext, PassError, parse_pipeline, register_pass, rule

GRAPH = (
    "canonicalize,signed-products,fold-batch-norm,expand-late,integer-products,fold-constants,fuse-norm,"
    "fuse-attention,expand-attention,fold-constants,canonicalize,fuse,choose-layout"
)
TILE = "prefetch,place,split-epilogues,tile,double-buffer"
SOC = "allocate,lower-to-soc"

DEFAULT = {"graph": GRAPH, "tile": f"{GRAPH},{TILE}", "soc": f"{GRAPH},{TILE},{SOC}"}


def default_pipeline(level: str, start: str = "graph") -> list[Pass]:
    """The passes that take a program from level `start` to `level`."""
    done = {"graph": "", "tile": DEFAULT["tile"], "soc": DEFAULT["soc"]}[start]
    return parse_pipeline(DEFAULT[level][len(done) :].lstrip(","))


_REGISTERED = (
    allocate, canonicalize, choose_layout, double_buffer, expand_attention, expand_late, fold_batch_norm,
    fold_constants, fuse, fuse_attention, fuse_norm, integer_products, lower_to_soc, place, prefetch, signed_products,
    split_epilogues, tile,
)  # fmt: skip

__all__ = [
    "DEFAULT",
    "REGISTRY",
    "Pass",
    "PassContext",
    "PassError",
    "default_pipeline",
    "parse_pipeline",
    "register_pass",
    "rule",
]
