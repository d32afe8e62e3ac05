"""Placing: usable facts in the shard of their patient, in order, each with the visit that it belongs to."""

from collections.abc import Iterable, Iterator, Mapping
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
    database: "duckdb.DuckDBPyConnection", source: Source, dataset: str, judged: str, n_shards: int
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
        visits = own.sql(engine.transpile(_visit_times(source, dataset))).fetchnumpy()
    yield from _without_other_units(_placed(visits, rows, n_shards) for rows in ordered)


def _placed(visits: Mapping[str, Any], rows: pa.RecordBatch, n_shards: int) -> pa.RecordBatch:
    subject = np.asarray(rows["subject_id"])
    number = np.flatnonzero(np.asarray(rows["visit_id"].is_null()))
    during = _visits_during(visits, subject[number], np.asarray(rows["time"].cast(pa.int64()))[number])
    visit, known = (
        np.asarray(rows["visit_id"].fill_null(0)).copy(),
        np.asarray(rows["visit_id"].is_valid()).copy(),
    )
    number, during = number[during >= 0], during[during >= 0]
    visit[number], known[number] = visits["visit_id"][during], True
    return rows.set_column(
        rows.schema.get_field_index("visit_id"), "visit_id", pa.array(visit, mask=~known)
    ).append_column(SHARD, pa.array(subject % n_shards))


def _visits_during(visits: Mapping[str, Any], subject: Any, time: Any) -> Any:
    """The place of each subject's latest visit that a time lies in, -1 where it lies in none."""
    first, after = (np.searchsorted(visits["visitor"], subject, side) for side in ("left", "right"))
    during, open_ = after - 1, np.arange(len(subject))
    while len(open_):
        none = during[open_] < first[open_]
        during[open_[none]] = -1
        open_ = open_[~none]
        visit = during[open_]
        within = (visits["begin"][visit] <= time[open_]) & (time[open_] <= visits["end"][visit])
        open_ = open_[~within]
        during[open_] -= 1
    return during


def _visit_times(source: Source, dataset: str) -> str:
    """The Spark SQL of the visits, of each subject in order of their start; times in microseconds, of one that has not
    ended the last there is."""
    from data_pipeline.ingest.extract_facts import pseudonym_sql, visits_query

    subject, visit = (
        pseudonym_sql(identifier, dataset) for identifier in (source.subjects.id, source.visits.id)
    )
    return (
        f"select {subject} as visitor, unix_micros(started) as begin, "
        f"coalesce(unix_micros(ended), {np.iinfo(np.int64).max}) as end, {visit} as visit_id "
        f"from ({visits_query(source)}) where not unusable and not disputed and started is not null "
        f"and {source.subjects.id} is not null order by visitor, started, ended nulls first, visit_id"
    )


_ONE_EVENT = ("subject_id", "time", "event_id", "available_time")


def _without_other_units(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Sorted rows without those that assert the event of the row before, known at the same time."""
    last: tuple[Any, ...] | None = None
    for batch in batches:
        if not batch.num_rows:
            continue
        columns = [np.asarray(batch[name].cast(pa.int64())) for name in _ONE_EVENT]
        again = np.zeros(batch.num_rows, np.bool_)
        again[0] = last == tuple(column[0] for column in columns)
        event = columns[_ONE_EVENT.index("event_id")]
        same = np.flatnonzero(event[1:] == event[:-1])  # few are
        again[same + 1] = np.logical_and.reduce([column[same + 1] == column[same] for column in columns])
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
