"""Logged answers: what the prediction log keeps of an answer, and its row in the Delta table ``predictions``.

Of a note nothing is kept but what the note model made of it, and of a written answer nothing that is from a patient's
note: an erasure looks for patients, not in texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mediscale.core.tables import PREDICTIONS
from mediscale.core.task_names import LANGUAGE
from serving.log import log_file
from serving.log.log_file import Row

if TYPE_CHECKING:
    import pyarrow as pa

NOTE_ANALYSIS = "note-analysis"
"""The task that analysed notes are logged under."""
FEEDBACK = "feedback"
"""The task that feedback on an answer is logged under."""

_EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Prediction:
    """One risk model's answer. Times are UTC without a zone; a patient known to the lake has a ``subject_id``.

    Of a note only ``note_margin`` is kept, what the note model made of it; the text never is.
    """

    prediction_id: str
    predicted_at: datetime
    task: str
    model: str
    model_version: int
    risk: float
    features: NDArray[np.float64]
    note_margin: float | None = None
    subject_id: int | None = None
    prediction_time: datetime | None = None
    events_version: int | None = None
    arm: str | None = None
    """``control``, ``canary`` or ``shadow`` while another version answers beside the one in production: the arm that
    the patient was drawn for, whichever version answered."""


@dataclass(frozen=True, slots=True)
class WrittenAnswer:
    """A language model's answer, or the part of it that is about to leave. Identifiers in it are replaced. Of a
    patient's note nothing is in it but whose it is, so that an erasure finds the answer."""

    prediction_id: str
    predicted_at: datetime
    model: str
    model_version: int
    question: str | None
    """None after an answer's first part."""
    answer: str
    safety: str
    arm: str | None = None
    """As of ``Prediction``, of the question; ``direct`` where the request named this version."""
    cited: str | None = None
    """The passage that is quoted, as ``Passage.reference``."""
    cited_dataset: str | None = None
    """Where that passage is from a note: the dataset whose patient ``subject_id`` is."""
    subject_id: int | None = None


@dataclass(frozen=True, slots=True)
class AnalysedNote:
    """The analysis of a note, and by which rules. Neither the note nor what was read from it is kept."""

    prediction_id: str
    predicted_at: datetime
    model: str
    model_version: int
    task: str = NOTE_ANALYSIS


@dataclass(frozen=True, slots=True)
class Feedback:
    """What somebody says of an answer, named by ``about``; the rest is that answer's, so that an erasure finds both."""

    prediction_id: str
    """Of the feedback itself."""
    predicted_at: datetime
    model: str
    model_version: int
    subject_id: int | None
    about: str
    verdict: str
    answer: str | None
    """The corrected one, identifiers replaced."""
    cited_dataset: str | None = None
    task: str = FEEDBACK


Answered = Prediction | WrittenAnswer | AnalysedNote | Feedback


class Requester(NamedTuple):
    """Who asks for predictions, and for which purpose of use."""

    name: str
    purpose: str


def table_of(worker: str, rows: Sequence[Row]) -> "pa.Table":
    """Rows of a worker's file as rows of the Delta table."""
    import pyarrow as pa

    columns: dict[str, Sequence[Any]] = dict.fromkeys(log_file.COLUMNS, ())
    if rows:
        columns = dict(zip(log_file.COLUMNS, zip(*rows, strict=True), strict=True))
    columns["worker"] = (worker,) * len(rows)
    schema = PREDICTIONS.arrow_schema()
    plain = {field.name: field.type for field in schema if field.name != "features"}
    arrays = {name: pa.array(columns[name], kind) for name, kind in plain.items()}
    return pa.table({**arrays, "features": _features(columns["features"])}, schema=schema)


def _features(blobs: Sequence[bytes]) -> "pa.Array":
    """The rows' features as a column, by their bytes: Arrow would take a Python value after the other, and thousands of
    rows would keep every request waiting for most of a second."""
    import pyarrow as pa

    ends = np.cumsum([0, *map(len, blobs)]) // 8
    values = pa.array(np.frombuffer(b"".join(blobs), dtype="<f8"))
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), values)


def row_of(answered: Answered, requester: Requester) -> Row:
    """An answer's row of the log's file, as ``log_file.COLUMNS`` name them after the number."""
    columns = (
        _predicted(answered)
        if isinstance(answered, Prediction)
        else _language_columns(answered)
        if isinstance(answered, WrittenAnswer)
        else _without_values(answered)
    )
    columns |= {"asked_by": requester.name, "purpose": requester.purpose}
    return tuple(map(columns.get, log_file.COLUMNS[1:]))


def _predicted(prediction: Prediction) -> dict[str, Any]:
    columns = {name: getattr(prediction, name) for name in Prediction.__slots__}
    return columns | {
        "predicted_at": _microseconds(prediction.predicted_at),
        "prediction_time": _microseconds(prediction.prediction_time),
        "features": prediction.features.astype("<f8").tobytes(),
    }


def _language_columns(answer: WrittenAnswer) -> dict[str, Any]:
    columns = {name: getattr(answer, name) for name in WrittenAnswer.__slots__}
    return columns | {"predicted_at": _microseconds(answer.predicted_at), "task": LANGUAGE, "features": b""}


def _without_values(row: AnalysedNote | Feedback) -> dict[str, Any]:
    columns = {name: getattr(row, name) for name in row.__slots__}
    return columns | {"predicted_at": _microseconds(row.predicted_at), "features": b""}


def _microseconds(time: datetime | None) -> int | None:
    return None if time is None else (time - _EPOCH) // timedelta(microseconds=1)
