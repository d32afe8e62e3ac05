"""Stage: clinical notes from bronze with surrogates in place of identifiers; nothing downstream sees them otherwise.

A patient's notes are read together, and a name that one tells is replaced in all: what an earlier note lacks may follow
from a later one. That is kept, because a name left in one note gives away the others; ``TOGETHER`` says so in the
evidence. A note that can't be used goes to quarantine with the reason and its place in the
extract, never with its text.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial, reduce
from typing import TYPE_CHECKING, Any

from data_pipeline.ingest import source as sources
from data_pipeline.ingest.source import NoteMapping, Source, SourceName
from data_pipeline.ingest.validate import broken_rules
from data_pipeline.notes.deidentification import pseudonym_secret as surrogate_key
from mediscale.core.annotations import PatientCount, RuntimeInput
from mediscale.core.errors import QualityError
from mediscale.core.privacy import count
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import SPARK, Context, Stage
from mediscale.core.tables import NOTES

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import Column, DataFrame

    from data_pipeline.notes.deidentification.deidentifier import Scrubber


TOGETHER = (
    "names in notes: a name that one of a patient's notes tells is replaced in all of them, in earlier ones too, so "
    "that none gives it away; which words an earlier note lacks may follow from a later one."
)
"""What is assumed to tell nothing of the outcome; quoted in the evidence of every version that reads notes."""


class Params(Frozen):
    source: RuntimeInput[SourceName]
    dataset: RuntimeInput[str]
    bronze: RuntimeInput[dict[str, TableRef]]
    surrogate_key: RuntimeInput[str]
    """Fingerprint of the secret (``pseudonym_secret.resolve``), resolved by the caller."""
    misdated_after: datetime | None = None
    """Notes dated later are misdated. Shifted extracts have no such moment."""
    max_quarantine_share: float = 0.05


class Result(Frozen):
    """An extract without notes leaves no tables."""

    notes: TableRef | None
    note_quarantine: TableRef | None
    note_count: PatientCount
    notes_quarantined: PatientCount
    reasons: dict[str, PatientCount]
    replaced: int
    """Identifiers in all notes."""


_NOTHING = Result(notes=None, note_quarantine=None, note_count=0, notes_quarantined=0, reasons={}, replaced=0)


def run(params: Params, settings: Settings, key: str) -> Result:
    """Writes NOTES and the quarantine of notes.

    Raises:
        QualityError: too large a share of the notes can't be used.
        StorageError: the surrogates' secret is not in the home.
    """
    from pyspark.sql import functions as f

    from mediscale.storage import spark

    secret = surrogate_key.secret(settings, params.surrogate_key)
    source = sources.load(params.source)
    if not _tables(source, params.bronze):
        return _NOTHING
    bronze = {name: spark.read(settings, ref) for name, ref in params.bronze.items()}
    judged = _judged(source, bronze, params)
    broken = judged.where("broken is not null").select(
        f.col("note_type").alias("source"),
        "file",
        "line",
        f.lit("NOTE").alias("code"),
        f.col("broken").alias("reason"),
    )
    quarantine = spark.write(settings, broken, params.dataset, "quarantine_notes", key)
    reasons = {
        str(row["reason"]): int(row["count"])
        for row in spark.read(settings, quarantine).groupBy("reason").count().collect()
    }
    _refuse_too_many(
        params, sum(reasons.values()), sum(bronze[name].count() for name in _tables(source, bronze))
    )
    notes = spark.write(
        settings, _scrubbed(judged.where("broken is null"), secret), params.dataset, "notes", key
    )
    total = (
        spark.read(settings, notes).agg(f.count(f.lit(1)), f.coalesce(f.sum("replaced"), f.lit(0))).first()
    )
    assert total is not None
    return Result(
        notes=notes,
        note_quarantine=quarantine,
        note_count=int(total[0]),
        notes_quarantined=sum(reasons.values()),
        reasons=reasons,
        replaced=int(total[1]),
    )


def _refuse_too_many(params: Params, quarantined: int, total: int) -> None:
    if quarantined > max(1, params.max_quarantine_share * total):
        raise QualityError(
            f"{count(quarantined)} of the {count(total)} notes of {params.dataset} can't be used (table "
            "quarantine_notes names the rules and lines); correct the extract, or allow more with max_quarantine_share."
        )


def _tables(source: Source, bronze: Iterable[str]) -> dict[str, NoteMapping]:
    return {name: note for name in bronze if (note := source.tables[name].note)}


def _judged(source: Source, bronze: "dict[str, DataFrame]", params: Params) -> "DataFrame":
    """All notes with the columns of NOTES, what its rules look at, and the rules that each breaks."""
    from pyspark.sql import DataFrame, Window
    from pyspark.sql import functions as f

    patients = (
        bronze[source.subjects.table].select(f.col(source.subjects.id).alias("listed")).distinct().dropna()
    )
    parts = [
        _candidates(source, bronze, params, name, note) for name, note in _tables(source, bronze).items()
    ]
    notes = reduce(DataFrame.unionByName, parts)
    known = notes.join(f.broadcast(patients), notes["source_subject"] == patients["listed"], how="left")
    same = Window.partitionBy("note_id", "available_time").orderBy("line")
    marked = known.withColumns(
        {
            "subject_listed": f.col("listed").isNotNull(),
            "repeated": f.col("note_id").isNotNull() & (f.row_number().over(same) > 1),
        }
    )
    return marked.withColumn("broken", broken_rules(NOTES))


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
        f.octet_length(text).alias("size"),
        (~text.rlike(r"[\p{L}\p{N}]")).alias("blank"),
        text.rlike(r"[\x00-\x08\x0E-\x1F\x7F\uFFFD]").alias("unreadable"),
        _future(note, time, params).alias("future"),
        f.coalesce(f.expr(note.error), f.lit(False)).alias("marked_error"),
    )


def _note_id(dataset: str, table: str, identifier: str) -> "Column":
    from pyspark.sql import functions as f

    told = f.expr(identifier).cast("string")
    return f.when(
        told.isNotNull(), f.xxhash64(f.lit(dataset), f.lit(table), told)
    )  # hashing passes over a null


def _future(note: NoteMapping, time: "Column", params: Params) -> "Column":
    from pyspark.sql import functions as f

    stored = f.expr(note.stored or "null").cast("timestamp_ntz")
    late = f.coalesce(time > stored + f.expr("interval 1 day"), f.lit(False))
    return (
        late
        if params.misdated_after is None
        else late | f.coalesce(time > f.lit(params.misdated_after), f.lit(False))
    )


_NOTE = ("time", "available_time", "note_id", "line", "visit_id", "note_type", "text", "file")


def _scrubbed(notes: "DataFrame", secret: bytes) -> "DataFrame":
    """One row per patient goes to a worker, one per note comes back."""
    from pyspark.sql import functions as f

    together = notes.groupBy("subject_id").agg(f.array_sort(f.collect_list(f.struct(*_NOTE))).alias("notes"))
    return together.mapInArrow(partial(_work, secret=secret), NOTES.spark_schema())


def _work(batches: "Iterator[pa.RecordBatch]", secret: bytes) -> "Iterator[pa.RecordBatch]":
    import pyarrow as pa

    from data_pipeline.notes.deidentification.deidentifier import Scrubber

    scrubber = Scrubber(secret)
    for batch in batches:
        for patient in batch.to_pylist():
            yield pa.RecordBatch.from_pylist(list(_patient(scrubber, patient)), schema=NOTES.arrow_schema())


def _patient(scrubber: "Scrubber", patient: dict[str, Any]) -> Iterator[dict[str, Any]]:
    notes = patient["notes"]
    scrubbed = scrubber.scrub(patient["subject_id"], [n["text"] for n in notes], [n["time"] for n in notes])
    for note, clean in zip(notes, scrubbed, strict=True):
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
    """The fingerprint of the home's secret, where the source brings none."""
    if "surrogate_key" not in known:
        yield Context({"surrogate_key": surrogate_key.resolve(settings)})


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="replace identifiers in notes",
    summary=_summary,
    resources=SPARK,
    runtime_inputs=runtime_inputs,
)
