"""Sweeps over hardware parameters."""

from .grid import Point, Result, explore, grid, save

__all__ = ["Point", "Result", "explore", "grid", "save"]
