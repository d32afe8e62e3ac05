"""Parts of an extract: a file of a table, whose header fits the source, and how its records are read."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipeline.ingest import extract_files, parsing
from data_pipeline.ingest.source import Source
from data_pipeline.ingest.source_tables import Csv, SourceTable
from mediscale.core.errors import InputError
from mediscale.core.tables import BRONZE

if TYPE_CHECKING:
    import pyarrow as pa

MAX_COLUMNS = 2000
"""Of a file. One with more is a matrix, and each of its columns would be planned in every query."""

_UNREADABLE = re.compile("[\x00-\x1f\x7f\ufffd]")
"""In a header whose bytes are read by another encoding than its own."""


@dataclass(frozen=True)
class Part:
    """A file of a table, and how it is read."""

    table: str
    path: Path
    shown: Path
    """Relative to the extract: how people and the lake name it."""
    written: Csv
    columns: tuple[str, ...]
    """All of its columns in order, under the names that they are landed under."""
    renamed: tuple[str, ...] = ()
    """Those whose header a table can't have, or has twice."""
    paths: Mapping[str, str] = field(default_factory=dict)
    """Of nested records: where each column stands in them."""

    def records(self, columns: Sequence[str]) -> "Iterator[pa.RecordBatch]":
        """The columns of every record, as texts."""
        from data_pipeline.ingest import ndjson, readers

        if self.paths:
            return ndjson.records(self.path, {column: self.paths[column] for column in columns}, self.shown)

        return readers.records(self.path, self.columns, columns, self.written, self.shown)

    def landed(self, columns: Sequence[str]) -> "Iterator[pa.RecordBatch]":
        """Every record's file and line, and all ``columns`` of its table (null where this file lacks one)."""
        import numpy as np
        import pyarrow as pa

        from data_pipeline.ingest import readers

        line = readers.first_line(self.path, self.written)
        for batch in self.records(self.columns):
            n = batch.num_rows
            place = [pa.repeat(self.shown.as_posix(), n), pa.array(np.arange(line, line + n))]
            own = [
                batch.column(column) if column in self.columns else pa.nulls(n, pa.string())
                for column in columns
            ]
            yield pa.RecordBatch.from_arrays([*place, *own], ["file", "line", *columns])
            line += n


def part_of(source: Source, name: str, path: Path, root: Path) -> Part:
    """A file of a table, whose header fits the source.

    Raises:
        InputError: the file is torn or empty, or lacks a column.
    """
    from data_pipeline.ingest import readers

    table, place = source.tables[name], path.relative_to(root)
    nested = extract_files.format_of(path) == "NDJSON"
    if nested != bool(table.paths):
        raise InputError(
            f"{place} {'is' if nested else 'is no'} NDJSON, and the source {source.name} gives "
            f"{'no paths' if nested else 'paths'} for the table {name}; nothing was landed."
        )
    if nested:
        return Part(name, path, place, source.csv, tuple(table.paths), paths=table.paths)
    written = table.csv or source.csv
    header = _with_declared_names(table, readers.header(path, written, place))
    if (
        _missing(table, header)
        and (line := readers.header_line(path, written, partial(_is_header, table))) > 1
    ):
        raise InputError(
            f"{place} has its header in line {line}, below a title or a remark; nothing was landed. Remove what stands "
            "above it, or have the export leave it out."
        )
    _check_columns(source, name, header, place)
    names = column_names(header, table.columns)
    renamed = (name for name, as_written in zip(names, header, strict=True) if name != as_written)
    return Part(name, path, place, written, tuple(names), tuple(renamed))


def _with_declared_names(table: SourceTable, header: list[str]) -> list[str]:
    """The header with the source's own name for each column that extracts call otherwise."""
    names = list(header)
    for column, others in table.headers.items():
        folded = (parsing.fold(other).lower() for other in others)
        if column not in header and (there := next((name for name in folded if name in header), None)):
            names[header.index(there)] = column
    return names


def _missing(table: SourceTable, header: Collection[str]) -> list[str]:
    return [column for column in table.columns if column not in header and column not in table.optional]


def _is_header(table: SourceTable, names: list[str]) -> bool:
    return any(names) and not _missing(table, _with_declared_names(table, names))


def _check_columns(source: Source, name: str, header: list[str], file: Path) -> None:
    if not any(header):
        raise InputError(f"{file} is empty, without even a header; nothing was landed. Extract it again.")
    if len(header) > MAX_COLUMNS:
        raise InputError(
            f"{file} has {len(header):,} columns, and a table at most {MAX_COLUMNS:,}; nothing was landed. Is this the "
            "right file? Otherwise leave out columns, or write one row per value."
        )
    table = source.tables[name]
    declared = table.columns
    if twice := [column for column in declared if header.count(column) > 1]:
        raise InputError(
            f"{file} has more than one column {', '.join(twice)}, whatever the case; nothing was landed. Remove or "
            "rename the one that is not meant."
        )
    missing = _missing(table, header)
    if not missing:
        return
    if _UNREADABLE.search("".join(header)):
        raise InputError(
            f"{file} has a header with bytes that are no text; nothing was landed. Is it compressed without .gz in its "
            f"name? Otherwise give its encoding, such as utf-16, under csv in the YAML of the source {source.name}."
        )
    if len(header) == 1 and len(declared) > 1:
        raise InputError(
            f"{file} has one column alone; nothing was landed. Is its delimiter another one? Say so under csv in the "
            f"YAML of the source {source.name}. Or does a title stand above its header? Remove it then."
        )
    similar = get_close_matches(missing[0], set(header) - table.columns.keys(), n=1)
    hint = f" (is it now called {similar[0]}?)" if similar else ""
    raise InputError(
        f"{file} has no column {', '.join(missing)}{hint}; nothing was landed. Give its other name under headers of "
        f"the table {name} in a YAML file of your own (mediscale run --source FILE), or list it there as optional."
    )


def column_names(header: Sequence[str], declared: Collection[str]) -> list[str]:
    """The names of landed columns: declared ones as they are, others changed where a table can't have them.

    >>> column_names(["flag", "flag", "ref range (low)", "", "line", "hadm_id"], {"hadm_id"})
    ['flag', 'flag_2', 'ref_range_low', 'column_4', 'line_2', 'hadm_id']
    """
    used = {*declared, *BRONZE.column_names}
    names = []
    for i, written in enumerate(header, start=1):
        plain = re.sub(r"[\x00-\x20,;{}()=.`\"\\/]+", "_", written).strip("_") or f"column_{i}"
        candidates = (plain, *(f"{plain}_{n}" for n in range(2, len(header) + 3)))
        name = written if written in declared else next(name for name in candidates if name not in used)
        used.add(name)
        names.append(name)
    return names


def columns_of(parts: Iterable[Part]) -> tuple[str, ...]:
    """The columns of a table's files together."""
    return tuple(dict.fromkeys(chain.from_iterable(part.columns for part in parts)))
