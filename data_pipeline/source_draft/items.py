"""Items of an extract: which concept each measures, by its code, by its name and by the distribution of its values."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from data_pipeline.ingest import engine
from data_pipeline.source_draft.knowledge import Shipped, concepts_called, is_called, usual
from data_pipeline.source_draft.profiles import Table
from mediscale.core.concepts import Concept, by_name
from mediscale.core.privacy import count, is_small
from mediscale.storage.duckdb_tables import quoted

if TYPE_CHECKING:
    import duckdb

_LEAST_ROWS = 10
"""Of an item in a unit, for its median to say something against the item's code."""
_MOST_ITEMS = 20_000
_UNITLESS = ("{score}", "{INR}", "[pH]")
_FLUIDS = r"blood|serum|plasma|arterial|venous|capillary|^bld|^ser"


@dataclass(frozen=True)
class ItemUse:
    """The use of items in a table: how its rows name what they measure."""

    table: Table
    item: str
    """Its column, or ``column_name`` of a wide table."""
    number: str
    """The SQL of the number, over texts."""
    unit: str | None
    patient: str | None
    label: str | None = None
    """A column of the same rows that says what the item is."""
    dictionary: Table | None = None
    """A table of the items, by the same column."""
    owners: str = "patients"
    """Whom ``patient`` numbers: visits, where a row names no patient."""


class ItemMapping(NamedTuple):
    """An item that measures a concept, and the conversion of each of its units."""

    concept: str
    item: str
    units: dict[str, str]
    evidence: str


class _Seen(NamedTuple):
    item: str
    label: str
    fluid: str
    loinc: str
    unit: str
    rows: int
    patients: int
    p01: float
    p50: float
    p99: float


def map_items(
    database: "duckdb.DuckDBPyConnection", use: ItemUse, shipped: Shipped
) -> tuple[list[ItemMapping], list[str]]:
    """The items of a table that measure a concept, and sentences of those that are called so and do not look it."""
    mapped, doubts = [], []
    rows = _item_statistics(database, use)
    for item in dict.fromkeys(row.item for row in rows):
        own = [row for row in rows if row.item == item]
        result = _map_item(own, shipped, use.owners)
        if isinstance(result, ItemMapping):
            mapped.append(result)
        elif result:
            doubts.append(result)
    return mapped, doubts


_SENTINELS = r"-(1|9|99|999|9999|99999)(\.0*)?|9{3,6}(\.0*)?"
_FAR = 3
"""How many times beyond the largest of all other values a number for nothing lies."""


def sentinels(database: "duckdb.DuckDBPyConnection", table: Table, header: str) -> list[str]:
    """Numbers that stand for nothing in a column, such as -999: they recur, and nothing else is near them."""
    column = quoted(header)
    rows = database.execute(
        f"""
        with parts as (select {column} as value, regexp_full_match({column}, '{_SENTINELS}') as odd
                       from {table.relation} where try_cast({column} as double) is not null),
        others as (select min(try_cast(value as double)) as low, max(try_cast(value as double)) as high
                   from parts where not odd)
        select value, count(*) from parts, others where odd and
          case when try_cast(value as double) < 0 then low >= 0 else try_cast(value as double) > {_FAR} * high end
        group by value order by value
        """
    ).fetchall()
    return [value for value, n in rows if not is_small(n)]


def find_dictionary(
    database: "duckdb.DuckDBPyConnection", tables: Sequence[Table], table: Table, item: str
) -> Table | None:
    """The table with a label for each item: it has the item's column, another value in every row."""
    for other in tables:
        if other.name == table.name or item not in other.columns or not label_of(other):
            continue
        distinct = f"select count(distinct {quoted(item)}) from {other.relation}"
        if database.execute(distinct).fetchall()[0][0] == other.rows:
            shared = (
                f"select avg((v in (select {quoted(item)} from {other.relation}))::int) from "
                f"(select distinct {quoted(item)} as v from {table.relation} limit 2000) where v is not null"
            )
            if (database.execute(shared).fetchall()[0][0] or 0) > 0.5:
                return other
    return None


def label_of(table: Table) -> str | None:
    """The column of a table that says in words what its item is."""
    return next(
        (h for h, c in table.columns.items() if is_called("label", c.name) and c.kind == "text"), None
    )


def _item_statistics(database: "duckdb.DuckDBPyConnection", use: ItemUse) -> list[_Seen]:
    """Statistics of each item and unit, of rows with a number: its name, and the distribution of its values."""
    t, d = use.table, use.dictionary
    item = f"upper(i.{quoted(use.item)})"
    unit = f"lower(coalesce(i.{quoted(use.unit)}, ''))" if use.unit else "''"
    who = f"count(distinct i.{quoted(use.patient)})" if use.patient else "count(*)"
    label, fluid, loinc, join = "null", "null", "null", ""
    if d is not None:
        label = f"any_value(d.{quoted(str(label_of(d)))})"
        fluids = [h for h, c in d.columns.items() if is_called("fluid", c.name)]
        codes = [h for h, c in d.columns.items() if c.filled and c.mostly("loinc")]
        fluid = f"any_value(d.{quoted(fluids[0])})" if fluids else "null"
        loinc = f"any_value(d.{quoted(codes[0])})" if codes else "null"
        join = f"left join {d.relation} d on i.{quoted(use.item)} = d.{quoted(use.item)}"
    elif use.label:
        label = f"mode(i.{quoted(use.label)})"
    number = use.number
    sql = (
        f"select {item}, coalesce({label}, {item}), coalesce({fluid}, ''), coalesce({loinc}, ''), {unit}, count(*), "
        f"{who}, quantile_cont(n, [0.01, 0.5, 0.99]) "
        f"from (select *, {number} as n from {t.relation}) i {join} where n is not null and {item} is not null "
        f"group by {item}, {unit} order by {item}, count(*) desc limit {_MOST_ITEMS}"
    )
    return [_Seen(*row[:7], *row[7]) for row in database.execute(sql).fetchall()]


def _map_item(rows: list[_Seen], shipped: Shipped, owners: str) -> ItemMapping | str:
    """An item's concept, or a sentence of doubt, or nothing."""
    first = rows[0]
    total, patients = sum(r.rows for r in rows), max(r.patients for r in rows)
    by_number = shipped.concept_of.get(first.item) or shipped.concept_of.get(first.loinc)
    if by_number is None and (first.fluid and not re.search(_FLUIDS, first.fluid.lower())):
        return ""
    by_label = [] if by_number else concepts_called(first.label)
    named = [by_name()[by_number]] if by_number else by_label
    coded = first.item.isdigit() or re.fullmatch(r"\d{1,5}-\d", first.item)
    if not named or (is_small(patients) and not by_number and not coded):
        return ""
    for concept in named:
        units, notes = _units(rows, concept, shipped, sure=by_number is not None)
        if units:
            reason = (
                "its code"
                if by_number
                else f"called {first.label}"
                if not is_small(patients)
                else "its label"
            )
            spread = _distribution(rows[0], concept, units)
            fits = f"{reason}; n {count(total)} of {count(patients)} {owners}{spread}{notes}"
            return ItemMapping(concept.name, first.item, units, fits)
    if is_small(first.patients):
        return ""
    return (
        f"item {first.item} is called {first.label}, and its median of {first.p50:.4g} {first.unit} is none of "
        f"{named[0].name} in a known unit"
    )


def _distribution(row: _Seen, concept: Concept, units: Mapping[str, str]) -> str:
    if is_small(row.patients) or row.unit not in units:
        return ""
    low, middle, high = (_converted(units[row.unit], p) for p in (row.p01, row.p50, row.p99))
    return f", p1 {low:.3g} p50 {middle:.3g} p99 {high:.3g} {concept.unit}"


def _units(rows: list[_Seen], concept: Concept, shipped: Shipped, sure: bool) -> tuple[dict[str, str], str]:
    """The conversion of each unit in which the values fit the concept, and what was assumed."""
    listed = shipped.units.get(concept.name, {})
    units: dict[str, str] = {}
    notes = unlisted = ""
    for row in rows:
        stated = listed.get(row.unit)
        few = row.rows < _LEAST_ROWS
        if stated is not None and (_fits(row, concept, stated, sure) or (few and sure)):
            units[row.unit] = stated
        elif stated is None and row.unit and is_small(row.patients):
            unlisted = "; units of few patients are not listed"  # what is written there may be anything
        elif (
            stated is None
            and not shipped.is_of_another(row.unit, concept.name)
            and (fitting := _fitting(row, concept, listed))
        ):
            units[row.unit] = fitting
            if row.unit != concept.unit.lower() and (row.unit or concept.unit not in _UNITLESS):
                spelled = f"the unit {row.unit}" if row.unit else "without a unit"
                unit = _implied_unit(fitting, concept, listed)
                notes += f"; TODO: is {row.item} {spelled} {concept.name} in {unit}, as its values look?"
    return units, f"{notes}{unlisted}"


def _implied_unit(sql: str, concept: Concept, listed: Mapping[str, str]) -> str:
    if sql == "value":
        return concept.unit
    if concept.unit == "%":
        return "a fraction, or both that and %"
    return next((unit for unit, conversion in listed.items() if conversion == sql), sql)


def _fitting(row: _Seen, concept: Concept, listed: Mapping[str, str]) -> str:
    """The conversion by which the values of an unknown unit are the concept's; as they are, where that does."""
    if concept.unit == "%" and row.p01 <= 1 < row.p99 and concept.low > 1:
        return "if(value <= 1, value * 100, value)"
    for sql in ("value", *listed.values(), *(["value * 100"] if concept.unit == "%" else [])):
        if _fits(row, concept, sql):
            return sql
    return ""


def _fits(row: _Seen, concept: Concept, sql: str, sure: bool = False) -> bool:
    """Whether the median is where that of many patients lies and, where a name alone says what it is, the middle 98 %
    within what a living adult has."""
    low, high = usual(concept)
    p01, p50, p99 = (_converted(sql, value) for value in (row.p01, row.p50, row.p99))
    return low <= p50 <= high and (sure or (p01 >= concept.low * 0.5 and p99 <= concept.high * 1.5))


@cache
def _converted(sql: str, value: float) -> float:
    import duckdb

    return float(
        duckdb.execute(f"select {engine.transpile(sql)} from (select {value!r}::double as value)").fetchall()[
            0
        ][0]
    )


def treatments_called(
    database: "duckdb.DuckDBPyConnection", use: ItemUse, patterns: Mapping[str, str]
) -> Iterator[tuple[str, list[str]]]:
    """The items of each treatment group: those whose label in the dictionary fits its pattern."""
    assert use.dictionary is not None
    label, item = f"lower(d.{quoted(str(label_of(use.dictionary)))})", quoted(use.item)
    for group, pattern in patterns.items():
        items = database.execute(
            f"select distinct upper(i.{item}) as item from {use.table.relation} i join {use.dictionary.relation} d "
            f"on i.{item} = d.{item} where rlike({label}, $p) order by 1",
            {"p": pattern},
        ).fetchall()
        if items:
            yield group, [item for (item,) in items]


def map_column(
    database: "duckdb.DuckDBPyConnection",
    use: ItemUse,
    name: str,
    concepts: Sequence[Concept],
    shipped: Shipped,
) -> ItemMapping | None:
    """The concept that a column of a wide table measures: the first that its values fit."""
    who = f"count(distinct {quoted(use.patient)})" if use.patient else "count(*)"
    numbers = f"select *, {use.number} as n from {use.table.relation}"
    n, patients, percentiles = database.execute(
        f"select count(n), {who}, quantile_cont(n, [0.01, 0.5, 0.99]) from ({numbers}) where n is not null"
    ).fetchall()[0]
    for concept in concepts if percentiles else ():
        column = _Seen(name, name, "", "", "", n, patients, *percentiles)
        units, notes = _units([column], concept, shipped, sure=False)
        if units:
            as_they_are = units[""] == "value"  # what the table's own question asks of all its columns
            evidence = f"{_distribution(column, concept, units)}{'' if as_they_are else notes}"
            return ItemMapping(concept.name, name, units, f"a column of its own; n {count(n)}{evidence}")
    return None
