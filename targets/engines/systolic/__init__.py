"""Systolic arrays: their time in closed form, the proof of it register by register, and the engine that has them."""

from .array import DATAFLOWS, SystolicArray, scalesim_cycles

__all__ = ["DATAFLOWS", "SystolicArray", "scalesim_cycles"]
