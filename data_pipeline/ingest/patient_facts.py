"""Facts of some patients: the events and the quarantine that the compiled rules make of their rows of bronze.

A stream asks this of the patients that a batch of messages is about, and ``validate`` of those whom an appended
extract is about. It is the same query, the same rules and the same assignment of visits as of a whole extract.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline.ingest import engine, extract_facts, facts, listed_subjects, placing
from data_pipeline.ingest.source import Source
from mediscale.core.settings import Settings
from mediscale.core.tables import EVENTS, FACTS, QUARANTINE, SUBJECTS

if TYPE_CHECKING:
    import duckdb


class PatientFacts(NamedTuple):
    """What the rows of some patients say, in the columns of the tables of these names."""

    events: pa.Table
    quarantine: pa.Table
    subjects: pa.Table
    """Those of them whom the source's table of patients lists."""
    subject_ids: pa.Array
    """The pseudonyms of all that were asked for, listed or not."""


def judge(settings: Settings, source: Source, bronze: Mapping[str, pa.Table], dataset: str) -> pa.Table:
    """The judged facts, as rows of ``facts``, in the rows of ``bronze``, which are those of ``derive``."""
    with engine.connection(settings) as database:
        return _judged(database, source, _needed(source, bronze), dataset)


def _needed(source: Source, bronze: Mapping[str, pa.Table]) -> facts.TextBatches:
    """The tables with rows, and those that the rows of others are joined to: to plan a query that has no rows takes as
    long as one that has."""
    joined = extract_facts.tables_joined(source)
    return {name: rows.to_batches for name, rows in bronze.items() if len(rows) or name in joined}


def _judged(
    database: "duckdb.DuckDBPyConnection", source: Source, tables: facts.TextBatches, dataset: str
) -> pa.Table:
    return placing.table_of(facts.judged_rows(database, source, tables, dataset), FACTS.arrow_schema())


def quarantined(judged: pa.Table) -> pa.Table:
    """The judged facts that can't be used, as rows of ``quarantine``."""
    broken = judged.filter(pc.field("broken").is_valid())
    return placing.table_of(
        broken.append_column("reason", broken["broken"]).to_batches(), QUARANTINE.arrow_schema()
    )


def derive(
    settings: Settings,
    source: Source,
    bronze: Mapping[str, pa.Table],
    dataset: str,
    subjects: pa.Array,
    n_shards: int,
) -> PatientFacts:
    """The facts in the rows of ``bronze``, which has by table all rows of the patients ``subjects`` (the hospital's own
    identifiers) and the tables of patients and visits at least.

    Raises:
        UsageError: an expression of the source can't be computed.
    """
    with engine.connection(settings) as database:
        rows = _judged(database, source, _needed(source, bronze), dataset)
        database.register("judged_rows", rows)
        return PatientFacts(
            events=placing.table_of(
                placing.placed_events(database, source, dataset, "judged_rows", n_shards),
                EVENTS.arrow_schema(),
            ),
            quarantine=quarantined(rows),
            subjects=placing.table_of(
                listed_subjects.rows(database, source, dataset), SUBJECTS.arrow_schema()
            ),
            subject_ids=engine.pseudonyms(subjects, dataset),
        )
