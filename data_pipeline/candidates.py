"""From bronze to candidate facts: a source's declaration compiled to Spark expressions; nothing is judged here."""

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import TYPE_CHECKING

from data_pipeline.source import Fact, Source, SourceTable
from mediscale.concepts import by_name

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

_SQL_TYPES = {"string": "string", "double": "double", "timestamp": "timestamp_ntz"}
_VISIT = "struct<started:timestamp_ntz,admitted:timestamp_ntz,ended:timestamp_ntz>"


def candidates(source: Source, bronze: "Mapping[str, DataFrame]", dataset: str) -> "DataFrame":
    """One row per fact of the extract: the columns of FACTS but ``broken``, and what its rules look at."""
    from pyspark.sql import DataFrame

    typed = {name: _typed(frame, source.tables[name]) for name, frame in bronze.items()}
    facts = [
        _facts(source, typed, dataset, name, fact_name, fact)
        for name in typed
        for fact_name, fact in source.tables[name].facts.items()
    ]
    return _with_repeats(reduce(DataFrame.unionByName, facts))


def pseudonym(identifier: str, dataset: str) -> "Column":
    """The number that stands for an identifier of the source: 53 bits, so that JSON carries it unharmed.

    It hides nothing from whoever knows the identifiers; it keeps datasets apart and UUIDs out of the lake's keys.
    """
    from pyspark.sql import functions as f

    joined = f.concat_ws("|", f.lit(dataset), f.expr(identifier))
    return f.when(f.expr(identifier).isNotNull(), f.xxhash64(joined).bitwiseAND(2**53 - 1))


def visits(source: Source, bronze: "Mapping[str, DataFrame]") -> "DataFrame":
    """The visits that the extract lists: source subject, source visit, and when each started, was admitted to, ended."""
    from pyspark.sql import functions as f

    named = source.visits
    times = [
        f.expr(f"max(cast({getattr(named, name)} as timestamp_ntz))").alias(name)
        for name in ("started", "admitted", "ended")
    ]
    frame = _typed(bronze[named.table], source.tables[named.table])
    return frame.where(f"{named.id} is not null").groupBy(source.subjects.id, named.id).agg(*times)


def _typed(frame: "DataFrame", table: SourceTable) -> "DataFrame":
    """The declared columns in their types: null where the text can't be read so; numbers' texts as ``raw_<column>``."""
    from pyspark.sql import functions as f

    columns = [
        f.expr(f"try_cast(`{name}` as {_SQL_TYPES[kind]})").alias(name)
        for name, kind in table.columns.items()
    ]
    raw = [f.col(name).alias(f"raw_{name}") for name, kind in table.columns.items() if kind == "double"]
    return frame.select("file", "line", *columns, *raw)


def _facts(
    source: Source, typed: "Mapping[str, DataFrame]", dataset: str, name: str, fact_name: str, fact: Fact
) -> "DataFrame":
    from pyspark.sql import functions as f

    table = source.tables[name]
    rows = _with_lookups(source, typed, name)
    if fact.when:
        rows = rows.where(_filled(source, fact.when))
    rows = _coded(source, rows, fact).withColumn("time", _time(source, fact.time))
    available = _time(source, fact.available or table.available)
    return rows.select(
        pseudonym(source.subjects.id, dataset).alias("subject_id"),
        "time",
        "code",
        "numeric_value",
        f.expr(fact.text or "null").cast("string").alias("text_value"),
        f.when(available.isNotNull(), f.greatest("time", available)).alias("available_time"),
        pseudonym(source.visits.id if source.visits.id in table.columns else "null", dataset).alias(
            "visit_id"
        ),
        "unit",
        f.lit(name).alias("source"),
        f.xxhash64(f.lit(dataset), f.lit(name), f.lit(fact_name), f.expr(fact.event), "treatment").alias(
            "event_id"
        ),
        f.lit(False).alias("retracted"),
        "file",
        "line",
        "item",
        "low",
        "high",
        "unit_unknown",
        f.expr(f"{_raw(fact, table)} is not null and {fact.value or 'null'} is null").alias("unreadable"),
        f.coalesce(f.expr(fact.error or "false"), f.lit(False)).alias("marked_error"),
        f.expr("coalesce(visit.ended < visit.admitted, false)").alias("visit_inverted"),
        f.expr("patient is not null").alias("subject_listed"),
    )


def _raw(fact: Fact, table: SourceTable) -> str:
    return f"raw_{fact.value}" if table.columns.get(fact.value) == "double" else fact.value or "null"


def _time(source: Source, expression: str) -> "Column":
    from pyspark.sql import functions as f

    return f.expr(_filled(source, expression)).cast("timestamp_ntz")


def _filled(source: Source, expression: str) -> str:
    """The expression with ``{assumption}`` replaced by its interval."""
    for name, assumption in source.assumptions.items():
        expression = expression.replace(f"{{{name}}}", f"interval {assumption.interval}")
    return expression


def _with_lookups(source: Source, typed: "Mapping[str, DataFrame]", name: str) -> "DataFrame":
    """The table's rows with ``patient``, ``visit`` and the lookups that the table lists, each a struct or null."""
    from pyspark.sql import functions as f

    table, rows = source.tables[name], typed[name]
    patients = typed[source.subjects.table].select(source.subjects.id).distinct()
    rows = _joined(rows, patients, source.subjects.id, "patient", [f.lit(True).alias("listed")])
    if source.visits.id in table.columns:
        times = [f.col(part) for part in ("started", "admitted", "ended")]
        rows = _joined(
            rows, visits(source, typed).dropDuplicates([source.visits.id]), source.visits.id, "visit", times
        )
    else:
        rows = rows.withColumn("visit", f.lit(None).cast(_VISIT))
    for lookup_name in table.lookups:
        lookup = source.lookups[lookup_name]
        if lookup.table not in typed:
            raise AssertionError(lookup.table)
        columns = {alias: f.expr(expression).alias(alias) for alias, expression in lookup.columns.items()}
        found = typed[lookup.table].groupBy(lookup.key).agg(*columns.values())
        rows = _joined(rows, found, lookup.key, lookup_name, [f.col(alias) for alias in columns])
    return rows


def _joined(
    rows: "DataFrame", found: "DataFrame", key: str, name: str, columns: "Iterable[Column]"
) -> "DataFrame":
    from pyspark.sql import functions as f

    packed = found.select(f.col(key).alias("lookup_key"), f.struct(*columns).alias(name))
    return rows.join(f.broadcast(packed), rows[key] == packed["lookup_key"], how="left").drop("lookup_key")


def _coded(source: Source, rows: "DataFrame", fact: Fact) -> "DataFrame":
    """Adds code, numeric_value, unit, item, treatment, low, high and unit_unknown; drops rows that are no event."""
    if fact.concept_of:
        return _measured(source, rows, fact)
    from pyspark.sql import functions as f

    rows = rows.withColumns(
        {
            "numeric_value": f.expr(fact.value or "null").cast("double"),
            "unit": f.expr(fact.unit or "null").cast("string"),
            "item": f.lit(None).cast("string"),
            "low": f.lit(None).cast("double"),
            "high": f.lit(None).cast("double"),
            "unit_unknown": f.lit(False),
        }
    )
    if fact.treatment_of:
        groups = rows.withColumn("treatment", f.explode(_groups(source, fact.treatment_of)))
        return groups.withColumn("code", f.concat(f.lit("TREATMENT//"), "treatment"))
    return rows.withColumns({"code": f.expr(fact.code), "treatment": f.lit(None).cast("string")})


def _groups(source: Source, of: str) -> "Column":
    """The treatment groups of an item or a drug's name, as an array."""
    from pyspark.sql import functions as f

    item = f.expr(of)
    found = [
        f.when(
            item.isin(*treatment.items)
            | (f.lit(bool(treatment.drugs)) & f.lower(item).rlike(treatment.drugs)),
            f.lit(group),
        )
        for group, treatment in source.treatments.items()
    ]
    return f.array_compact(f.array(*found))


def _measured(source: Source, rows: "DataFrame", fact: Fact) -> "DataFrame":
    from pyspark.sql import functions as f

    conversions = sorted(
        {sql for measures in source.concepts.values() for m in measures for sql in m.units.values()}
    )
    concepts = _concepts(source, rows, conversions)
    unit = f.expr(fact.unit or "null").cast("string")
    rows = rows.withColumns({"item": f.expr(fact.concept_of).cast("string"), "source_unit": unit})
    rows = rows.where(f"{fact.value} is not null or raw_{fact.value} is not null")
    how = "left" if fact.otherwise else "inner"
    rows = rows.join(f.broadcast(concepts), rows["item"] == concepts["concept_item"], how=how)
    rows = rows.withColumn("value", f.expr(fact.value))
    conversion = f.expr("conversions[lower(trim(coalesce(source_unit, '')))]")
    converted = f.expr(
        f"case conversion {' '.join(f'when {i} then {sql}' for i, sql in enumerate(conversions))} end"
    )
    mapped = f.col("concept_item").isNotNull()
    return rows.withColumn("conversion", conversion).withColumns(
        {
            "code": f.when(mapped, f.col("concept_code")).otherwise(f.expr(fact.otherwise or "null")),
            "numeric_value": f.when(mapped, converted).otherwise(f.col("value")),
            "unit": f.when(mapped, f.col("concept_unit")).otherwise(f.col("source_unit")),
            "unit_unknown": mapped & f.col("conversion").isNull(),
            "treatment": f.lit(None).cast("string"),
        }
    )


def _concepts(source: Source, rows: "DataFrame", conversions: list[str]) -> "DataFrame":
    """One row per item of the source that measures a concept; its units as a map to the number of a conversion."""
    listed = [
        (
            item,
            by_name()[name].code,
            by_name()[name].unit,
            float(by_name()[name].low),
            float(by_name()[name].high),
            {unit.lower(): conversions.index(sql) for unit, sql in measure.units.items()},
        )
        for name, measures in source.concepts.items()
        for measure in measures
        for item in measure.items
    ]
    schema = (
        "concept_item string, concept_code string, concept_unit string, low double, high double, "
        "conversions map<string, int>"
    )
    return rows.sparkSession.createDataFrame(listed, schema)


def _with_repeats(facts: "DataFrame") -> "DataFrame":
    """Marks all but the first row of what the extract asserts twice: same event, item and moment of being known."""
    from pyspark.sql import functions as f

    marked = facts.withColumn("assertion", f.xxhash64("event_id", "available_time", "item"))
    again = marked.groupBy("assertion").agg(
        f.min("line").alias("first_line"), f.count(f.lit(1)).alias("times")
    )
    again = again.where("times > 1").select(f.col("assertion").alias("asserted"), "first_line")
    joined = marked.join(f.broadcast(again), marked["assertion"] == again["asserted"], how="left")
    repeated = f.coalesce(f.col("line") > f.col("first_line"), f.lit(False)).alias("repeated")
    return joined.select(*facts.columns, repeated)
