"""Matured outcomes: answers of a version beside what became of the patients.

Only predictions that can be held against a label count: of a patient of the lake, at the label's own moment, and so
old that nearly all outcomes of their age are certain.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.storage import lake
from mediscale.storage.logged_predictions import ORDER, Question, newest_answers

if TYPE_CHECKING:
    import pyarrow as pa

_KEY = ["subject_id", "prediction_time"]
_RIPE = 0.95
"""Share of labels that were certain at the age from which predictions count. Of younger ones only the stays that ended
first have an outcome, and those are other patients than the ones who are still there."""


def join(
    settings: Settings, predictions: TableRef, labels: TableRef, question: Question, as_of: datetime
) -> "pa.Table":
    """Risks beside outcomes, ordered; of a question that was asked again the newest answer, as for drift."""
    answered = answers(settings, predictions, question).select([*_KEY, "risk"])
    return join_outcomes(answered, certain_labels(settings, labels, as_of), as_of)


def answers(
    settings: Settings, predictions: TableRef, question: Question, columns: Sequence[str] = ("risk",)
) -> "pa.Table":
    """The newest answer to each question about a patient of the lake and a moment, with further columns of the log."""
    import pyarrow.compute as pc

    read = [*ORDER, *_KEY, "predicted_at", *columns]
    of_patients = question.filter() & pc.field("subject_id").is_valid()
    rows = lake.dataset(settings, predictions).to_table(columns=read, filter=of_patients)
    rows = rows.sort_by([(name, "ascending") for name in ORDER])
    return rows.take(newest_answers(rows)).drop_columns(list(ORDER))


def certain_labels(settings: Settings, labels: TableRef, as_of: datetime) -> "pa.Table":
    """The labels that are certain at ``as_of``."""
    import pyarrow.compute as pc

    return lake.dataset(settings, labels).to_table(
        columns=[*_KEY, "stay_id", "boolean_value", "known_time"], filter=pc.field("known_time") <= as_of
    )


def join_outcomes(answered: "pa.Table", labelled: "pa.Table", as_of: datetime) -> "pa.Table":
    """Answers beside outcomes, ordered; ``labelled`` are those that are certain at ``as_of``."""
    import pyarrow.compute as pc

    age = maturity_age(labelled)
    if age is not None:
        labelled = labelled.filter(pc.field("prediction_time") <= as_of - age)
    joined = answered.join(labelled, keys=_KEY, join_type="inner")
    return joined.sort_by([(name, "ascending") for name in _KEY])


def maturity_age(labelled: "pa.Table") -> timedelta | None:
    """The age from which predictions count; None where no label is certain."""
    predicted, certain = (np.asarray(labelled[name].to_numpy()) for name in ("prediction_time", "known_time"))
    if not len(predicted):
        return None
    age: timedelta = np.quantile(certain - predicted, _RIPE, method="higher").item()
    return age
