"""All tables, in the order in which they are reported, and how they are named on the command line."""

from __future__ import annotations

from collections.abc import Sequence

from tilewright.compiler.ir.near_match import nearest

from . import apple, gpu, host, systolic, tpu
from .reading import TableError
from .table import Table

TABLES: tuple[Table, ...] = (*tpu.TABLES, *gpu.TABLES, *apple.TABLES, *systolic.TABLES, *host.TABLES)


def find_tables(names: Sequence[str]) -> list[Table]:
    """The tables whose name, or file's name, begins with one of `names`, in the order of TABLES; none given: all.

    Raises TableError for a name that no table begins with, with the nearest.
    """
    found: set[str] = set()
    for name in names:
        matches = [t.name for t in TABLES if t.name.startswith(name) or _short(t).startswith(name)]
        if not matches:
            known = ", ".join(t.name for t in TABLES)
            raise TableError(f"no table begins with '{name}'{_near(name) or f'; there are {known}'}")
        found.update(matches)
    return [t for t in TABLES if t.name in found or not (names or t.on_request)]


def _short(table: Table) -> str:
    return table.name.rpartition("/")[2]


def _near(name: str) -> str:
    """The table whose name, or file's name, begins most like this."""
    heads = {n[: len(name)]: t.name for t in reversed(TABLES) for n in (_short(t), t.name)}
    close = nearest(name, heads)
    return f"; did you mean '{heads[close[0]]}'?" if close else ""
