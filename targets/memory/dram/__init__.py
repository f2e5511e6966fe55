"""DRAM."""

from .bandwidth import Dram, DramParameters

__all__ = ["Dram", "DramParameters"]
