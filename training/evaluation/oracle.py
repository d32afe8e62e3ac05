"""The oracle: on synthetic data, the probabilities that the generator drew the outcomes from."""

from typing import TYPE_CHECKING

import numpy as np

from mediscale.core import privacy
from mediscale.core.errors import InputError
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.tasks import TaskName
from mediscale.storage import lake
from training.statistics.metrics import Floats

if TYPE_CHECKING:
    from training.training_examples import Examples

_COLUMNS = ["subject_id", "task", "prediction_time", "probability"]


def probabilities(
    file: str | None, subjects: TableRef | None, task: TaskName, settings: Settings, rows: "Examples"
) -> Floats | None:
    """The generator's probabilities (n) on synthetic data; None where there are none, or not of this task.

    Raises:
        InputError: the file names none of the rows.
    """
    if file is None or subjects is None:
        return None
    truth = _truth(file, subjects, task, settings, rows)
    if truth is None:
        return None
    if not np.isfinite(truth).any():
        raise InputError(
            f"The oracle file names none of the {privacy.count(len(truth))} held-out stays; it belongs to other "
            "records."
        )
    return truth


def _truth(
    oracle: str, subjects: TableRef, task: TaskName, settings: Settings, rows: "Examples"
) -> Floats | None:
    """The generator's probability of each row (n), found by patient and prediction time; NaN where it has none, None
    where its file does not know the task."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv

    kinds = {"subject_id": pa.string(), "task": pa.string(), "prediction_time": pa.timestamp("us")}
    options = csv.ConvertOptions(
        column_types={**kinds, "probability": pa.float64()}, include_columns=_COLUMNS
    )
    truth = csv.read_csv(settings.home / oracle, convert_options=options).filter(pc.field("task") == task)
    if not truth.num_rows:
        return None
    people = lake.read(settings, subjects, ["source_subject", "subject_id"]).rename_columns(
        ["subject_id", "known_as"]
    )
    truth = truth.join(people, "subject_id", join_type="inner")
    keys = zip(truth["known_as"].to_pylist(), truth["prediction_time"].to_numpy(), strict=True)
    probability = dict(zip(keys, truth["probability"].to_pylist(), strict=True))
    predictions = zip(rows.subjects.tolist(), rows.times, strict=True)
    return np.array([probability.get(key, np.nan) for key in predictions], dtype=np.float64)
