"""Silver: the bitemporal table of MEDS events, one folder per subject shard, sorted by subject and time."""

import logging
from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline import shards
from data_pipeline.ingest import engine, facts, stream_record
from data_pipeline.ingest import source as sources
from data_pipeline.ingest.source import Source, SourceName
from mediscale.core.annotations import RuntimeInput
from mediscale.core.errors import InputError
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import SPARK, Stage
from mediscale.core.tables import EVENTS, FACTS, SHARD, SUBJECTS
from mediscale.storage import duckdb_tables, lake, table_files

if TYPE_CHECKING:
    import duckdb

log = logging.getLogger(__name__)


class Params(Frozen):
    source: RuntimeInput[SourceName]
    dataset: RuntimeInput[str]
    facts: RuntimeInput[TableRef]
    bronze: RuntimeInput[dict[str, TableRef]]
    shards: int = 8
    """The number of subject shards; a patient is in shard ``subject_id % shards``."""


class Result(Frozen):
    events: TableRef
    subjects: TableRef
    shards: int
    event_count: int
    notes_in_bronze: bool
    """Whether the extract has clinical notes, which ``deidentify`` reads from bronze."""


def run(params: Params, settings: Settings, key: str) -> Result:
    """Writes ``events`` and ``subjects``.

    Raises:
        InputError: two patients of the source would share a subject_id.
    """
    stream_record.refuse_replacing(settings, params.dataset)
    source = sources.load(params.source)
    with engine.connection(settings) as database:
        tables = facts.of_bronze(settings, source, params.bronze)
        facts.load(database, source, tables, params.dataset, (source.subjects.table, source.visits.table))
        subjects = table_files.write(
            settings, params.dataset, SUBJECTS.name, key, listed_subjects(database, source, params.dataset)
        )
        _check_unique(settings, subjects)
        log.info("the subjects are written; events are sorted into %d shards of subjects", params.shards)
        events = lake.committed(settings, params.dataset, EVENTS.name, key)
        if events is None:
            duckdb_tables.view(database, settings, params.facts, "facts")
            rows = placed_events(database, source, params.dataset, "facts", params.shards)
            events = _write(settings, params, rows, key)
    notes = any(source.tables[name].provides == "notes" for name in params.bronze)
    return Result(
        events=events,
        subjects=subjects,
        shards=params.shards,
        event_count=lake.dataset(settings, events).count_rows(),
        notes_in_bronze=notes,
    )


def listed_subjects(
    database: "duckdb.DuckDBPyConnection", source: Source, dataset: str
) -> Iterator[pa.RecordBatch]:
    from data_pipeline.ingest.extract_facts import pseudonym_sql, subjects_query

    columns = f"source_subject, {pseudonym_sql('source_subject', dataset)} as subject_id"
    return engine.batches(database, engine.carried(f"select {columns} from ({subjects_query(source)})"))


def _check_unique(settings: Settings, subjects: TableRef) -> None:
    numbers = lake.read(settings, subjects, ["subject_id"])["subject_id"]
    collisions = pc.sum(pc.greater(pc.value_counts(numbers).field("counts"), 1)).as_py()
    if collisions:
        raise InputError(
            f"In {subjects.dataset} {collisions} subject numbers stand for two patients each; give the dataset another "
            "name, which gives its patients other numbers."
        )


def placed_events(
    database: "duckdb.DuckDBPyConnection",
    source: Source,
    dataset: str,
    judged: str,
    n_shards: int,
) -> Iterator[pa.RecordBatch]:
    """The usable facts of the table ``judged`` with their ``shard``, in the order of the files.

    That is by shard, subject, time, event, and when it was known.

    A fact without a visit gets the latest one that had started, and had not ended, at the fact's time; the table of the
    visits is loaded (``facts.load``). Where a source gives one event in two units, both known at the same time, only
    the first row is kept.
    """
    visits = engine.carried(_visit_times(source, dataset))
    database.execute(f"create or replace table visits_of as {visits}")
    columns = ", ".join(f"facts.{name}" for name in FACTS.column_names if name not in ("visit_id", "broken"))
    during = "list_filter(visits, lambda v: v.started <= time and (v.ended is null or time <= v.ended))[-1].visit_id"
    rows = engine.batches(
        database,
        f"select {columns}, coalesce(visit_id, {during}) as visit_id, subject_id % {n_shards} as shard "
        f"from (select * from {judged} where broken is null) as facts "
        "left join visits_of on subject_id = visitor and visit_id is null "
        "order by shard, subject_id, time, event_id, available_time, line, file",
    )
    yield from _without_other_units(rows)


def _visit_times(source: Source, dataset: str) -> str:
    """The Spark SQL of the visits of each subject in order of their start, as an array of structs."""
    from data_pipeline.ingest.extract_facts import pseudonym_sql, visits_query

    subject, visit = (
        pseudonym_sql(identifier, dataset) for identifier in (source.subjects.id, source.visits.id)
    )
    usable = (
        f"select {subject} as visitor, started, ended, {visit} as visit_id from ({visits_query(source)}) "
    )
    usable += "where not unusable and not disputed"
    order = "started nulls first, ended nulls first, visit_id nulls first"
    one = "struct(started as started, ended as ended, visit_id as visit_id)"
    return f"select visitor, array_agg({one} order by {order}) as visits from ({usable}) group by visitor"


_ONE_EVENT = ("subject_id", "time", "event_id", "available_time")


def _without_other_units(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Sorted rows without those that assert the event of the row before, known at the same time."""
    last: tuple[Any, ...] | None = None
    for batch in batches:
        if not batch.num_rows:
            continue
        columns = [np.asarray(batch[name].cast(pa.int64())) for name in _ONE_EVENT]
        again = np.zeros(batch.num_rows, np.bool_)
        again[1:] = np.logical_and.reduce([column[1:] == column[:-1] for column in columns])
        again[0] = last == tuple(column[0] for column in columns)
        last = tuple(column[-1] for column in columns)
        yield batch.filter(pa.array(~again))


def _write(settings: Settings, params: Params, rows: Iterable[pa.RecordBatch], key: str) -> TableRef:
    """Writes the events, a file for each shard that has some."""
    schema = pa.schema([field for field in EVENTS.arrow_schema() if field.name != SHARD])
    files = [
        table_files.write_file(settings, params.dataset, EVENTS.name, own, schema, {SHARD: shard})
        for shard, own in _by_shard(rows, schema)
    ]
    stated = {shards.SHARD_COUNT: params.shards}
    return table_files.commit(
        settings, params.dataset, EVENTS.name, key, files, EVENTS.arrow_schema(), stated
    )


def _by_shard(
    rows: Iterable[pa.RecordBatch], schema: pa.Schema
) -> Iterator[tuple[int, Iterator[pa.RecordBatch]]]:
    """Sorted rows, those of each shard for themselves."""
    pieces = (piece for batch in rows for piece in _pieces(batch))
    for shard, own in groupby(pieces, lambda piece: piece[0]):
        yield shard, (piece.select(schema.names) for _, piece in own)


def _pieces(batch: pa.RecordBatch) -> Iterator[tuple[int, pa.RecordBatch]]:
    shard = np.asarray(batch[SHARD])
    begins = [0, *(np.flatnonzero(np.diff(shard)) + 1).tolist(), batch.num_rows]
    for begin, end in pairwise(begins):
        if end > begin:
            yield int(shard[begin]), batch.slice(begin, end - begin)


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="events of every patient",
    summary=lambda r: f"{r.event_count:,} events in {r.shards} shards of patients",
    resources=SPARK,
)
