"""What validation says: the JSON of `tilewright validate --json`, schema tilewright.validate/1.

Errors are in percent, times in seconds (of a table of cycles: in cycles). Times are compared, also where the table has
rates.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from .statistics import Errors

SCHEMA = "tilewright.validate/1"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class UnpricedRow(_Strict):
    """A row for which the model has no answer, and why. It is in `rows` and in no error."""

    row: str
    label: str
    reason: str


class RegimeErrors(Errors):
    """The rows that one side bounds: "launch", "memory", "mixed" or "compute", by the roofline of their target."""

    name: str


class PartReport(Errors):
    """The rows of one part of a table: an op, a family of networks, a phase."""

    name: str
    rows: int
    fitted: int
    regimes: list[RegimeErrors]
    causes: dict[str, float]


class RowResult(_Strict):
    """One row. `predicted` holds what the harness adds; `error` is in percent; `causes` sums up to the model's time."""

    row: str
    label: str
    part: str
    source: str
    measured: float
    predicted: float | None
    roofline: float | None
    closed_form: float | None
    error: float | None
    regime: str
    fitted: str
    unpriced: str
    harness_s: float = 0.0
    causes: dict[str, float]


class TableReport(Errors):
    """A table on one target. `rows` counts all its figures there: those counted, those fitted, and those unpriced.

    `exact` counts the rows that are met exactly, where the table is one of counts. `causes` says what the predicted
    time of the counted rows is for, as the mean of the rows' shares.
    """

    name: str
    target: str
    title: str
    source: str
    use: str
    unit: str
    rows: int
    fitted: int
    exact: int | None = None
    roofline: Errors
    closed_form: Errors
    regimes: list[RegimeErrors]
    parts: list[PartReport]
    sources: list[PartReport]  # the same by where the rows were published, in tables of several sources
    causes: dict[str, float]
    unpriced: list[UnpricedRow]
    cases: list[RowResult] | None = None  # with --rows


class HarnessReport(_Strict):
    """What a harness adds to each call on a target; where it is fitted, `row` is the row that gave it."""

    name: str
    target: str
    call_s: float
    copy_bytes_per_s: float
    factor: float
    row: str
    source: str


class RatioReport(_Strict):
    """A ratio of two times that tells physics from fitting. `met` is None where it cannot be priced."""

    name: str
    expected: str
    source: str
    predicted: float | None
    met: bool | None
    unpriced: str


class Report(_Strict):
    schema_: str = Field(default=SCHEMA, alias="schema")
    tool: str
    fidelity: str
    tables: list[TableReport]
    harnesses: list[HarnessReport]
    ratios: list[RatioReport]
    skipped: list[str]  # tables that --data does not hold
    seconds: float

    def to_json(self) -> str:
        """The JSON text, ending in a newline."""
        return self.model_dump_json(by_alias=True, indent=2) + "\n"
