"""A window beside its reference, column by column: what is watched, what is enough, and what threshold each gets."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np

from mediscale.core.task_features import Statistic
from mediscale.inference.model_spec import PredictorSpec
from monitoring.drift.match_reference import MatchedReference
from monitoring.drift.null_distribution import (
    Flags,
    Floats,
    Grid,
    Integers,
    Null,
    Sample,
    Thresholds,
    null,
    thresholds,
)
from monitoring.drift.prediction_window import Window
from monitoring.drift.report import Column
from training.tabular import request_dropout

MISSING = " is missing"
LEAST_VALUES = 20
"""Values that a column needs on both sides for its values to be judged; its missingness is judged all the same."""

_MEASURED = re.compile(rf"(?P<measurement>.+)_({'|'.join(get_args(Statistic))})_[^_]+$")


@dataclass(frozen=True)
class Comparison:
    """Columns of a window and of the reference that fits it; a column's name is that of the model's input."""

    names: tuple[str, ...]
    window: Sample
    reference: Sample

    def values(self) -> Integers:
        """Values per column in the window."""
        return np.asarray(np.count_nonzero(~np.isnan(self.window.values), axis=0), dtype=np.int64)

    def enough(self) -> Flags:
        """Columns with values enough on both sides."""
        usual = np.count_nonzero(~np.isnan(self.reference.values), axis=0)
        return np.asarray(np.minimum(self.values(), usual) >= LEAST_VALUES)

    def missing(self) -> Integers:
        """Columns whose missingness is watched: one of those that are always missing together."""
        together = np.concatenate([np.isnan(self.reference.values), np.isnan(self.window.values)])
        return np.sort(np.unique(together, axis=1, return_index=True)[1])

    def shares(self) -> tuple[Floats, Floats]:
        """Share missing per column: in the window, in the reference."""
        return np.isnan(self.window.values).mean(axis=0), np.isnan(self.reference.values).mean(axis=0)


@dataclass(frozen=True)
class Calibrated:
    """A comparison with the thresholds that fit its size."""

    comparison: Comparison
    thresholds: Thresholds
    grid: Grid

    def columns(self) -> Iterator[tuple[str, Column]]:
        """What Evidently judges: values by their distance, missingness as a column of 0 and 1 in the same way."""
        window, reference = self.comparison.window.values, self.comparison.reference.values
        coarse = (self.grid.rounded(reference), self.grid.rounded(window))
        for i in np.flatnonzero(self.comparison.enough()):
            before, now = (side[:, i][~np.isnan(side[:, i])] for side in coarse)
            yield self.comparison.names[i], Column(before, now, float(self.thresholds.shift[i]))
        for i in self.comparison.missing():
            missing_before, missing_now = (
                np.isnan(side[:, i]).astype(np.float64) for side in (reference, window)
            )
            threshold = float(self.thresholds.missing[i]) / max(float(missing_before.std()), 0.001)
            yield self.comparison.names[i] + MISSING, Column(missing_before, missing_now, threshold)


def monitored_features(spec: PredictorSpec, most: int) -> tuple[str, ...]:
    """The inputs to watch, most important first: one for each measurement, among those that a request's plain value
    fills where there are such, so that both kinds of questions are watched by the same columns."""
    plain = {
        spec.features[i]
        for name in spec.plain_inputs
        for i in request_dropout.filled_features(spec.task, name)
    }
    ranked = sorted(spec.features, key=lambda name: (name not in plain, -spec.importance.get(name, 0.0)))
    by_code: dict[str, str] = {}
    for name in ranked:
        by_code.setdefault(_measurement(name), name)
    weight: dict[str, float] = {}
    for name in spec.features:
        weight[_measurement(name)] = weight.get(_measurement(name), 0.0) + spec.importance.get(name, 0.0)
    first = sorted(by_code, key=lambda measurement: -weight[measurement])[:most]
    return tuple(by_code[measurement] for measurement in first)


def _measurement(feature: str) -> str:
    match = _MEASURED.fullmatch(feature)
    return match["measurement"] if match else feature


def compare(
    names: Sequence[str], window: Window, values: Floats, matched: MatchedReference, usual: Floats
) -> Comparison:
    """The window beside its reference: ``values`` are its rows, ``usual`` the reference's, in columns ``names``."""
    alone = -1 - np.arange(len(window))  # nobody knows whether two requests by values are about one patient
    patients = np.where(window.ad_hoc, alone, window.subjects)
    return Comparison(
        names=tuple(names),
        window=Sample(values[matched.window], matched.window_strata, patients[matched.window]),
        reference=Sample(usual, matched.strata, matched.patients),
    )


def calibrate(
    comparisons: Sequence[Comparison],
    family_wise_error_rate: float,
    n_resamples: int,
    generator: np.random.Generator,
) -> list[Calibrated]:
    """The comparisons with thresholds, of which at most ``family_wise_error_rate`` of undrifted windows pass any."""
    nulls = [
        _judged_only(each, null(each.window, each.reference, n_resamples, generator)) for each in comparisons
    ]
    by_code = thresholds(nulls, family_wise_error_rate)
    return [
        Calibrated(comparison, limits, drawn.grid)
        for comparison, limits, drawn in zip(comparisons, by_code, nulls, strict=True)
    ]


def _judged_only(comparison: Comparison, drawn: Null) -> Null:
    """Columns with too few values raise no alarm, so they shall not raise the others' thresholds."""
    return replace(drawn, shift=np.where(comparison.enough(), drawn.shift, 0.0))
