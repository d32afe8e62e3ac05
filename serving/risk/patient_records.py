"""A patient known to the lake: the record as it was known at a time, through the same kernel that training used."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline.cohort import at_risk, bitemporal, prediction_times, stays
from data_pipeline.cohort.bitemporal import Floats
from data_pipeline.cohort.stays import Stay
from data_pipeline.features import kernel
from data_pipeline.ingest import parsing, stream_record
from data_pipeline.notes import note_visibility
from data_pipeline.notes.note_visibility import NoteVersion
from mediscale.core import tasks
from mediscale.core.errors import InputError, NotFoundError
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import EVENTS, NOTE_TOKENS, SUBJECTS
from mediscale.core.tasks import ADULT_YEARS, TaskName
from mediscale.inference.collate import Tokens
from mediscale.inference.model_spec import PredictorSpec
from mediscale.storage import lake
from serving.requests import fhir_bundle, fhir_subject
from serving.requests.fhir_bundle import Bundle
from serving.requests.request import Patient


@dataclass(frozen=True)
class PatientRecord:
    """What was known of a patient at ``prediction_time``. ``rows`` are the feature kernel's, by task that may be asked
    then."""

    subject_id: int | None
    """None of a patient whom only the request describes."""
    prediction_time: datetime
    events_version: int | None
    """None where the request describes the patient."""
    time_basis: str
    """What the prediction time was taken from."""
    rows: Mapping[TaskName, Floats]
    refused: Mapping[TaskName, str]
    """Task → why it may not be asked at that time."""
    notes: Mapping[str, Sequence[Tokens]] = field(default_factory=dict)
    """Of the stay, newest first, by the tokenizer whose numbers they are in: to a model of another they are other
    words."""


class Patients:
    """The patients of one dataset in the lake, read at its newest version when asked."""

    def __init__(self, settings: Settings, dataset: str) -> None:
        self._settings, self._dataset = settings, dataset

    def find(
        self, request: Patient, specs: Sequence[PredictorSpec], with_notes: bool = False
    ) -> PatientRecord:
        """The patient's features for each model that may be asked at that time, and what was written.

        Without a time, it is the discharge of the last stay or, while that lasts, the newest moment of which its record
        tells.

        Raises:
            NotFoundError: the lake does not know the patient, or has no events.
            InputError: the patient was no adult in hospital then, for whom the models are made, or none of them is
                made for that moment of a stay.
        """
        subject_id = self._subject(request.source_id)
        ref = lake.latest(self._settings, self._dataset, EVENTS.name)
        events = _rows(self._settings, ref, "subject_id", [subject_id], kernel.COLUMNS)
        written = self._note_tokens(subject_id) if with_notes else None
        record = _Record(events, subject_id, written)
        return replace(record.at(request, specs), subject_id=subject_id, events_version=ref.version)

    def _note_tokens(self, subject_id: int) -> pa.Table | None:
        """All of the patient's notes, by every tokenizer; None where the hospital's notes are not in the lake."""
        if not lake.exists(self._settings, self._dataset, NOTE_TOKENS.name):
            return None
        ref = lake.latest(self._settings, self._dataset, NOTE_TOKENS.name)
        return _rows(self._settings, ref, "subject_id", [subject_id], (*note_visibility.COLUMNS, "tokenizer"))

    def subject_of(self, bundle: Bundle) -> int | None:
        """Whom the lake has under a number of a FHIR bundle's Patient, so that an audit and an erasure find the answer.

        Raises:
            MediscaleError: the lake can't be read.
        """
        numbers = parsing.identifiers(pa.array(fhir_subject.numbers(bundle.resource, self._path_of_number)))
        ref = lake.latest(self._settings, self._dataset, SUBJECTS.name)
        rows = _rows(self._settings, ref, "source_subject", numbers, ("source_subject", "subject_id"))
        subjects = dict(zip(rows["source_subject"].to_pylist(), rows["subject_id"].to_pylist(), strict=True))
        return next((subjects[number] for number in numbers.to_pylist() if number in subjects), None)

    @cached_property
    def _path_of_number(self) -> str | None:
        """Where the lake's source reads a patient's number in a FHIR Patient; None of a source of tables."""
        try:
            source = stream_record.landed_source(self._settings, self._dataset)
        except InputError:  # a hospital's own, whose file lies in the home where the extracts are read
            return None
        return source.tables[source.subjects.table].paths.get(source.subjects.id) if source else None

    def _subject(self, source_id: str) -> int:
        ref = lake.latest(self._settings, self._dataset, SUBJECTS.name)
        rows = _rows(self._settings, ref, "source_subject", [source_id], ("subject_id",))
        if not len(rows):
            raise NotFoundError(
                f"{self._dataset} in the lake does not know this patient; check the identifier, or send values."
            )
        return int(rows["subject_id"][0].as_py())


def of_bundle(bundle: Bundle, specs: Sequence[PredictorSpec]) -> PatientRecord:
    """The record of a patient whom a FHIR bundle describes.

    Raises:
        InputError: as ``Patients.find``.
    """
    request = Patient(bundle.patient, bundle.prediction_time, with_offset=True)
    return _Record(bundle.events, fhir_bundle.SUBJECT, None).at(request, specs)


@dataclass(frozen=True)
class _Record:
    """All assertions about one patient, and the notes."""

    events: pa.Table
    subject_id: int
    written: pa.Table | None

    def at(self, request: Patient, specs: Sequence[PredictorSpec]) -> PatientRecord:
        """What was known at the request's time, for each model that may be asked then."""
        latest = bitemporal.latest_as_of(self.events, request.prediction_time)
        patient, stay = _last_stay(latest, request.prediction_time)
        time = request.prediction_time or _end(stay, latest, self.written)
        _refuse_outside(patient, stay, time)
        refused = {
            spec.task: reason for spec in specs if (reason := _not_to_be_asked(spec, stay, time, self.events))
        }
        if len(refused) == len(specs):
            raise InputError(f"Nothing was predicted: {'; '.join(refused.values())}.")
        rows = {
            spec.task: _features(self.events, self.subject_id, stay, time, spec.task)
            for spec in specs
            if spec.task not in refused
        }
        visible = _visible(self.written, stay, time) if self.written is not None else {}
        notes = {tokenizer: [note.tokens for note in mine] for tokenizer, mine in visible.items()}
        return PatientRecord(None, time, None, _time_basis(request, stay), rows, refused, notes)


def rows_as_of(
    settings: Settings, events: TableRef, subject_id: int, time: datetime, task: TaskName
) -> Floats:
    """The features of a patient as they were computed for an answer: by those events, known at that time.

    Raises:
        InputError: the patient had not been admitted by then.
    """
    rows = _rows(settings, events, "subject_id", [subject_id], kernel.COLUMNS)
    _, stay = _last_stay(bitemporal.latest_as_of(rows, time), time)
    return _features(rows, subject_id, stay, time, task)


def notes_as_of(
    settings: Settings, events: TableRef, note_tokens: TableRef, subject_id: int, time: datetime
) -> list[NoteVersion]:
    """The notes of a patient's stay that an answer could read: by those tables, known at that time, newest first.

    Raises:
        InputError: the patient had not been admitted by then.
    """
    rows = _rows(settings, events, "subject_id", [subject_id], kernel.COLUMNS)
    _, stay = _last_stay(bitemporal.latest_as_of(rows, time), time)
    written = _rows(
        settings, note_tokens, "subject_id", [subject_id], (*note_visibility.COLUMNS, "tokenizer")
    )
    visible = itertools.chain(*_visible(written, stay, time).values())
    return list({(note.note_id, note.available): note for note in visible}.values())


def _rows(
    settings: Settings,
    ref: TableRef,
    column: str,
    values: Sequence[object] | pa.Array,
    columns: Sequence[str],
) -> pa.Table:
    chosen = pc.field(column).isin(pa.array(values))
    return lake.dataset(settings, ref).to_table(columns=list(columns), filter=chosen)


def _features(events: pa.Table, subject_id: int, stay: Stay, time: datetime, task: TaskName) -> Floats:
    """The features of the stay at that time, shape ``[features]``."""
    when = pa.table({
        "subject_id": [subject_id],
        "stay_id": [stay.first.visit_id],
        "admission_time": [stay.admitted.time],
        "prediction_time": [time],
    })  # fmt: skip
    row: Floats = kernel.compute(events, when, task)[0]
    return row


def _last_stay(latest: pa.Table, at: datetime | None) -> tuple[stays.Patient, Stay]:
    """The stay that had begun last by then, and whose."""
    for patient in stays.patients(latest):
        begun = [stay for stay in patient.stays if at is None or stay.admitted.time <= at]
        if begun:
            return patient, begun[-1]
    raise InputError(
        "The patient had not been admitted by that time as an inpatient; give a prediction_time within a stay."
    )


def _end(stay: Stay, latest: pa.Table, written: pa.Table | None) -> datetime:
    """When a stay ended or, while it lasts, the time of its newest event. That is when an event was true: when it was
    known may be an assumption, such as a week after the visit for codes."""
    if stay.discharged:
        return stay.discharged.time
    newest: list[datetime] = [pc.max(latest["time"]).as_py()]
    if written is not None and len(written):
        newest.append(pc.max(written["available_time"]).as_py())
    return max(newest)


def _time_basis(request: Patient, stay: Stay) -> str:
    if request.prediction_time is not None:
        return "given with its offset" if request.with_offset else "given without an offset, taken as UTC"
    return "discharge of the last stay" if stay.discharged else "newest moment in the record"


def _refuse_outside(patient: stays.Patient, stay: Stay, time: datetime) -> None:
    """Refuses a patient whom no training set could hold, because the models say nothing about them."""
    if not prediction_times.is_adult(patient, stay):
        raise InputError(
            f"The models are made for patients of {ADULT_YEARS} or older at admission, and this one "
            "was younger or has no known birth; nothing was predicted."
        )
    if (stay.death and stay.death.time <= time) or prediction_times.died_before(patient, time):
        raise InputError("The patient had died by that time; give a prediction_time before.")
    if stay.discharged and stay.discharged.time < time:
        raise InputError("The patient had left by that time; give a prediction_time within a stay.")


def _not_to_be_asked(spec: PredictorSpec, stay: Stay, time: datetime, events: pa.Table) -> str | None:
    """Why the model is not made for that moment of the stay; None where it is. ``events`` are the patient's."""
    task = tasks.load(spec.task)
    if task.unit == "encounter":
        return f"{spec.task} is of one encounter by itself, and a patient's number does not say which"
    if prediction_times.may_be_asked(stay, time, spec.may_be_asked, spec.excluded_destinations):
        own = next(iter(at_risk.assertions(events, task).values()), at_risk.NOTHING)
        failed = at_risk.failed_step(own, stay, task, time)
        if failed is None:
            return None
        return (
            f"{spec.task} is for patients {failed.words}, and by what was known at that time this one is not"
        )
    if spec.may_be_asked.anchor == "discharge" and stay.discharged and stay.discharged.time == time:
        return f"{spec.task} is not asked after a discharge to where its outcome can't happen"
    return f"{spec.task} may be asked {spec.may_be_asked.words}, and not at this time"


def _visible(written: pa.Table, stay: Stay, time: datetime) -> dict[str, list[NoteVersion]]:
    """The notes of one patient's stay that were available by then, by tokenizer, newest first."""
    began, until = np.datetime64(stay.admitted.time, "us"), np.datetime64(time, "us")
    notes = {}
    for tokenizer in written["tokenizer"].unique().to_pylist():
        mine = note_visibility.by_patient(written.filter(pc.field("tokenizer") == tokenizer))
        notes[tokenizer] = note_visibility.visible(itertools.chain(*mine.values()), began, until)
    return notes
