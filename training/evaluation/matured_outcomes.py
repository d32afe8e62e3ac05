"""Matured outcomes: answers of a version beside what became of the patients.

Only predictions that can be held against a label count: of a patient of the lake, at the label's own moment, and so
old that nearly all outcomes of their age are certain.
"""

from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.storage import lake
from mediscale.storage.logged_predictions import ORDER, Question, newest_answers

if TYPE_CHECKING:
    import pyarrow as pa

_RIPE = 0.95
"""Share of labels that were certain at the age from which predictions count. Of younger ones only the stays that ended
first have an outcome, and those are other patients than the ones who are still there."""


def join(
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
        columns=[*key, "stay_id", "boolean_value", "known_time"], filter=pc.field("known_time") <= as_of
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
