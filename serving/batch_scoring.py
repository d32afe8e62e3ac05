"""Batch scoring: the risk of every stay in a dataset's cohort, to a Parquet file or a Delta table.

The trees are in XGBoost's own format, whichever library grew them, so XGBoost sums them here, several times as fast as
the server's code, which explains each risk too. The two agree to ``tabular.TOLERANCE`` in log-odds: the first row of
every batch is computed by both. Each of Spark's tasks reads its own files; on one machine no JVM is started for that. A
version that reads notes needs Spark, to bring each patient's together, and answers by the server's code.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa

from data_pipeline import shards
from data_pipeline.notes import note_visibility
from mediscale.core import caller
from mediscale.core.errors import NotFoundError, StorageError
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import FEATURES, NOTE_TOKENS
from mediscale.core.tasks import TaskName
from mediscale.inference import model_files, model_signature, tabular
from mediscale.inference.model_spec import MODEL_FILE, NOTICE
from mediscale.inference.notes import Floats, NoteReader
from mediscale.inference.tabular import Predictor
from mediscale.storage import calls, history, lake, registry
from mediscale.storage.registry import Alias, Move
from serving.prediction_log import Asked

if TYPE_CHECKING:
    import xgboost
    from pyspark.sql import DataFrame

_KEYS = ("subject_id", "stay_id", "prediction_time")
_ARROW = pa.schema(
    [
        ("subject_id", pa.int64()), ("stay_id", pa.int64()), ("prediction_time", pa.timestamp("us")),
        ("model", pa.string()), ("model_version", pa.int64()), ("risk", pa.float64()), ("asked_by", pa.string()),
        ("purpose", pa.string()), ("notice", pa.string()), ("needs_clinician_review", pa.bool_()),
    ]
)  # fmt: skip
SCHEMA = (
    "subject_id long, stay_id long, prediction_time timestamp_ntz, model string, model_version long, risk double, "
    "asked_by string, purpose string, notice string, needs_clinician_review boolean"
)


Format = Literal["parquet", "delta"]
_BATCH_ROWS = 1 << 16


def write(
    settings: Settings,
    dataset: str,
    task: TaskName,
    alias: Alias,
    output: Path,
    asked: Asked,
    file_format: Format = "parquet",
) -> int:
    """Scores the newest features of the cohort into one Parquet file, or a Delta table in a folder, by subject, stay
    and prediction time; the number of rows.

    Each row says that a clinician must review it, who asked and for which purpose. An entry of the dataset's signed
    history, written before the output appears, says who asked, too.

    Raises:
        NotFoundError: no model is under the alias, or the dataset has no features of the task.
        StorageError: the model's files are not those that were promoted, or the output can't be written.
        UsageError: the key that signs here can't sign for whoever asked; nothing is written.
    """
    move = registry.current(settings, dataset, task, alias)
    if move is None:
        raise NotFoundError(
            f"{registry.model_name(dataset, task)} has no version as {alias}; run `mediscale run` first."
        )
    gold = calls.newest_night(settings, "gold", dataset, task)
    if gold is None:
        raise NotFoundError(f"{dataset} has no features for {task} yet; run `mediscale run` first.")
    features = TableRef.model_validate(gold.result["features"])
    scored = _scored(settings, move, dataset, features, asked)
    rows = scored.sort_by([(name, "ascending") for name in FEATURES.key])
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        _moved_into_place(
            rows, output, file_format, lambda files: _record(settings, dataset, move, files, rows, asked)
        )
    except OSError as error:
        raise StorageError(f"{output} can't be written: {error.strerror}.") from error
    return int(rows.num_rows)


def _scored(settings: Settings, move: Move, dataset: str, features: TableRef, asked: Asked) -> pa.Table:
    from mediscale.storage import spark

    model_signature.check(settings, move.version, move.evidence_digest)
    predictor = tabular.load(settings, move.version, move.task)
    absent = set(predictor.spec.features) - set(lake.dataset(settings, features).schema.names)
    if absent:
        raise StorageError(
            f"{move.version} reads {len(absent)} features that {features} does not have; train it again."
        )
    if predictor.reader is not None:
        return _scored_with_notes(settings, move, dataset, features, predictor, asked)
    files = lake.files(settings, features)
    if spark.is_local(settings):
        trees = _Trees.of(settings, predictor)
        return pa.Table.from_batches(_score_files(trees, move, asked, files), _ARROW)

    def in_task(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Loads the model itself, so each worker checks the files that it reads."""
        trees = _Trees.of(settings, tabular.load(settings, move.version, move.task))
        uris = (uri for batch in batches for uri in batch.column(0).to_pylist())
        return _score_files(trees, move, asked, uris)

    session = spark.session(settings)
    frame = session.createDataFrame([(uri,) for uri in files], "uri string").repartition(len(files) or 1)
    with shards.own_errors():
        return frame.mapInArrow(in_task, SCHEMA).toArrow().cast(_ARROW)


def _score_files(trees: "_Trees", move: Move, asked: Asked, files: Iterable[str]) -> Iterator[pa.RecordBatch]:
    """Scores Parquet files of features, batch by batch, with as many threads as XGBoost and Arrow are given."""
    from pyarrow import parquet

    columns = [*_KEYS, *trees.predictor.spec.features]
    for uri in files:
        filesystem, path = lake.filesystem(uri)
        with filesystem.open_input_file(path) as source:
            for batch in parquet.ParquetFile(source).iter_batches(_BATCH_ROWS, columns=columns):
                if len(batch):
                    yield _answers(batch, move, pa.array(trees.risks(batch)), asked)


@dataclass(frozen=True)
class _Trees:
    """A version's trees as XGBoost reads them, beside the server's."""

    predictor: Predictor
    booster: "xgboost.Booster"

    @classmethod
    def of(cls, settings: Settings, predictor: Predictor) -> "_Trees":
        import xgboost

        content = model_files.checked(settings, predictor.model)[MODEL_FILE]
        return cls(predictor, xgboost.Booster(model_file=bytearray(content)))

    def risks(self, batch: pa.RecordBatch) -> Floats:
        """The risk (n) of each row.

        Raises:
            StorageError: XGBoost's margin of the first row is not the server's.
        """
        features = self.predictor.spec.features
        rows = np.empty((len(batch), len(features)), dtype=np.float32)
        for i, name in enumerate(features):
            rows[:, i] = batch[name].to_numpy(zero_copy_only=False)
        margins = self.booster.inplace_predict(rows, predict_type="margin").astype(np.float64)
        trees = self.predictor.trees
        answered = trees.bias + float(trees.contributions(rows[0].astype(np.float64)).sum())
        if abs(margins[0] - answered) > tabular.TOLERANCE:
            raise StorageError(
                f"XGBoost does not answer as {self.predictor.model} does; nothing was scored. Train it again."
            )
        risks: Floats = 1 / (1 + np.exp(-self.predictor.spec.calibration.log_odds(margins)))
        return risks


def _scored_with_notes(
    settings: Settings, move: Move, dataset: str, features: TableRef, predictor: Predictor, asked: Asked
) -> pa.Table:
    from mediscale.storage import spark

    assert predictor.reader is not None  # for the types
    frame = spark.read(settings, features).select(*FEATURES.column_names, *predictor.spec.features)
    rows = _with_notes(settings, dataset, frame, predictor.reader.spec.tokenizer)
    with shards.own_errors():
        return rows.mapInArrow(_scorer(settings, move, asked), SCHEMA).toArrow().cast(_ARROW)


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
        **{name: batch[name].cast(_ARROW.field(name).type) for name in _KEYS},
        "model": pa.repeat(move.model, len(batch)),
        "model_version": pa.repeat(move.to_version, len(batch)),
        "risk": risks,
        "asked_by": pa.repeat(asked.by, len(batch)),
        "purpose": pa.repeat(asked.purpose, len(batch)),
        "notice": pa.repeat(NOTICE, len(batch)),
        "needs_clinician_review": pa.repeat(True, len(batch)),
    }
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=_ARROW)


def _record(
    settings: Settings, dataset: str, move: Move, files: Sequence[Path], rows: pa.Table, asked: Asked
) -> None:
    """The entry of this export in the history; its digest is that of the Parquet files, in the order of their names."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    export = history.Export(
        what=f"risks by {move.version}", purpose=asked.purpose, rows=rows.num_rows, digest=digest.hexdigest()
    )
    history.append(
        settings, dataset, history.Draft(export, asked.by, caller.now(), calls.new_run_id("export"))
    )


def _moved_into_place(
    rows: pa.Table,
    output: Path,
    file_format: Format,
    record: Callable[[Sequence[Path]], None],
) -> None:
    """Writes beside the output what is moved into place when it is whole and recorded.

    The rows, one a prediction, come to this process: a cluster's workers would write to disks of their own.
    """
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".scoring-") as folder:
        written = Path(folder) / "scores"
        if file_format == "delta":
            if output.exists():
                raise StorageError(f"{output} is there already; choose another place for the Delta table.")
            from deltalake import write_deltalake

            write_deltalake(str(written), rows)
            record(sorted(written.rglob("*.parquet")))
        else:
            import pyarrow.parquet as pq

            pq.write_table(rows, written, compression="snappy")
            record([written])
        shutil.move(written, output)
