"""From priced rows to the errors of a table: by target, by part, by regime."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tilewright.targets.validation import Case, Harness, Table

from .price import REGIMES, Price
from .report import PartReport, RegimeErrors, RowResult, TableReport, UnpricedRow
from .statistics import Errors, error_percent, errors

PREDICTORS = ("model", "closed_form")  # those to which the harness is added; a roofline is bare


@dataclass(slots=True)
class Priced:
    """A case with its price, or without one where `case.unpriced` says why; `call_s` is what its harness adds."""

    case: Case
    price: Price | None
    call_s: dict[str, float] = field(default_factory=dict)

    @property
    def counts(self) -> bool:
        return self.price is not None and not self.case.fitted

    def predicted(self, name: str) -> float:
        """What a predictor says of the row, with its harness; `roofline` without."""
        assert self.price is not None
        program: float = getattr(self.price, name)
        if name not in PREDICTORS:
            return program
        harness, price = self.case.harness, self.price
        if harness.kernels:
            program += (harness.kernels - price.tasks) * price.task_s
        copies = price.io_bytes / harness.copy_bytes_per_s if harness.copy_bytes_per_s else 0.0
        called = self.call_s.get(name, 0.0) + _waking_s(harness, price, name)
        return max(program * harness.factor, harness.hidden_s) + called + copies


def _waking_s(harness: Harness, price: Price, name: str) -> float:
    """How much later than the end of each of a program's calls its host sees it, over all calls."""
    if not harness.wake_s:
        return 0.0
    calls = price.calls or ((price, 1),)
    return sum(n * harness.wake_s * min(1.0, getattr(p, name) / harness.asleep_s) for p, n in calls)


def summarise(table: Table, rows: Sequence[Priced], each: bool) -> list[TableReport]:
    """One report for each target of the table, in the order in which they are met."""
    return [_table(table, target, group, each) for target, group in _by(rows, lambda r: r.case.target).items()]


def _table(table: Table, target: str, rows: Sequence[Priced], each: bool) -> TableReport:
    counted = [r for r in rows if r.counts]
    exact = sum(r.predicted("model") == r.case.measured for r in counted)
    return TableReport(
        name=table.name,
        target=target,
        title=table.title,
        source=table.source,
        use=table.use,
        unit=table.unit,
        rows=len(rows),
        fitted=sum(bool(r.case.fitted) for r in rows),
        exact=exact if table.unit == "cycles" and counted else None,
        **_errors(counted, "model").model_dump(),
        roofline=_errors(counted, "roofline"),
        closed_form=_errors(counted, "closed_form"),
        regimes=_regimes(counted),
        parts=_parts(rows, lambda r: r.case.part),
        sources=_parts(rows, lambda r: r.case.source),
        causes=_causes(counted),
        unpriced=[
            UnpricedRow(row=r.case.row, label=r.case.label, reason=r.case.unpriced) for r in rows if r.case.unpriced
        ],
        cases=[_row(r) for r in rows] if each else None,
    )


def _parts(rows: Sequence[Priced], key: Callable[[Priced], str]) -> list[PartReport]:
    """One for each value of the key; none where they are all the same."""
    groups = _by(rows, key)
    return [_part(name, group) for name, group in groups.items()] if len(groups) > 1 else []


def _part(name: str, rows: Sequence[Priced]) -> PartReport:
    counted = [r for r in rows if r.counts]
    return PartReport(
        name=name,
        rows=len(rows),
        fitted=sum(bool(r.case.fitted) for r in rows),
        **_errors(counted, "model").model_dump(),
        regimes=_regimes(counted),
        causes=_causes(counted),
    )


def _errors(counted: Sequence[Priced], predictor: str) -> Errors:
    return errors([r.predicted(predictor) for r in counted], [r.case.measured for r in counted])


def _regimes(counted: Sequence[Priced]) -> list[RegimeErrors]:
    groups = _by(counted, lambda r: r.price.regime if r.price else "")
    return [
        RegimeErrors(name=name, **_errors(groups[name], "model").model_dump()) for name in REGIMES if name in groups
    ]


def _causes(counted: Sequence[Priced]) -> dict[str, float]:
    """The mean of the rows' shares of each cause, in percent of the predicted time; the harness is one of them."""
    shares: dict[str, float] = {}
    for r in counted:
        assert r.price is not None
        whole = r.predicted("model")
        for cause, value in r.price.causes.items():
            shares[cause] = shares.get(cause, 0.0) + value / whole
        shares["harness"] = shares.get("harness", 0.0) + (whole - r.price.model) / whole
    return {cause: round(100 * s / len(counted), 2) for cause, s in sorted(shares.items()) if s > 1e-6}


def _row(r: Priced) -> RowResult:
    known = r.price is not None
    predicted = r.predicted("model") if known else None
    return RowResult(
        row=r.case.row,
        label=r.case.label,
        part=r.case.part,
        source=r.case.source,
        measured=r.case.measured,
        predicted=predicted,
        roofline=r.predicted("roofline") if known else None,
        closed_form=r.predicted("closed_form") if known else None,
        error=round(error_percent(predicted, r.case.measured), 3) if predicted is not None else None,
        regime=r.price.regime if r.price else "",
        fitted=r.case.fitted,
        unpriced=r.case.unpriced,
        harness_s=predicted - r.price.model if r.price and predicted is not None else 0.0,
        causes=dict(r.price.causes) if r.price else {},
    )


def _by(rows: Iterable[Priced], key: Callable[[Priced], str]) -> dict[str, list[Priced]]:
    groups: dict[str, list[Any]] = {}
    for r in rows:
        groups.setdefault(key(r), []).append(r)
    return groups
