"""Holds the model against what was measured: `validate(tables)` prices every row and says how far off it is."""

from .report import SCHEMA, Report, TableReport
from .runner import Options, validate

__all__ = ["SCHEMA", "Options", "Report", "TableReport", "validate"]
