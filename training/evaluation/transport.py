"""Transport: how a version does on the patients of another dataset, and what recalibration with some of them buys.

Nobody there was trained on, so all splits of the other dataset's frozen training set are judged, by the code that
serves, on the values alone: notes are left out. That the two hospitals share no patient is for a person to know. Only
the calibration is ever refitted, by Platt scaling on the log-odds: what discrimination is lost, no recalibration brings
back (van Calster et al. 2019, doi:10.1186/s12916-019-1466-7).
"""

from collections.abc import Iterator
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from mediscale.core.annotations import PatientCount
from mediscale.core.errors import InputError, QualityError
from mediscale.core.privacy import SMALL_COUNT, count
from mediscale.core.refs import Frozen, ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.core.tasks import TaskName
from mediscale.inference import tabular
from training import training_examples
from training.evaluation.evaluation_report import Counts
from training.evaluation.performance import Performance
from training.statistics import calibration, metrics
from training.statistics.bootstrap import Resamples
from training.statistics.estimate import Estimate
from training.statistics.metrics import Floats
from training.training_examples import Examples

RECALIBRATED_WITH = (50, 100, 200, 500)
"""Patients of the other hospital whose outcomes are known."""
_DRAWS = 20
_RESAMPLES = 500
_INPUTS = 10
"""Most important inputs that are compared."""


class Recalibration(Frozen):
    """The calibration among all other patients after a refit on some, as the mean of several draws of these; a
    figure is null where one of the draws has none."""

    patients: PatientCount
    calibration_slope: float | None
    calibration_intercept: float | None
    log_loss: float | None


class InputShift(Frozen):
    """How an input there differs from the training split."""

    name: str
    missing: float
    missing_in_training: float
    difference: float | None
    """Of the means, in standard deviations of the training split; None where a side has no values."""


class Transport(Frozen):
    """A version on another dataset."""

    model: ModelRef
    training_set: TableRef
    """Of the other dataset."""
    counts: Counts
    metrics: dict[str, Estimate]
    recalibrations: tuple[Recalibration, ...]
    """By the number of patients; 0 is the version as it is."""
    inputs: tuple[InputShift, ...]
    """The most important ones first."""


def run(
    settings: Settings, model: ModelRef, task: TaskName, trained_on: TableRef, other: TableRef
) -> Transport:
    """Judges a version on all rows of another dataset's frozen training set.

    Raises:
        InputError: the other table lacks inputs of the version.
        QualityError: it has too few patients to tell a figure of, or patients of one outcome only.
        StorageError: the model's files are not those that were registered.
    """
    predictor = tabular.load(settings, model, task)
    features = predictor.spec.features
    if missing := set(features) - training_examples.columns(settings, other):
        raise InputError(
            f"{other} lacks {len(missing)} of the {len(features)} inputs of {model}; build it with the same task."
        )
    rows = training_examples.load(settings, other, None, features)
    if rows.patients < SMALL_COUNT:
        raise QualityError(
            f"{other} has {count(rows.patients)} patients; {model} is judged on at least {SMALL_COUNT}: land a larger "
            "extract."
        )
    if rows.events in (0, len(rows)):
        raise QualityError(f"All rows of {other} have one outcome; {model} can't be judged on them.")
    train = training_examples.load(settings, trained_on, "train", features)
    importance = predictor.spec.importance
    names = sorted(features, key=lambda name: -importance.get(name, 0.0))[:_INPUTS]
    log_odds = predictor.log_odds(rows.inputs)
    held_out = Performance(rows, metrics.sigmoid(log_odds), Resamples(rows.subjects, _RESAMPLES, seed=0))
    return Transport(
        model=model,
        training_set=other,
        counts=held_out.counts,
        metrics=held_out.all_metrics(),
        recalibrations=tuple(recalibrations(log_odds, rows)),
        inputs=tuple(_shift(name, features.index(name), train, rows) for name in names),
    )


def recalibrations(log_odds: Floats, rows: Examples) -> Iterator[Recalibration]:
    """The calibration as it is, then after a refit on so many patients as at least half of all others remain for."""
    patients = np.unique(rows.subjects)
    everybody = np.ones(len(rows), dtype=np.bool_)
    yield _measured(0, [(log_odds, everybody)], rows)
    for n in RECALIBRATED_WITH:
        if 2 * n <= len(patients):
            yield _measured(n, list(_refitted(log_odds, rows, patients, n)), rows)


def _refitted(
    log_odds: Floats, rows: Examples, patients: NDArray[np.int64], n: int
) -> Iterator[tuple[Floats, NDArray[np.bool_]]]:
    """The log-odds after a refit on n patients, and the rows of the others; once a draw."""
    for draw in range(_DRAWS):
        chosen = np.random.default_rng([n, draw]).choice(patients, n, replace=False)
        theirs = np.isin(rows.subjects, chosen)
        platt = calibration.platt(log_odds[theirs], rows.outcomes[theirs])
        yield platt.slope * log_odds + platt.intercept, ~theirs


def _measured(n: int, draws: list[tuple[Floats, NDArray[np.bool_]]], rows: Examples) -> Recalibration:
    measured = (metrics.calibration_slope, metrics.calibration_intercept, metrics.log_loss)
    figures = [
        [
            metrics.point_estimate(m, rows.outcomes[judged], metrics.sigmoid(log_odds[judged]))
            for m in measured
        ]
        for log_odds, judged in draws
    ]
    means = np.mean(figures, axis=0).tolist()
    slope, intercept, loss = (mean if isfinite(mean) else None for mean in means)
    return Recalibration(patients=n, calibration_slope=slope, calibration_intercept=intercept, log_loss=loss)


def _shift(name: str, column: int, train: Examples, there: Examples) -> InputShift:
    ours, theirs = train.inputs[:, column].astype(np.float64), there.inputs[:, column].astype(np.float64)
    present, present_there = ours[~np.isnan(ours)], theirs[~np.isnan(theirs)]
    spread = present.std() if len(present) else 0.0
    difference = (
        float((present_there.mean() - present.mean()) / spread) if len(present_there) and spread else None
    )
    return InputShift(
        name=name,
        missing=float(np.isnan(theirs).mean()),
        missing_in_training=float(np.isnan(ours).mean()),
        difference=difference,
    )
