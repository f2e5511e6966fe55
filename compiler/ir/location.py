"""Where an op comes from: the FX node, the module path in the model, and the user's own line."""

from __future__ import annotations

from typing import NamedTuple


class Location(NamedTuple):
    """Printed as MLIR's nested name location: `loc("conv2d"("layer1.0.conv1"("net.py":12:0)))`."""

    file: str = ""
    line: int = 0
    column: int = 0
    module: str = ""  # dotted path of the torch module, "" for the root
    node: str = ""  # name of the FX node

    @property
    def source(self) -> str:
        """`net.py:12`, or the empty string where no line is known."""
        return f"{self.file}:{self.line}" if self.file else ""

    def __str__(self) -> str:
        parts = [p for p in (self.node, self.module, self.source) if p]
        return " ".join(parts) if parts else "unknown location"


UNKNOWN = Location()
