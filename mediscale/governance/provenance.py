"""Provenance: a prediction back to lines of the extract, a version back to its extract, a patient forward to answers.

All of it is read from call records, the prediction log and the lake at the recorded versions; nothing is guessed.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_pipeline.cohort import bitemporal
from data_pipeline.documents import index_versions
from data_pipeline.features import kernel, kinds
from data_pipeline.ingest import stream_record
from data_pipeline.retrieval import index_files
from mediscale.core.errors import MediscaleError, NotFoundError
from mediscale.core.refs import ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import EVENTS, NOTE_TOKENS, NOTES, PREDICTIONS
from mediscale.core.task_names import LANGUAGE
from mediscale.governance.patient import CITED_DATASET, SUBJECT, Holdings, Patient
from mediscale.inference import tabular
from mediscale.storage import lake
from mediscale.storage.calls import Call
from mediscale.storage.lineage import Lineage
from serving.log.logged_answers import FEEDBACK
from serving.risk.patient_records import notes_as_of, rows_as_of

_LOG_COLUMNS = ["prediction_id", "predicted_at", "task", "model", "model_version", SUBJECT, "prediction_time",
                "events_version", "risk", "note_margin", "features", "asked_by", "purpose", "cited",
                CITED_DATASET]  # fmt: skip

NOT_YET_THERE = (
    "An answer of the last half minute may still be on the server's disk, and an older one where the lake can't be "
    "reached; the server moves them every half minute, and when it ends."
)


@dataclass(frozen=True)
class Prediction:
    """An answer of the prediction log."""

    dataset: str
    """Of the log: of a rehearsal it is another than the model's."""
    prediction_id: str
    predicted_at: datetime
    task: str
    model: str
    model_version: int
    subject_id: int | None
    prediction_time: datetime | None
    events_version: int | None
    risk: float | None
    note_margin: float | None
    features: Sequence[float]
    asked_by: str | None = None
    """None of both in logs of an older release."""
    purpose: str | None = None
    cited: str | None = None
    """Of a language answer: the passage that it quotes, as ``Passage.reference``."""
    cited_dataset: str | None = None
    """Where that is from a patient's note: the dataset whose patient ``subject_id`` is."""

    def __str__(self) -> str:
        asker = f", asked by {self.asked_by} for {self.purpose}" if self.asked_by else ""
        return (
            f"prediction {self.prediction_id} of {self.predicted_at:%Y-%m-%d %H:%M:%S}: {self.task} by "
            f"{self.model}/{self.model_version}{asker}"
        )


def predictions(settings: Settings, dataset: str, row_filter: Any) -> list[Prediction]:
    """The answers of a dataset's log in the lake that a filter wants, oldest first."""
    newest = lake.find_latest(settings, dataset, PREDICTIONS.name)
    if newest is None:
        return []
    log = lake.dataset(settings, newest)
    present = [name for name in _LOG_COLUMNS if name in log.schema.names]
    answers = row_filter & (pc.field("task") != FEEDBACK)  # what was said of an answer is none
    rows = log.to_table(columns=present, filter=answers).to_pylist()
    return sorted((Prediction(dataset, **row) for row in rows), key=lambda p: (p.predicted_at, p.task))


def prediction(settings: Settings, prediction_id: str) -> list[Prediction]:
    """What was answered under an identifier, one for each task.

    Raises:
        NotFoundError: no log in the lake has it.
    """
    for dataset in lake.datasets(settings):
        if answers := predictions(settings, dataset, pc.field("prediction_id") == prediction_id):
            return answers
    raise NotFoundError(f"No prediction log in the lake has this identifier. {NOT_YET_THERE}")


# --- back --------------------------------------------------------------------------------------------------------


def of_version(lineage: Lineage, name: str, version: int) -> list[Call]:
    """The calls that a version was made by, from its own back to the extract.

    Raises:
        NotFoundError: no record registered the version.
    """
    calls = lineage.upstream([lineage.maker(name, version)]).values()
    return sorted(calls, key=lambda call: call.started_at, reverse=True)


def places(settings: Settings, lineage: Lineage, answer: Prediction) -> dict[str, dict[str, list[int]]]:
    """The lines of the extract from which a prediction about a patient of the lake was made: code → file → lines.

    They are those of the assertions that the feature kernel reads and that were known at the prediction time.

    Raises:
        NotFoundError: the events that the answer read, or the facts that they were made from, are not in the lake.
    """
    if answer.subject_id is None or answer.events_version is None:
        return {}
    events = lake.at_version(settings, answer.dataset, EVENTS.name, answer.events_version)
    streamed = stream_record.source_of(settings, answer.dataset)
    silver = None if streamed else lineage.maker_of_rows(events)
    if silver is None:
        raise NotFoundError(
            f"No record of this home made {events}, so its lines of the extract can't be named."
        )
    mine = pc.field(SUBJECT) == answer.subject_id
    assertions = lake.dataset(settings, events).to_table(columns=list(kernel.COLUMNS), filter=mine)
    visible = bitemporal.latest_as_of(assertions, answer.prediction_time)
    until = pa.scalar(answer.prediction_time, pa.timestamp("us"))
    visible = visible.filter(pc.less_equal(visible["time"], until))
    facts = lake.dataset(settings, TableRef.model_validate(silver.params["facts"])).to_table(
        columns=["event_id", "available_time", "file", "line"], filter=mine & pc.field("broken").is_null()
    )
    rows = facts_of(visible.select(["event_id", "available_time", "code"]), facts)
    by_code: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row in rows.to_pylist():
        if kinds.reads_code(row["code"]):
            by_code[row["code"]][row["file"]].append(row["line"])
    return {
        code: {file: sorted(set(lines)) for file, lines in files.items()} for code, files in by_code.items()
    }


class ReadNote(NamedTuple):
    """A version of a note that an answer could read: where it stands in the extract, and since when it was known."""

    file: str
    line: int
    known: datetime


def notes(settings: Settings, answer: Prediction) -> list[ReadNote]:
    """The notes of the stay that a note model's answer about a patient of the lake could read, newest first: by the
    tables that the lake had when it was given.

    Raises:
        NotFoundError: the events or the notes of then are not in the lake.
    """
    if answer.note_margin is None or answer.subject_id is None or answer.events_version is None:
        return []
    assert answer.prediction_time is not None
    events = lake.at_version(settings, answer.dataset, EVENTS.name, answer.events_version)
    tokens = lake.as_of(settings, answer.dataset, NOTE_TOKENS.name, answer.predicted_at)
    read = notes_as_of(settings, events, tokens, answer.subject_id, answer.prediction_time)
    rows = lake.dataset(settings, lake.latest(settings, answer.dataset, NOTES.name)).to_table(
        columns=["note_id", "available_time", "file", "line"], filter=pc.field(SUBJECT) == answer.subject_id
    )
    at = {(row["note_id"], row["available_time"]): (row["file"], row["line"]) for row in rows.to_pylist()}
    known = [(note.note_id, note.available.astype(datetime)) for note in read]
    return [ReadNote(*at[key], key[1]) for key in known if key in at]


def facts_of(assertions: pa.Table, facts: pa.Table) -> pa.Table:
    """The facts that the assertions were made from: of each event the newest that the source dates no later. What a
    later extract corrected is known from when that was seen, and its fact has the source's own time."""
    dated = facts.rename_columns({"available_time": "dated"}).join(assertions, "event_id", join_type="inner")
    dated = dated.filter(pc.less_equal(dated["dated"], dated["available_time"]))
    newest = dated.group_by("event_id").aggregate([("dated", "max")])
    return dated.join(newest, "event_id").filter(pc.field("dated") == pc.field("dated_max"))


@dataclass(frozen=True)
class QuotedPassage:
    """A passage of an index that an answer quotes."""

    index: str
    """NAME/VERSION."""
    row: int
    file: str
    """Of a note ``notes/DATASET/NOTE_ID``: its row of that dataset's table of notes."""
    place: str
    start: int
    end: int
    digest: str
    made_by: Call | None
    """The call that made the index; None where a person did."""


def passage(settings: Settings, lineage: Lineage, reference: str) -> QuotedPassage:
    """The passage of a reference.

    Raises:
        NotFoundError: that version of the index is gone.
        StorageError: its files were changed.
    """
    index, _, row = reference.rpartition("#")
    name, _, number = index.rpartition("/")
    if int(number) not in index_versions.versions(settings, name):
        raise NotFoundError(
            f"The index {index} is not in this home any more: an erasure removes every version that holds a patient's "
            "notes, and who cleans a home may have."
        )
    folder = index_versions.folder(settings, name) / number
    manifest = index_files.read_manifest(folder)
    index_files.check(folder, manifest)
    (values,) = index_files.read_passages(folder).slice(int(row), 1).to_pylist()
    shown = {name: values[name] for name in ("file", "place", "start", "end", "digest")}
    return QuotedPassage(index=index, row=int(row), made_by=lineage.by_key.get(manifest.key), **shown)


# --- forward -----------------------------------------------------------------------------------------------------


def holdings(settings: Settings, patient: Patient) -> Iterator[tuple[TableRef, int]]:
    """The tables of the dataset that hold rows of the patient now, with how many."""
    mine = Holdings(settings, patient)
    for table in lake.tables(settings, patient.dataset):
        ref = lake.latest(settings, patient.dataset, table)
        if rows := mine.count(ref):
            yield ref, rows


@dataclass(frozen=True)
class Use:
    """A registered version, and what the patient was to it: in ``train``, ``tuning``, ``held_out`` or ``unknown``."""

    model: str
    version: int
    split: str

    @property
    def trained(self) -> bool:
        """Whether the version was fitted on the patient; of a held-out patient it was only judged."""
        return self.split != "held_out"


def uses(settings: Settings, lineage: Lineage, patient: Patient) -> list[Use]:
    """The registered versions whose training set holds the patient, at the version that they were trained on.

    One whose training set can't be read any more is named as well: it may have held the patient."""
    mine, used = Holdings(settings, patient), []
    splits: dict[TableRef, Sequence[str]] = {}
    for call in lineage.calls:
        models = [
            artifact.removeprefix("model:") for artifact in call.produced if artifact.startswith("model:")
        ]
        if not models or call.params.get("dataset") != patient.dataset:
            continue
        ref = TableRef.model_validate(call.params["training_set"])
        if ref not in splits:
            splits[ref] = _splits(mine, ref)
        for split in splits[ref]:
            name, _, number = models[0].rpartition("/")
            used.append(Use(name, int(number), split))
    return used


def _splits(mine: Holdings, training_set: TableRef) -> Sequence[str]:
    try:
        return mine.splits(training_set)
    except (FileNotFoundError, MediscaleError):
        return ("unknown",)


# --- who scored --------------------------------------------------------------------------------------------------


def scored(settings: Settings, patient: Patient, at: datetime | None) -> list[Prediction]:
    """The newest answer about the patient of each task at a time, or all of them."""
    row_filter = (pc.field(SUBJECT) == patient.subject_id) & (pc.field("task") != LANGUAGE)
    if at is not None:
        row_filter &= pc.field("predicted_at") <= pa.scalar(at, pa.timestamp("us"))
    answers = predictions(settings, patient.dataset, row_filter)
    return answers if at is None else list({answer.task: answer for answer in answers}.values())


def quoting(settings: Settings, patient: Patient) -> list[Prediction]:
    """The answers of language models that quote the patient's notes, in the logs of all datasets."""
    row_filter = (pc.field(SUBJECT) == patient.subject_id) & (pc.field("task") == LANGUAGE)
    answers = [
        each for dataset in lake.datasets(settings) for each in predictions(settings, dataset, row_filter)
    ]
    of_patient = {each.prediction_id: each for each in answers if each.cited_dataset == patient.dataset}
    return list(of_patient.values())


def verify(settings: Settings, lineage: Lineage, answer: Prediction) -> str:
    """Scores again, from the lake at the events that the answer read and with the version that answered. Inputs that
    came with the request are those of the log.

    Returns an empty text where inputs and risk come out the same to the bit, else what does not.
    """
    try:
        record = lineage.maker(answer.model, answer.model_version)
        model = ModelRef.model_validate(record.result["model"])
        predictor = tabular.load(settings, model, answer.task)
        logged = np.array(answer.features)
        row = logged if answer.events_version is None else _inputs(settings, answer, predictor.spec.features)
    except MediscaleError as error:
        return f"it can't be scored again: {error}"
    if not np.array_equal(row, logged, equal_nan=True):
        n = int((~((row == logged) | (np.isnan(row) & np.isnan(logged)))).sum())
        return f"{n} of the {len(row)} inputs are not those that the lake gives"
    if predictor.score(row, answer.note_margin).risk != answer.risk:
        return "the risk is not the one that the version answers"
    return ""


def _inputs(settings: Settings, answer: Prediction, features: Sequence[str]) -> NDArray[np.float64]:
    """The inputs of an answer, from the lake at the events that it read."""
    assert answer.subject_id is not None
    assert answer.prediction_time is not None
    events = lake.at_version(settings, answer.dataset, EVENTS.name, answer.events_version or 0)
    computed = rows_as_of(settings, events, answer.subject_id, answer.prediction_time, answer.task)
    position = {name: i for i, name in enumerate(kernel.names(answer.task))}
    return np.array([computed[position[name]] for name in features])
