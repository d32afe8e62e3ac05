"""Placing: usable facts in the shard of their patient, in order, each with the visit that it belongs to."""

from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from data_pipeline.ingest import engine
from data_pipeline.ingest.source import Source
from mediscale.core.table import SHARD
from mediscale.core.tables import EVENTS, FACTS

if TYPE_CHECKING:
    import duckdb


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


def iterate_shards(rows: Iterable[pa.RecordBatch], n_shards: int) -> Iterator[pa.Table]:
    """The sorted events of each shard, none of some."""
    schema = EVENTS.arrow_schema()
    shards = by_shard(rows, schema)
    coming = next(shards, None)
    for shard in range(n_shards):
        if coming is not None and coming[0] == shard:
            yield table_of(coming[1], schema)
            coming = next(shards, None)
        else:
            yield schema.empty_table()


def table_of(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    """The columns of a schema, of some batches or of none."""
    parts = [pa.table(batch).select(schema.names).cast(schema) for batch in batches]
    return pa.concat_tables([schema.empty_table(), *parts])


def by_shard(
    rows: Iterable[pa.RecordBatch], schema: pa.Schema
) -> Iterator[tuple[int, Iterator[pa.RecordBatch]]]:
    """Sorted rows, those of each shard for themselves, which are to be taken before the next shard's."""
    pieces = (piece for batch in rows for piece in _pieces(batch))
    for shard, own in groupby(pieces, lambda piece: piece[0]):
        yield shard, (piece.select(schema.names) for _, piece in own)


def _pieces(batch: pa.RecordBatch) -> Iterator[tuple[int, pa.RecordBatch]]:
    shard = np.asarray(batch[SHARD])
    begins = [0, *(np.flatnonzero(np.diff(shard)) + 1).tolist(), batch.num_rows]
    for begin, end in pairwise(begins):
        if end > begin:
            yield int(shard[begin]), batch.slice(begin, end - begin)
