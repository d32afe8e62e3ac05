"""The predictions of one model version in a window of time, as the log has them."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from mediscale.core.errors import InputError
from mediscale.core.privacy import count
from mediscale.core.refs import ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.core.tasks import TaskName
from mediscale.storage import lake
from monitoring.drift.null_distribution import Flags, Floats, Integers

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc

MOST_ROWS = 5000
"""Rows that are judged, of a window or a reference: with more, only irrelevant shifts come into sight."""
_BY_VALUES = -1
"""In place of a patient, where the request gave values and named none."""
ORDER = ("worker", "sequence")
"""Of the log: what identifies a row, too."""
_COLUMNS = (*ORDER, "predicted_at", "subject_id", "prediction_time", "risk", "features")


@dataclass(frozen=True)
class Question:
    """Which predictions: those with ``start <= predicted_at < end``."""

    model: ModelRef
    task: TaskName
    start: datetime
    end: datetime

    def filter(self) -> "pc.Expression":
        import pyarrow.compute as pc

        return (
            (pc.field("model") == self.model.name)
            & (pc.field("model_version") == self.model.version)
            & (pc.field("task") == self.task)
            & (pc.field("predicted_at") >= self.start)
            & (pc.field("predicted_at") < self.end)
        )


@dataclass(frozen=True)
class Window:
    """Answered predictions in the order of the log. A question about the same patient and moment counts once."""

    predictions: int
    """All of the window, repeated questions and rows beyond ``MOST_ROWS`` included."""
    subjects: Integers
    inputs: Floats
    """(rows, the model's features), NaN where missing."""
    risks: Floats

    def __len__(self) -> int:
        return len(self.risks)

    @property
    def ad_hoc(self) -> Flags:
        named_none: Flags = self.subjects == _BY_VALUES
        return named_none


def load(
    settings: Settings,
    predictions: TableRef,
    question: Question,
    features: int,
    generator: np.random.Generator,
) -> Window:
    """The window, or ``MOST_ROWS`` of it drawn at random.

    Raises:
        InputError: a row has another number of inputs than the model, or an infinite one.
    """
    rows = lake.dataset(settings, predictions).to_table(columns=list(_COLUMNS), filter=question.filter())
    rows = rows.sort_by([(name, "ascending") for name in ORDER])
    subjects = _subjects(rows)
    chosen = newest_answers(rows)
    if len(chosen) > MOST_ROWS:
        chosen = np.sort(generator.choice(chosen, MOST_ROWS, replace=False))
    return Window(
        predictions=rows.num_rows,
        subjects=subjects[chosen],
        inputs=_matrix(rows["features"], predictions, features)[chosen],
        risks=np.asarray(rows["risk"].to_numpy(), dtype=np.float64)[chosen],
    )


def newest_answers(rows: "pa.Table") -> Integers:
    """Positions of the newest answer to each question about a patient and a moment, and of all answers to plain values.

    ``rows`` holds predictions in the order of the log; that order decides between answers of one moment.
    """
    subjects = _subjects(rows)
    about, answered = (
        np.asarray(rows[name].cast("int64").fill_null(0).to_numpy(), dtype=np.int64)
        for name in ("prediction_time", "predicted_at")
    )
    newest_first = np.argsort(answered, kind="stable")[::-1]
    named = newest_first[subjects[newest_first] != _BY_VALUES]
    _, first = np.unique(np.stack([subjects[named], about[named]]), axis=1, return_index=True)
    return np.sort(np.concatenate([named[first], np.flatnonzero(subjects == _BY_VALUES)]))


def _subjects(rows: "pa.Table") -> Integers:
    return np.asarray(rows["subject_id"].fill_null(_BY_VALUES).to_numpy(), dtype=np.int64)


def _matrix(lists: "pa.ChunkedArray", predictions: TableRef, features: int) -> Floats:
    import pyarrow.compute as pc

    wrong = int(np.count_nonzero(pc.list_value_length(lists).to_numpy() != features))
    if wrong:
        raise InputError(
            f"{count(wrong)} predictions in {predictions} do not have the model's {features} inputs: they were logged "
            "for another model of this name and version."
        )
    flat = pc.list_flatten(lists).to_numpy(zero_copy_only=False)
    values = np.asarray(flat, dtype=np.float64).reshape(-1, features)
    infinite = int(np.count_nonzero(np.isinf(values).any(axis=1)))
    if infinite:
        raise InputError(
            f"{count(infinite)} predictions in {predictions} hold an infinite input, which no request can give: "
            "the log was written by something else than the server; remove those rows or restore the table."
        )
    return values
