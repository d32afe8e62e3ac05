"""Silver: the bitemporal table of MEDS events, one folder per subject shard, sorted by subject and time.

A dataset begins with one sorted file a shard. A later extract appends to it: the assertions that supersede what is
there (``data_pipeline.ingest.supersede``), as sorted run files of the shards that they touch, or nothing. ``mediscale
compact`` merges them. Where the rules changed (a mended YAML, another release), what they newly accept is appended,
too; only if they change or lose an event is silver rebuilt, because what was wrong was then never true.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import NaiveDatetime

from data_pipeline import shards
from data_pipeline.ingest import engine, facts, landing, stream_record, supersede
from data_pipeline.ingest import source as sources
from data_pipeline.ingest.source import Source, SourceName
from data_pipeline.ingest.supersede import Superseding
from mediscale.core.annotations import PatientCount, RuntimeInput
from mediscale.core.errors import InputError
from mediscale.core.privacy import count
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import SPARK, Context, Stage, declarations
from mediscale.core.table import SHARD
from mediscale.core.tables import EVENTS, FACTS, SUBJECTS
from mediscale.storage import calls, duckdb_tables, lake, table_files

if TYPE_CHECKING:
    import duckdb

log = logging.getLogger(__name__)


class Absorbed(Frozen):
    """What silver has taken in of the extracts before: tables by the versions that its newest call read."""

    bronze: dict[str, TableRef]
    landed: TableRef
    facts: TableRef
    quarantine: TableRef
    docs: str
    seen_at: datetime
    same_rules: bool
    """Whether that call would be made by the same code and the same YAML today."""


class Params(Frozen):
    source: RuntimeInput[SourceName]
    dataset: RuntimeInput[str]
    facts: RuntimeInput[TableRef]
    bronze: RuntimeInput[dict[str, TableRef]]
    shards: int = 8
    """The number of subject shards of a dataset that begins; a patient is in shard ``subject_id % shards``."""
    seen_at: RuntimeInput[NaiveDatetime | None] = None
    absorbed: RuntimeInput[Absorbed | None] = None
    """What the extract is compared with; None: the dataset begins."""
    changed: RuntimeInput[TableRef | None] = None
    """The patients to compare; None: all."""
    made_from: RuntimeInput[TableRef | None] = None
    """The version of ``events`` that is appended to, which the caller looks up."""
    listed: RuntimeInput[TableRef | None] = None
    """That of ``subjects``."""


class Result(Frozen):
    events: TableRef
    subjects: TableRef
    shards: int
    event_count: int
    """Assertions, those included that later ones supersede."""
    appended: PatientCount = 0
    """Of these, those that this extract added to what was there."""
    corrected: PatientCount = 0
    """Of the appended ones, those that are known from when the extract was seen: corrections and late rows."""
    retracted: PatientCount = 0
    """Of the appended ones, those that withdraw an event."""
    rebuilt: bool = False
    """Whether all was made anew, because changed rules change or lose events that were there."""
    notes_in_bronze: bool
    """Whether the extract has clinical notes, which ``deidentify`` reads from bronze."""


def run(params: Params, settings: Settings, key: str) -> Result:
    """Writes ``events`` and ``subjects``, or appends to them.

    Raises:
        InputError: two patients of the source would share a subject_id.
        BusyError: another process wrote one of them.
    """
    stream_record.refuse_replacing(settings, params.dataset)
    source = sources.load(params.source)
    absorbed, made_from, listed = params.absorbed, params.made_from, params.listed
    if absorbed is None or made_from is None or listed is None:
        return _begin(params, settings, source, key)
    if absorbed.same_rules and params.facts == absorbed.facts:
        return _result(settings, params, source, made_from, listed)
    with engine.connection(settings) as database:
        _load(database, settings, source, params)
        made = _superseding(database, settings, source, params, absorbed, made_from)
        if not absorbed.same_rules and (len(made.corrected) or len(made.retracted)):
            log.info("the rules changed events that were there: silver is made anew")
            return _begin(params, settings, source, key).model_copy(update={"rebuilt": True})
        subjects = _list_new(database, settings, source, params, listed, key)
    files = _write_shards(settings, params.dataset, shards.in_order(made.rows).to_batches())
    events = made_from
    if files:
        stated = {shards.SHARD_COUNT: lake.fact(settings, made_from, shards.SHARD_COUNT)}
        events = table_files.commit(
            settings, params.dataset, EVENTS.name, key, files, EVENTS.arrow_schema(), stated, onto=made_from
        )
    return _result(settings, params, source, events, subjects, made)


def _begin(params: Params, settings: Settings, source: Source, key: str) -> Result:
    with engine.connection(settings) as database:
        _load(database, settings, source, params)
        subjects = table_files.write(
            settings, params.dataset, SUBJECTS.name, key, listed_subjects(database, source, params.dataset)
        )
        _check_unique(params.dataset, lake.read(settings, subjects, ["subject_id"]))
        log.info("the subjects are written; events are sorted into %d shards of subjects", params.shards)
        events = lake.committed(settings, params.dataset, EVENTS.name, key)
        if events is None:
            duckdb_tables.view(database, settings, params.facts, "facts")
            rows = placed_events(database, source, params.dataset, "facts", params.shards)
            files = _write_shards(settings, params.dataset, rows)
            stated = {shards.SHARD_COUNT: params.shards}
            events = table_files.commit(
                settings, params.dataset, EVENTS.name, key, files, EVENTS.arrow_schema(), stated
            )
    return _result(settings, params, source, events, subjects)


def _load(database: "duckdb.DuckDBPyConnection", settings: Settings, source: Source, params: Params) -> None:
    """Loads what lists patients and visits."""
    tables = facts.of_bronze(settings, source, params.bronze)
    facts.load(database, source, tables, params.dataset, (source.subjects.table, source.visits.table))


def _result(
    settings: Settings,
    params: Params,
    source: Source,
    events: TableRef,
    subjects: TableRef,
    made: Superseding | None = None,
) -> Result:
    return Result(
        events=events,
        subjects=subjects,
        shards=lake.fact(settings, events, shards.SHARD_COUNT),
        event_count=lake.dataset(settings, events).count_rows(),
        appended=0 if made is None else len(made.rows),
        corrected=0 if made is None else len(made.corrected),
        retracted=0 if made is None else len(made.retracted),
        notes_in_bronze=any(source.tables[name].provides == "notes" for name in params.bronze),
    )


def _superseding(
    database: "duckdb.DuckDBPyConnection",
    settings: Settings,
    source: Source,
    params: Params,
    absorbed: Absorbed,
    made_from: TableRef,
) -> Superseding:
    """What the facts of this call say beyond the events that are there."""
    if params.seen_at is None:
        raise RuntimeError("an extract is appended without the moment when it was seen")
    n_shards = lake.fact(settings, made_from, shards.SHARD_COUNT)
    if params.changed is None:
        duckdb_tables.view(database, settings, params.facts, "facts")
    else:
        database.register("facts", lake.rows_added(settings, params.facts))
    broken = "select event_id from facts where broken is not null and event_id is not null"
    unusable = database.sql(broken).to_arrow_table()["event_id"].combine_chunks()
    since = absorbed.seen_at if absorbed.same_rules else None
    rows = placed_events(database, source, params.dataset, "facts", n_shards)
    schema, made = EVENTS.arrow_schema(), []
    for asserted, there in _side_by_side(settings, params, made_from, n_shards, rows, schema):
        made.append(supersede.compare(asserted, there, unusable, params.seen_at, since, source.complete))
    return supersede.together(made)


def _side_by_side(
    settings: Settings,
    params: Params,
    made_from: TableRef,
    n_shards: int,
    rows: Iterable[pa.RecordBatch],
    schema: pa.Schema,
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """What is asserted now and the assertions that are there: of the changed patients, or shard by shard of all."""
    if params.changed is not None:
        ids = lake.read(settings, params.changed)["subject_id"].combine_chunks()
        there = lake.dataset(settings, made_from).to_table(
            columns=schema.names, filter=pc.field("subject_id").isin(ids)
        )
        yield _table(rows, schema), there.cast(schema)
        return
    asserted = dict.fromkeys(range(n_shards), schema.empty_table())
    for shard, own in _by_shard(rows, schema):
        asserted[shard] = _table(own, schema)
    for shard in range(n_shards):
        yield asserted.pop(shard), shards.read_shards(settings, made_from, [shard])


def _table(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    parts = [pa.table(batch).select(schema.names).cast(schema) for batch in batches]
    return pa.concat_tables([schema.empty_table(), *parts])


def _list_new(
    database: "duckdb.DuckDBPyConnection",
    settings: Settings,
    source: Source,
    params: Params,
    listed: TableRef,
    key: str,
) -> TableRef:
    """Appends the patients who were not listed before."""
    schema = SUBJECTS.arrow_schema()
    there = lake.read(settings, listed, schema.names)
    new = shards.except_all(_table(listed_subjects(database, source, params.dataset), schema), there)
    if not len(new):
        return listed
    _check_unique(params.dataset, pa.concat_tables([there, new]))
    return table_files.write(settings, params.dataset, SUBJECTS.name, key, new.to_batches(), onto=listed)


def absorbed(settings: Settings, dataset: str) -> Absorbed | None:
    """What the newest finished call of silver took in; None where an extract can't be compared with it."""
    newest = landing.newest_call(settings, "silver", dataset)
    if newest is None:
        return None
    judged = [
        call
        for call in calls.of_stage(settings, "validate")
        if call.result["facts"] == newest.params["facts"] and call.params["bronze"] == newest.params["bronze"]
    ]
    if not judged or not judged[-1].params.get("landed") or not newest.params.get("seen_at"):
        return None
    params = Params.model_validate(newest.params)
    today = calls.key_of("silver", params, declarations(params), calls.code_digest(__name__))
    return Absorbed.model_validate(
        {
            **{name: judged[-1].params[name] for name in ("bronze", "landed")},
            **{name: judged[-1].result[name] for name in ("facts", "quarantine", "docs")},
            "seen_at": newest.params["seen_at"],
            "same_rules": today == newest.key,
        }
    )


def runtime_inputs(given: Mapping[str, Any], settings: Settings) -> Iterator[Context]:
    """Gives the tables that an extract is appended to: first as the newest call saw them, so that the same extract
    again is that call."""
    if given.get("absorbed") is None:
        return
    before = landing.newest_call(settings, "silver", given["dataset"])
    if before is not None and "made_from" in before.params:
        yield Context({name: before.params[name] for name in ("made_from", "listed")})
    if all(lake.exists(settings, given["dataset"], table) for table in (EVENTS.name, SUBJECTS.name)):
        tables = {"made_from": EVENTS.name, "listed": SUBJECTS.name}
        yield Context(
            {name: lake.latest(settings, given["dataset"], table) for name, table in tables.items()}
        )


def listed_subjects(
    database: "duckdb.DuckDBPyConnection", source: Source, dataset: str
) -> Iterator[pa.RecordBatch]:
    from data_pipeline.ingest.extract_facts import pseudonym_sql, subjects_query

    columns = f"source_subject, {pseudonym_sql('source_subject', dataset)} as subject_id"
    return engine.batches(database, engine.carried(f"select {columns} from ({subjects_query(source)})"))


def _check_unique(dataset: str, listed: pa.Table) -> None:
    collisions = pc.sum(pc.greater(pc.value_counts(listed["subject_id"]).field("counts"), 1)).as_py()
    if collisions:
        raise InputError(
            f"In {dataset} {collisions} subject numbers stand for two patients each; give the dataset another "
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


def _write_shards(
    settings: Settings, dataset: str, rows: Iterable[pa.RecordBatch]
) -> list[table_files.TableFile]:
    """Writes sorted events, a file for each shard that has some."""
    schema = pa.schema([field for field in EVENTS.arrow_schema() if field.name != SHARD])
    return [
        table_files.write_file(settings, dataset, EVENTS.name, own, schema, {SHARD: shard})
        for shard, own in _by_shard(rows, schema)
    ]


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


def _summary(result: Result) -> str:
    events = f"{result.event_count:,} events in {result.shards} shards of patients"
    if result.rebuilt:
        return f"{events}, all made anew: the changed rules change or lose some that were there"
    if not result.appended:
        return events
    return (
        f"{events}, of which {count(result.appended)} are new; {count(result.corrected)} of these correct others or "
        f"came late and are known from now on, {count(result.retracted)} retract others"
    )


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="events of every patient",
    summary=_summary,
    resources=SPARK,
    runtime_inputs=runtime_inputs,
)
