"""Batch scoring: the risk of every visit in a dataset's cohort, by the code that the server answers with, on Spark."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from mediscale import lake, registry, scoring
from mediscale.errors import NotFoundError, StorageError
from mediscale.predictor import Task
from mediscale.refs import TableRef
from mediscale.registry import Alias, Move
from mediscale.settings import Settings
from mediscale.tables import FEATURES

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

SCHEMA = "subject_id long, visit_id long, prediction_time timestamp_ntz, model string, model_version long, risk double"


def write(settings: Settings, dataset: str, task: Task, alias: Alias, output: Path) -> int:
    """Scores the newest features of the cohort into one Parquet file, by subject and visit; the number of visits.

    Raises:
        NotFoundError: no model is under the alias, or the dataset has no features of the task.
        StorageError: the model's files are not those that were promoted, or the file can't be written.
    """
    move = registry.current(settings, dataset, task, alias)
    if move is None:
        raise NotFoundError(
            f"{registry.model_name(dataset, task)} has no version as {alias}; run `mediscale run` first."
        )
    features = lake.latest(settings, dataset, f"{FEATURES.name}_{task}")
    scored = _scored(settings, move, features)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        _one_file(scored, output)
    except OSError as error:
        raise StorageError(f"{output} can't be written: {error.strerror}.") from error
    import pyarrow.parquet as pq

    return int(pq.read_metadata(output).num_rows)


def _scored(settings: Settings, move: Move, features: TableRef) -> "DataFrame":
    from mediscale import spark

    frame = spark.read(settings, features)
    inputs = scoring.load(settings, move).spec.features
    absent = set(inputs) - set(frame.columns)
    if absent:
        raise StorageError(
            f"{move.version} reads {len(absent)} features that {features} does not have; train it again."
        )
    return frame.select(*FEATURES.column_names, *inputs).mapInArrow(_scorer(settings, move), SCHEMA)


def _scorer(settings: Settings, move: Move) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """What a Spark task runs. It loads the model itself, so each worker checks the files that it reads."""

    def score(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        predictor = scoring.load(settings, move)
        for batch in batches:
            columns = [batch[name].to_numpy(zero_copy_only=False) for name in predictor.spec.features]
            rows = np.stack(columns, axis=1) if len(batch) else np.empty((0, len(columns)))
            risks = pa.array([predictor.score(row).risk for row in rows], pa.float64())
            yield _answers(batch, move, risks)

    return score


def _answers(batch: pa.RecordBatch, move: Move, risks: pa.Array) -> pa.RecordBatch:
    columns = {
        **{name: batch[name] for name in FEATURES.column_names},
        "model": pa.array([move.model] * len(batch), pa.string()),
        "model_version": pa.array([move.to_version] * len(batch), pa.int64()),
        "risk": risks,
    }
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def _one_file(scored: "DataFrame", output: Path) -> None:
    """Spark writes a folder beside the output; its only file is moved into place when it is whole."""
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".scoring-") as folder:
        parts = Path(folder) / "parts"
        scored.repartition(1).sortWithinPartitions("subject_id", "visit_id").write.parquet(str(parts))
        shutil.move(next(parts.glob("*.parquet")), output)
