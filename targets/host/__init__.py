"""This machine as a target: micro-benchmarks of its CPU and memory, and the file that they make."""

from .describe import describe
from .measure import Options, measure
from .record import Measured, Probe

__all__ = ["Measured", "Options", "Probe", "describe", "measure"]
