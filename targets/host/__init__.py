"""This machine as a target: micro-benchmarks of its CPU and memory, and the file that they make."""

from .describe import describe
from .machine import HostError
from .measure import Options, measure
from .record import Measured, Probe

__all__ = ["HostError", "Measured", "Options", "Probe", "describe", "measure"]
