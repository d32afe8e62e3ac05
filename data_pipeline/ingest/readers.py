"""Readers: the records of an extract's files as batches of texts, whatever the format, encoding and delimiter.

A file is streamed and never held: a gz of any size needs the memory of a few batches. Bytes that are not of the
declared encoding become U+FFFD, so that they mar a value and not a file.
"""

import csv
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from data_pipeline.ingest import parsing
from data_pipeline.ingest.extract_files import format_of
from data_pipeline.ingest.source_tables import Csv
from mediscale.core.errors import InputError

if TYPE_CHECKING:
    from _csv import Reader

BLOCK_BYTES = 4 << 20
"""Of a text file at a time; no record is longer."""
BATCH_ROWS = 65_536
HEADER_LINES = 20
"""From a text file's beginning, among which a header is looked for."""
_FIRST_OF_NO_ASCII = 128
_FIRST_RECORD = 2
"""By its number, the header being 1: records before another tell that the delimiter is the right one."""
_DELIMITER_LINE = re.compile("sep=.?", re.IGNORECASE)
_PADDING = "\0\x1a \t"
"""What programs of old, and broken copies, fill the end of a file with."""

pa.enable_signal_handlers(False)
"""Arrow takes Ctrl-C for itself while it reads CSV in the main thread, and loses one in ten that come as it ends."""


def first_line(path: Path, written: Csv) -> int:
    """The number of a file's first record, by which ``line`` counts: text files have a header before it."""
    return _lines_above(path, written) + 2 if format_of(path) == "CSV" else 1


def header(path: Path, written: Csv, place: Path) -> list[str]:
    """The names of a CSV or Parquet file's columns, in lower case; ``place`` is how an error names the file.

    Raises:
        InputError: the file is torn or of another format.
    """
    try:
        if format_of(path) == "Parquet":
            from pyarrow import parquet

            first = list(parquet.read_schema(path).names)
            if twice := sorted({name for name in first if first.count(name) > 1}):
                raise InputError(
                    f"{place} has more than one column {', '.join(twice)}; nothing was landed. Remove or rename the "
                    "one that is not meant."
                )
        else:
            first = _text_header(path, written)
    except (EOFError, OSError, gzip.BadGzipFile, zlib.error, csv.Error, pa.ArrowInvalid) as error:
        _refuse(place, path, error)
    return _names(first)


def header_line(path: Path, written: Csv, is_header: Callable[[list[str]], bool]) -> int:
    """The line of a text file's header where a title or a comment stands above it; 0 where none of the first is one."""
    if format_of(path) != "CSV":
        return 0
    try:
        with _open(path, written) as file:
            rows = _rows(file, written)
            return next(
                (rows.line_num for fields in islice(rows, HEADER_LINES) if is_header(_names(fields))), 0
            )
    except csv.Error:  # a field that is longer than those of a header
        return 0


def _text_header(path: Path, written: Csv) -> list[str]:
    """The first record of a text file, of which no more is held than of any other record."""
    with _open(path, written) as file:
        return _header(_rows(file, written))[1]


def _lines_above(path: Path, written: Csv) -> int:
    """How many lines of a text file stand above its header and say nothing."""
    with _open(path, written) as file:
        return _header(_rows(file, written))[0]


def _has_no_record(path: Path, written: Csv) -> bool:
    """Whether nothing follows the header of a text file."""
    with _open(path, written) as file:
        rows = _rows(file, written)
        return bool(_header(rows)[1]) and next(rows, None) is None


def _header(rows: "Reader") -> tuple[int, list[str]]:
    """How many lines stand above the header, and the header: empty lines and the one by which Excel states the
    delimiter are none."""
    above = 0
    for fields in rows:
        if any(field.strip() for field in fields) and not _DELIMITER_LINE.fullmatch(",".join(fields)):
            return above, fields
        above = rows.line_num
    return above, []


def _rows(file: TextIO, written: Csv) -> "Reader":
    """The records at the beginning of a text file."""
    return csv.reader(_lines(file, BLOCK_BYTES), delimiter=written.delimiter, quotechar=written.quote or None,
                      quoting=csv.QUOTE_MINIMAL if written.quote else csv.QUOTE_NONE)  # fmt: skip


def _names(fields: Sequence[str]) -> list[str]:
    return [parsing.fold(name).lower() for name in fields]


def _lines(file: TextIO, most: int) -> Iterator[str]:
    """The lines of a file until so many characters are read, of which the last line may be cut."""
    while most and (line := file.readline(most)):
        most -= len(line)
        yield line


def records(
    path: Path, names: Sequence[str], columns: Sequence[str], written: Csv, place: Path
) -> Iterator[pa.RecordBatch]:
    """The wanted columns of every record of a file, as texts; ``names`` are those of all its columns, in order.

    Raises:
        InputError: the file is torn, or a record of it has more or fewer fields than the header; the error names the
            record's line.
    """
    try:
        batches = (
            _parquet(path, names, columns, written)
            if format_of(path) == "Parquet"
            else _csv(path, names, columns, written, place)
        )
        yield from batches
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, pa.ArrowInvalid) as error:
        _refuse(place, path, error)


def _csv(
    path: Path, names: Sequence[str], columns: Sequence[str], written: Csv, place: Path
) -> Iterator[pa.RecordBatch]:
    uneven: list[arrow_csv.InvalidRow] = []
    read = 1

    def note(row: arrow_csv.InvalidRow) -> str:
        uneven.append(row)
        return "error"

    try:
        for batch in _opened(path, names, columns, written, note):
            yield pa.RecordBatch.from_arrays([_text(column) for column in batch.columns], list(columns))
            read += len(batch)
    except pa.ArrowInvalid as error:
        if uneven:
            raise _uneven(place, uneven[0], _lines_above(path, written)) from error
        if read == 1 and _has_no_record(path, written):  # and no line end after its header
            return
        if "straddling" in str(error):
            raise _endless(place, read + 1) from error
        raise


def _opened(
    path: Path,
    names: Sequence[str],
    columns: Sequence[str],
    written: Csv,
    on_uneven: Callable[[arrow_csv.InvalidRow], str],
) -> arrow_csv.CSVStreamingReader:
    return arrow_csv.open_csv(
        pa.input_stream(str(path)),  # decompresses by the file's ending
        read_options=arrow_csv.ReadOptions(
            column_names=list(names),
            skip_rows=_lines_above(path, written),
            skip_rows_after_names=1,  # the header, which may have line breaks between quotes
            block_size=BLOCK_BYTES,
            encoding=written.encoding,
            use_threads=False,  # else a record has no number
        ),
        parse_options=arrow_csv.ParseOptions(
            delimiter=written.delimiter,
            quote_char=written.quote or False,
            newlines_in_values=bool(written.quote),
            invalid_row_handler=on_uneven,
        ),
        convert_options=arrow_csv.ConvertOptions(
            check_utf8=False,
            include_columns=list(columns),
            column_types=dict.fromkeys(columns, pa.binary()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


def _text(column: pa.Array) -> pa.Array:
    data = column.buffers()[2]
    letters = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    if not len(letters) or (letters.max() < _FIRST_OF_NO_ASCII and not (letters == ord("\r")).any()):
        return column.view(pa.string())
    try:
        text = column.cast(pa.string())
    except pa.ArrowInvalid:  # not UTF-8
        text = parsing.map_distinct(column, lambda raw: raw.decode(errors="replace"))
    if pc.any(pc.match_substring(text, "\r")).as_py():
        text = pc.replace_substring(text, "\r\n", "\n")
    return text


def _parquet(
    path: Path, names: Sequence[str], columns: Sequence[str], written: Csv
) -> Iterator[pa.RecordBatch]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        in_file = dict(zip(names, file.schema_arrow.names, strict=True))
        for batch in file.iter_batches(BATCH_ROWS, columns=[in_file[column] for column in columns]):
            texts = [_as_text(batch.column(in_file[column]), written.decimal) for column in columns]
            yield pa.RecordBatch.from_arrays(texts, list(columns))


def _as_text(column: pa.Array, decimal: str) -> pa.Array:
    """A typed column as the texts that a CSV file of it would hold, in which ``decimal`` stands before a fraction."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_nested(column.type):
        values: list[Any] = column.to_pylist()
        return pa.array([None if v is None else json.dumps(v, default=str) for v in values], pa.string())
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return _text(column.cast(pa.binary()))
    text = column.cast(pa.string())
    if decimal != "." and (pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)):
        return pc.replace_substring(text, ".", decimal)
    return text


def _open(path: Path, written: Csv) -> TextIO:
    encoding = "utf-8-sig" if written.encoding == "utf-8" else written.encoding
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding=encoding, errors="replace", newline="")
    return path.open(encoding=encoding, errors="replace", newline="")


def _refuse(place: Path, path: Path, error: Exception) -> NoReturn:
    """Says that a file is torn, or lets the error pass where the operating system refused to read it."""
    if isinstance(error, OSError) and error.errno:
        raise error
    raise InputError(
        f"{place} is torn or not a {format_of(path)} file; nothing was landed. Copy it again and compare checksums "
        "with the origin's."
    ) from error


def _endless(place: Path, record: int) -> InputError:
    return InputError(
        f"{place} is torn or not a CSV file: record {record:,} (the header being 1), or one soon after, does not end "
        f"or is longer than {BLOCK_BYTES >> 20} MiB; nothing was landed. Is its quote another one (csv in the source's "
        "YAML)? Otherwise copy it again and compare checksums with the origin's."
    )


def _uneven(place: Path, row: arrow_csv.InvalidRow, above: int) -> InputError:
    number = None if row.number is None else row.number - above
    where = "" if number is None else f": record {number:,} (the header being 1)"
    fields = f" has {row.actual_columns} fields and the header {row.expected_columns}" if where else ""
    return InputError(
        f"{place} is torn or not a CSV file{where}{fields}; nothing was landed. {_cause(row, number or 0)} Otherwise "
        "copy it again and compare checksums with the origin's."
    )


def _cause(row: arrow_csv.InvalidRow, number: int) -> str:
    """What a record with another number of fields than the header may be, and what to do then."""
    if not row.text.strip(_PADDING):
        return "The record is nothing but NUL or Ctrl-Z signs: if records end there, remove them."
    if row.actual_columns == 1 and number > _FIRST_RECORD:
        return (
            "Is it a footer, such as a total, or a remark? Then remove it, or have the export leave it out."
        )
    if row.expected_columns == 1:
        return "Does a title stand above its header? Then remove it, or have the export leave it out."
    return "Is its delimiter or its quote another one (csv in the source's YAML)?"
