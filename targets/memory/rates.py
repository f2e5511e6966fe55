"""What the shared parts of a memory give the engines of a target, in bytes a second."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol


class Asking(Protocol):
    """What an engine can take; None where that is no limit."""

    name: str
    port_bytes_per_s: int | None
    dram_bytes_per_s: int | None


def port_rate(memory: Any, engine: Asking) -> int:
    """What passes an engine's port: no more than the engine itself can take and give."""
    cap = memory.port_bytes_per_s[engine.name]
    return cap if engine.port_bytes_per_s is None else min(cap, engine.port_bytes_per_s)


def dram_rate(memory: Any, engines: Iterable[Asking]) -> float:
    """What DRAM gives, or all engines of the target together can ask of it. That is the peak, where `memory.demand`
    says how long each pattern keeps DRAM busy."""
    asked = [e.dram_bytes_per_s for e in engines]
    limits = [a for a in asked if a is not None]
    sustained = memory.dram_bytes_per_s * memory.efficiency
    return min(sustained, sum(limits)) if len(limits) == len(asked) else sustained
