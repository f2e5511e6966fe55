"""A table: its file, its columns, what may be done with its rows, and how a row becomes cases."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from .case import Case
from .reading import Columns, Row, positive, read_rows

DATA = Path(__file__).parent / "data"

VALIDATE, CALIBRATE, SPLIT, EXACT = "validate", "calibrate", "split", "exact"


@dataclass(frozen=True)
class Table:
    """A shipped table. `use`: VALIDATE (rows are for error only), CALIBRATE (never counted), SPLIT (a stated half may
    be fitted) or EXACT (a count that a model meets or does not).

    `make` turns a row into its cases; `positive` names the columns whose numbers must be above zero.
    """

    name: str  # "tpu/v6e_gemm": the file's path under the data folder, without its ending
    title: str
    source: str
    use: str
    columns: Columns
    make: Callable[[Row], Iterable[Case]]
    positive: tuple[str, ...] = ()
    unit: str = "s"  # of `measured`
    on_request: bool = False  # only where it is named: a table that has to be measured first

    def file(self, data: Path | None = None) -> Path | None:
        """The table's file: `DATA/tpu/v6e_gemm.csv`, or `DATA/v6e_gemm.csv`; None if the folder has neither."""
        folder = DATA if data is None else data
        whole = folder / f"{self.name}.csv"
        return next((f for f in (whole, folder / whole.name) if f.is_file()), None)

    def find_cases(self, data: Path | None = None) -> list[Case] | None:
        """The cases of all rows, in order; None if the folder lacks the table. Raises TableError.

        A row's name is its line, or `line:figure` where a row has several. A table that is measured on the spot
        overrides this.
        """
        file = self.file(data)
        if file is None:
            return None
        cases: list[Case] = []
        for row in read_rows(file, self.columns):
            positive(row, *self.positive)
            cases += (self._named(case, row) for case in self.make(row))
        return cases

    def cases(self, data: Path | None = None) -> list[Case]:
        """`find_cases`, with no cases where there is no table."""
        return self.find_cases(data) or []

    def _named(self, case: Case, row: Row) -> Case:
        name = f"{row.line}:{case.row}" if case.row else str(row.line)
        fitted = "the table is for calibration" if self.use == CALIBRATE else case.fitted
        return dataclasses.replace(case, row=name, fitted=fitted)
