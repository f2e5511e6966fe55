"""Reads a CSV table whose columns are declared. A mistake names the file, the line and the column."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class TableError(Exception):
    """A table that cannot be read; the message says where, what is wrong, and what is expected."""


@dataclass(frozen=True, slots=True)
class Optional:
    """A column whose cells may be empty, or that may be missing: then the value is None."""

    kind: type


Columns = Mapping[str, type | Optional]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: `row["M"]` is the cell as its column's type."""

    file: Path
    line: int
    cells: dict[str, Any]

    def __getitem__(self, column: str) -> Any:
        return self.cells[column]

    def fail(self, column: str, message: str) -> TableError:
        return TableError(f"{self.file}:{self.line}: {column}: {message}")


def read_rows(file: Path, columns: Columns) -> list[Row]:
    """The rows of a CSV file with these columns, in any order; further columns are left out. Raises TableError."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableError(f"{file}: is not UTF-8 text: {error.reason} at byte {error.start}") from None
    except OSError as error:
        raise TableError(f"{file}: {error.strerror}") from None
    reader = csv.reader(text.splitlines(), strict=True)
    header: list[str] | None = None
    rows = []
    try:
        for cells in reader:
            if not any(c.strip() for c in cells):
                continue
            if header is None:
                header = _header(file, reader.line_num, cells, columns)
                continue
            if len(cells) != len(header):
                problem = f"has {len(cells)} cells where the header has {len(header)}"
                raise TableError(f"{file}:{reader.line_num}: {problem}")
            rows.append(_row(file, reader.line_num, dict(zip(header, cells, strict=True)), columns))
    except csv.Error as error:
        raise TableError(f"{file}:{reader.line_num}: no valid CSV: {error}") from None
    if header is None:
        raise TableError(f"{file}: is empty; expected a header line with {', '.join(columns)}")
    if not rows:
        raise TableError(f"{file}: has a header and no rows")
    return rows


def _header(file: Path, line: int, cells: list[str], columns: Columns) -> list[str]:
    header = [c.strip() for c in cells]
    missing = [n for n, kind in columns.items() if n not in header and not isinstance(kind, Optional)]
    if missing:
        plural = "s" * (len(missing) > 1)
        raise TableError(
            f"{file}:{line}: the column{plural} {', '.join(missing)} missing; the header has {', '.join(header)}"
        )
    twice = [n for n in columns if header.count(n) > 1]
    if twice:
        raise TableError(f"{file}:{line}: the column {twice[0]} is there twice")
    return header


def _row(file: Path, line: int, cells: Mapping[str, str], columns: Columns) -> Row:
    row = Row(file, line, {})
    for name, kind in columns.items():
        text = cells.get(name, "").strip()
        if isinstance(kind, Optional):
            row.cells[name] = _value(row, name, text, kind.kind) if text else None
        else:
            row.cells[name] = _value(row, name, text, kind)
    return row


def _value(row: Row, name: str, text: str, kind: type) -> Any:
    if kind is str:
        if not text:
            raise row.fail(name, "is empty; expected text")
        return text
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not math.isfinite(value):
        expected = "a whole number" if kind is int else "a number"
        raise row.fail(name, f"is '{text}'; expected {expected}")
    return value


def positive(row: Row, *columns: str) -> None:
    """Raises TableError where a number is not above zero: sizes and times are."""
    for name in columns:
        if row[name] <= 0:
            raise row.fail(name, f"is {row[name]}; expected more than 0")
