"""Placing: usable facts in the shard of their patient, in order, each with the visit that it belongs to."""

from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from data_pipeline.ingest import engine
from data_pipeline.ingest.source import Source
from mediscale.core.errors import StorageError
from mediscale.core.table import SHARD
from mediscale.core.tables import EVENTS, FACTS

if TYPE_CHECKING:
    import duckdb


ORDER = ("subject_id", "time", "event_id", "available_time", "line", "file")
"""Of the rows of ``facts``, and of those of ``events`` in a shard."""


def placed_events(
    database: "duckdb.DuckDBPyConnection",
    source: Source,
    dataset: str,
    judged: str,
    n_shards: int,
) -> Iterator[pa.RecordBatch]:
    """The usable facts of the table ``judged`` with their ``shard``, by shard and in each of them in ``ORDER``.

    As ``place`` says.
    """
    columns = ", ".join(name for name in FACTS.column_names if name != "broken")
    usable = f"select {columns} from {judged} where broken is null"
    rows = engine.batches(database, f"{usable} order by subject_id % {n_shards}, {', '.join(ORDER)}")
    yield from place(database, source, dataset, rows, n_shards)


def place(
    database: "duckdb.DuckDBPyConnection",
    source: Source,
    dataset: str,
    ordered: Iterable[pa.RecordBatch],
    n_shards: int,
) -> Iterator[pa.RecordBatch]:
    """Usable facts, of each patient in ``ORDER``, with their ``shard`` and the visit that each belongs to.

    A fact without a visit gets the latest one that had started, and had not ended, at the fact's time; the table of the
    visits is loaded (``facts.load``). Where a source gives one event in two units, both known at the same time, only
    the first row is kept.
    """
    with database.cursor() as own:  # beside a query whose rows are still coming
        visits = engine.transpile(_visit_times(source, dataset))
        own.execute(f"create or replace table visits_of as {visits}")
        yield from _without_other_units(_placed(own, rows, n_shards) for rows in ordered)


def _placed(own: "duckdb.DuckDBPyConnection", rows: pa.RecordBatch, n_shards: int) -> pa.RecordBatch:
    shard = np.asarray(rows["subject_id"]) % n_shards
    number = np.flatnonzero(np.asarray(rows["visit_id"].is_null()))
    columns = {
        "number": pa.array(number),
        **{n: rows[n].take(pa.array(number)) for n in ("subject_id", "time")},
    }
    own.register("of_no_visit", pa.table(columns))
    during = "list_filter(visits, lambda v: v.started <= time and (v.ended is null or time <= v.ended))[-1].visit_id"
    sql = f"select number, {during} as visit_id from of_no_visit join visits_of on subject_id = visitor"
    placed = own.sql(f"from ({sql}) where visit_id is not null").to_arrow_table()
    visit, known = (
        np.asarray(rows["visit_id"].fill_null(0)).copy(),
        np.asarray(rows["visit_id"].is_valid()).copy(),
    )
    visit[placed["number"]], known[placed["number"]] = placed["visit_id"], True
    return rows.set_column(
        rows.schema.get_field_index("visit_id"), "visit_id", pa.array(visit, mask=~known)
    ).append_column(SHARD, pa.array(shard))


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
        yield batch.filter(pa.array(~again)) if again.any() else batch


def check_order(ordered: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Facts that are to come by patient and time.

    Raises:
        StorageError: they do not.
    """
    last = np.zeros((2, 0), np.int64)
    for batch in ordered:
        keys = [np.asarray(batch[name].cast(pa.int64())) for name in ("subject_id", "time")]
        subject, time = np.concatenate([last, keys], axis=1)
        later = (subject[1:] > subject[:-1]) | ((subject[1:] == subject[:-1]) & (time[1:] >= time[:-1]))
        if not later.all():
            raise StorageError(
                "The facts do not lie in the order of their patients; run the stage validate again."
            )
        last = np.array([subject[-1:], time[-1:]])
        yield batch


def iterate_shards(rows: Iterable[pa.RecordBatch], n_shards: int) -> Iterator[pa.Table]:
    """The sorted events of each shard, none of some."""
    schema = EVENTS.arrow_schema()
    shards = groupby(by_shard(rows, schema), lambda piece: piece[0])
    coming = next(shards, None)
    for shard in range(n_shards):
        if coming is not None and coming[0] == shard:
            yield table_of((own for _, own in coming[1]), schema)
            coming = next(shards, None)
        else:
            yield schema.empty_table()


def table_of(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    """The columns of a schema, of some batches or of none."""
    parts = [pa.table(batch).select(schema.names).cast(schema) for batch in batches]
    return pa.concat_tables([schema.empty_table(), *parts])


def by_shard(rows: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The number of a shard and rows of it, in their order, for each batch one after the other."""
    for batch in rows:
        shard = np.asarray(batch[SHARD])
        if (shard[1:] < shard[:-1]).any():
            order = np.argsort(shard, kind="stable")
            batch, shard = batch.take(pa.array(order)), shard[order]
        begins = [0, *(np.flatnonzero(np.diff(shard)) + 1).tolist(), batch.num_rows]
        for begin, end in pairwise(begins):
            if end > begin:
                yield int(shard[begin]), batch.slice(begin, end - begin).select(schema.names)
