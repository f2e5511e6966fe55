"""The engines a target may have, by the `kind` of their table."""

from __future__ import annotations

from .base import CopyUnit, Engine, Space, Work
from .cpu import Cpu
from .demand import UnpricedError
from .gpu import Gpu
from .neural import Neural
from .pricing import PricedEngine
from .systolic.engine import Systolic

ENGINES: dict[str, type[PricedEngine]] = {engine.kind: engine for engine in (Neural, Gpu, Cpu, Systolic)}

__all__ = ["ENGINES", "CopyUnit", "Engine", "PricedEngine", "Space", "UnpricedError", "Work"]
