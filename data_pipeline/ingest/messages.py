"""Messages of a stream: a JSON object that names a table of the source and has its columns, or a FHIR resource.

Of a source with ``paths`` (FHIR) the message is the resource itself, and its ``resourceType`` says which table; of
every other source it is ``{"table": "labevents", "subject_id": 17, …}``, with the columns that the source's YAML
declares, under the names or ``headers`` that it knows. A column that is not there is empty. Numbers stay as they are
written, so that a row of a stream is the row that a file would have had.
"""

import fnmatch
import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import pyarrow as pa

from data_pipeline.ingest import ndjson, parsing
from data_pipeline.ingest.source import Source
from data_pipeline.ingest.source_tables import SourceTable
from mediscale.core.table import Rule

TABLE = "table"
"""The key under which a message names its table."""

RULES = (
    Rule("json_object", "record", "", "the message is a JSON object in UTF-8 that has no name twice"),
    Rule("table_named", "record", "", "the message names a table of the source"),
    Rule(
        "columns_declared",
        "record",
        "",
        "the message has columns that the source declares for its table, each once",
    ),
)
"""What every message fulfils; one that does not is a dead letter, with the rule's name as its reason."""

NOT_JSON, NO_TABLE, NO_COLUMN = (rule.name for rule in RULES)


STREAMED = "/[0-9]+$"
"""How the ``file`` of a row of a stream ends, and no other: an extract's file is named with its format."""


def file_of(topic: str, partition: int) -> str:
    """Where a message stood, in the place of an extract's file: ``TOPIC/PARTITION``."""
    return f"{topic}/{partition}"


class Message(NamedTuple):
    """One message of a topic, where it stood there, and its bytes."""

    file: str
    """As ``file_of`` gives it."""
    line: int
    """The offset, in the place of a file's line."""
    value: bytes | None


class DeadLetter(NamedTuple):
    """A message that is no row of any table; ``table`` is empty where it names none."""

    message: Message
    table: str
    reason: str


class Messages(NamedTuple):
    """What a batch of messages holds: the rows by table, as texts with ``file`` and ``line``, and the dead letters."""

    rows: dict[str, pa.Table]
    dead_letters: tuple[DeadLetter, ...]


class Reader:
    """Reads the messages of one source."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def read(self, messages: Iterable[Message]) -> Messages:
        """The rows of all messages, in their order."""
        rows: dict[str, list[dict[str, Any]]] = {}
        dead = []
        for message in messages:
            table, row, reason = self._row(message.value)
            if reason:
                dead.append(DeadLetter(message, table, reason))
            else:
                rows.setdefault(table, []).append({**row, "file": message.file, "line": message.line})
        schemas = {name: schema(self._source.tables[name]) for name in rows}
        return Messages(
            {name: pa.Table.from_pylist(own, schemas[name]) for name, own in rows.items()}, tuple(dead)
        )

    def _row(self, value: bytes | None) -> tuple[str, Mapping[str, str | None], str]:
        """The table, the columns and, where it is a dead letter, the rule that it breaks."""
        record = _json_object(value)
        if record is None:
            return "", {}, NOT_JSON
        name = self._table_of(record)
        if name is None:
            return "", {}, NO_TABLE
        table = self._source.tables[name]
        if table.paths:
            row = {column: _text(ndjson.value_at(record, path), ".") for column, path in table.paths.items()}
        else:
            columns = self._columns[name]
            decimal = (table.csv or self._source.csv).decimal
            named = [
                (column, _text(written, decimal))
                for key, written in record.items()
                if (column := columns.get(parsing.fold(key).lower()))
            ]
            row = dict(named)
            if len(row) < len(named):
                return name, {}, NO_COLUMN
        return (name, row, "") if any(text is not None for text in row.values()) else (name, {}, NO_COLUMN)

    def _table_of(self, record: Mapping[str, Any]) -> str | None:
        kind = record.get("resourceType")
        if isinstance(kind, str):
            return next(
                (
                    name
                    for name, table in self._source.tables.items()
                    if table.paths and fnmatch.fnmatchcase(kind.lower(), table.file.lower())
                ),
                None,
            )
        name = record.get(TABLE)
        is_table = isinstance(name, str) and name in self._columns
        return str(name) if is_table else None

    @cached_property
    def _columns(self) -> dict[str, dict[str, str]]:
        """The declared column by each name that a message may give it, in lower case, of each table without paths."""
        return {
            name: {
                parsing.fold(written).lower(): column
                for column in table.columns
                for written in (*table.headers.get(column, ()), column)
            }
            for name, table in self._source.tables.items()
            if not table.paths
        }


def schema(table: SourceTable) -> pa.Schema:
    """The declared columns of a table as texts, with where each row stood."""
    texts = [(column, pa.string()) for column in table.columns]
    return pa.schema([*texts, ("file", pa.string()), ("line", pa.int64())])


class _Fraction(str):
    """A number that JSON writes with a point."""

    __slots__ = ()


def _json_object(value: bytes | None) -> dict[str, Any] | None:
    if value is None:
        return None
    try:
        record = json.loads(
            value.decode(),
            parse_float=_Fraction,
            parse_int=str,
            parse_constant=str,
            object_pairs_hook=ndjson.names_once,
        )
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _text(value: Any, decimal: str) -> str | None:
    """A value as a file would have written it, in which ``decimal`` stands before a fraction."""
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    text = value if isinstance(value, str) else json.dumps(value)
    if isinstance(value, _Fraction):
        text = value.replace(".", decimal)
    return text.encode(
        "utf-8", "replace"
    ).decode()  # JSON may escape half a character, which no text can hold
