"""Silver: the bitemporal table of MEDS events, one folder per subject shard, sorted by subject and time."""

import logging
from typing import TYPE_CHECKING

from data_pipeline import shards
from data_pipeline.ingest import source as sources
from data_pipeline.ingest.source import Source, SourceName
from mediscale.core.annotations import RuntimeInput
from mediscale.core.errors import InputError
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import SPARK, Stage

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

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
    from data_pipeline.ingest.extract_facts import needed_tables, visits
    from mediscale.storage import spark

    source = sources.load(params.source)
    needed = needed_tables(source, source.subjects.table, source.visits.table)
    bronze = {name: spark.read(settings, params.bronze[name]) for name in needed}
    subjects = spark.write(
        settings, _subjects(source, bronze, params.dataset), params.dataset, "subjects", key
    )
    _check_unique(spark.read(settings, subjects), params.dataset)
    log.info("the subjects are written; events are sorted into %d shards of subjects", params.shards)
    usable = spark.read(settings, params.facts).where("broken is null")
    with_visits = assign_visits(usable, visit_times(source, visits(source, bronze), params.dataset))
    sharded = _shard(with_visits, params.shards)
    events = spark.write(
        settings, sharded, params.dataset, "events", key, facts={shards.SHARD_COUNT: params.shards}
    )
    notes = any(source.tables[name].provides == "notes" for name in params.bronze)
    return Result(
        events=events,
        subjects=subjects,
        shards=params.shards,
        event_count=spark.read(settings, events).count(),
        notes_in_bronze=notes,
    )


def _subjects(source: Source, bronze: "dict[str, DataFrame]", dataset: str) -> "DataFrame":
    from data_pipeline.ingest.extract_facts import pseudonym, subjects

    return subjects(source, bronze).withColumn("subject_id", pseudonym("source_subject", dataset))


def _check_unique(subjects: "DataFrame", dataset: str) -> None:
    collisions = subjects.groupBy("subject_id").count().where("count > 1").count()
    if collisions:
        raise InputError(
            f"In {dataset} {collisions} subject numbers stand for two patients each; give the dataset another name, "
            "which gives its patients other numbers."
        )


def visit_times(source: Source, visits: "DataFrame", dataset: str) -> "DataFrame":
    """The visits of each subject in order of their start, as an array of structs."""
    from pyspark.sql import functions as f

    from data_pipeline.ingest.extract_facts import pseudonym

    usable = visits.where("not unusable and not disputed").select(
        pseudonym(source.subjects.id, dataset).alias("visitor"),
        f.struct("started", "ended", pseudonym(source.visits.id, dataset).alias("visit_id")).alias("visit"),
    )
    return usable.groupBy("visitor").agg(f.array_sort(f.collect_list("visit")).alias("visits"))


def assign_visits(facts: "DataFrame", visits: "DataFrame") -> "DataFrame":
    """Assigns to facts without a visit the latest one that had started, and had not ended, at the fact's time."""
    from pyspark.sql import functions as f

    during = f.expr(
        "try_element_at(filter(visits, v -> v.started <= time and (v.ended is null or time <= v.ended)), -1).visit_id"
    )
    joined = facts.join(f.broadcast(visits), facts["subject_id"] == visits["visitor"], how="left")
    return joined.withColumn("visit_id", f.coalesce("visit_id", during))


def _shard(facts: "DataFrame", n_shards: int) -> "DataFrame":
    """Partitions facts by shard, in the order of the files.

    Where a source gives one event in two units, both known at the same time, only the first row is kept.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as f

    sharded = facts.withColumn("shard", f.col("subject_id") % n_shards).repartition(n_shards, "shard")
    same_event = Window.partitionBy("shard", "subject_id", "time", "event_id").orderBy(
        "available_time", "line"
    )
    previous = f.lag("available_time").over(same_event)
    marked = sharded.withColumn("other_unit", f.coalesce(previous == f.col("available_time"), f.lit(False)))
    return marked.where(~f.col("other_unit"))


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="events of every patient",
    summary=lambda r: f"{r.event_count:,} events in {r.shards} shards of patients",
    resources=SPARK,
)
