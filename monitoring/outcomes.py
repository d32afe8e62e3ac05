"""Performance of the answers, measured once the outcomes are known (``training.evaluation.matured_outcomes``).

Young windows have few; then nothing is said but how many.
"""

from datetime import datetime

import numpy as np

from mediscale.core.annotations import PatientCount
from mediscale.core.privacy import count
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.storage.logged_predictions import Question
from training.evaluation import matured_outcomes
from training.statistics import metrics
from training.statistics.bootstrap import Resamples
from training.statistics.estimate import Estimate

MIN_PATIENTS_PER_CLASS = 10
"""Patients whose outcome happened, and whose did not, below which nothing is estimated."""
_RESAMPLES = 500


class Performance(Frozen):
    """What the matured outcomes say of one version; ``auroc`` and ``brier`` are null while not estimable."""

    n: PatientCount
    """Ripe predictions whose outcome is known."""
    events: PatientCount
    auroc: Estimate | None = None
    brier: Estimate | None = None

    @property
    def summary(self) -> str:
        labelled = f"{count(self.n)} predictions with a known outcome, {count(self.events)} of which happened"
        if self.auroc is None or self.auroc.value is None:
            return f"AUROC not estimable yet ({labelled})"
        return f"AUROC {self.auroc.text()} on {labelled}"


def measure(
    settings: Settings, predictions: TableRef, labels: TableRef, question: Question, as_of: datetime
) -> Performance:
    """``as_of`` is the caller's clock: labels with ``known_time`` after it do not exist yet."""
    matured = matured_outcomes.join(settings, predictions, labels, question, as_of)
    outcome = np.asarray(matured["boolean_value"].to_numpy(zero_copy_only=False), dtype=np.float64)
    events = int(outcome.sum())
    subjects = np.asarray(matured["subject_id"].to_numpy(), dtype=np.int64)
    if min(len(np.unique(subjects[outcome == k])) for k in (0, 1)) < MIN_PATIENTS_PER_CLASS:
        return Performance(n=len(outcome), events=events)
    risk = np.asarray(matured["risk"].to_numpy(), dtype=np.float64)
    drawn = Resamples(subjects, _RESAMPLES, seed=0)
    return Performance(
        n=len(outcome),
        events=events,
        auroc=drawn.estimate(lambda weights: metrics.auroc(outcome, risk, weights)),
        brier=drawn.estimate(lambda weights: metrics.brier(outcome, risk, weights)),
    )
