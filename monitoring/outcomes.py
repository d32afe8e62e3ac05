"""How good the answers were, once the outcomes are known.

Only predictions that can be held against a label count: of a patient of the lake, at the label's own moment, and so
old that nearly all outcomes of their age are certain. Young windows have few; then nothing is said but how many.
"""

from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from mediscale.core.annotations import PatientCount
from mediscale.core.privacy import count
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.storage import lake
from monitoring.drift.prediction_window import ORDER, Question, newest_answers
from training.evaluation import metrics
from training.evaluation.bootstrap import Resamples
from training.evaluation.evaluation_report import Estimate

if TYPE_CHECKING:
    import pyarrow as pa

MIN_EVENTS_PER_CLASS = 10
"""Outcomes that happened, and that did not, below which nothing is estimated."""
_RESAMPLES = 500
_RIPE = 0.95
"""Share of labels that were certain at the age from which predictions count. Of younger ones only the stays that ended
first have an outcome, and those are other patients than the ones who are still there."""


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
        return f"AUROC {self.auroc.value:.3f} ({labelled})"

    def is_below(self, auroc: float) -> bool:
        """Whether the whole interval is: a bad draw of few patients is no degradation."""
        return self.auroc is not None and self.auroc.high is not None and self.auroc.high < auroc


def measure(
    settings: Settings, predictions: TableRef, labels: TableRef, question: Question, as_of: datetime
) -> Performance:
    """``as_of`` is the caller's clock: labels with ``known_time`` after it do not exist yet."""
    matured = _joined(settings, predictions, labels, question, as_of)
    outcome = np.asarray(matured["boolean_value"].to_numpy(zero_copy_only=False), dtype=np.float64)
    events = int(outcome.sum())
    if min(events, len(outcome) - events) < MIN_EVENTS_PER_CLASS:
        return Performance(n=len(outcome), events=events)
    risk = np.asarray(matured["risk"].to_numpy(), dtype=np.float64)
    drawn = Resamples(np.asarray(matured["subject_id"].to_numpy(), dtype=np.int64), _RESAMPLES, seed=0)
    return Performance(
        n=len(outcome),
        events=events,
        auroc=drawn.estimate(lambda weights: metrics.auroc(outcome, risk, weights)),
        brier=drawn.estimate(lambda weights: metrics.brier(outcome, risk, weights)),
    )


def _joined(
    settings: Settings, predictions: TableRef, labels: TableRef, question: Question, as_of: datetime
) -> "pa.Table":
    """Risks beside outcomes, ordered; of a question that was asked again the newest answer, as for drift."""
    import pyarrow.compute as pc

    key = ["subject_id", "prediction_time"]
    answered = question.filter() & pc.field("subject_id").is_valid()
    answers = lake.dataset(settings, predictions).to_table(
        columns=[*ORDER, *key, "predicted_at", "risk"], filter=answered
    )
    answers = answers.sort_by([(name, "ascending") for name in ORDER])
    once = answers.take(newest_answers(answers)).select([*key, "risk"])
    labelled = lake.dataset(settings, labels).to_table(
        columns=[*key, "boolean_value", "known_time"], filter=pc.field("known_time") <= as_of
    )
    joined = once.join(_ripe(labelled, as_of), keys=key, join_type="inner")
    return joined.sort_by([(name, "ascending") for name in key])


def _ripe(labelled: "pa.Table", as_of: datetime) -> "pa.Table":
    import pyarrow.compute as pc

    predicted, certain = (np.asarray(labelled[name].to_numpy()) for name in ("prediction_time", "known_time"))
    if not len(predicted):
        return labelled
    age = np.quantile(certain - predicted, _RIPE, method="higher").item()
    return labelled.filter(pc.field("prediction_time") <= as_of - age)
