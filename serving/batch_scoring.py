"""Batch scoring: the risk of every stay in a dataset's cohort, by the code that the server answers with, on Spark."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from data_pipeline.notes import note_visibility
from mediscale.core import caller
from mediscale.core.errors import NotFoundError, StorageError
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import FEATURES, NOTE_TOKENS
from mediscale.core.tasks import TaskName
from mediscale.inference import model_signature, tabular
from mediscale.inference.model_spec import NOTICE
from mediscale.inference.notes import Floats, NoteReader
from mediscale.storage import calls, history, lake, registry
from mediscale.storage.registry import Alias, Move
from serving.prediction_log import Asked

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

SCHEMA = (
    "subject_id long, stay_id long, prediction_time timestamp_ntz, model string, model_version long, risk double, "
    "asked_by string, purpose string, notice string, needs_clinician_review boolean"
)


def write(settings: Settings, dataset: str, task: TaskName, alias: Alias, output: Path, asked: Asked) -> int:
    """Scores the newest features of the cohort into one Parquet file, by subject, stay and prediction time; the
    number of rows.

    Each row says that a clinician must review it, who asked and for which purpose. An entry of the dataset's signed
    history, written before the file appears, says who asked, too.

    Raises:
        NotFoundError: no model is under the alias, or the dataset has no features of the task.
        StorageError: the model's files are not those that were promoted, or the file can't be written.
        UsageError: the key that signs here can't sign for whoever asked; no file is written.
    """
    move = registry.current(settings, dataset, task, alias)
    if move is None:
        raise NotFoundError(
            f"{registry.model_name(dataset, task)} has no version as {alias}; run `mediscale run` first."
        )
    gold = calls.newest_night(settings, "gold", dataset, task)
    if gold is None:
        raise NotFoundError(f"{dataset} has no features for {task} yet; run `mediscale run` first.")
    scored = _scored(settings, move, dataset, TableRef.model_validate(gold.result["features"]), asked)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        _one_file(scored, output, lambda part: _record(settings, dataset, move, part, asked))
    except OSError as error:
        raise StorageError(f"{output} can't be written: {error.strerror}.") from error
    import pyarrow.parquet as pq

    return int(pq.read_metadata(output).num_rows)


def _scored(settings: Settings, move: Move, dataset: str, features: TableRef, asked: Asked) -> "DataFrame":
    from mediscale.storage import spark

    frame = spark.read(settings, features)
    model_signature.check(settings, move.version, move.evidence_digest)
    predictor = tabular.load(settings, move.version, move.task)
    inputs = predictor.spec.features
    absent = set(inputs) - set(frame.columns)
    if absent:
        raise StorageError(
            f"{move.version} reads {len(absent)} features that {features} does not have; train it again."
        )
    rows = frame.select(*FEATURES.column_names, *inputs)
    if predictor.reader is not None:
        rows = _with_notes(settings, dataset, rows, predictor.reader.spec.tokenizer)
    return rows.mapInArrow(_scorer(settings, move, asked), SCHEMA)


def _with_notes(settings: Settings, dataset: str, rows: "DataFrame", tokenizer: str) -> "DataFrame":
    """Adds the patient's notes; which of them were known is for the worker to say."""
    from pyspark.sql import functions as f

    from mediscale.storage import spark

    tokens = spark.read(settings, lake.latest(settings, dataset, NOTE_TOKENS.name))
    note = f.struct(*(name for name in note_visibility.COLUMNS if name != "subject_id"))
    notes = (
        tokens.where(f.col("tokenizer") == tokenizer)
        .groupBy("subject_id")
        .agg(f.collect_list(note).alias("notes"))
    )
    return rows.join(notes, "subject_id", "left")


def _scorer(
    settings: Settings, move: Move, asked: Asked
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """What a Spark task runs. It loads the model itself, so each worker checks the files that it reads."""

    def score(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        predictor = tabular.load(settings, move.version, move.task)
        for batch in batches:
            columns = [batch[name].to_numpy(zero_copy_only=False) for name in predictor.spec.features]
            rows = np.stack(columns, axis=1) if len(batch) else np.empty((0, len(columns)))
            risks = pa.array(predictor.risks(rows, _margins(predictor.reader, batch)), pa.float64())
            yield _answers(batch, move, risks, asked)

    return score


def _margins(reader: NoteReader | None, batch: pa.RecordBatch) -> Floats | None:
    """What the notes say that were known at each row's prediction time (n); None where they are not read."""
    if reader is None:
        return None
    columns = (batch[name].to_pylist() for name in ("notes", "admission_time", "prediction_time"))
    stays = [
        note_visibility.visible_tokens(
            note_visibility.from_rows(notes or ()), np.datetime64(began, "us"), np.datetime64(time, "us")
        )
        for notes, began, time in zip(*columns, strict=True)
    ]
    return reader.margins_where_written([reader.windows(notes) for notes in stays])


def _answers(batch: pa.RecordBatch, move: Move, risks: pa.Array, asked: Asked) -> pa.RecordBatch:
    columns = {
        **{name: batch[name] for name in ("subject_id", "stay_id", "prediction_time")},
        "model": pa.array([move.model] * len(batch), pa.string()),
        "model_version": pa.array([move.to_version] * len(batch), pa.int64()),
        "risk": risks,
        "asked_by": pa.array([asked.by] * len(batch), pa.string()),
        "purpose": pa.array([asked.purpose] * len(batch), pa.string()),
        "notice": pa.array([NOTICE] * len(batch), pa.string()),
        "needs_clinician_review": pa.array([True] * len(batch), pa.bool_()),
    }
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def _record(settings: Settings, dataset: str, move: Move, file: Path, asked: Asked) -> None:
    """The entry of this export in the history."""
    import pyarrow.parquet as pq

    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    export = history.Export(
        what=f"risks by {move.version}",
        purpose=asked.purpose,
        rows=pq.read_metadata(file).num_rows,
        digest=digest,
    )
    history.append(
        settings, dataset, history.Draft(export, asked.by, caller.now(), calls.new_run_id("export"))
    )


def _one_file(scored: "DataFrame", output: Path, record: Callable[[Path], None]) -> None:
    """A file beside the output, which is moved into place when it is whole and recorded.

    The rows, one a prediction, come to this process: a cluster's workers would write to disks of their own.
    """
    import pyarrow.parquet as pq

    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".scoring-") as folder:
        written = Path(folder) / "scores.parquet"
        rows = scored.repartition(1).sortWithinPartitions(*FEATURES.key).toArrow()
        pq.write_table(rows, written, compression="snappy")
        record(written)
        shutil.move(written, output)
