"""The predictions of one model version in a window of time, as the log has them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mediscale.core.errors import InputError
from mediscale.core.privacy import count
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.storage import lake
from mediscale.storage.logged_predictions import BY_VALUES, ORDER, Question, newest_answers, subjects_of
from monitoring.drift.null_distribution import Flags, Floats, Integers

if TYPE_CHECKING:
    import pyarrow as pa

MOST_ROWS = 5000
"""Rows that are judged, of a window or a reference: with more, only irrelevant shifts come into sight."""
_COLUMNS = (*ORDER, "predicted_at", "subject_id", "prediction_time", "risk", "features")


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
        named_none: Flags = self.subjects == BY_VALUES
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
    subjects = subjects_of(rows)
    chosen = newest_answers(rows)
    if len(chosen) > MOST_ROWS:
        chosen = np.sort(generator.choice(chosen, MOST_ROWS, replace=False))
    return Window(
        predictions=rows.num_rows,
        subjects=subjects[chosen],
        inputs=_matrix(rows["features"], predictions, features)[chosen],
        risks=np.asarray(rows["risk"].to_numpy(), dtype=np.float64)[chosen],
    )


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
