"""Facts of some patients: the events and the quarantine that the compiled rules make of their rows of bronze.

A stream asks this of the patients that a batch of messages is about. It is the same query, the same rules and the same
assignment of visits as the batch's stages ``validate`` and ``silver``, and the one place where a stream calls them.
"""

from collections.abc import Mapping
from typing import NamedTuple

import pyarrow as pa

from data_pipeline.ingest.source import Source
from mediscale.core.settings import Settings
from mediscale.core.tables import EVENTS, FACTS, QUARANTINE, SUBJECTS


class PatientFacts(NamedTuple):
    """What the rows of some patients say, in the columns of the tables of these names."""

    events: pa.Table
    quarantine: pa.Table
    subjects: pa.Table
    """Those of them whom the source's table of patients lists."""
    subject_ids: pa.Array
    """The pseudonyms of all that were asked for, listed or not."""


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
    from pyspark.sql import functions as f

    from data_pipeline.ingest import silver
    from data_pipeline.ingest.extract_facts import extract_facts, pseudonym, visits
    from data_pipeline.ingest.extract_facts import subjects as listed_subjects
    from data_pipeline.ingest.validate import broken_rules
    from mediscale.storage import spark

    session = spark.session(settings)
    frames = {name: session.createDataFrame(rows) for name, rows in bronze.items()}
    facts = extract_facts(source, frames, dataset).withColumn("broken", broken_rules(FACTS)).persist()
    try:
        quarantine = facts.where("broken is not null").withColumn("reason", f.col("broken"))
        usable = silver.assign_visits(
            facts.where("broken is null"), silver.visit_times(source, visits(source, frames), dataset)
        )
        events = silver._shard(usable, n_shards)
        names = {table.name: list(table.column_names) for table in (EVENTS, QUARANTINE, SUBJECTS)}
        people = session.createDataFrame(pa.table({"source_subject": subjects}))
        return PatientFacts(
            events=events.select(names["events"]).toArrow().cast(EVENTS.arrow_schema()),
            quarantine=quarantine.select(names["quarantine"]).toArrow().cast(QUARANTINE.arrow_schema()),
            subjects=listed_subjects(source, frames)
            .withColumn("subject_id", pseudonym("source_subject", dataset))
            .select(names["subjects"])
            .toArrow()
            .cast(SUBJECTS.arrow_schema()),
            subject_ids=people.select(pseudonym("source_subject", dataset).alias("id"))
            .toArrow()
            .column("id")
            .combine_chunks(),
        )
    finally:
        facts.unpersist()
