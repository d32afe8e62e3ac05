"""Changed rules: what the events of a dataset are once the YAML, or the code that reads it, says something else.

The extract that silver took in last is read by the new rules first, and tonight's by the same rules after it. So what
the rules changed was never different, and what the extract changed is known from tonight.
"""

from collections.abc import Generator, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline import shards
from data_pipeline.ingest import engine, facts, placing, supersede
from data_pipeline.ingest.absorbed_versions import AbsorbedVersions
from data_pipeline.ingest.source import Source
from data_pipeline.ingest.supersede import Superseding
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import FACTS
from mediscale.storage import lake

if TYPE_CHECKING:
    import duckdb


class Extract(NamedTuple):
    """Tonight's extract."""

    dataset: str
    bronze: Mapping[str, TableRef]
    seen: datetime
    moments: pa.Array
    """When the dataset's extracts were seen: events that one of them corrected are known from then."""


class RestatedEvents(NamedTuple):
    """Events of one shard."""

    stays: pa.Table
    """Of patients of whom both extracts, by the new rules, say just what is there."""
    there: pa.Table
    """Of the others."""
    by_rules: pa.Table
    """What stands in place of ``there``, by the new rules alone."""
    beyond: Superseding
    """What this extract says beyond that."""

    @property
    def changes_what_is_there(self) -> bool:
        return bool(len(shards.except_all(self.there, self.by_rules)))

    @property
    def added(self) -> Superseding:
        """What is appended where nothing that is there changes."""
        own = pa.concat_tables([shards.except_all(self.by_rules, self.there), self.beyond.own])
        return self.beyond._replace(own=own)

    @property
    def rows(self) -> pa.Table:
        return pa.concat_tables([self.stays, self.by_rules, self.beyond.rows])


def restated(
    database: "duckdb.DuckDBPyConnection",
    settings: Settings,
    source: Source,
    extract: Extract,
    absorbed: AbsorbedVersions,
    made_from: TableRef,
) -> Generator[RestatedEvents, None, None]:
    """Shard by shard. ``database`` has the facts of this extract as ``facts``, and its patients and visits loaded."""
    n_shards = lake.fact(settings, made_from, shards.SHARD_COUNT)
    unusable = supersede.unusable(database)
    usable = _usable_events(settings, absorbed.facts)
    now = placing.iterate_shards(
        placing.placed_events(database, source, extract.dataset, "facts", n_shards), n_shards
    )
    with engine.connection(settings) as other:
        same = extract.bronze == absorbed.bronze
        before = None if same else _before(other, settings, source, extract, absorbed, n_shards)
        for shard, asserted in enumerate(now):
            there = shards.read_shards(settings, made_from, [shard])
            was = asserted if before is None else next(before)
            alike = supersede.subjects_told_alike([asserted, was, there])
            stays = _of(alike, there)
            asserted, was, there = (_without(alike, rows) for rows in (asserted, was, there))
            by_rules = supersede.restate(was, there, usable, extract.moments)
            yield RestatedEvents(
                stays,
                there,
                by_rules,
                supersede.compare(
                    asserted, by_rules, unusable, extract.seen, absorbed.seen_at, source.complete
                ),
            )


def _of(subjects: pa.Array, rows: pa.Table) -> pa.Table:
    return rows.filter(pc.is_in(rows["subject_id"], value_set=subjects))


def _without(subjects: pa.Array, rows: pa.Table) -> pa.Table:
    return rows.filter(pc.invert(pc.is_in(rows["subject_id"], value_set=subjects)))


def _before(
    database: "duckdb.DuckDBPyConnection",
    settings: Settings,
    source: Source,
    extract: Extract,
    absorbed: AbsorbedVersions,
    n_shards: int,
) -> Iterator[pa.Table]:
    """What the extract before asserts by the new rules, shard by shard."""
    tables = facts.of_bronze(settings, source, absorbed.bronze)
    with engine.connection(settings) as judging:
        pieces = facts.count_pieces(settings, absorbed.bronze)
        rows = facts.judged_rows(judging, source, tables, extract.dataset, pieces)
        schema = FACTS.arrow_schema()
        batches = (batch.select(schema.names).cast(schema) for batch in rows)
        database.register("judged_rows", pa.RecordBatchReader.from_batches(schema, batches))
        database.execute("create or replace table facts_before as select * from judged_rows")
    facts.load(database, source, tables, extract.dataset, (source.subjects.table, source.visits.table))
    yield from placing.iterate_shards(
        placing.placed_events(database, source, extract.dataset, "facts_before", n_shards), n_shards
    )


def _usable_events(settings: Settings, judged: TableRef) -> pa.Array:
    """The ``event_id`` of the usable facts of each patient, as the patient was judged last."""
    last = facts.judged_last(settings, judged, ["event_id", "broken"], pc.field("subject_id").is_valid())
    usable = [rows.filter(rows["broken"].is_null())["event_id"].combine_chunks() for rows in last]
    return pa.concat_arrays([pa.array([], pa.int64()), *usable]).drop_null()
