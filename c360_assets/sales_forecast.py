"""Sales forecast: the next weeks of a daily series, with the error that the same way of forecasting had before.

Belongs here: numbers in, numbers out. Needs the extra `predictions` (statsmodels).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

HORIZON = 28
WEEK = 7
FOLDS = 3
# To learn a trend and a week from, before the first fold.
LEAST_DAYS = 8 * WEEK


@dataclass(frozen=True)
class Forecast:
    """`values` of the days after the series. Errors: the sum of absolute ones over the sum of what came."""

    values: list[float]
    method: str
    error: float | None
    naive_error: float | None


def forecast(series: Sequence[float], horizon: int = HORIZON) -> Forecast | None:
    """The next `horizon` values of a daily series; None where it has less than 8 weeks.

    Exponential smoothing with a damped trend and a week, or the mean of the weekday over the last four weeks: the one
    that had the smaller error when, up to three times, `horizon` days were forecast from those before them.
    """
    if len(series) < LEAST_DAYS:
        return None
    errors = {method: _error(series, horizon, method) for method in _METHODS}
    known = {method: error for method, error in errors.items() if error is not None}
    method = min(known, key=lambda m: (known[m], m)) if known else "weekday mean"
    return Forecast(_METHODS[method](series, horizon), method, errors[method], errors["weekday mean"])


def _error(series: Sequence[float], horizon: int, method: str) -> float | None:
    """Over the folds that have enough days before them; None where there is none, or nothing came in them."""
    missed = came = 0.0
    for fold in range(1, FOLDS + 1):
        cut = len(series) - fold * horizon
        if cut < LEAST_DAYS:
            break
        told, actual = _METHODS[method](series[:cut], horizon), series[cut : cut + horizon]
        missed += sum(abs(t - a) for t, a in zip(told, actual, strict=True))
        came += sum(actual)
    return missed / came if came else None


def _smoothed(series: Sequence[float], horizon: int) -> list[float]:
    from statsmodels.tsa.holtwinters import ExponentialSmoothing

    with warnings.catch_warnings():
        # That the fit did not converge shows in its error.
        warnings.simplefilter("ignore")
        fitted = ExponentialSmoothing(
            list(series), trend="add", damped_trend=True, seasonal="add", seasonal_periods=WEEK,
            initialization_method="estimated",
        ).fit()  # fmt: skip
        return [max(0.0, float(value)) for value in fitted.forecast(horizon)]


def _weekday_mean(series: Sequence[float], horizon: int) -> list[float]:
    last = series[-4 * WEEK :]
    return [max(0.0, fmean(last[day % WEEK :: WEEK])) for day in range(horizon)]


_METHODS = {"smoothing": _smoothed, "weekday mean": _weekday_mean}
