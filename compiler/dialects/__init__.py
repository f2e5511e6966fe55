"""The three levels and what is legal in each."""

from . import graph, soc, tile

_COMMON = ("builtin.", "func.")
_SOURCES = ("graph.parameter", "graph.constant", "graph.iota")
LEGAL: dict[str, tuple[str, ...]] = {
    "graph": (*_COMMON, "graph."),
    "tile": (*_COMMON, "tile.", *_SOURCES),
    "soc": (*_COMMON, "soc.", "tile."),
}

__all__ = ["LEGAL", "graph", "soc", "tile"]
