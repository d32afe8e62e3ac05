"""Baselines that a model has to beat on the same rows: the score that a nurse adds up, and logistic regression.

A value that nobody measured scores as normal, as it does on paper.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from data_pipeline.features import kernel
from mediscale.core import tasks
from mediscale.core.bedside_rules import NEWS2, READ, Bands, BedsideRule
from mediscale.core.errors import UsageError
from mediscale.core.tasks import TaskName
from training.statistics.metrics import Floats

if TYPE_CHECKING:
    from training.training_examples import Examples


@dataclass(frozen=True)
class _Named:
    """Columns by name; ``or_normal`` puts a value where none is."""

    names: Sequence[str]
    rows: NDArray[np.float32]

    def or_normal(self, name: str, normal: float) -> Floats:
        column = self.rows[:, self.names.index(name)].astype(np.float64)
        return np.where(np.isnan(column), normal, column)


def bedside(rows: NDArray[np.float32], task: TaskName) -> Floats:
    """Points of the published rule that a task is compared with, (n)."""
    return rule_of(task).points(_Named(kernel.names(task), rows))


@dataclass(frozen=True)
class Rule:
    """A published score: what it is called, where it comes from, and its points (n) of rows of features."""

    name: str
    source: str
    reads: tuple[str, ...]
    """Features."""
    points: Callable[[_Named], Floats]


def rule_of(task: TaskName) -> Rule:
    """The bedside rule of a task.

    Raises:
        UsageError: the task lacks a feature that it reads.
    """
    name = tasks.load(task).bedside_rule
    if lacking := [feature for feature in RULES[name].reads if feature not in kernel.names(task)]:
        raise UsageError(
            f"The bedside rule {name} of the task file {task}.yaml reads {', '.join(lacking)}, which the task does not "
            "have; add these features or choose another rule."
        )
    return RULES[name]


def _points(values: Floats, bands: Bands) -> Floats:
    ends, points = zip(*bands, strict=True)
    return np.asarray(points, dtype=np.float64)[np.searchsorted(ends, values, side="left")]


def _news2(rows: _Named) -> Floats:
    best = {"gcs_eye_last_24h": 4, "gcs_verbal_last_24h": 5, "gcs_motor_last_24h": 6}
    coma_scale = np.sum([rows.or_normal(name, normal) for name, normal in best.items()], axis=0)
    signs = [
        _points(rows.or_normal(f"{sign}_last_24h", _NORMAL[sign]), bands) for sign, bands in NEWS2.items()
    ]
    oxygen = 2.0 * (rows.or_normal("fio2_last_24h", 21) > 21)
    return np.asarray(np.sum(signs, axis=0) + oxygen + 3.0 * (coma_scale < 15))


_NORMAL = {
    "respiratory_rate": 16, "oxygen_saturation": 98, "systolic_blood_pressure": 120, "heart_rate": 75, "temperature": 37
}  # fmt: skip


def _lace(rows: _Named) -> Floats:
    days = np.floor(rows.or_normal("hours_since_admission", 0) / 24)
    stay = _points(days, ((0, 0), (1, 1), (2, 2), (3, 3), (6, 4), (13, 5), (np.inf, 7)))
    acute = 3.0 * (rows.or_normal("emergency_admission", 0) > 0)
    illness = _points(rows.or_normal("charlson_score", 0), ((0, 0), (1, 1), (2, 2), (3, 3), (np.inf, 5)))
    return stay + acute + illness + np.minimum(rows.or_normal("prior_visits_365d", 0), 4)


def _prior_admissions(rows: _Named) -> Floats:
    return rows.or_normal("prior_inpatient_stays_last_stay", 0)


def _creatinine_ratio(rows: _Named) -> Floats:
    return rows.or_normal("creatinine_last_stay", 1) / rows.or_normal("creatinine_min_stay", 1)


RULES: dict[BedsideRule, Rule] = {
    "news2": Rule(
        "NEWS2",
        "Royal College of Physicians 2017; newest values of 24 h, SpO2 scale 1, GCS below 15 as not alert, "
        "FiO2 above 21 % as oxygen given",
        READ["news2"],
        _news2,
    ),
    "lace": Rule(
        "LACE",
        "van Walraven et al. 2010, doi:10.1503/cmaj.091117; all visits of the year before in place of emergency visits "
        "of six months, the Charlson score of this project's features",
        (*READ["lace"], "emergency_admission", "charlson_score", "prior_visits_365d"),
        _lace,
    ),
    "creatinine_ratio": Rule(
        "creatinine over its lowest",
        "the newest creatinine over the lowest of the stay, as in KDIGO 2012 (doi:10.1038/kisup.2012.1); 1 where none "
        "was measured",
        READ["creatinine_ratio"],
        _creatinine_ratio,
    ),
    "prior_admissions": Rule(
        "prior admissions",
        "inpatient stays in the year before, as the source counts them: what a discharge planner asks first",
        READ["prior_admissions"],
        _prior_admissions,
    ),
}  # fmt: skip
"""By the name that a task's file gives as its ``bedside_rule``."""


def logistic(train: "Examples", rows: NDArray[np.float32]) -> Floats:
    """Risks (n) of ridge logistic regression on medians-imputed, standardised inputs with missingness indicators."""
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fitted = make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True),
        StandardScaler(),
        LogisticRegression(C=0.01, max_iter=1000),  # some hundred correlated inputs on a few hundred events
    ).fit(train.inputs.astype(np.float64), train.outcomes)
    return np.asarray(fitted.predict_proba(rows.astype(np.float64))[:, 1], dtype=np.float64)
