"""Points score: logistic regression of a few values in bands, its coefficients rounded to whole points.

The values are those that a request may give, each by its newest. They are banded at quantiles of the training rows, a
missing value is a band of its own, and the rows are those that the trees are grown on. The calibration of the sum, and
what sum is much, come from the tuning rows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from data_pipeline.features import kernel, plain_inputs
from mediscale.core import tasks
from mediscale.core.tasks import TaskName
from mediscale.inference.points import Band, Item, PointsScore
from training.statistics import calibration
from training.tabular import request_dropout
from training.tabular.usual_ranges import rounded

if TYPE_CHECKING:
    from training.statistics.metrics import Floats
    from training.training_examples import Examples, Inputs

MOST_ITEMS = 8
MOST_POINTS = 10
"""Of one value."""
_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
_MIN_PATIENTS = 100
"""Who have a value, so that ten are behind each band and no end of one is a patient's own."""
_DIGITS = 6
"""Decimals of what is stored: the last bits of a fit may differ between machines."""


@dataclass(frozen=True)
class _Candidate:
    """A value that may become an item."""

    name: str
    column: int
    ends: tuple[float, ...]
    """Between the bands."""

    def bands(self, inputs: "Inputs") -> "Floats":
        """One column for each band (n, bands), 1 where the row is in it; nothing where the value is missing."""
        values = inputs[:, self.column].astype(np.float64)
        at = np.searchsorted(self.ends, np.nan_to_num(values), side="right")
        inside = (at[:, None] == np.arange(len(self.ends) + 1)) & ~np.isnan(values)[:, None]
        return np.asarray(inside, dtype=np.float64)


def fit(train: "Examples", tuning: "Examples", task: TaskName) -> PointsScore:
    """The score of a task; without items where too few patients have values."""
    inputs, outcomes, weights = request_dropout.with_requests(train, task, 0)
    candidates = [
        candidate
        for name, column in plain_inputs.newest_columns(task).items()
        if (candidate := _candidate(name, column, train)) is not None
    ]
    coefficients, _ = _regression(candidates, inputs, outcomes, weights)
    spread = [
        float((candidate.bands(inputs) @ own).std())
        for candidate, own in zip(candidates, coefficients, strict=True)
    ]
    best = sorted(np.argsort(spread)[::-1][:MOST_ITEMS])
    chosen = [candidates[i] for i in best if spread[i] > 0]
    coefficients, intercept = _regression(chosen, inputs, outcomes, weights)
    unit = max((np.ptp([0, *own]) for own in coefficients), default=1.0) / MOST_POINTS
    items = tuple(
        _item(candidate, own / unit, train, task) for candidate, own in zip(chosen, coefficients, strict=True)
    )
    least = sum(min(0.0, *own) for own in coefficients)
    return _calibrated(items, float(unit), float(intercept + least), tuning, task)


def _candidate(name: str, column: int, train: "Examples") -> _Candidate | None:
    values = train.inputs[:, column].astype(np.float64)
    recorded = np.isfinite(values)
    if len(np.unique(train.subjects[recorded])) < _MIN_PATIENTS:
        return None
    distinct = np.unique(values[recorded])
    if len(distinct) == 2:
        return _Candidate(name, column, (float(distinct.mean()),))
    ends = {rounded(end, math.ceil) for end in np.quantile(values[recorded], _QUANTILES)}
    ends = {end for end in ends if distinct[0] < end <= distinct[-1]}
    return _Candidate(name, column, tuple(sorted(ends))) if ends else None


def _regression(
    candidates: Sequence[_Candidate], inputs: "Inputs", outcomes: "Floats", weights: "Floats"
) -> "tuple[list[Floats], float]":
    """Coefficients of the bands of each candidate, a missing value's being 0, and the intercept."""
    from sklearn.linear_model import LogisticRegression

    if not candidates:
        return [], float(np.log(outcomes.mean() / (1 - outcomes.mean())))
    design = np.hstack([candidate.bands(inputs) for candidate in candidates])
    fitted = LogisticRegression(C=1.0, max_iter=1000).fit(design, outcomes, sample_weight=weights)
    ends = np.cumsum([len(candidate.ends) + 1 for candidate in candidates])[:-1]
    return np.split(fitted.coef_[0], ends), float(fitted.intercept_[0])


def _item(candidate: _Candidate, worth: "Floats", train: "Examples", task: TaskName) -> Item:
    """``worth`` (bands) in points, a missing value's being 0; moved so that the least is 0."""
    points = np.rint(worth - min(0.0, *worth)).astype(int).tolist()
    item = Item(
        feature=kernel.names(task)[candidate.column],
        name=candidate.name,
        bands=tuple(
            Band(below=below, points=own) for below, own in zip((*candidate.ends, None), points, strict=True)
        ),
        missing=round(-min(0.0, *worth)),
        mean=0.0,
    )
    values = train.inputs[:, candidate.column].astype(np.float64)
    return item.model_copy(update={"mean": round(float(item.points(values).mean()), 3)})


def _calibrated(
    items: tuple[Item, ...], unit: float, at_zero: float, tuning: "Examples", task: TaskName
) -> PointsScore:
    raw = PointsScore(items=items, log_odds_per_point=unit, log_odds_at_zero=at_zero, strata={"low": 0})
    totals = raw.totals(tuning.inputs, kernel.names(task))
    platt = calibration.platt(at_zero + unit * totals.astype(np.float64), tuning.outcomes)
    score = raw.model_copy(
        update={
            "log_odds_per_point": round(platt.slope * unit, _DIGITS),
            "log_odds_at_zero": round(platt.slope * at_zero + platt.intercept, _DIGITS),
        }
    )
    return score.model_copy(update={"strata": _strata(score, totals, tuning, task)})


def _strata(
    score: PointsScore, totals: NDArray[np.int64], tuning: "Examples", task: TaskName
) -> dict[str, int]:
    """Low, intermediate and high by the score's own operating points; where the tuning rows give none, low and high by
    the threshold of the task's policy."""
    most = sum(max(item.missing, *(band.points for band in item.bands)) for item in score.items)
    risks = score.risk_of(np.arange(most + 1))
    operating = calibration.operating_points(score.risk_of(totals), tuning.outcomes)
    names = {"intermediate": "sensitive", "high": "specific"} if operating else {"high": "clinical"}
    thresholds = {**operating, "clinical": tasks.load(task).policy.clinical_threshold}
    strata = {"low": 0}
    for name, threshold in names.items():
        least = int(np.searchsorted(risks, thresholds[threshold]))
        if least > max(strata.values()):
            strata[name] = least
    return strata
