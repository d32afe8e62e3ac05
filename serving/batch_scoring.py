"""Batch scoring: the risk of every stay in a dataset's cohort, to a Parquet file or a Delta table.

The trees are in XGBoost's own format, whichever library grew them, so XGBoost sums them here, several times as fast as
the server's code, which explains each risk too. The two agree to ``tabular.TOLERANCE`` in log-odds: the first row of
every batch is computed by both. On a cluster each of Spark's tasks reads files of its own. A version that reads notes
answers by the server's code. Beside each risk stands what ``/predict`` says of a patient's record: whether the risk is
uncertain, and which inputs are missing, unusual or without a usual range. Its reasons alone are left out: they cost
many times as much.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_pipeline.features import kernel, plain_inputs
from data_pipeline.notes import note_visibility
from mediscale.core import atomic_files, caller
from mediscale.core.errors import NotFoundError, StorageError
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import FEATURES, NOTE_TOKENS
from mediscale.core.tasks import TaskName
from mediscale.inference import model_files, model_signature, tabular
from mediscale.inference.model_files import MODEL_FILE
from mediscale.inference.model_spec import NOTICE, PredictorSpec
from mediscale.inference.notes import Floats
from mediscale.inference.tabular import Predictor
from mediscale.storage import calls, history, lake, registry, workers
from mediscale.storage.history_entries import Alias, Draft, Export
from mediscale.storage.registry import Move
from serving.log.logged_answers import Requester
from serving.risk.explainer import Explainer

if TYPE_CHECKING:
    import xgboost

_KEYS = ("subject_id", "stay_id", "prediction_time")
_ARROW = pa.schema(
    [
        ("subject_id", pa.int64()), ("stay_id", pa.int64()), ("prediction_time", pa.timestamp("us")),
        ("model", pa.string()), ("model_version", pa.int64()), ("risk", pa.float64()), ("uncertain", pa.bool_()),
        ("missing", pa.list_(pa.string())), ("unusual_values", pa.list_(pa.string())),
        ("without_usual_range", pa.list_(pa.string())), ("asked_by", pa.string()), ("purpose", pa.string()),
        ("notice", pa.string()), ("needs_clinician_review", pa.bool_()),
    ]
)  # fmt: skip
Rows = NDArray[np.float32]
Format = Literal["parquet", "delta"]
_BATCH_ROWS = 1 << 14


def write(
    settings: Settings,
    dataset: str,
    task: TaskName,
    alias: Alias,
    output: Path,
    requester: Requester,
    file_format: Format = "parquet",
) -> int:
    """Scores the newest features of the cohort into one Parquet file, or a Delta table in a folder, by subject, stay
    and prediction time; the number of rows.

    Each row says how certain it is, that a clinician must review it, who asked and for which purpose. An entry of the
    dataset's signed history, written before the output appears, says who asked, too.

    Raises:
        NotFoundError: no model is under the alias, or the dataset has no features of the task.
        StorageError: the model's files are not those that were promoted, or the output can't be written.
        UsageError: the key that signs here can't sign for whoever asked, or the output can't be replaced by a file;
            nothing is written.
    """
    if file_format == "delta" and output.exists():
        raise StorageError(f"{output} is there already; choose another place for the Delta table.")
    atomic_files.check_replaceable(output)
    move = registry.current(settings, dataset, task, alias)
    if move is None:
        raise NotFoundError(
            f"{registry.model_name(dataset, task)} has no version as {alias}; run `mediscale run` first."
        )
    gold = calls.newest_night(settings, "gold", dataset, task)
    if gold is None:
        raise NotFoundError(f"{dataset} has no features for {task} yet; run `mediscale run` first.")
    features = TableRef.model_validate(gold.result["features"])
    scored = _scored(settings, move, dataset, features, requester)
    rows = scored.sort_by([(name, "ascending") for name in FEATURES.key])
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        _moved_into_place(
            rows, output, file_format, lambda files: _record(settings, dataset, move, files, rows, requester)
        )
    except OSError as error:
        raise StorageError(f"{output} can't be written: {error.strerror}.") from error
    return int(rows.num_rows)


def _scored(
    settings: Settings, move: Move, dataset: str, features: TableRef, requester: Requester
) -> pa.Table:
    model_signature.check(settings, move.version, move.evidence_digest)
    predictor = tabular.load(settings, move.version, move.task)
    absent = set(predictor.spec.features) - set(lake.dataset(settings, features).schema.names)
    if absent:
        raise StorageError(
            f"{move.version} reads {len(absent)} features that {features} does not have; train it again."
        )
    tokens = None if predictor.reader is None else lake.latest(settings, dataset, NOTE_TOKENS.name)
    score = partial(_score_file, settings, move, requester, tokens)
    # XGBoost, Arrow and the notes' network use every core of this machine themselves
    scored = workers.map_pieces(settings, score, lake.files(settings, features), processes=1)
    return pa.concat_tables([_ARROW.empty_table(), *scored])


def _score_file(
    settings: Settings, move: Move, requester: Requester, tokens: TableRef | None, uri: str
) -> pa.Table:
    """Scores a Parquet file of features. The model is loaded here, so each worker checks the files that it reads."""
    from pyarrow import parquet

    predictor = tabular.load(settings, move.version, move.task)
    risks_of = (
        _Trees.of(settings, predictor).risks
        if tokens is None
        else partial(_risks_with_notes, settings, predictor, tokens)
    )
    certainty = _Certainty(predictor.spec)
    columns = [*FEATURES.column_names, *predictor.spec.features]
    filesystem, path = lake.filesystem(uri)
    with filesystem.open_input_file(path) as source:
        batches = parquet.ParquetFile(source).iter_batches(_BATCH_ROWS, columns=columns)
        answers = []
        for batch in batches:
            inputs = [
                batch[name].to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
                for name in predictor.spec.features
            ]
            risks = pa.array(risks_of(batch, np.stack(inputs, axis=1)), pa.float64())
            answers.append(_answers(batch, move, risks, certainty.of(inputs), requester))
    return pa.Table.from_batches(answers, _ARROW)


@dataclass(frozen=True)
class _Trees:
    """A version's trees as XGBoost reads them, beside the server's."""

    predictor: Predictor
    booster: "xgboost.Booster"

    @classmethod
    def of(cls, settings: Settings, predictor: Predictor) -> "_Trees":
        import xgboost

        content = model_files.read_verified(settings, predictor.model)[MODEL_FILE]
        return cls(predictor, xgboost.Booster(model_file=bytearray(content)))

    def risks(self, _batch: pa.RecordBatch, rows: Rows) -> Floats:
        """The risk (n) of each row.

        Raises:
            StorageError: XGBoost's margin of the first row is not the server's.
        """
        margins = self.booster.inplace_predict(rows, predict_type="margin").astype(np.float64)
        trees = self.predictor.trees
        answered = trees.bias + float(trees.contributions(rows[0].astype(np.float64)).sum())
        if abs(margins[0] - answered) > tabular.TOLERANCE:
            raise StorageError(
                f"XGBoost does not answer as {self.predictor.model} does; nothing was scored. Train it again."
            )
        risks: Floats = 1 / (1 + np.exp(-self.predictor.spec.calibration.log_odds(margins)))
        return risks


class _Certainty:
    """How certain a version's risks are, by the rules of ``/predict``."""

    def __init__(self, spec: PredictorSpec) -> None:
        self._explainer, self._inputs = Explainer(spec), pa.array(spec.plain_inputs)
        names = kernel.names(spec.task)
        newest = {plain: names[column] for plain, column in plain_inputs.newest_columns(spec.task).items()}
        places = {plain: spec.features.index(name) for plain, name in newest.items() if name in spec.features}
        ranged = [plain for plain in spec.usual_ranges if plain in places]
        unranged = [plain for plain in places if plain not in ranged and plain != "sex"]
        self._ranged, self._unranged = pa.array(ranged, pa.string()), pa.array(unranged, pa.string())
        self._ranges = [(places[plain], np.array(spec.usual_ranges[plain])) for plain in ranged]
        self._places_unranged = [places[plain] for plain in unranged]

    def of(self, columns: Sequence[NDArray[np.float32]]) -> dict[str, pa.Array]:
        """The columns ``uncertain``, ``missing``, ``unusual_values`` and ``without_usual_range`` of n rows, given as a
        column (n) of each feature."""
        unusual = np.zeros((len(self._ranges), len(columns[0])), dtype=np.bool_)
        for outside, (place, (low, high)) in zip(unusual, self._ranges, strict=True):
            outside[:] = (columns[place] < low) | (columns[place] > high)  # NaN is neither
        alone = np.zeros((len(self._places_unranged), len(columns[0])), dtype=np.bool_)
        for recorded, place in zip(alone, self._places_unranged, strict=True):
            recorded[:] = ~np.isnan(columns[place])
        missing = self._explainer.without_value(columns)
        uncertain = unusual.any(axis=0) | (missing.sum(axis=1) > self._explainer.most_missing)
        return {
            "uncertain": pa.array(uncertain),
            "missing": _named(missing, self._inputs),
            "unusual_values": _named(unusual.T, self._ranged),
            "without_usual_range": _named(alone.T, self._unranged),
        }


def _named(chosen: NDArray[np.bool_], names: pa.Array) -> pa.ListArray:
    """The names (m) of those that are chosen in each row (n, m)."""
    ends = np.concatenate([[0], chosen.sum(axis=1).cumsum()]).astype(np.int32)
    return pa.ListArray.from_arrays(ends, names.take(pa.array(np.nonzero(chosen)[1])))


def _risks_with_notes(
    settings: Settings, predictor: Predictor, tokens: TableRef, batch: pa.RecordBatch, rows: Rows
) -> Floats:
    """The risk (n) of each row, by the server's code, with the notes that were known at its prediction time."""
    reader = predictor.reader
    assert reader is not None  # for the types
    own = pc.field("subject_id").isin(batch["subject_id"]) & (pc.field("tokenizer") == reader.spec.tokenizer)
    known = lake.dataset(settings, tokens).to_table(columns=list(note_visibility.COLUMNS), filter=own)
    notes = note_visibility.by_patient(known)
    stays = zip(
        batch["subject_id"].to_pylist(),
        note_visibility.times(batch, "admission_time"),
        note_visibility.times(batch, "prediction_time"),
        strict=True,
    )
    visible = [
        note_visibility.visible_tokens(notes.get(subject, []), began, at) for subject, began, at in stays
    ]
    margins = reader.margins_where_written([reader.windows(read) for read in visible])
    return predictor.risks(rows, margins)


def _answers(
    batch: pa.RecordBatch,
    move: Move,
    risks: pa.Array,
    certainty: Mapping[str, pa.Array],
    requester: Requester,
) -> pa.RecordBatch:
    columns = {
        **{name: batch[name].cast(_ARROW.field(name).type) for name in _KEYS},
        "model": pa.repeat(move.model, len(batch)),
        "model_version": pa.repeat(move.to_version, len(batch)),
        "risk": risks,
        **certainty,
        "asked_by": pa.repeat(requester.name, len(batch)),
        "purpose": pa.repeat(requester.purpose, len(batch)),
        "notice": pa.repeat(NOTICE, len(batch)),
        "needs_clinician_review": pa.repeat(True, len(batch)),
    }
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=_ARROW)


def _record(
    settings: Settings, dataset: str, move: Move, files: Sequence[Path], rows: pa.Table, requester: Requester
) -> None:
    """The entry of this export in the history; its digest is that of the Parquet files, in the order of their names."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    export = Export(
        what=f"risks by {move.version}",
        purpose=requester.purpose,
        rows=rows.num_rows,
        digest=digest.hexdigest(),
    )
    history.append(settings, dataset, Draft(export, requester.name, caller.now(), calls.new_run_id("export")))


def _moved_into_place(
    rows: pa.Table, output: Path, file_format: Format, record: Callable[[Sequence[Path]], None]
) -> None:
    """Writes beside the output what is moved into place when it is whole and recorded.

    The rows, one a prediction, come to this process: a cluster's workers would write to disks of their own.
    """
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".scoring-") as folder:
        written = Path(folder) / "scores"
        if file_format == "delta":
            from deltalake import write_deltalake

            write_deltalake(str(written), rows)
            record(sorted(written.rglob("*.parquet")))
        else:
            import pyarrow.parquet as pq

            pq.write_table(rows, written, compression="snappy")
            record([written])
        shutil.move(written, output)
