"""Gold: point-in-time features of every label, computed shard by shard by the kernel and audited for leakage.

The audit takes a sample of predictions, physically removes every assertion that was not known at their times, and
computes their features again, one prediction at a time. A single differing bit stops the stage before it writes
anything.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, NaiveDatetime

from data_pipeline import shards
from data_pipeline.cohort.bitemporal import Floats, available_by
from data_pipeline.features import kernel
from mediscale.core.annotations import PatientCount, RuntimeInput
from mediscale.core.errors import LeakError
from mediscale.core.privacy import count
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import SPARK, Stage
from mediscale.core.tables import FEATURES
from mediscale.core.tasks import TaskName
from mediscale.storage import lake, table_files
from mediscale.storage.table_files import TableFile

_PREDICTION_COLUMNS = ("subject_id", "stay_id", "admission_time", "prediction_time")


class Params(Frozen):
    dataset: RuntimeInput[str]
    events: RuntimeInput[TableRef]
    labels: RuntimeInput[TableRef]
    task: RuntimeInput[TaskName]
    as_of: NaiveDatetime | None = None
    """Assertions known later than this (naive UTC) are not used, so a backfilled night gives what that night had."""
    audited_per_shard: int = Field(8, ge=1)
    """Predictions of each shard that are computed again for the audit."""


class Result(Frozen):
    features: TableRef
    audited: PatientCount
    """Predictions whose features were computed a second time without the future, and came out the same."""


def run(params: Params, settings: Settings, key: str) -> Result:
    """Computes and writes ``features_<task>``.

    Raises:
        LeakError: the features of an audited prediction depend on what was not known at its time.
    """
    table = f"features_{params.task}"
    written = lake.find_commit(settings, params.dataset, table, key)
    if written is None:
        write_group = partial(_write_group, settings, params)
        files = [file for own in shards.map_shards(settings, params.events, write_group) for file in own]
        schema = feature_schema(params.task)
        written = table_files.commit(settings, params.dataset, table, key, files, schema)
    per_shard = pc.value_counts(lake.read(settings, params.labels, ["shard"])["shard"].combine_chunks())
    audited = sum(min(n.as_py(), params.audited_per_shard) for n in per_shard.field("counts"))
    return Result(features=written, audited=audited)


def count_leaks(events: pa.Table, predictions: pa.Table, values: Floats, task: TaskName) -> int:
    """The number of rows of ``values`` that change when assertions known after the prediction time are removed.

    ``values`` are the features that ``kernel.compute`` gave for ``events`` and ``predictions``.
    """
    subjects = events["subject_id"].to_numpy()
    n_leaks = 0
    for i, (subject, at) in enumerate(
        zip(predictions["subject_id"], predictions["prediction_time"], strict=True)
    ):
        own = events.filter(pa.array(subjects == subject.as_py()))
        known_then = own.filter(pc.less_equal(own["available_time"], at))
        recomputed = kernel.compute(known_then, predictions.slice(i, 1), task)
        n_leaks += not np.array_equal(recomputed[0], values[i], equal_nan=True)
    return n_leaks


def _write_group(settings: Settings, params: Params, group: Sequence[int]) -> list[TableFile]:
    rows = (_shard_features(settings, params, shard) for shard in group)
    return shards.write(
        settings, params.dataset, f"features_{params.task}", feature_schema(params.task), rows
    )


def _shard_features(settings: Settings, params: Params, shard: int) -> pa.Table:
    predictions = lake.dataset(settings, params.labels).to_table(
        columns=list(_PREDICTION_COLUMNS), filter=pc.field("shard") == shard
    )
    predictions = predictions.sort_by([(name, "ascending") for name in FEATURES.key])
    events = available_by(shards.read(settings, params.events, shard, kernel.COLUMNS), params.as_of)
    values = kernel.compute(events, predictions, params.task)
    _audit(events, predictions, values, params)
    return _table(predictions, values, params.task)


def _audit(events: pa.Table, predictions: pa.Table, values: Floats, params: Params) -> None:
    # In order of hashes, so a random sample that is the same every time; neighbours may be of one stay.
    n = min(predictions.num_rows, params.audited_per_shard)
    sample = np.linspace(0, predictions.num_rows - 1, n).astype(np.int64)
    n_leaks = count_leaks(events, predictions.take(sample), values[sample], params.task)
    if n_leaks:
        raise LeakError(
            f"{n_leaks} of {n} audited {params.task} predictions in a shard of {params.dataset} changed when what "
            "was not yet known was taken away; nothing was written. A feature reads the future: see "
            "data_pipeline/features/kernel.py."
        )


def _table(predictions: pa.Table, values: Floats, task: TaskName) -> pa.Table:
    missing = np.isnan(values)
    columns = [pa.array(values[:, i], mask=missing[:, i]) for i in range(values.shape[1])]
    keys = predictions.select(list(FEATURES.column_names))
    return pa.table([*keys.columns, *columns], names=[*keys.column_names, *kernel.names(task)])


def feature_schema(task: TaskName) -> pa.Schema:
    """The columns of a task's feature table: the keys, then a number for each feature."""
    return pa.schema(
        [*FEATURES.arrow_schema(), *(pa.field(name, pa.float64()) for name in kernel.names(task))]
    )


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="compute features as known then",
    summary=lambda r: (
        f"features as known then; {count(r.audited)} rows recomputed without the future, none differs"
    ),
    resources=SPARK,
)
