"""Judges every candidate fact by the rules of ``mediscale/tables.py``; what breaks one goes to quarantine."""

from typing import TYPE_CHECKING

from data_pipeline import source as sources
from mediscale.refs import Frozen, TableRef
from mediscale.settings import Settings
from mediscale.tables import FACTS

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


class Params(Frozen):
    source: str
    dataset: str
    bronze: dict[str, TableRef]
    max_quarantine_share: float = 0.05


class Result(Frozen):
    facts: TableRef
    quarantine: TableRef
    docs: str
    judged: int
    quarantined: int
    reasons: dict[str, int]


def run(params: Params, settings: Settings, key: str) -> Result:
    from data_pipeline.candidates import candidates
    from mediscale import spark

    source = sources.load(params.source)
    bronze = {name: spark.read(settings, ref) for name, ref in params.bronze.items()}
    judged = candidates(source, bronze, params.dataset).withColumn("broken", broken_rules())
    facts = spark.write(settings, judged, params.dataset, "facts", key)
    written = spark.read(settings, facts)
    quarantine = spark.write(settings, _quarantined(written), params.dataset, "quarantine", key)
    reasons = {row["broken"]: row["count"] for row in written.groupBy("broken").count().collect()}
    total = sum(reasons.values())
    return Result(
        facts=facts,
        quarantine=quarantine,
        docs="",
        judged=total,
        quarantined=total - reasons.pop(None, 0),
        reasons=reasons,
    )


def broken_rules() -> "Column":
    """Names of the rules of FACTS that a row breaks, comma-separated, or null; a predicate that is null passes."""
    from pyspark.sql import functions as f

    names = [f.when(~f.expr(f"({rule.passes})"), f.lit(rule.name)) for rule in FACTS.all_rules]
    return f.nullif(f.concat_ws(",", *names), f.lit(""))


def _quarantined(facts: "DataFrame") -> "DataFrame":
    from pyspark.sql import functions as f

    return facts.where("broken is not null").withColumn("reason", f.col("broken"))
