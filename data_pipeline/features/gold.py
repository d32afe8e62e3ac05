"""Gold: the features of every label, computed shard by shard by the kernel (``features``), and audited for leaks.

The audit takes a sample of predictions, physically removes every assertion that was not known at their time, and
computes them again, alone: a single differing bit stops the stage before anything is written.
"""

from datetime import datetime
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline import shards as by_shard
from data_pipeline.cohort.bitemporal import Floats
from data_pipeline.features import kernel as features
from mediscale.core.annotations import PatientCount, RuntimeInput
from mediscale.core.errors import LeakError
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import SPARK, Stage
from mediscale.core.tables import FEATURES
from mediscale.core.tasks import TaskName
from mediscale.storage import lake

_ASKED = ("subject_id", "visit_id", "admission_time", "prediction_time")


class Params(Frozen):
    dataset: RuntimeInput[str]
    events: RuntimeInput[TableRef]
    labels: RuntimeInput[TableRef]
    task: RuntimeInput[TaskName]
    as_of: datetime | None = None
    """Assertions known later (naive UTC) are not even read: a backfilled night gives what the night itself had."""
    audited_per_shard: int = 8


class Result(Frozen):
    features: TableRef
    audited: PatientCount
    """Predictions that were computed a second time without the future, and came out the same."""


def run(params: Params, settings: Settings, key: str) -> Result:
    """Computes and writes ``features_<task>``.

    Raises:
        LeakError: an audited row depends on what was not yet known.
    """
    from mediscale.storage import spark

    rows = by_shard.each(settings, params.events, partial(_shard, settings, params), _schema(params.task))
    with by_shard.own_errors():
        written = spark.write(settings, rows, params.dataset, f"features_{params.task}", key)
    per_shard = pc.value_counts(lake.read(settings, params.labels, ["shard"])["shard"].combine_chunks())
    audited = sum(min(n.as_py(), params.audited_per_shard) for n in per_shard.field("counts"))
    return Result(features=written, audited=audited)


def leaks(events: pa.Table, predictions: pa.Table, values: Floats, task: TaskName) -> int:
    """How many rows of ``values`` differ from what is computed after removing all that became known after them."""
    subjects = events["subject_id"].to_numpy()
    found = 0
    for i, (subject, at) in enumerate(
        zip(predictions["subject_id"], predictions["prediction_time"], strict=True)
    ):
        own = events.filter(pa.array(subjects == subject.as_py()))
        known = own.filter(pc.less_equal(own["available_time"], at))
        again = features.compute(known, predictions.slice(i, 1), task)
        found += not np.array_equal(again[0], values[i], equal_nan=True)
    return found


def _shard(settings: Settings, params: Params, shard: int) -> pa.Table:
    asked = lake.dataset(settings, params.labels).to_table(
        columns=list(_ASKED), filter=pc.field("shard") == shard
    )
    asked = asked.sort_by([("subject_id", "ascending"), ("visit_id", "ascending")])
    events = by_shard.read(settings, params.events, shard, features.COLUMNS)
    if params.as_of is not None:
        events = events.filter(
            pc.less_equal(events["available_time"], pa.scalar(params.as_of, pa.timestamp("us")))
        )
    values = features.compute(events, asked, params.task)
    _audit(events, asked, values, params)
    return _table(asked, values, params.task)


def _audit(events: pa.Table, asked: pa.Table, values: Floats, params: Params) -> None:
    # Identifiers are hashes, so the first by identifier are a random sample, and the same one every time.
    sample = min(asked.num_rows, params.audited_per_shard)
    found = leaks(events, asked.slice(0, sample), values[:sample], params.task)
    if found:
        raise LeakError(
            f"{found} of {sample} audited {params.task} predictions in a shard of {params.dataset} changed when what "
            "was not yet known was taken away; nothing was written. A feature reads the future: see "
            "data_pipeline/features/kernel.py."
        )


def _table(asked: pa.Table, values: Floats, task: TaskName) -> pa.Table:
    missing = np.isnan(values)
    columns = [pa.array(values[:, i], mask=missing[:, i]) for i in range(values.shape[1])]
    keys = asked.select(list(FEATURES.column_names))
    return pa.table([*keys.columns, *columns], names=[*keys.column_names, *features.names(task)])


def _schema(task: TaskName) -> Any:
    schema = FEATURES.spark_schema()
    for name in features.names(task):
        schema = schema.add(name, "double")
    return schema


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="features as known then",
    summary=lambda r: (
        f"features as known then; {r.audited:,} rows recomputed without the future, none differs"
    ),
    resources=SPARK,
)
