"""Bronze: raw ingestion of every table that the source declares, one Delta table each, with file and record number.

The stage reads the whole extract once before it commits anything: a truncated file, a missing column or an empty table
stops it with one sentence. Bytes that are not UTF-8 do not stop it: they become U+FFFD, and each row is validated
later.
"""

import csv
import gzip
import logging
import zlib
from concurrent.futures import ThreadPoolExecutor
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from data_pipeline.ingest import source as sources
from data_pipeline.ingest.source import Source, SourceName
from mediscale.core.annotations import Digest, RuntimeInput
from mediscale.core.errors import InputError
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import SPARK, Stage

if TYPE_CHECKING:
    from pyarrow.csv import CSVStreamingReader

log = logging.getLogger(__name__)

CONCURRENT_TABLES = 4
"""Tables that are written at the same time: small tables spend their time in commits, not on cores."""


class Params(Frozen):
    source: RuntimeInput[SourceName]
    """Name of a file in ``data_pipeline/ingest/sources``, without its extension."""
    dataset: RuntimeInput[str]
    path: RuntimeInput[str]
    """Folder of the extract, absolute or relative to the home folder."""
    extract_digest: RuntimeInput[Digest]
    """``data_pipeline.ingest.source.digest_of`` the folder, so that changed files are ingested again."""


class Result(Frozen):
    bronze: dict[str, TableRef]
    absent: tuple[str, ...]
    """Files of optional tables that the extract does not have."""
    rows: int
    """Records of all files, without headers."""


def run(params: Params, settings: Settings, key: str) -> Result:
    """Checks the whole extract, then writes ``bronze_<table>`` for each of its tables.

    Raises:
        InputError: the source is unknown, a directory, table or column is missing, a file is truncated or empty, or
        files
            changed since the digest was taken.
    """
    source = sources.load(params.source)
    root = settings.home / params.path
    files = sources.locate(source, root)
    headers = {name: _header(file, root) for name, file in files.items()}
    for name, header in headers.items():
        _check_columns(source, name, header, files[name].relative_to(root))
    rows = _check_records(files, root)
    log.info("%d files with %s rows are whole; each becomes a table", len(files), f"{rows:,}")
    _check_digest(params, files)
    with ThreadPoolExecutor(CONCURRENT_TABLES) as pool:
        land = partial(_land, settings, params.dataset, root, key)
        refs = list(pool.map(land, files, files.values(), (headers[name] for name in files)))
    return Result(
        bronze=dict(zip(files, refs, strict=True)),
        absent=source.lacks(files),
        rows=rows,
    )


def _header(path: Path, root: Path) -> list[str]:
    try:
        with _text(path) as file:
            first = next(csv.reader(file), [])
    except (EOFError, gzip.BadGzipFile, zlib.error, csv.Error) as error:
        raise _unreadable(path.relative_to(root)) from error
    return [name.strip().lower() for name in first]


def _text(path: Path) -> TextIO:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", errors="replace", newline="")
    return path.open(encoding="utf-8-sig", errors="replace", newline="")


def _unreadable(file: Path) -> InputError:
    return InputError(
        f"{file} is torn or not a CSV file; nothing was landed. Copy it again and compare checksums with "
        "the origin's."
    )


def _check_columns(source: Source, name: str, header: list[str], file: Path) -> None:
    if not any(header):
        raise InputError(f"{file} is empty, without even a header; nothing was landed. Extract it again.")
    missing = [column for column in source.tables[name].columns if column not in header]
    if not missing:
        return
    similar = get_close_matches(missing[0], set(header) - source.tables[name].columns.keys(), n=1)
    hint = f" (is it now called {similar[0]}?)" if similar else ""
    raise InputError(
        f"{file} has no column {', '.join(missing)}{hint}; nothing was landed. Rename the column in the file, or "
        f"describe this layout in a YAML of its own beside data_pipeline/ingest/sources/{source.name}.yaml."
    )


def _check_records(files: dict[str, Path], root: Path) -> int:
    """Reads every file to its end and returns the number of records."""
    with ThreadPoolExecutor() as pool:
        counts = list(pool.map(partial(_count, root=root), files.values()))
    empty = [
        str(file.relative_to(root)) for file, count in zip(files.values(), counts, strict=True) if not count
    ]
    if empty:
        raise InputError(
            f"{', '.join(empty)}: a header and no rows; nothing was landed. Extract it again, or remove the file "
            "if the hospital truly has none."
        )
    return sum(counts)


def _count(path: Path, root: Path) -> int:
    import pyarrow as pa

    try:
        return sum(batch.num_rows for batch in _reader(path))
    except (OSError, pa.ArrowInvalid) as error:
        raise _unreadable(path.relative_to(root)) from error


def _reader(path: Path) -> "CSVStreamingReader":
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    names = _header(path, path.parent)
    return arrow_csv.open_csv(
        pa.input_stream(str(path)),  # decompresses by the file's ending
        read_options=arrow_csv.ReadOptions(column_names=names, skip_rows=1, block_size=4 << 20),
        parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
        convert_options=arrow_csv.ConvertOptions(
            check_utf8=False,  # only counted here
            column_types=dict.fromkeys(names, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
        ),
    )


def _check_digest(params: Params, files: dict[str, Path]) -> None:
    with ThreadPoolExecutor() as pool:
        digests = dict(zip(files, pool.map(sources.file_digest, files.values()), strict=True))
    if sources.combined_digest(digests) != params.extract_digest:
        raise InputError(
            f"The extract of {params.dataset} changed since its digest was taken; nothing was landed. Wait until its "
            "copy is complete and run again."
        )


def _land(
    settings: Settings, dataset: str, root: Path, key: str, name: str, path: Path, header: list[str]
) -> TableRef:
    from pyspark.sql import functions as f

    from mediscale.storage import spark

    schema = ", ".join(f"`{column}` string" for column in header)
    # Records may span lines, so a file is read by one task, in order: the row's number is the record's.
    rows = spark.session(settings).read.csv(str(path), schema, header=True, multiLine=True, escape='"')
    file = f.lit(path.relative_to(root).as_posix()).alias("file")
    line = (f.monotonically_increasing_id() + 2).alias("line")
    return spark.write(settings, rows.select("*", file, line), dataset, f"bronze_{name}", key)


def _summary(result: Result) -> str:
    absent = f"; not in the extract: {', '.join(result.absent)}" if result.absent else ""
    return f"{result.rows:,} rows of {len(result.bronze)} tables landed as they came{absent}"


STAGE = Stage(
    Params, Result, run, display_name="land the extract as it came", summary=_summary, resources=SPARK
)
