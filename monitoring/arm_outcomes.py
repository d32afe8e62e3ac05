"""Outcomes by arm: how the patients of two versions fared, and how good each one's answers were (an A/B comparison).

By intention to treat: a patient counts for the arm that they were drawn for, whichever version then answered.
"""

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mediscale.core.annotations import PatientCount
from mediscale.core.privacy import count
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.storage import lake
from mediscale.storage.logged_predictions import Question
from monitoring import outcomes
from monitoring.outcomes import Performance
from training.evaluation import matured_outcomes
from training.statistics.bootstrap import Resamples
from training.statistics.estimate import Estimate
from training.statistics.metrics import Floats

if TYPE_CHECKING:
    import pyarrow as pa

_RESAMPLES = 500


class ArmOutcomes(Frozen):
    """What the matured outcomes of a split say."""

    control: Performance
    other: Performance
    """Of the canary's patients, or of what a shadow said of the same patients."""
    answers: tuple[PatientCount, PatientCount]
    """Logged in each arm, whether the outcome is known or not."""
    risk_difference: Estimate | None
    """How much more often the outcome happened to the canary's patients; null of a shadow, and while it is not
    estimable."""

    @property
    def summary(self) -> str:
        of_control, of_other = map(count, self.answers)
        compared = (
            f"production's arm, {of_control} answers: {self.control.summary}; the other, {of_other}: "
            f"{self.other.summary}"
        )
        difference = self.risk_difference
        if (
            difference is None
            or difference.value is None
            or difference.low is None
            or difference.high is None
        ):
            return compared
        return (
            f"{compared}; outcome {difference.value * 100:+.1f} percentage points in the other "
            f"({difference.low * 100:+.1f} to {difference.high * 100:+.1f})"
        )


def compare(
    settings: Settings, predictions: TableRef, labels: TableRef, answers: Question, arm: str, as_of: datetime
) -> ArmOutcomes:
    """The patients of an arm beside those of ``control``: of ``answers``, in whose period and task another version
    answered, by outcomes that are known at ``as_of``, the caller's clock."""
    questions = [replace(answers, arm=name) for name in ("control", arm)]
    measured = [outcomes.measure(settings, predictions, labels, each, as_of) for each in questions]
    estimable = all(one.auroc is not None for one in measured)
    difference = None
    if estimable and arm != "shadow":
        joined = [matured_outcomes.join(settings, predictions, labels, each, as_of) for each in questions]
        difference = _risk_difference(*joined)
    log = lake.dataset(settings, predictions)
    control, other = (log.count_rows(filter=each.filter()) for each in questions)
    return ArmOutcomes(
        control=measured[0], other=measured[1], answers=(control, other), risk_difference=difference
    )


def _risk_difference(control: "pa.Table", other: "pa.Table") -> Estimate:
    """How much larger the other arm's share of outcomes is, with patients drawn, of both arms together."""
    outcome, subjects = (
        np.concatenate([np.asarray(part[name].to_numpy(zero_copy_only=False)) for part in (control, other)])
        for name in ("boolean_value", "subject_id")
    )
    in_other = np.repeat([0.0, 1.0], [control.num_rows, other.num_rows])

    def difference(weights: Floats) -> Floats:
        return _share(weights * in_other, outcome) - _share(weights * (1 - in_other), outcome)

    return Resamples(subjects.astype(np.int64), _RESAMPLES, seed=0).estimate(difference)


def _share(weights: Floats, outcome: NDArray[np.bool_]) -> Floats:
    total: Floats = weights.sum(axis=1)
    happened: Floats = weights @ outcome.astype(np.float64)
    share: Floats = np.divide(happened, total, out=np.full_like(total, np.nan), where=total > 0)
    return share
