"""How far predictions are off. An error is predicted / measured - 1, in percent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.stats import kendalltau


class Errors(BaseModel):
    """Over `counted` rows, in percent: the mean of the absolute errors, their median and 90th percentile, and the mean
    of the signed errors. `tau` is Kendall's (b) between predicted and measured; None below two different rows."""

    model_config = ConfigDict(extra="forbid")

    counted: int = 0
    mape: float | None = None
    median: float | None = None
    p90: float | None = None
    bias: float | None = None
    tau: float | None = None


def error_percent(predicted: float, measured: float) -> float:
    return 100.0 * (predicted / measured - 1.0)


def errors(predicted: Sequence[float], measured: Sequence[float]) -> Errors:
    """Percentiles are interpolated between rows. Raises ValueError where the sequences differ in length."""
    if len(predicted) != len(measured):
        raise ValueError(f"{len(predicted)} predictions for {len(measured)} measurements")
    if not len(measured):
        return Errors()
    signed = np.array([error_percent(p, m) for p, m in zip(predicted, measured, strict=True)])
    size = np.abs(signed)
    return Errors(
        counted=len(measured),
        mape=round(float(size.mean()), 3),
        median=round(float(np.median(size)), 3),
        p90=round(float(np.percentile(size, 90)), 3),
        bias=round(float(signed.mean()), 3),
        tau=_tau(predicted, measured),
    )


def _tau(predicted: Sequence[float], measured: Sequence[float]) -> float | None:
    if len(set(measured)) < 2 or len(set(predicted)) < 2:
        return None
    return round(float(kendalltau(predicted, measured).statistic), 4)  # type: ignore[attr-defined]
