"""Measurements that others made, as cases that a model can be held against.

    for table in TABLES:
        for case in table.cases():
            case.target, case.workload, case.measured

Each table says where its rows come from, which of them may be used for fitting, and what its harness adds to a call.
"""

from .case import Case, Harness
from .host import HostTable
from .reading import TableError
from .table import Table
from .tables import TABLES, find_tables

__all__ = ["TABLES", "Case", "Harness", "HostTable", "Table", "TableError", "find_tables"]
