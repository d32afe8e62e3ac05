"""Typed tables: the rows of bronze in the column types that a source declares, a batch of Arrow rows at a time.

Beside each declared column stand what its type adds (``source``'s grammar) and, for the whole row, what the rules of
``mediscale/core/rules.py`` look at: ``untimely`` (a time that can't be read), ``interval_inverted``, ``miscoded`` and
``rounded`` (an identifier that lost digits).
"""

from collections.abc import Callable, Sequence
from functools import partial, reduce

import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline.ingest import parsing, timestamps
from data_pipeline.ingest.source import Source
from data_pipeline.ingest.source_tables import SourceTable
from data_pipeline.ingest.timestamps import LONGEST

_PROVENANCE = {"file": "string", "line": "bigint"}
_SQL = {"double": "double", "date": "timestamp_ntz", "timestamp": "timestamp_ntz"}


def sql_types(table: SourceTable) -> dict[str, str]:
    """The columns of a typed table in order, with their Spark SQL types."""
    types = dict(_PROVENANCE)
    for column, kind in table.columns.items():
        types[column] = _SQL.get(kind, "string")
        if kind == "double":
            types[f"raw_{column}"] = "string"
        if kind == "result":
            types |= {
                f"{column}_number": "double",
                f"{column}_bound": "string",
                f"{column}_unit": "string",
                f"{column}_void": "boolean",
            }
        if column in table.vocabularies:
            types[f"{column}_category"] = "string"
    icd = table.icd.typed_names.values() if table.icd else ("icd",)
    return types | {
        **dict.fromkeys(icd, "string"),
        "untimely": "boolean",
        "interval_inverted": "boolean",
        "miscoded": "boolean",
        "rounded": "boolean",
    }


def arrow_schema(table: SourceTable) -> pa.Schema:
    """The columns of a typed table in order, with their Arrow types."""
    kinds = {
        "string": pa.string(),
        "bigint": pa.int64(),
        "double": pa.float64(),
        "boolean": pa.bool_(),
        "timestamp_ntz": pa.timestamp("us"),
    }
    return pa.schema([(column, kinds[kind]) for column, kind in sql_types(table).items()])


def map_typed(
    source: Source, table: SourceTable, name: str, texts: pa.Array, function: Callable[[pa.Array], pa.Array]
) -> pa.Array:
    """``function`` of a column's typed values, computed once of texts that recur."""
    return _of_distinct(
        lambda distinct: {name: function(_typed_column(source, table, name, distinct)[name])}, texts
    )[name]


def type_rows(source: Source, table: SourceTable, rows: pa.RecordBatch) -> pa.RecordBatch:
    """The typed rows of a batch of texts that has ``file`` and ``line``; declared columns that it lacks are null, and
    texts that recur are dictionaries."""
    for column in table.columns:
        if column not in rows.schema.names:
            rows = rows.append_column(column, pa.nulls(rows.num_rows, pa.string()))
    columns = {"file": rows.column("file"), "line": rows.column("line")}
    for name in table.columns:
        columns |= _of_distinct(partial(_typed_column, source, table, name), rows.column(name))
    times = [name for name, kind in table.columns.items() if kind in ("date", "timestamp")]
    unreadable = [columns.pop(_unreadable(name)) for name in times]
    identifiers = [name for name, kind in table.columns.items() if kind == "identifier"]
    columns["rounded"] = _any([columns.pop(_rounded(name)) for name in identifiers], rows.num_rows)
    columns |= _icd(table, columns, rows.num_rows)
    columns["untimely"] = _any(unreadable, rows.num_rows)
    inverted = [
        pc.or_(
            pc.less(columns[end], columns[start]),
            pc.greater(pc.subtract(columns[end], columns[start]), LONGEST),
        )
        for start, end in table.intervals.items()
    ]
    columns["interval_inverted"] = _any(inverted, rows.num_rows)
    return pa.RecordBatch.from_pydict({name: columns[name] for name in sql_types(table)})


_FIRST = 1 << 12
"""Texts by which it is told whether a column's recur: a dictionary of others costs more than what it would spare."""


def _of_distinct(function: Callable[[pa.Array], dict[str, pa.Array]], texts: pa.Array) -> dict[str, pa.Array]:
    """What the function makes of each text, computed once of texts that recur: times, items and patients do."""
    if not pa.types.is_dictionary(texts.type):
        first = texts[:_FIRST]
        if 2 * len(first.unique()) > len(first):
            return function(texts.cast(pa.string()))
        texts = texts.dictionary_encode()
    if 2 * len(texts.dictionary) > len(texts):
        return function(texts.cast(pa.string()))
    columns = {name: _at(texts.indices, one) for name, one in function(texts.dictionary).items()}
    flags = {name: pc.fill_null(one, False) for name, one in columns.items() if pa.types.is_boolean(one.type)}
    return columns | flags


def _at(indices: pa.Array, values: pa.Array) -> pa.Array:
    """The values at some indices; texts as a dictionary, in which no text is null."""
    if not pa.types.is_string(values.type):
        return values.take(indices)
    if values.null_count:
        indices = pc.if_else(values.is_valid().take(indices), indices, pa.scalar(None, indices.type))
    return pa.DictionaryArray.from_arrays(indices, values)


def plain(column: pa.Array) -> pa.Array:
    """A column with its texts themselves in place of a dictionary."""
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _typed_column(source: Source, table: SourceTable, name: str, column: pa.Array) -> dict[str, pa.Array]:
    """A column with those that its type adds, and of a time whether it can't be read."""
    kind = table.columns[name]
    if kind not in ("date", "timestamp"):
        return _texts(source, table, name, column)
    text = parsing.strings(column, _null_words(source, table, name))
    if time_format := table.formats.get(name):
        text = timestamps.as_iso(text, time_format)
    read = (timestamps.dates if kind == "date" else timestamps.times)(text, source.wall_clock)
    return {name: read, _unreadable(name): pc.and_(text.is_valid(), read.is_null())}


def _unreadable(name: str) -> str:
    return f"{name} is unreadable"


def _rounded(name: str) -> str:
    return f"{name} is rounded"


def _texts(source: Source, table: SourceTable, name: str, column: pa.Array) -> dict[str, pa.Array]:
    """A column that is no time, with the columns that its type adds."""
    kind, null_words = table.columns[name], _null_words(source, table, name)
    if kind == "text":
        return {name: column}
    if kind == "identifier":
        identifiers = parsing.identifiers(column, null_words)
        return {name: identifiers, _rounded(name): parsing.rounded(identifiers)}
    if kind == "word":
        words = parsing.words(column, null_words)
        lists = table.vocabularies.get(name)
        return {name: words} | ({f"{name}_category": parsing.categories(words, lists)} if lists else {})
    text = parsing.strings(column, null_words)
    if kind not in ("double", "result"):
        return {name: text}
    if sentinels := table.sentinels.get(name):
        text = _measured(text, sentinels, _has_commas(source, table))
    numeric = _with_points(text, _has_commas(source, table))
    if kind == "double":
        return {name: parsing.numbers(numeric), f"raw_{name}": text}
    bounds = parsing.bounds(numeric)
    return {
        name: text,
        f"{name}_number": pc.coalesce(bounds.number, parsing.numbers(numeric)),
        f"{name}_bound": bounds.sign,
        f"{name}_unit": bounds.unit,
        f"{name}_void": pc.fill_null(parsing.voiding(text, source.not_measured), False),
    }


def _measured(text: pa.Array, sentinels: Sequence[str], commas: bool) -> pa.Array:
    """Numbers as texts; null where one is a sentinel, however it is written: -999, -999.0 and -9.99E2 are one."""
    stated = parsing.numbers(_with_points(pa.array(sentinels, pa.string()), commas)).drop_null()
    nothing = pc.is_in(parsing.numbers(_with_points(text, commas)), value_set=stated)
    return pc.if_else(nothing, pa.scalar(None, pa.string()), text)


def _with_points(text: pa.Array, commas: bool) -> pa.Array:
    return parsing.with_points(text) if commas else text


def _has_commas(source: Source, table: SourceTable) -> bool:
    """Whether a comma stands before the fraction of the table's numbers; JSON's have a point."""
    return not table.paths and (table.csv or source.csv).decimal == ","


def _null_words(source: Source, table: SourceTable, column: str) -> tuple[str, ...]:
    """What stands for nothing in a column, in upper case."""
    return (*source.null_words, *(word.upper() for word in table.sentinels.get(column, ())))


def _icd(table: SourceTable, columns: dict[str, pa.Array], n: int) -> dict[str, pa.Array]:
    """The ICD codes of the rows, and whether a row has one that can't be read, ``miscoded``."""
    if table.icd is None:
        return {"icd": pa.nulls(n, pa.string()), "miscoded": pa.repeat(False, n)}
    version = table.icd.version
    versions = pa.repeat(version, n) if version.isdigit() else plain(columns[version])
    codes = {
        typed: parsing.icd_codes(plain(columns[code]), versions, table.icd.kind)
        for code, typed in table.icd.typed_names.items()
    }
    miscoded = [
        pc.and_(columns[code].is_valid(), codes[typed].is_null())
        for code, typed in table.icd.typed_names.items()
    ]
    return codes | {"miscoded": _any(miscoded, n)}


def _any(flags: list[pa.Array], n: int) -> pa.Array:
    """Whether any flag of a row is true; null counts as false."""
    return reduce(pc.or_, (pc.fill_null(flag, False) for flag in flags), pa.repeat(False, n))
