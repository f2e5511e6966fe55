"""The virtual hardware: SoC descriptions, engines, memory, and the simulator that runs programs on them."""

from .description import Target, TargetError, list_targets, load_target

__all__ = ["Target", "TargetError", "list_targets", "load_target"]
