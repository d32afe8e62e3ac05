"""Erasure: a patient is taken out of all that a home and its lake hold, and does not come back with the next extract.

What stays is what can't be joined to the person: an entry of the signed history with a pseudonym whose key is destroyed
when the work is done, and a keyed digest in the folder of trust by which ingest knows whom to leave out
(``storage.exclusions``). What a patient taught a model stays in that model; the versions are named, and are no longer
reproducible. The hospital's own extract is not touched.

The order makes it safe to be killed: first a journal with all that identifies the patient's rows, then the entry of the
history (without which nothing is removed), then the exclusion, then the rows, then an entry that attests what the
tables hold since, and at last the journal goes. The same command goes on from any of these.
"""

import hashlib
import hmac
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline.documents import index_versions
from data_pipeline.ingest import stream_record
from data_pipeline.notes.deidentification import phi_patterns
from data_pipeline.notes.deidentification.indexed_text import IndexedText
from mediscale.core.errors import MediscaleError, NotFoundError, StorageError, UsageError
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import BRONZE, PREDICTIONS, QUARANTINE
from mediscale.governance import patient as patients
from mediscale.governance import provenance, recorded_rows
from mediscale.governance.patient import CITED_DATASET, PLACE, SUBJECT, Holdings, Patient, Visits
from mediscale.pipeline import call
from mediscale.storage import (
    calls,
    datasets,
    durable_files,
    exclusions,
    history,
    lake,
    locks,
    redaction,
    spark,
)
from mediscale.storage.history_entries import Draft, Entry, Erasure
from mediscale.storage.lineage import Lineage
from serving.log import prediction_log

_QUARANTINING = {"validate": "quarantine", "deidentify": "note_quarantine"}
"""Stages that quarantine rows of bronze, and the field of their result that says where."""

INDEXES = "passages of indexes"
"""What is counted of indexes of documents, beside the rows of tables."""

UPKEEP = ("upkeep", "An erasure, a cleaning or a backup")
"""The lock of whoever removes or copies files of the lake, and how a refusal begins."""

Place = tuple[str, int]

STREAMED = "streamed"
"""In the place of a file of quarantine: where rows stand that came by a stream."""


class Journal(Frozen):
    """An erasure that is not finished: all that is needed to go on with it, also when half of the rows are gone."""

    dataset: str
    number: str
    subject_id: int
    visits: Visits
    places: dict[str, dict[str, tuple[Place, ...]]]
    """Of each table of quarantine, and each file of it, where the patient's rows stood in the extract."""
    trained: tuple[str, ...]
    judged: tuple[str, ...]
    sound: tuple[str, ...] = ()
    """The tables that had the rows that were recorded, when it began (``recorded_rows.sound_tables``)."""
    salt: str
    """Key of the pseudonym in the history; it is nowhere else."""
    reason: str

    @property
    def pseudonym(self) -> str:
        return hmac.new(bytes.fromhex(self.salt), self.number.encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Erased:
    """What was removed, or would be: without a word about whose."""

    rows: dict[str, int]
    """Of each table that held some, in all of its versions' files."""
    unflushed: int
    """Predictions that were not yet in the lake."""
    trained: tuple[str, ...]
    """Versions that were fitted on the patient."""
    judged: tuple[str, ...]
    """Versions whose evidence the patient is in."""


def erase(settings: Settings, dataset: str, number: str, reason: str, actor: str, at: datetime) -> Erased:
    """Erases a patient, or goes on with an erasure that was cut short.

    Raises:
        NotFoundError: the lake does not know the patient, or no longer.
        BusyError: a stage or another erasure works on the dataset.
        UsageError: the reason names the patient.
        MediscaleError: nothing can be signed here; then nothing was removed.
    """
    check_reason(number, reason)
    with locks.exclusive(settings, *UPKEEP), call.none_running(settings, dataset):
        path, journal = _unfinished(settings, dataset, number) or _begin(settings, dataset, number, reason)
        _record(settings, journal, path, actor, at)
        exclusions.exclude(settings, dataset, journal.number)
        erased = _remove(settings, journal)
        _attest(settings, journal, path, actor, at)
        path.unlink()
    return erased


_REQUEST = re.compile(
    r"(?<!\w)(?i:dsr|dsar|sar|gdpr|dpo|request|ticket|letter|reference|ref)\b\.?[ ]?(?i:no\b\.?|number)?"
    r"[ :/#-]{0,2}(?:[A-Z]{1,5}[/-])?(?:20\d\d[/-])?\d{1,6}(?![\w/@-]|\.\d)"
)
"""The number of the request, such as ``DSR/2026/00412``, which names nobody; a case or a file may be a patient's."""


def check_reason(number: str, reason: str) -> None:
    """Refuses a reason that names the patient.

    Raises:
        UsageError: it does.
    """
    identifying = {"record", "phone", "email", "address", "url"}
    named = re.search(rf"(?<!\w){re.escape(number)}(?!\w)", reason)
    spans = phi_patterns.find_patterns(IndexedText(_REQUEST.sub("request", reason)))
    if named or any(span.kind in identifying for span in spans):
        raise UsageError(
            "The reason holds the patient's number or another identifier, and stays in the signed history for ever; "
            "say why without it. Nothing was erased."
        )


def preview(settings: Settings, dataset: str, number: str) -> Erased:
    """What would be removed.

    Raises:
        NotFoundError: the lake does not know the patient.
    """
    patient = _find(settings, dataset, number)
    journal = _journal(settings, patient, "")
    rows = _Rows(settings, journal)
    counts = {
        table: redaction.count(settings, dataset, table, rows.of(table))
        for table in lake.tables(settings, dataset)
    }
    for other in _other_logs(settings, dataset):
        counts[f"{other}/{PREDICTIONS.name}"] = redaction.count(
            settings, other, PREDICTIONS.name, rows.quoted()
        )
    counts[INDEXES] = index_versions.count(settings, dataset, patient.subject_id)
    return Erased(
        {table: n for table, n in counts.items() if n},
        prediction_log.count_about(settings, dataset, patient.subject_id),
        journal.trained,
        journal.judged,
    )


def unfinished(settings: Settings) -> list[Journal]:
    """Erasures that were cut short."""
    return [journal for _, journal in _journals(settings)]


# --- the journal -------------------------------------------------------------------------------------------------


def _folder(settings: Settings) -> Path:
    return settings.home / "erasing"


def _journals(settings: Settings) -> Iterator[tuple[Path, Journal]]:
    for path in sorted(_folder(settings).glob("*.json")):
        yield path, Journal.model_validate_json(path.read_text())


def _unfinished(settings: Settings, dataset: str, number: str) -> tuple[Path, Journal] | None:
    number = patients.normalized(number)
    return next(
        ((path, j) for path, j in _journals(settings) if (j.dataset, j.number) == (dataset, number)), None
    )


def _begin(settings: Settings, dataset: str, number: str, reason: str) -> tuple[Path, Journal]:
    journal = _journal(settings, _find(settings, dataset, number), reason)
    journal = journal.model_copy(update={"sound": recorded_rows.sound_tables(settings, dataset)})
    path = _folder(settings) / f"{secrets.token_hex(16)}.json"
    durable_files.replace(path, journal.model_dump_json())
    return path, journal


def _find(settings: Settings, dataset: str, number: str) -> Patient:
    try:
        return patients.find(settings, dataset, number)
    except NotFoundError as error:
        if exclusions.lists(settings, dataset, patients.normalized(number)):
            raise NotFoundError(
                f"This patient was erased from {dataset} before; nothing is left to erase."
            ) from error
        raise


def _journal(settings: Settings, patient: Patient, reason: str) -> Journal:
    uses = provenance.uses(settings, Lineage(settings), patient)
    return Journal(
        dataset=patient.dataset,
        number=patient.number,
        subject_id=patient.subject_id,
        visits=Holdings(settings, patient).visits,
        places=_places(settings, patient),
        trained=tuple(f"{use.model}/{use.version}" for use in uses if use.trained),
        judged=tuple(f"{use.model}/{use.version}" for use in uses if not use.trained),
        salt=secrets.token_hex(32),
        reason=reason,
    )


def _places(settings: Settings, patient: Patient) -> dict[str, dict[str, tuple[Place, ...]]]:
    """Quarantine names no patient, only where a row stood: in the tables of bronze that the same call read."""
    places: dict[str, dict[str, tuple[Place, ...]]] = {}
    for stage, field in _QUARANTINING.items():
        for record in calls.of_stage(settings, stage):
            if record.params["dataset"] != patient.dataset or not record.result[field]:
                continue
            quarantine = TableRef.model_validate(record.result[field])
            bronze = map(TableRef.model_validate, record.params["bronze"].values())
            try:
                mine = {place for ref in bronze for place in Holdings(settings, patient).places(ref)}
                files = lake.files(settings, quarantine)
            except (FileNotFoundError, StorageError):  # reclaimed, and its quarantine with it; or made anew
                continue
            names = places.setdefault(quarantine.table, {})
            names.update({file.rpartition("/")[2]: tuple(sorted(mine)) for file in files})
    if stream_record.source_of(settings, patient.dataset):
        places.setdefault(QUARANTINE.name, {})[STREAMED] = _streamed_places(settings, patient)
    return places


def _streamed_places(settings: Settings, patient: Patient) -> tuple[Place, ...]:
    """The topic offsets of the patient's rows. An offset never stands for another row, so it holds in every version."""
    tables = (name for name in lake.tables(settings, patient.dataset) if name.startswith(f"{BRONZE.name}_"))
    refs = (lake.latest(settings, patient.dataset, table) for table in tables)
    return tuple(sorted({place for ref in refs for place in Holdings(settings, patient).places(ref)}))


# --- what is removed ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rows:
    """The patient's rows in each table, by the journal alone."""

    settings: Settings
    journal: Journal

    @cached_property
    def _holdings(self) -> Holdings:
        patient = Patient(self.journal.dataset, self.journal.number, self.journal.subject_id)
        return Holdings(self.settings, patient, self.journal.visits)

    def of(self, table: str) -> redaction.Rows:
        if table == QUARANTINE.name or table.startswith(f"{QUARANTINE.name}_"):
            return redaction.Rows(
                lambda names: [name for name in PLACE if name in names], self._at_places(table)
            )
        mine = self._holdings
        return redaction.Rows(
            lambda names: mine.columns(table, names), lambda _, rows: mine.mask(table, rows)
        )

    def quoted(self) -> redaction.Rows:
        """Answers of a language model in another dataset's prediction log that quote the patient's notes."""
        columns = {SUBJECT: self.journal.subject_id, CITED_DATASET: self.journal.dataset}

        def mask(_: str, rows: pa.Table) -> pa.BooleanArray:
            of_subject, of_dataset = (pc.equal(rows[name], value) for name, value in columns.items())
            return pc.fill_null(pc.and_(of_subject, of_dataset), False).combine_chunks()

        return redaction.Rows(lambda names: [*columns] if CITED_DATASET in names else [], mask)

    def _at_places(self, table: str) -> "redaction.Mask":
        by_file = self.journal.places.get(table, {})
        everywhere = {place for places in by_file.values() for place in places}

        def mask(path: str, rows: pa.Table) -> pa.BooleanArray:
            places = {*by_file.get(path.rpartition("/")[2], everywhere), *by_file.get(STREAMED, ())}
            here = zip(rows["file"].to_pylist(), rows["line"].to_pylist(), strict=True)
            return pa.array([place in places for place in here], pa.bool_())

        return mask


def _remove(settings: Settings, journal: Journal) -> Erased:
    """All that is the patient's; what is gone already is passed over."""
    rows, dataset = _Rows(settings, journal), journal.dataset
    unflushed = prediction_log.erase(settings, dataset, journal.subject_id)
    counts = {
        table: redaction.redact(settings, dataset, table, rows.of(table))
        for table in lake.tables(settings, dataset)
    }
    _forget_copies(settings, dataset)
    spark.delete_stale_shuffles(settings)
    late = PREDICTIONS.name  # a server may have moved what it logged into the lake meanwhile
    if lake.exists(settings, dataset, late):
        counts[late] = counts.get(late, 0) + redaction.redact(settings, dataset, late, rows.of(late))
    for other in _other_logs(settings, dataset):
        counts[f"{other}/{late}"] = redaction.redact(settings, other, late, rows.quoted())
    counts[INDEXES] = index_versions.erase(settings, dataset, journal.subject_id)
    removed = {table: n for table, n in counts.items() if n}
    return Erased(removed, unflushed, journal.trained, journal.judged)


def _other_logs(settings: Settings, dataset: str) -> list[str]:
    """The other datasets that have a prediction log in the lake."""
    others = (other for other in lake.datasets(settings) if other != dataset)
    return [other for other in others if lake.exists(settings, other, PREDICTIONS.name)]


def _forget_copies(settings: Settings, dataset: str) -> None:
    """Copies that are made again where they are needed: the extract and the rehearsals of a synthetic hospital, and
    where the fits of note models stand."""
    for copied in calls.of_stage(settings, "synthetic"):
        if copied.params["dataset"] == dataset:
            shutil.rmtree(settings.home / copied.result["path"], ignore_errors=True)
            (settings.home / copied.result["oracle"]).unlink(missing_ok=True)
            calls.forget(settings, copied)
    for replay in calls.of_stage(settings, "held_out_replay"):
        if replay.params["dataset"] == dataset:
            rehearsal = replay.result["predictions"]["dataset"]
            datasets.delete(settings, rehearsal)
            shutil.rmtree(settings.home / "serving" / rehearsal, ignore_errors=True)
            calls.forget(settings, replay)
    shutil.rmtree(settings.home / "checkpoints" / dataset, ignore_errors=True)


# --- the history -------------------------------------------------------------------------------------------------


def _record(settings: Settings, journal: Journal, path: Path, actor: str, at: datetime) -> None:
    """Enters the erasure once. Where nothing can be signed here, nothing is begun either."""
    body = Erasure(
        pseudonym=journal.pseudonym, reason=journal.reason, trained=journal.trained, judged=journal.judged
    )
    try:
        history.append(settings, journal.dataset, Draft(body, actor, at, path.stem))
    except MediscaleError:
        if not exclusions.lists(settings, journal.dataset, journal.number):
            path.unlink()
        raise


def _attest(settings: Settings, journal: Journal, path: Path, actor: str, at: datetime) -> None:
    """Signs what is left of the tables that were sound, so that they can be verified again."""
    if journal.sound:
        body = recorded_rows.attest(settings, journal.dataset, journal.sound)
        history.append(settings, journal.dataset, Draft(body, actor, at, f"{path.stem}-rows"))


def of_version(settings: Settings, dataset: str, version: str) -> Entry | None:
    """The first erasure of a patient whom a version was trained on, by the verified history."""
    entries = history.entries(settings, dataset)
    erasures = history.bodies(entries, Erasure)
    return next((entry for entry, body in erasures if version in body.trained), None)
