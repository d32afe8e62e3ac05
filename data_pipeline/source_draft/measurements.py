"""Stanzas of tables of measurements: a row for each, or a column for each."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from data_pipeline.source_draft import items
from data_pipeline.source_draft.builder import Builder, known_moment, late, moment_of
from data_pipeline.source_draft.items import ItemMapping, ItemUse
from data_pipeline.source_draft.knowledge import concepts_called, is_called, is_kind
from data_pipeline.source_draft.profiles import Column, Table
from mediscale.core.concepts import Concept, by_name
from mediscale.core.privacy import is_small
from mediscale.storage.duckdb_tables import quoted

_LEAST_MEASURED = 3
"""Columns called like a concept that make a table a wide one."""
_PAIR = "^([0-9.]+) ?/ ?([0-9.]+)$"


def item_of(b: Builder) -> Column | None:
    """The column that says what was measured or given."""
    columns = [c for c in b.pick("item", "text", "number") if c.kind == "text" or c.mostly("whole")]
    return max(
        columns,
        key=lambda c: (c.looks["loinc"] > 0.3, c.distinct > 1, not is_called("label", c.name)),
        default=None,
    )


def measured(b: Builder) -> bool:
    """A table with a row for each measurement: an item and its number."""
    item = item_of(b)
    numbers = [c for c in b.pick("number") if c != item and max(c.looks["number"], c.looks["pair"]) > 0.2]
    moments = b.moments(("moment", "start"))
    if item is None or not numbers or not moments:
        return False
    plain = next((c for c in numbers if c.kind == "number" and ("num" in c.name or len(numbers) == 1)), None)
    text = next((c for c in numbers if c is not plain), None)
    unit = b.first("unit", "text")
    mapped = _map(b, item, [c for c in (plain, text) if c is not None], unit)
    b.stanza.provides = _provides(b.table, mapped)
    time, b.stanza.available = known_moment(b, moments, "result_delay")
    coded = item.looks["loinc"] > 0.3
    fact: dict[str, Any] = {
        "event": b.event(item.header, numbers[0].header),
        "concept_of": b.use(item.header, "identifier" if item.kind == "number" or coded else "string"),
        "otherwise": f"concat('{'LOINC' if coded else b.table.name.upper()}//', item)",
        **({"value": b.use(plain.header, "double")} if plain else {}),
        **({"result": b.use(text.header, "result")} if text else {}),
        **({"unit": b.use(unit.header, "string")} if unit else {}),
        "time": time,
        **_numeric_only(b),
    }
    b.stanza.facts["result"] = fact
    if text is not None and text.looks["pair"] > 0:
        _pairs(b, fact, item, text)
    return True


def _map(b: Builder, item: Column, numbers: Sequence[Column], unit: Column | None) -> list[ItemMapping]:
    """Maps the items of the table to concepts, and says in its comments how."""
    label = items.label_of(b.table)
    use = ItemUse(
        b.table,
        item.header,
        f"coalesce({', '.join(map(b.number, numbers))})",
        unit.header if unit else None,
        b.patient or b.visit,
        label if label != item.header else None,
        items.find_dictionary(b.draft.database, b.draft.tables, b.table, item.header),
        "patients" if b.patient else "visits",
    )
    mapped, doubts = items.map_items(b.draft.database, use, b.draft.shipped)
    for one in mapped:
        b.draft.mapped.setdefault(one.concept, []).append(one)
    named = ", ".join(c.header for c in numbers)
    labelled = f", its labels are in {use.dictionary.name}" if use.dictionary else ""
    b.stanza.comments.append(
        f"{item.header} is the item{labelled}, {named} its number; {len(mapped)} items measure a concept"
    )
    b.stanza.comments += doubts
    return mapped


def _provides(table: Table, mapped: Sequence[ItemMapping]) -> str:
    """Whose measurements a table holds: those of most of its items, or by its name."""
    groups = Counter(by_name()[one.concept].group for one in mapped if one.concept != "urine_output")
    if mapped:
        return groups.most_common(1)[0][0] if groups else ""
    return next((kind for kind in ("vital_signs", "laboratory") if is_kind(kind, table.name)), "")


def _numeric_only(b: Builder) -> dict[str, str]:
    """Where a column says which results are numbers, texts are left out."""
    for column in b.table.columns.values():
        if (
            column.kind == "text"
            and column.distinct <= 5
            and column.name in ("type", "value type", "data type")
        ):
            words = f"select distinct upper({quoted(column.header)}) from {b.table.relation}"
            if ("NUMERIC",) in b.draft.database.execute(words).fetchall():
                return {"when": f"{b.use(column.header, 'word')} = 'NUMERIC'"}
    return {}


def _pairs(b: Builder, fact: dict[str, Any], item: Column, text: Column) -> None:
    """Blood pressures that are written as one text, 120/80: a fact for each of the two."""
    counted = b.draft.database.execute(
        f"select upper({quoted(item.header)}), count(*) from {b.table.relation} "
        f"where regexp_full_match({quoted(text.header)}, '{_PAIR}') group by 1 order by 1"
    ).fetchall()
    named = [one for one, n in counted if "pressure" in one.lower() and not is_small(n)]
    name = fact["result"]
    for number, word in enumerate(("systolic", "diastolic"), start=1) if named else ():
        concept = f"{word}_blood_pressure"
        b.draft.mapped.setdefault(concept, []).extend(
            ItemMapping(concept, f"{one} {word}", {"": "value"}, f"{one} is written as 120/80")
            for one in named
        )
        b.stanza.facts[word] = {
            "event": fact["event"],
            "concept_of": f"concat({fact['concept_of']}, ' {word}')",
            "value": f"try_cast(nullif(regexp_extract({name}, '{_PAIR}', {number}), '') as double)",
            "written": name,
            "time": fact["time"],
        }


def wide(b: Builder) -> bool:
    """A table with a column for each measurement."""
    moments = b.moments(("moment", "start"))
    if len(_called(b)) < _LEAST_MEASURED or not moments:
        return False
    time, moment = moment_of(b, moments)
    return of_columns(b, time, late(b, moment, time, "result_delay"))


def _called(b: Builder) -> dict[str, list[Concept]]:
    """The concepts that columns of numbers are called like."""
    numbers = (
        c for c in b.table.columns.values() if c.kind == "number" and c.header not in (b.patient, b.visit)
    )
    return {c.header: called for c in numbers if (called := concepts_called(c.name))}


def of_columns(b: Builder, time: str, available: str) -> bool:
    """Adds the fact of all columns that are called like a concept and whose values are of it; False where none is."""
    mapped: list[ItemMapping] = []
    for header, concepts in _called(b).items():
        use = ItemUse(b.table, header, b.number(b.table.columns[header]), None, b.patient or b.visit)
        one = items.map_column(b.draft.database, use, b.name(header), concepts, b.draft.shipped)
        if one is None:
            b.stanza.sentinels.pop(b.name(header), None)
            b.stanza.comments.append(f"{header} is called like a concept, and its values are none of it")
            continue
        b.use(header, "double")
        mapped.append(one)
        b.draft.mapped.setdefault(one.concept, []).append(one)
    if not mapped:
        return False
    b.ask("no unit is written: are its columns in the concepts' units where `concepts` converts nothing?")
    b.stanza.provides = _provides(b.table, mapped)
    b.stanza.available = b.stanza.available or available
    who = b.draft.visit if b.visit else b.draft.patient
    b.stanza.facts["measured"] = {
        "event": f"concat_ws('|', {who}, {time}, column_name)",
        "concept_of": "column_name",
        "unpivot": [one.item for one in mapped],
        "value": "column_value",
        "time": time,
        **({"available": available} if b.stanza.available != available else {}),
    }
    return True
