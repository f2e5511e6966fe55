"""Sweeps over hardware parameters."""

from .grid import Point, Result, explore, grid, save, targets_at

__all__ = ["Point", "Result", "explore", "grid", "save", "targets_at"]
