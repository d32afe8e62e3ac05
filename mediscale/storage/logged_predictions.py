"""Logged predictions: which rows of the prediction log a question is about, and which of its answers is the newest."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mediscale.core.refs import ModelRef
from mediscale.core.tasks import TaskName

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc

BY_VALUES = -1
"""In place of a patient, where the request gave values and named none."""
ORDER = ("worker", "sequence")
"""Of the log: what identifies a row, too."""


@dataclass(frozen=True)
class Question:
    """Which predictions: those with ``start <= predicted_at < end``."""

    model: ModelRef
    task: TaskName
    start: datetime
    end: datetime
    arm: str | None = None
    """Those of an arm, while another version answered beside production, whichever of the two answered."""

    def filter(self) -> "pc.Expression":
        import pyarrow.compute as pc

        by_version = pc.field("model_version") == self.model.version
        return (
            (pc.field("model") == self.model.name)
            & (by_version if self.arm is None else pc.field("arm") == self.arm)
            & (pc.field("task") == self.task)
            & (pc.field("predicted_at") >= self.start)
            & (pc.field("predicted_at") < self.end)
        )


def newest_answers(rows: "pa.Table") -> NDArray[np.int64]:
    """Positions of the newest answer to each question about a patient and a moment, and of all answers to plain values.

    ``rows`` holds predictions in the order of the log; that order decides between answers of one moment.
    """
    subjects = subjects_of(rows)
    about, answered = (
        np.asarray(rows[name].cast("int64").fill_null(0).to_numpy(), dtype=np.int64)
        for name in ("prediction_time", "predicted_at")
    )
    newest_first = np.argsort(answered, kind="stable")[::-1]
    named = newest_first[subjects[newest_first] != BY_VALUES]
    _, first = np.unique(np.stack([subjects[named], about[named]]), axis=1, return_index=True)
    return np.sort(np.concatenate([named[first], np.flatnonzero(subjects == BY_VALUES)]))


def subjects_of(rows: "pa.Table") -> NDArray[np.int64]:
    """The patient (n) of each prediction, ``BY_VALUES`` where the request named none."""
    return np.asarray(rows["subject_id"].fill_null(BY_VALUES).to_numpy(), dtype=np.int64)
