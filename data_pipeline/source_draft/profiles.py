"""Profiles of an extract that nobody has mapped: its tables, their columns, and what the values of each look like.

A profile has counts and shares; the values themselves stay in the engine's database, where what follows asks for them.
"""

import itertools
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline.ingest import engine, extract_files, ndjson, parsing, readers
from data_pipeline.ingest.source_tables import Csv
from mediscale.core.errors import InputError
from mediscale.storage.duckdb_tables import quoted

if TYPE_CHECKING:
    import duckdb

MAX_ROWS = 1_000_000
"""Of each table that are looked at."""
SAMPLE_ROWS = 4_000
"""Of these, by which the look of a column's values is judged."""
NESTED_RECORDS = 2_000
"""Of an NDJSON file, in which its paths are looked for."""
MOSTLY = 0.98
"""Share of a column's values that have to look alike."""

_CLOCK = r"[ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?"
_LOOKS = {
    "time": rf"\d{{4}}-\d{{2}}-\d{{2}}{_CLOCK} ?(Z|UTC|GMT|[+-]\d{{2}}(:?\d{{2}})?)?",
    "zoned": rf"\d{{4}}-\d{{2}}-\d{{2}}{_CLOCK} ?(Z|UTC|GMT|[+-]\d{{2}}(:?\d{{2}})?)",
    "midnight": r"\d{4}-\d{2}-\d{2}([ T]00:00(:00(\.0+)?)?Z?)?",
    "number": r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?",
    "whole": r"[+-]?\d+(\.0*)?",
    "comma": r"[+-]?\d+,\d+",
    "loinc": r"\d{1,5}-\d",
    "icd": r"\d{3}\.?\d{0,2}|V\d{2}\.?\d{0,2}|E\d{3}\.?\d?|[A-Z]\d[0-9A-Z]\.?[0-9A-Z]{0,4}",
    "procedure": r"\d{2}\.?\d{0,2}|[0-9A-HJ-NP-Z]{7}",
    "pair": r"\d{2,3} ?/ ?\d{2,3}",
    **{
        f"{day}{clock}": rf"{pattern}{hours}"
        for day, pattern in {
            "dd.MM.yyyy": r"\d{1,2}\.\d{1,2}\.\d{4}",
            "MM/dd/yyyy": r"(0?[1-9]|1[0-2])/\d{1,2}/\d{4}",
            "dd/MM/yyyy": r"\d{1,2}/(0?[1-9]|1[0-2])/\d{4}",
        }.items()
        for clock, hours in {
            "": "",
            " HH:mm": r" \d{1,2}:\d{2}",
            " HH:mm:ss": r" \d{1,2}:\d{2}:\d{2}",
            " hh:mm a": r" \d{1,2}:\d{2} [AaPp][Mm]",
            " hh:mm:ss a": r" \d{1,2}:\d{2}:\d{2} [AaPp][Mm]",
        }.items()
    },
}  # fmt: skip
"""Patterns of whole values, as RE2 has them."""
TIME_FORMATS = tuple(name for name in _LOOKS if "yyyy" in name)
"""Spellings of times that are not ISO 8601's, as ``formats`` of a source names them."""

Kind = Literal["empty", "time", "date", "number", "text"]


@dataclass(frozen=True)
class Column:
    """The profile of a column's values; shares are of the rows that have something in it."""

    header: str
    filled: float
    """Share of the rows with something in it."""
    distinct: int
    length: float
    """Mean number of characters."""
    looks: dict[str, float]

    def mostly(self, look: str) -> bool:
        return self.looks.get(look, 0.0) >= MOSTLY

    @property
    def kind(self) -> Kind:
        if not self.filled:
            return "empty"
        if self.mostly("midnight"):
            return "date"
        if self.mostly("time"):
            return "time"
        if self.time_format:
            return "time" if "mm" in self.time_format else "date"
        return "number" if self.mostly("number") else "text"

    @property
    def time_format(self) -> str:
        """How times are written where it is not as ISO 8601 has them."""
        return next((spelled for spelled in TIME_FORMATS if self.mostly(spelled)), "")

    @property
    def name(self) -> str:
        """The header as words, for patterns of names."""
        return re.sub(r"[^\w]+|_", " ", self.header).strip()


@dataclass(frozen=True)
class Table:
    """The files of a table, and its columns."""

    name: str
    file: str
    """As a source's YAML names it."""
    rows: int
    columns: dict[str, Column]
    """By header."""
    csv: Csv = field(default_factory=Csv)
    paths: dict[str, str] = field(default_factory=dict)
    whole: bool = True
    """Whether all rows were looked at."""

    @property
    def relation(self) -> str:
        """The name of its rows in the database, all of them texts."""
        return f'"x_{self.name}"'


@dataclass(frozen=True)
class Files:
    """The files of a table, and how a source's YAML names them."""

    name: str
    file: str
    paths: tuple[Path, ...]


def read(database: "duckdb.DuckDBPyConnection", root: Path) -> tuple[Table, ...]:
    """Reads an extract into the database and profiles it; of large tables, the first ``MAX_ROWS`` rows.

    Raises:
        InputError: there is no such folder, it holds no files of data, or one of them is torn.
    """
    by_path = extract_files.files_of(root)
    present = {path: file for path, file in by_path.items() if not file.name.startswith(".")}  # a Mac's own
    if not present:
        endings = ", ".join(extract_files.ENDINGS)
        raise InputError(f"{root} and the folders in it hold no files of data ({endings}); check the path.")
    tables = (_table(database, files, root) for files in grouped(present, partial(_alike, root)))
    return tuple(table for table in tables if table.rows and table.columns)


def grouped(present: dict[str, Path], alike: Callable[[Sequence[Path]], bool]) -> Iterator[Files]:
    """The files by table: those of a folder whose names differ by a number at their end, or that Spark wrote as parts,
    are one where they are ``alike``; sheet1.csv and sheet2.csv may be two."""
    stems = {stem(path): file for path, file in sorted(present.items())}
    names: set[str] = set()
    numberless = {path: re.sub(r"^part-\d+.*$|[-_.]?\d+$", "", Path(path).name) for path in stems}
    key = {path: (Path(path).parent.as_posix(), numberless[path]) for path in stems}
    for (parent, rest), group in itertools.groupby(
        sorted(stems, key=lambda p: (key[p], p)), key=key.__getitem__
    ):
        own = list(group)
        paths = tuple(stems[path] for path in own)
        prefix = own[0] if len(own) == 1 else os.path.commonprefix(own).rstrip("0123456789")  # noqa: RUF071 - of letters
        folder_of_parts = parent != "." and prefix == f"{parent}/"
        if len(own) > 1 and (folder_of_parts or Path(prefix).name != Path(parent).name) and alike(paths):
            name = identifier(rest.strip("-_.") or Path(parent).name)
            yield Files(_free(name, names), parent if folder_of_parts else f"{prefix}*", paths)
            continue
        for path in own:
            yield Files(_free(identifier(Path(path).name), names), path, (stems[path],))


def _alike(root: Path, paths: Sequence[Path]) -> bool:
    """Whether files have most of their columns in common, as parts of one table have."""
    formats = {extract_files.format_of(path) for path in paths}
    if "NDJSON" in formats:
        return len(formats) == 1
    written = _dialect(paths[0], root)
    headers = [set(readers.header(path, written, path.relative_to(root))) for path in paths]
    return 2 * len(set.intersection(*headers)) >= max(map(len, headers))


def stem(path: str) -> str:
    """A file's path without its ending."""
    return path.removesuffix(next(end for end in extract_files.ENDINGS if path.endswith(end)))


def identifier(text: str) -> str:
    """A name that YAML and SQL take as it is.

    >>> identifier("Geburts-Datum (neu)"), identifier("2b_concept")
    ('geburts_datum_neu', 't2b_concept')
    """
    plain = re.sub(r"\W+", "_", text.lower()).strip("_") or "column"
    return f"t{plain}" if plain[0].isdigit() else plain


def _free(name: str, used: set[str]) -> str:
    free = next(
        n for n in itertools.chain([name], (f"{name}_{i}" for i in itertools.count(2))) if n not in used
    )
    used.add(free)
    return free


def _table(database: "duckdb.DuckDBPyConnection", files: Files, root: Path) -> Table:
    first = files.paths[0]
    place = first.relative_to(root)
    paths: dict[str, str] = {}
    written = Csv()
    if extract_files.format_of(first) == "NDJSON":
        paths = _paths(first, place)
        headers = list(paths)
    else:
        written = _dialect(first, root)
        headers = readers.header(first, written, place)
    headers = list(dict.fromkeys(header for header in headers if header))
    schema = pa.schema([(header, pa.string()) for header in headers])
    relation = f'"x_{files.name}"'
    batches = itertools.chain.from_iterable(
        ndjson.records(path, paths, path.relative_to(root))
        if paths
        else _records(path, headers, written, path.relative_to(root))
        for path in files.paths
    )
    counted = _Limited(_with_points(batches) if written.decimal == "," else batches, headers)
    engine.create_table(database, f"x_{files.name}", schema, counted)
    rows = int(database.execute(f"select count(*) from {relation}").fetchall()[0][0])
    columns = _columns(database, relation, headers) if rows and headers else {}
    return Table(files.name, files.file, rows, columns, written, paths, not counted.cut)


def _records(path: Path, headers: Sequence[str], written: Csv, place: Path) -> Iterator[pa.RecordBatch]:
    there = readers.header(path, written, place)
    present = [header for header in headers if header in there]
    for batch in readers.records(path, there, present, written, place):
        for lacking in [header for header in headers if header not in present]:
            batch = batch.append_column(lacking, pa.nulls(batch.num_rows, pa.string()))
        yield batch.select(list(headers))


def _with_points(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Texts with a point before the fraction of each number that is written with a comma."""
    for batch in batches:
        columns = [pc.replace_substring_regex(c, r"^([+-]?\d+),(\d+)$", r"\1.\2") for c in batch.columns]
        yield pa.RecordBatch.from_arrays(columns, batch.schema.names)


class _Limited:
    """Batches of texts, blanks and words for nothing gone, until there are enough rows."""

    def __init__(self, batches: Iterator[pa.RecordBatch], headers: Sequence[str]) -> None:
        self.batches, self.headers, self.cut = batches, headers, False

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        left = MAX_ROWS
        for batch in self.batches:
            part = batch.slice(0, left)
            self.cut = part.num_rows < batch.num_rows
            yield pa.RecordBatch.from_arrays([parsing.strings(c) for c in part.columns], list(self.headers))
            left -= part.num_rows
            if self.cut:
                return


def _dialect(path: Path, root: Path) -> Csv:
    """How a file is written: the delimiter of the most columns; Latin-1 where the beginning is no UTF-8; the sign
    before most fractions."""
    if extract_files.format_of(path) != "CSV":
        return Csv()
    place, encoding = path.relative_to(root), "utf-8"
    with pa.input_stream(str(path)) as opened:
        beginning = opened.read(1 << 20)
    try:
        beginning[: beginning.rfind(b"\n") + 1].decode("utf-8")
    except UnicodeDecodeError:
        encoding = "latin-1"
    by_delimiter = {
        d: len(readers.header(path, Csv(delimiter=d, encoding=encoding), place))
        for d in (",", ";", "\t", "|")
    }
    delimiter = max(by_delimiter, key=lambda d: by_delimiter[d])
    fields = re.split(rf"[\r\n{re.escape(delimiter)}]", beginning.decode("latin-1"))
    commas, points = (
        sum(re.fullmatch(rf'"?[+-]?\d+{sign}\d+"?', f) is not None for f in fields) for sign in (",", r"\.")
    )
    return Csv(delimiter=delimiter, encoding=encoding, decimal="," if commas > points else ".")


def _paths(path: Path, name: Path) -> dict[str, str]:
    """The columns of nested records: one for each place of a single value that is not rare."""
    import gzip

    opened = gzip.open if path.suffix.lower() == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig", errors="replace") as lines:
        heads = list(itertools.islice(lines, NESTED_RECORDS))
    places: dict[str, int] = {}
    for number, line in enumerate(heads, start=1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise InputError(f"{name}: line {number:,} holds no JSON object; export it again.") from error
        for place in dict.fromkeys(_places(record, "")):
            places[place] = places.get(place, 0) + 1
    names: set[str] = set()
    frequent = [place for place, n in places.items() if n >= 0.01 * len(heads)]
    return {_free(identifier(re.sub(r"\[[^\]]*\]", "", place)), names): place for place in frequent}


def _places(value: object, prefix: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key):
                yield from _places(inner, f"{prefix}.{key}" if prefix else key)
    elif isinstance(value, list):
        if value and not isinstance(value[0], list):
            yield from _places(value[0], prefix)
    elif value is not None and prefix:
        yield prefix


def _columns(
    database: "duckdb.DuckDBPyConnection", relation: str, headers: Sequence[str]
) -> dict[str, Column]:
    whole = ", ".join(f"count({quoted(h)}), approx_count_distinct({quoted(h)})" for h in headers)
    rows, *counts = database.execute(f"select count(*), {whole} from {relation}").fetchall()[0]
    looks = ", ".join(f"avg(regexp_full_match(value, '{pattern}')::int)" for pattern in _LOOKS.values())
    summaries = database.execute(
        f"""
        with sample as (select * from {relation} using sample reservoir({SAMPLE_ROWS} rows) repeatable (7)),
        values as (select header, value from sample unpivot (value for header in (columns(*))))
        select header, avg(length(value)), {looks} from values group by header
        """
    ).fetchall()
    by_header = {row[0]: row for row in summaries}
    empty = ("", 0.0, *(0.0 for _ in _LOOKS))
    profiled = {}
    for header, filled, distinct in zip(headers, counts[::2], counts[1::2], strict=True):
        _, length, *shares = by_header.get(header, empty)
        of_looks = dict(zip(_LOOKS, shares, strict=True))
        profiled[header] = Column(header, filled / rows, distinct, length, of_looks)
    return profiled
