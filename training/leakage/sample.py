"""Sample of a training set for leak checks: stays with the whole record of their patients."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline.cohort.bitemporal import Floats, Ints, microseconds
from data_pipeline.features import kernel
from data_pipeline.notes import note_visibility
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import NOTE_TOKENS, TRAINING_SET
from mediscale.core.tasks import TaskName
from mediscale.storage import lake
from training import training_examples

KEY = ("subject_id", "stay_id", "admission_time", "prediction_time")
EVENT_COLUMNS = (*kernel.COLUMNS, "source")


@dataclass(frozen=True)
class Sample:
    """Stays at one of their prediction times, each of another patient, ordered by patient; half of them have the
    outcome where there are enough."""

    task: TaskName
    predictions: pa.Table
    """``KEY`` and ``boolean_value``."""
    frozen: Floats
    """Their features in the training set, shape ``[stays, len(kernel.names(task))]``; NaN also for an absent column."""
    events: pa.Table
    """All assertions of these patients, with ``EVENT_COLUMNS``."""
    notes: pa.Table
    """All versions of their notes, with ``note_visibility.COLUMNS``."""

    def __len__(self) -> int:
        return int(self.predictions.num_rows)

    @property
    def subjects(self) -> Ints:
        return np.asarray(self.predictions["subject_id"].to_numpy())

    @property
    def outcomes(self) -> Floats:
        """1 where the stay has the outcome, else 0."""
        return np.asarray(self.predictions["boolean_value"].to_numpy(zero_copy_only=False), dtype=np.float64)

    @property
    def times(self) -> Ints:
        """Prediction times in microseconds."""
        return microseconds(self.predictions["prediction_time"])

    def times_of(self, rows: pa.Table) -> Ints:
        """The prediction time of each row's patient, in microseconds."""
        return np.asarray(self.times[np.searchsorted(self.subjects, rows["subject_id"].to_numpy())])

    def visible_at_prediction(self, rows: pa.Table) -> pa.Table:
        """The assertions that were known at their patient's prediction time."""
        return rows.filter(pa.array(microseconds(rows["available_time"]) <= self.times_of(rows)))


def draw(
    settings: Settings,
    training_set: TableRef,
    events: TableRef,
    notes: TableRef | None,
    task: TaskName,
    n: int,
) -> Sample:
    """A sample of at most ``n`` stays: the first ones. Identifiers are hashes, so it is random, and always the same."""
    frozen = lake.dataset(settings, training_set)
    stays = frozen.to_table(columns=[*KEY, "boolean_value"])
    stays = _chosen(stays.sort_by(training_examples.ORDER), n)
    own = pc.field("subject_id").isin(stays["subject_id"].combine_chunks())
    names = kernel.names(task)
    there = [name for name in names if name in frozen.schema.names]
    rows = frozen.to_table(columns=[*TRAINING_SET.key, *there], filter=own)
    place = {key: i for i, key in enumerate(_keys(rows))}
    rows = rows.take(pa.array([place[key] for key in _keys(stays)], pa.int64()))
    features = np.full((stays.num_rows, len(names)), np.nan)
    for name in there:
        features[:, names.index(name)] = rows[name].to_numpy()
    return Sample(
        task=task,
        predictions=stays,
        frozen=features,
        events=lake.dataset(settings, events).to_table(columns=list(EVENT_COLUMNS), filter=own),
        notes=_notes(settings, notes, own),
    )


def _keys(rows: pa.Table) -> list[tuple[Any, ...]]:
    return list(zip(*(rows[name].to_pylist() for name in TRAINING_SET.key), strict=True))


def _chosen(stays: pa.Table, n: int) -> pa.Table:
    """One row of each patient: of those with the outcome the first with it."""
    outcome = stays["boolean_value"].to_numpy(zero_copy_only=False).astype(bool)
    subjects = stays["subject_id"].to_numpy()
    with_outcome = _first_of_each(subjects, np.flatnonzero(outcome))[: n // 2]
    others = ~np.isin(subjects, subjects[with_outcome])
    without = _first_of_each(subjects, np.flatnonzero(~outcome & others))[: n - len(with_outcome)]
    return stays.take(pa.array(np.sort(np.concatenate([with_outcome, without]))))


def _first_of_each(subjects: Ints, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    _, first = np.unique(subjects[rows], return_index=True)
    return rows[first]


def _notes(settings: Settings, notes: TableRef | None, own: pc.Expression) -> pa.Table:
    columns = list(note_visibility.COLUMNS)
    if notes is None:
        return NOTE_TOKENS.arrow_schema().empty_table().select(columns)
    return lake.dataset(settings, notes).to_table(columns=columns, filter=own)
