"""From bronze to candidate facts: a source's declaration compiled to Spark expressions; nothing is judged here."""

from collections.abc import Mapping
from functools import reduce
from typing import TYPE_CHECKING

from data_pipeline.source import Fact, Source, SourceTable
from mediscale.concepts import by_name

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

_SQL_TYPES = {"string": "string", "double": "double", "timestamp": "timestamp_ntz"}


def candidates(source: Source, bronze: "Mapping[str, DataFrame]", dataset: str) -> "DataFrame":
    """One row per fact of the extract: the columns of FACTS but ``broken``, and what its rules look at."""
    from pyspark.sql import DataFrame

    typed = {name: _typed(frame, source.tables[name]) for name, frame in bronze.items()}
    facts = [
        _facts(source, typed, dataset, name, fact_name, fact)
        for name in typed
        for fact_name, fact in source.tables[name].facts.items()
    ]
    listed = _with_patients(reduce(DataFrame.unionByName, facts), source, bronze, dataset)
    return _with_repeats(listed)


def pseudonym(identifier: str, dataset: str) -> "Column":
    """The number that stands for an identifier of the source: 53 bits, so that JSON carries it unharmed.

    It hides nothing from whoever knows the identifiers; it keeps datasets apart and UUIDs out of the lake's keys.
    """
    from pyspark.sql import functions as f

    joined = f.concat_ws("|", f.lit(dataset), f.expr(identifier))
    return f.when(f.expr(identifier).isNotNull(), f.xxhash64(joined).bitwiseAND(2**53 - 1))


def visits(source: Source, bronze: "Mapping[str, DataFrame]") -> "DataFrame":
    """The visits that the extract lists: the source's subject and visit, when each started, was admitted, ended."""
    table = source.visits.table
    return _visits(source, _typed(bronze[table], source.tables[table]))


def _visits(source: Source, listed: "DataFrame") -> "DataFrame":
    from pyspark.sql import functions as f

    named = source.visits
    times = [
        f.expr(f"max(cast({getattr(named, name)} as timestamp_ntz))").alias(name)
        for name in ("started", "admitted", "ended")
    ]
    return listed.where(f"{named.id} is not null").groupBy(source.subjects.id, named.id).agg(*times)


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
    rows = _with_lookups(source, typed, name, fact)
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
        "unreadable",
        f.coalesce(f.expr(fact.error or "false"), f.lit(False)).alias("marked_error"),
    )


def _unreadable(fact: Fact) -> "Column":
    """Whether there is text that ought to be a number, and no number."""
    from pyspark.sql import functions as f

    written = fact.written or (f"raw_{fact.value}" if fact.value else "null")
    return f.expr(f"{written} is not null and ({fact.value or 'null'}) is null")


def _time(source: Source, expression: str) -> "Column":
    from pyspark.sql import functions as f

    return f.expr(_filled(source, expression)).cast("timestamp_ntz")


def _filled(source: Source, expression: str) -> str:
    """The expression with ``{assumption}`` replaced by its interval."""
    for name, assumption in source.assumptions.items():
        expression = expression.replace(f"{{{name}}}", f"interval {assumption.interval}")
    return expression


def _with_lookups(source: Source, typed: "Mapping[str, DataFrame]", name: str, fact: Fact) -> "DataFrame":
    """The table's rows with ``visit`` and the lookups that the fact's expressions mention, each a struct or null."""
    from pyspark.sql import functions as f

    table, rows = source.tables[name], typed[name]
    text = " ".join(str(value) for value in (*fact.model_dump().values(), table.available))
    if "visit." in text:
        found = _visits(source, typed[source.visits.table]).dropDuplicates([source.visits.id])
        rows = _joined(rows, found, source.visits.id, "visit")
    for lookup_name in table.lookups:
        if f"{lookup_name}." in text:
            lookup = source.lookups[lookup_name]
            columns = [f.expr(expression).alias(alias) for alias, expression in lookup.columns.items()]
            found = typed[lookup.table].groupBy(lookup.key).agg(*columns)
            rows = _joined(rows, found, lookup.key, lookup_name)
    return rows


def _joined(rows: "DataFrame", found: "DataFrame", key: str, name: str) -> "DataFrame":
    from pyspark.sql import functions as f

    columns = [column for column in found.columns if column != key]
    packed = found.select(f.col(key).alias("lookup_key"), f.struct(*columns).alias(name))
    return rows.join(f.broadcast(packed), rows[key] == packed["lookup_key"], how="left").drop("lookup_key")


def _with_patients(
    facts: "DataFrame", source: Source, bronze: "Mapping[str, DataFrame]", dataset: str
) -> "DataFrame":
    """Adds whether the patient is listed, and whether the visit ends before it begins."""
    from pyspark.sql import functions as f

    patients = bronze[source.subjects.table].select(pseudonym(source.subjects.id, dataset).alias("patient"))
    inverted = visits(source, bronze).where("ended < admitted")
    inverted = inverted.select(pseudonym(source.visits.id, dataset).alias("inverted_visit"))
    return (
        facts.join(f.broadcast(patients.distinct()), f.col("subject_id") == f.col("patient"), how="left")
        .join(f.broadcast(inverted.distinct()), f.col("visit_id") == f.col("inverted_visit"), how="left")
        .select(
            *facts.columns,
            f.col("patient").isNotNull().alias("subject_listed"),
            f.col("inverted_visit").isNotNull().alias("visit_inverted"),
        )
    )


def _coded(source: Source, rows: "DataFrame", fact: Fact) -> "DataFrame":
    """Adds code, numeric_value, unit, item, treatment and what rules look at; drops rows that are no event."""
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
            "unreadable": _unreadable(fact),
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
    concepts = f.broadcast(_concepts(source, rows, conversions))
    rows = rows.withColumns(
        {
            "item": f.expr(fact.concept_of).cast("string"),
            "source_unit": f.expr(fact.unit or "null").cast("string"),
            "value": f.expr(fact.value).cast("double"),
            "unreadable": _unreadable(fact),
        }
    )
    rows = rows.join(concepts, f.col("item") == f.col("concept_item"), "left" if fact.otherwise else "inner")
    mapped = f.col("concept_item").isNotNull()
    conversion = f.expr("conversions[lower(trim(coalesce(source_unit, '')))]")
    cases = " ".join(f"when {number} then {sql}" for number, sql in enumerate(conversions))
    return (
        rows.where(f.col("value").isNotNull() | (mapped & f.col("unreadable")))
        .withColumn("conversion", conversion)
        .withColumns(
            {
                "code": f.when(mapped, f.col("concept_code")).otherwise(f.expr(fact.otherwise or "null")),
                "numeric_value": f.when(mapped, f.expr(f"case conversion {cases} end")).otherwise(
                    f.col("value")
                ),
                "unit": f.when(mapped, f.col("concept_unit")).otherwise(f.col("source_unit")),
                "unit_unknown": mapped & f.col("conversion").isNull(),
                "treatment": f.lit(None).cast("string"),
            }
        )
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
    from pyspark.sql import Window
    from pyspark.sql import functions as f

    assertion = f.xxhash64("event_id", "available_time", "item")
    again = f.row_number().over(Window.partitionBy("subject_id", "assertion").orderBy("line")) > 1
    shuffled = facts.withColumn("assertion", assertion).repartition("subject_id")
    return shuffled.withColumn("repeated", again).drop("assertion", "item")
