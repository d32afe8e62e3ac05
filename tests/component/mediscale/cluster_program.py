"""A process on a cluster, by the settings of its environment: Spark finds a drawn hospital's labels, Ray grows trees;
prints what they came to."""

import json
import sys
from pathlib import Path

import pyarrow as pa
from deltalake import CommitProperties, write_deltalake

from data_pipeline.cohort import labels
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.storage import duckdb_tables, lake, spark
from training import ray_session
from training.tabular import tree_training
from training.tabular.recipe import Recipe

CONFIGURATION = (
    "spark.sql.shuffle.partitions",
    "spark.driver.extraJavaOptions",
    "spark.executor.extraJavaOptions",
)


def at_risk(settings: Settings, events: TableRef) -> tuple[int, str]:
    """Rows and digest of the labels, which Spark's workers compute a shard at a time and write."""
    params = labels.Params(dataset="h", source="mimic-iv", events=events, task="mortality")
    return duckdb_tables.digest(settings, labels.run(params, settings, "labels").labels)


def copy(rows: pa.Table, settings: Settings, table: str, shards: int = 1) -> TableRef:
    """Rows of another lake in this one."""
    stated = CommitProperties(custom_metadata={"userMetadata": json.dumps({"shards": shards})})
    by = ["shard"] if "shard" in rows.column_names else None
    write_deltalake(settings.table_uri("h", table), rows, partition_by=by, commit_properties=stated)
    return lake.latest(settings, "h", table)


def job(settings: Settings, frozen: TableRef) -> tree_training.Job:
    recipe = Recipe(rounds=20, patience=20, depth=3, learning_rate=0.1, threads=1, seed=0)
    return tree_training.Job(
        home=str(settings.home), lake=settings.lake, training_set=frozen, task="mortality", recipe=recipe
    )


def main(home: str, laptop: str, events: str, trained: str, training_set: str) -> None:
    settings = Settings(home=Path(home))
    here = Settings(home=Path(home), lake=laptop)
    facts = lake.read(here, TableRef.model_validate_json(events))
    known = copy(facts, settings, "events", shards=2)
    counted = at_risk(settings, known)
    stated = spark.session(settings).sparkContext.getConf()
    configuration = {name: stated.get(name, "") for name in CONFIGURATION}
    rows = lake.read(here.model_copy(update={"lake": trained}), TableRef.model_validate_json(training_set))
    frozen = copy(rows, settings, "training_set_mortality")
    with ray_session.cluster(settings, 2):
        import ray

        nodes = sorted(node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"])
        booster, _ = tree_training.on_ray(settings, job(settings, frozen), 1, "one")
        two, _ = tree_training.on_ray(settings, job(settings, frozen), 2, "two")
    answer = {
        "configuration": configuration,
        "labels": counted,
        "nodes": nodes,
        "trees": bytes(booster.save_raw("ubj")).hex(),
        "rounds of two": two.num_boosted_rounds(),
    }
    sys.stdout.write(f"{json.dumps(answer)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
