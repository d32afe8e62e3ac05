"""Silver: the bitemporal table of MEDS events, one folder per subject shard, sorted by subject and time.

A dataset begins with one sorted file a shard. A later extract appends to it: the assertions that supersede what is
there (``data_pipeline.ingest.supersede``), as sorted run files of the shards that they touch, or nothing. ``mediscale
compact`` merges them. Where the rules changed (a mended YAML, another release), what they newly accept is appended,
too; only if they change or lose an event is silver rebuilt (``data_pipeline.ingest.changed_rules``), because what was
wrong was then never true.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from datetime import datetime
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, NaiveDatetime

from data_pipeline import shards
from data_pipeline.ingest import (
    changed_rules,
    engine,
    facts,
    landing,
    listed_subjects,
    placing,
    stream_record,
    supersede,
    typed_tables,
)
from data_pipeline.ingest import source as sources
from data_pipeline.ingest.absorbed_versions import AbsorbedVersions
from data_pipeline.ingest.source import Source, SourceName
from data_pipeline.ingest.supersede import Superseding
from mediscale.core.annotations import PatientCount, RuntimeInput
from mediscale.core.privacy import count
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import SPARK, Context, Stage, declarations
from mediscale.core.table import SHARD
from mediscale.core.tables import EVENTS, SUBJECTS
from mediscale.storage import calls, duckdb_tables, lake, table_files

if TYPE_CHECKING:
    import duckdb

log = logging.getLogger(__name__)


class Params(Frozen):
    source: RuntimeInput[SourceName]
    dataset: RuntimeInput[str]
    facts: RuntimeInput[TableRef]
    bronze: RuntimeInput[dict[str, TableRef]]
    shards: int = Field(8, ge=1)
    """The number of subject shards of a dataset that begins; a patient is in shard ``subject_id % shards``."""
    seen_at: RuntimeInput[NaiveDatetime | None] = None
    absorbed: RuntimeInput[AbsorbedVersions | None] = None
    """What the extract is compared with; None: the dataset begins."""
    changed: RuntimeInput[TableRef | None] = None
    """The patients to compare; None: all."""
    made_from: RuntimeInput[TableRef | None] = None
    """The version of ``events`` that is appended to, which the caller looks up."""
    listed: RuntimeInput[TableRef | None] = None
    """That of ``subjects``."""

    @property
    def seen(self) -> datetime:
        """``seen_at``, which every extract that is appended has."""
        if self.seen_at is None:
            raise RuntimeError("an extract is appended without the moment when it was seen")
        return self.seen_at


class Result(Frozen):
    events: TableRef
    subjects: TableRef
    shards: int
    event_count: int
    """Assertions, those included that later ones supersede."""
    appended: PatientCount = 0
    """Of these, those that this extract added to what was there; a call that was killed after it had committed them is
    counted."""
    corrected: PatientCount = 0
    """Of the appended ones, those that are known from when the extract was seen: corrections and late rows."""
    retracted: PatientCount = 0
    """Of the appended ones, those that withdraw an event."""
    rebuilt: bool = False
    """Whether all was made anew, because changed rules change or lose events that were there."""
    notes_in_bronze: bool
    """Whether the extract has clinical notes, which ``deidentify`` reads from bronze."""


class Before(NamedTuple):
    """The state that an extract is appended to."""

    absorbed: AbsorbedVersions
    events: TableRef
    subjects: TableRef


APPENDED = ("appended", "corrected", "retracted")
"""The counts of a result that a commit states of its own rows, for the call may be killed after it."""


def run(params: Params, settings: Settings, key: str) -> Result:
    """Writes ``events`` and ``subjects``, or appends to them.

    Raises:
        InputError: two patients of the source would share a subject_id.
        BusyError: another process wrote one of them.
    """
    stream_record.refuse_replacing(settings, params.dataset)
    source = sources.load(params.source)
    if params.absorbed is None or params.made_from is None or params.listed is None:
        return _begin(params, settings, source, key)
    before = Before(params.absorbed, params.made_from, params.listed)
    if before.absorbed.same_rules and params.facts == before.absorbed.facts:
        return _result(settings, params, before.events, before.subjects)
    if not before.absorbed.same_rules:
        return _take_changed_rules(params, settings, source, key, before)
    with engine.connection(settings) as database:
        _load(database, settings, source, params)
        superseding = _superseding(database, settings, source, params, before)
        listed = listed_subjects.append_new(database, settings, source, before.subjects, key)
    return _append(params, settings, key, before.events, superseding, listed)


def _append(
    params: Params,
    settings: Settings,
    key: str,
    made_from: TableRef,
    superseding: Superseding,
    listed: TableRef,
) -> Result:
    files = _write_shards(settings, params.dataset, shards.in_order(superseding.rows).to_batches())
    events = made_from
    if files:
        n_shards = lake.fact(settings, made_from, shards.SHARD_COUNT)
        events = _commit(params, settings, key, files, n_shards, made_from, superseding)
    return _result(settings, params, events, listed)


def _take_changed_rules(
    params: Params, settings: Settings, source: Source, key: str, before: Before
) -> Result:
    """Appends what the changed rules and this extract add; where the rules change what is there, writes all anew."""
    added: list[Superseding] = []
    with engine.connection(settings) as database:
        _load(database, settings, source, params)
        duckdb_tables.view(database, settings, params.facts, "facts")
        extract = changed_rules.Extract(
            params.dataset, params.bronze, params.seen, _moments(settings, params.dataset)
        )
        states = partial(
            changed_rules.restated, database, settings, source, extract, before.absorbed, before.events
        )
        with closing(states()) as every:
            anew = False
            for state in every:
                if anew := state.changes_what_is_there:
                    break
                added.append(state.added)
        listed = listed_subjects.append_new(database, settings, source, before.subjects, key)
        if not anew:
            return _append(params, settings, key, before.events, supersede.together(added), listed)
        log.info("the rules changed events that were there: silver is made anew")
        rows = chain.from_iterable(shards.in_order(state.rows).to_batches() for state in states())
        files = _write_shards(settings, params.dataset, rows)
    events = _commit(params, settings, key, files, lake.fact(settings, before.events, shards.SHARD_COUNT))
    return _result(settings, params, events, listed).model_copy(update={"rebuilt": True})


def _moments(settings: Settings, dataset: str) -> pa.Array:
    """When the extracts of a dataset were seen."""
    own = (call for call in calls.of_stage(settings, "silver") if call.params["dataset"] == dataset)
    moments = {Params.model_validate(call.params).seen_at for call in own}
    return pa.array(sorted(moment for moment in moments if moment is not None), pa.timestamp("us"))


def _begin(params: Params, settings: Settings, source: Source, key: str) -> Result:
    with engine.connection(settings) as database:
        _load(database, settings, source, params)
        listed = listed_subjects.write(database, settings, source, params.dataset, key)
        log.info("the subjects are written; events are sorted into %d shards of subjects", params.shards)
        events = lake.find_commit(settings, params.dataset, EVENTS.name, key)
        if events is None:
            usable = placing.check_order(facts.usable(settings, params.facts))
            rows = placing.place(database, source, params.dataset, usable, params.shards)
            files = _write_shards(settings, params.dataset, rows)
            events = _commit(params, settings, key, files, params.shards)
    return _result(settings, params, events, listed)


def _commit(
    params: Params,
    settings: Settings,
    key: str,
    files: list[table_files.TableFile],
    n_shards: int,
    onto: TableRef | None = None,
    superseding: Superseding | None = None,
) -> TableRef:
    schema, stated = EVENTS.arrow_schema(), {shards.SHARD_COUNT: n_shards}
    if superseding is not None:
        counts = (len(superseding.rows), len(superseding.corrected), len(superseding.retracted))
        stated |= dict(zip(APPENDED, counts, strict=True))
    return table_files.commit(settings, params.dataset, EVENTS.name, key, files, schema, stated, onto=onto)


def _load(database: "duckdb.DuckDBPyConnection", settings: Settings, source: Source, params: Params) -> None:
    """Loads what lists patients and visits: of the changed patients, where others stay as they are."""
    tables = facts.of_bronze(settings, source, params.bronze)
    names = (source.subjects.table, source.visits.table)
    if params.changed is not None:
        ids = lake.read(settings, params.changed)["subject_id"].combine_chunks()
        own = partial(_rows_of_patients, source, params.dataset, ids)
        tables = {name: partial(own, name, read) if name in names else read for name, read in tables.items()}
    facts.load(database, source, tables, params.dataset, names)


def _rows_of_patients(
    source: Source, dataset: str, ids: pa.Array, name: str, read: Callable[[], Iterable[pa.RecordBatch]]
) -> Iterator[pa.RecordBatch]:
    """A table's rows of some patients, before they are typed; all where another table says whose they are."""
    table, subject = source.tables[name], source.subjects.id
    for rows in read():
        if subject not in table.columns or subject not in rows.schema.names:
            yield rows
            continue
        pseudonyms = partial(engine.pseudonyms, dataset=dataset)
        own = typed_tables.map_typed(source, table, subject, rows.column(subject), pseudonyms)
        yield rows.filter(pc.is_in(own, value_set=ids))


def _result(settings: Settings, params: Params, events: TableRef, listed: TableRef) -> Result:
    source, absorbed = sources.load(params.source), params.absorbed
    counts = lake.sums_of_facts(settings, absorbed.events, events, APPENDED) if absorbed is not None else {}
    return Result(
        events=events,
        subjects=listed,
        shards=lake.fact(settings, events, shards.SHARD_COUNT),
        event_count=lake.dataset(settings, events).count_rows(),
        **counts,
        notes_in_bronze=any(source.tables[name].provides == "notes" for name in params.bronze),
    )


def _superseding(
    database: "duckdb.DuckDBPyConnection", settings: Settings, source: Source, params: Params, before: Before
) -> Superseding:
    """What the facts of this call say beyond the events that are there."""
    n_shards = lake.fact(settings, before.events, shards.SHARD_COUNT)
    if params.changed is None:
        duckdb_tables.view(database, settings, params.facts, "facts")
    else:
        database.register("facts", lake.rows_added(settings, params.facts))
    unusable, seen_at = supersede.unusable(database), params.seen
    rows = placing.placed_events(database, source, params.dataset, "facts", n_shards)
    return supersede.together(
        [
            supersede.compare(asserted, there, unusable, seen_at, before.absorbed.seen_at, source.complete)
            for asserted, there in _side_by_side(settings, params, before.events, n_shards, rows)
        ]
    )


def _side_by_side(
    settings: Settings, params: Params, made_from: TableRef, n_shards: int, rows: Iterable[pa.RecordBatch]
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """What is asserted now and the assertions that are there: of the changed patients, or shard by shard of all."""
    if params.changed is None:
        for shard, asserted in enumerate(placing.iterate_shards(rows, n_shards)):
            yield asserted, shards.read_shards(settings, made_from, [shard])
        return
    schema = EVENTS.arrow_schema()
    ids = lake.read(settings, params.changed)["subject_id"].combine_chunks()
    with duckdb_tables.session() as database:  # which decodes no rows of others, as Arrow does
        duckdb_tables.view(database, settings, made_from, "events")
        database.register("changed", pa.table({"subject_id": ids}))
        own = f"select {', '.join(schema.names)} from events where subject_id in (select subject_id from changed)"
        there = duckdb_tables.rows(database, own).read_all()
    yield placing.table_of(rows, schema), there.cast(schema)


def absorbed(settings: Settings, dataset: str) -> AbsorbedVersions | None:
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
    return AbsorbedVersions.model_validate(
        {
            **{name: judged[-1].params[name] for name in ("bronze", "landed")},
            **{name: judged[-1].result[name] for name in ("facts", "quarantine", "docs")},
            "events": newest.result["events"],
            "seen_at": newest.params["seen_at"],
            "same_rules": today == newest.key,
        }
    )


def runtime_inputs(params: Mapping[str, Any], settings: Settings) -> Iterator[Context]:
    """Gives the tables that an extract is appended to: first as the newest call saw them, so that the same extract
    again is that call."""
    if params.get("absorbed") is None:
        return
    before = landing.newest_call(settings, "silver", params["dataset"])
    if before is not None and "made_from" in before.params:
        yield Context({name: before.params[name] for name in ("made_from", "listed")})
    if all(lake.exists(settings, params["dataset"], table) for table in (EVENTS.name, SUBJECTS.name)):
        tables = {"made_from": EVENTS.name, "listed": SUBJECTS.name}
        yield Context(
            {name: lake.latest(settings, params["dataset"], table) for name, table in tables.items()}
        )


def _write_shards(
    settings: Settings, dataset: str, rows: Iterable[pa.RecordBatch]
) -> list[table_files.TableFile]:
    """Writes events, in each shard in order, to a file for each shard that has some."""
    schema = pa.schema([field for field in EVENTS.arrow_schema() if field.name != SHARD])
    own = placing.by_shard(rows, schema)
    return table_files.write_partitions(settings, dataset, EVENTS.name, own, schema, SHARD)


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
    display_name="build the events of every patient",
    summary=_summary,
    resources=SPARK,
    runtime_inputs=runtime_inputs,
)
