"""What a simulation says: the report model and its JSON, tables for people, and traces."""

from .model import SCHEMA, CostReport, build_report, exposed_ps, reports_json
from .table import make_table, print_comparison, print_report
from .trace import trace_json
from .units import format_bytes, format_pj, format_ps, share

__all__ = [
    "SCHEMA",
    "CostReport",
    "build_report",
    "exposed_ps",
    "format_bytes",
    "format_pj",
    "format_ps",
    "make_table",
    "print_comparison",
    "print_report",
    "reports_json",
    "share",
    "trace_json",
]
