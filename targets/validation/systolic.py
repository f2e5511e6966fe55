"""Cycles that SCALE-Sim counts for one product on one array: a model meets them exactly or it does not."""

from __future__ import annotations

from collections.abc import Iterator

from .case import Case
from .reading import Row
from .table import EXACT, Table
from .workloads import ArrayProduct


def _golden(row: Row) -> Iterator[Case]:
    dataflow = row["dataflow"]
    if dataflow not in ("ws", "is", "os"):
        raise row.fail("dataflow", f"is '{dataflow}'; expected ws, is or os")
    m, n, k, rows, columns = (row[c] for c in ("M", "N", "K", "R", "C"))
    yield Case(
        "array",
        ArrayProduct(m, n, k, rows, columns, dataflow),
        row["cycles"],
        part=dataflow,
        label=f"{m}x{n}x{k} on {rows}x{columns} {dataflow}",
    )


TABLES = (
    Table(
        "systolic/scalesim_golden",
        "SCALE-Sim's cycles of a product on an array",
        "PrincetonUniversity/LLMCompass's look-up tables, BSD-3-Clause",
        EXACT,
        {"M": int, "N": int, "K": int, "R": int, "C": int, "dataflow": str, "cycles": int},
        _golden,
        ("M", "N", "K", "R", "C", "cycles"),
        unit="cycles",
    ),
)
