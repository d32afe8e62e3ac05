"""De-identification: clinical notes from bronze with surrogates in place of identifiers.

Later stages get the notes only in this form. The notes of a patient are read together, and a name in one of them is
replaced in all of them, because a name that stays in one note would reveal it in the others. So a later note can decide
which words an earlier note lacks; ``TOGETHER`` says so in the evidence. A note that can't be used goes to quarantine
with the reason and its place in the extract, never with its text.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial, reduce
from typing import TYPE_CHECKING, Any

from data_pipeline.ingest import source as sources
from data_pipeline.ingest.source import Source, SourceName
from data_pipeline.ingest.source_tables import NoteMapping
from data_pipeline.notes.deidentification import deidentifier as deidentifiers
from data_pipeline.notes.deidentification import pseudonym_secret as secrets
from data_pipeline.notes.deidentification.deidentifier import Deidentifier
from mediscale.core.annotations import PatientCount, RuntimeInput
from mediscale.core.errors import QualityError
from mediscale.core.privacy import count
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import SPARK, Context, Stage
from mediscale.core.tables import NOTES
from mediscale.storage import lake

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import Column, DataFrame

log = logging.getLogger(__name__)

TOGETHER = (
    "names in notes: a name that one of a patient's notes tells is replaced in all of them, in earlier ones too, so "
    "that none gives it away; which words an earlier note lacks may follow from a later one."
)
"""The assumption that this reveals nothing about the outcome; evidence of versions that read notes quotes it."""


class Params(Frozen):
    source: RuntimeInput[SourceName]
    dataset: RuntimeInput[str]
    bronze: RuntimeInput[dict[str, TableRef]]
    pseudonym_secret: RuntimeInput[str]
    """The fingerprint of the secret (module ``pseudonym_secret``), which the caller gives."""
    deidentifier: RuntimeInput[str]
    """What replaces identifiers (module ``deidentifier``), which the settings name."""
    misdated_after: datetime | None = None
    """Notes dated later than this (naive UTC) are misdated. None for extracts with shifted dates."""
    max_quarantine_share: float = 0.05
    """The share of notes that may be quarantined."""


class Result(Frozen):
    """The tables and counts; an extract without notes has no tables."""

    notes: TableRef | None
    note_quarantine: TableRef | None
    note_count: PatientCount
    notes_quarantined: PatientCount
    reasons: dict[str, PatientCount]
    replaced: int
    """The number of identifiers that were replaced in all notes."""


_NOTHING = Result(notes=None, note_quarantine=None, note_count=0, notes_quarantined=0, reasons={}, replaced=0)


def run(params: Params, settings: Settings, key: str) -> Result:
    """Writes ``notes`` and ``quarantine_notes``.

    Raises:
        QualityError: too large a share of the notes can't be used.
        StorageError: the home does not hold the pseudonym secret.
        UsageError: the deidentifier of the settings is not installed here.
    """
    import pyarrow.compute as pc
    from pyspark.sql import functions as f

    from data_pipeline.ingest.extract_facts import needed_tables
    from mediscale.storage import spark

    secret = secrets.load(settings, params.pseudonym_secret)
    deidentifiers.load(params.deidentifier, secret)  # a wrong one is refused before anything is read
    source = sources.load(params.source)
    with_notes = tuple(_note_mappings(source, params.bronze))
    if not with_notes:
        return _NOTHING
    needed = needed_tables(source, *with_notes, source.subjects.table, source.visits.table)
    bronze = {name: spark.read(settings, params.bronze[name]) for name in needed}
    validated = _validate(source, bronze, params)
    broken = validated.where("broken is not null").select(
        f.col("note_type").alias("source"),
        "file",
        "line",
        f.lit("NOTE").alias("code"),
        f.col("broken").alias("reason"),
    )
    quarantine = spark.write(settings, broken, params.dataset, "quarantine_notes", key)
    reasons = dict(Counter(lake.read(settings, quarantine, ["reason"])["reason"].to_pylist()))
    n_notes = sum(lake.dataset(settings, params.bronze[name]).count_rows() for name in with_notes)
    _refuse_too_many(params, sum(reasons.values()), n_notes)
    log.info("%s notes are whole; their identifiers are replaced", count(n_notes - sum(reasons.values())))
    notes = spark.write(
        settings,
        _deidentify(validated.where("broken is null"), params.deidentifier, secret),
        params.dataset,
        "notes",
        key,
    )
    replaced = lake.read(settings, notes, ["replaced"])["replaced"]
    return Result(
        notes=notes,
        note_quarantine=quarantine,
        note_count=len(replaced),
        notes_quarantined=sum(reasons.values()),
        reasons=reasons,
        replaced=pc.sum(replaced).as_py() or 0,
    )


def _refuse_too_many(params: Params, quarantined: int, total: int) -> None:
    if quarantined > max(1, params.max_quarantine_share * total):
        raise QualityError(
            f"{count(quarantined)} of the {count(total)} notes of {params.dataset} can't be used (table "
            "quarantine_notes names the rules and lines); correct the extract, or allow more with max_quarantine_share."
        )


def _note_mappings(source: Source, bronze: Iterable[str]) -> dict[str, NoteMapping]:
    return {name: note for name in bronze if (note := source.tables[name].note)}


def _validate(source: Source, bronze: "dict[str, DataFrame]", params: Params) -> "DataFrame":
    """All notes with the columns of ``NOTES``, what its rules use, and the rules that each note breaks."""
    from pyspark.sql import DataFrame, Window
    from pyspark.sql import functions as f

    from data_pipeline.ingest.extract_facts import subjects

    patients = subjects(source, bronze).withColumnRenamed("source_subject", "listed")
    parts = [
        _candidates(source, bronze, params, name, note)
        for name, note in _note_mappings(source, bronze).items()
    ]
    notes = reduce(DataFrame.unionByName, parts)
    with_patient = notes.join(
        f.broadcast(patients), notes["source_subject"] == patients["listed"], how="left"
    )
    same_version = Window.partitionBy("note_id", "available_time").orderBy("line")
    marked = with_patient.withColumns(
        {
            "subject_listed": f.col("listed").isNotNull(),
            "repeated": f.col("note_id").isNotNull() & (f.row_number().over(same_version) > 1),
        }
    )
    return marked.withColumn("broken", f.expr(NOTES.broken_rules))


def _candidates(
    source: Source, bronze: "dict[str, DataFrame]", params: Params, name: str, note: NoteMapping
) -> "DataFrame":
    from pyspark.sql import functions as f

    from data_pipeline.ingest.extract_facts import pseudonym, rows

    visit = source.visits.id if source.visits.id in source.tables[name].columns else "null"
    text, time = f.expr(note.text), f.expr(note.time).cast("timestamp_ntz")
    return rows(source, bronze, name).select(
        _note_id(params.dataset, name, note.id).alias("note_id"),
        pseudonym(source.subjects.id, params.dataset).alias("subject_id"),
        f.expr(source.subjects.id).alias("source_subject"),
        pseudonym(visit, params.dataset).alias("visit_id"),
        time.alias("time"),
        f.greatest(time, f.col("known")).alias("available_time"),
        f.lit(name).alias("note_type"),
        text.alias("text"),
        f.lit(0).alias("replaced"),
        "file",
        "line",
        "visit_listed",
        "untimely",
        f.octet_length(text).alias("size"),
        (~text.rlike(r"[\p{L}\p{N}]")).alias("blank"),
        text.rlike(r"[\x00-\x08\x0E-\x1F\x7F\uFFFD]").alias("unreadable"),
        _future(note, time, params).alias("future"),
        f.coalesce(f.expr(note.error), f.lit(False)).alias("marked_error"),
    )


def _note_id(dataset: str, table: str, identifier: str) -> "Column":
    from pyspark.sql import functions as f

    natural_key = f.expr(identifier).cast("string")
    return f.when(
        natural_key.isNotNull(), f.xxhash64(f.lit(dataset), f.lit(table), natural_key)
    )  # xxhash64 ignores nulls


def _future(note: NoteMapping, time: "Column", params: Params) -> "Column":
    from pyspark.sql import functions as f

    stored = f.expr(note.stored or "null").cast("timestamp_ntz")
    late = f.coalesce(time > stored + f.expr("interval 1 day"), f.lit(False))
    return (
        late
        if params.misdated_after is None
        else late | f.coalesce(time > f.lit(params.misdated_after), f.lit(False))
    )


_NOTE_COLUMNS = ("time", "available_time", "note_id", "line", "visit_id", "note_type", "text", "file")


def _deidentify(notes: "DataFrame", deidentifier: str, secret: bytes) -> "DataFrame":
    """The notes with surrogates: a worker gets one row per patient and returns one row per note."""
    from pyspark.sql import functions as f

    by_patient = notes.groupBy("subject_id").agg(
        f.array_sort(f.collect_list(f.struct(*_NOTE_COLUMNS))).alias("notes")
    )
    replace = partial(_deidentify_batches, name=deidentifier, secret=secret)
    return by_patient.mapInArrow(replace, NOTES.spark_schema())


def _deidentify_batches(
    batches: "Iterator[pa.RecordBatch]", name: str, secret: bytes
) -> "Iterator[pa.RecordBatch]":
    import pyarrow as pa

    deidentifier = deidentifiers.load(name, secret)
    for batch in batches:
        for patient in batch.to_pylist():
            yield pa.RecordBatch.from_pylist(
                list(_deidentify_patient(deidentifier, patient)), schema=NOTES.arrow_schema()
            )


def _deidentify_patient(deidentifier: Deidentifier, patient: dict[str, Any]) -> Iterator[dict[str, Any]]:
    notes = patient["notes"]
    texts, times = [note["text"] for note in notes], [note["time"] for note in notes]
    deidentified = deidentifier.deidentify(patient["subject_id"], texts, times)
    for note, clean in zip(notes, deidentified, strict=True):
        yield {
            **note,
            "subject_id": patient["subject_id"],
            "text": clean.text,
            "replaced": sum(clean.replaced.values()),
        }


def _summary(result: Result) -> str:
    if result.notes is None:
        return "no notes in the extract"
    return (
        f"{count(result.note_count)} notes, {result.replaced:,} identifiers replaced; "
        f"{count(result.notes_quarantined)} set aside"
    )


def runtime_inputs(known: Mapping[str, Any], settings: Settings) -> Iterator[Context]:
    """Gives the deidentifier of the settings, and the fingerprint of the home's secret where the source brings none."""
    looked_up: dict[str, Callable[[Settings], str]] = {
        "deidentifier": deidentifiers.configured,
        "pseudonym_secret": secrets.home_fingerprint,
    }
    yield Context({name: look_up(settings) for name, look_up in looked_up.items() if name not in known})


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="replace identifiers in notes",
    summary=_summary,
    resources=SPARK,
    runtime_inputs=runtime_inputs,
)
