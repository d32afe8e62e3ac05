"""Bronze: raw ingestion of every table that the source declares, one Delta table each, with file and record number.

The stage reads the whole extract once before it commits anything: a truncated file, a missing column or an empty table
stops it with one sentence. Bytes that are not UTF-8 do not stop it: they become U+FFFD, and each row is validated
later. Two things are said and stop nothing: columns that had to be renamed, and words that no list of the source has.
A patient who was erased (``mediscale erase``) is left out of every table.
"""

import csv
import gzip
import logging
import re
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from data_pipeline.ingest import parsing
from data_pipeline.ingest import source as sources
from data_pipeline.ingest.source import Source, SourceName, SourceTable
from mediscale.core.annotations import Digest, PatientCount, RuntimeInput
from mediscale.core.errors import InputError, StorageError
from mediscale.core.privacy import count
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import SPARK, Context, Stage
from mediscale.core.tables import BRONZE
from mediscale.storage import exclusions, history
from mediscale.storage.exclusions import Exclusions
from mediscale.storage.history import Erasure

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.csv import CSVStreamingReader

log = logging.getLogger(__name__)

CONCURRENT_TABLES = 4
"""Tables that are written at the same time: small tables spend their time in commits, not on cores."""

MAX_COLUMNS = 2000
"""Of a file: Spark plans a table by its columns, and with ten thousand of them that does not end."""


class Params(Frozen):
    source: RuntimeInput[SourceName]
    """Name of a file in ``data_pipeline/ingest/sources``, without its extension."""
    dataset: RuntimeInput[str]
    path: RuntimeInput[str]
    """Folder of the extract, absolute or relative to the home folder."""
    extract_digest: RuntimeInput[Digest]
    """``data_pipeline.ingest.source.digest_of`` the folder, so that changed files are ingested again."""
    excluded: RuntimeInput[str] = ""
    """Fingerprint of the list of erased patients, which the caller looks up; empty where nobody was erased."""


class Result(Frozen):
    bronze: dict[str, TableRef]
    absent: tuple[str, ...]
    """Files of optional tables that the extract does not have."""
    rows: int
    """Records of all files, without headers."""
    renamed: tuple[str, ...] = ()
    """Columns, as ``table.column``, whose header a table can't have or has twice, under their new names."""
    unlisted_words: dict[str, PatientCount] = {}
    """By ``table.column``, the records whose word no list of the source has: its category is ``OTHER``."""


def run(params: Params, settings: Settings, key: str) -> Result:
    """Checks the whole extract, then writes ``bronze_<table>`` for each of its tables.

    Raises:
        InputError: the source is unknown, a directory, table or column is missing, a file is truncated or empty, or
        files
            changed since the digest was taken.
        StorageError: the list of erased patients is not the one that the caller saw, or lacks some.
    """
    left_out = _exclusions(settings, params)
    source = sources.load(params.source)
    root = settings.home / params.path
    files = sources.locate(source, root)
    headers = {name: _header(file, root) for name, file in files.items()}
    for name, header in headers.items():
        _check_columns(source, name, header, files[name].relative_to(root))
    columns = {name: column_names(header, source.tables[name].columns) for name, header in headers.items()}
    rows, unlisted_words = _check_records(source, files, columns, root)
    log.info("%d files with %s rows are whole; each becomes a table", len(files), f"{rows:,}")
    _check_digest(params, files)
    leave_out = None
    if left_out is not None:
        visits = _visits_of(left_out, source, files[source.visits.table], columns[source.visits.table])
        leave_out = partial(_without, source, left_out, visits)
    with ThreadPoolExecutor(CONCURRENT_TABLES) as pool:
        land = partial(_land, settings, params.dataset, root, key, leave_out)
        refs = list(pool.map(land, files, files.values(), columns.values()))
    return Result(
        bronze=dict(zip(files, refs, strict=True)),
        absent=source.lacks(files),
        rows=rows,
        renamed=tuple(
            f"{table}.{name}"
            for table, names in columns.items()
            for name, written in zip(names, headers[table], strict=True)
            if name != written
        ),
        unlisted_words=unlisted_words,
    )


def _exclusions(settings: Settings, params: Params) -> Exclusions | None:
    """Whom to leave out; where the history of the dataset knows of more erasures than the list, nothing is landed."""
    if exclusions.fingerprint(settings, params.dataset) != params.excluded:
        raise StorageError(
            f"The list of erased patients {exclusions.file(settings, params.dataset)} is not the one that this call "
            "was made for; nothing was landed. Run again."
        )
    left_out = exclusions.load(settings, params.dataset)
    listed = len(left_out.digests) if left_out else 0
    erased = sum(entry.kind == Erasure.kind for entry in history.entries(settings, params.dataset))
    if erased > listed:
        raise StorageError(
            f"{erased} patients of {params.dataset} were erased, and {exclusions.file(settings, params.dataset)} lists "
            f"{listed}; nothing was landed, for the others would come back. Restore or mount the folder of trust."
        )
    return left_out


def _visits_of(left_out: Exclusions, source: Source, path: Path, names: list[str]) -> frozenset[str]:
    """The visits of patients who are left out: some rows name a visit and no patient."""
    import pyarrow as pa

    visits: set[str] = set()
    for batch in _reader(path, names, [source.subjects.id, source.visits.id]):
        text = [pa.array([None if t is None else _decoded(t) for t in column.to_pylist()], pa.string())
                for column in batch.columns]  # fmt: skip
        subjects, own = (parsing.identifiers(column, source.null_words).to_pylist() for column in text)
        erased = left_out.among({subject for subject in subjects if subject is not None})
        visits |= {
            visit
            for subject, visit in zip(subjects, own, strict=True)
            if subject in erased and visit is not None
        }
    return frozenset(visits)


def _without(
    source: Source, left_out: Exclusions, visits: frozenset[str], batches: "Iterator[pa.RecordBatch]"
) -> "Iterator[pa.RecordBatch]":
    """Rows without those of patients who are left out, in a worker."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for batch in batches:
        keep = pa.array([True] * batch.num_rows)
        nobody = keep
        if source.subjects.id in batch.schema.names:
            subject = parsing.identifiers(batch[source.subjects.id], source.null_words)
            erased = left_out.among(subject.drop_null().unique().to_pylist())
            keep = pc.invert(pc.is_in(subject, value_set=pa.array(sorted(erased), pa.string())))
            nobody = subject.is_null()
        if source.visits.id in batch.schema.names:
            visit = parsing.identifiers(batch[source.visits.id], source.null_words)
            theirs = pc.is_in(visit, value_set=pa.array(sorted(visits), pa.string()))
            keep = pc.and_(keep, pc.invert(pc.and_(nobody, theirs)))
        yield batch.filter(keep)


def _header(path: Path, root: Path) -> list[str]:
    try:
        with _text(path) as file:
            first = next(csv.reader(file), [])
    except (EOFError, gzip.BadGzipFile, zlib.error, csv.Error) as error:
        raise _unreadable(path.relative_to(root)) from error
    return [parsing.fold(name).lower() for name in first]


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
    if len(header) > MAX_COLUMNS:
        raise InputError(
            f"{file} has {len(header):,} columns, and a table at most {MAX_COLUMNS:,}; nothing was landed. Is this the "
            "right file? Otherwise leave out columns, or write one row per value."
        )
    declared = source.tables[name].columns
    if twice := [column for column in declared if header.count(column) > 1]:
        raise InputError(
            f"{file} has more than one column {', '.join(twice)}, whatever the case; nothing was landed. Remove or "
            "rename the one that is not meant."
        )
    missing = [column for column in declared if column not in header]
    if not missing:
        return
    similar = get_close_matches(missing[0], set(header) - source.tables[name].columns.keys(), n=1)
    hint = f" (is it now called {similar[0]}?)" if similar else ""
    raise InputError(
        f"{file} has no column {', '.join(missing)}{hint}; nothing was landed. Rename the column in the file, or "
        f"describe this layout in a YAML of its own beside data_pipeline/ingest/sources/{source.name}.yaml."
    )


def column_names(header: Sequence[str], declared: Collection[str]) -> list[str]:
    """The names of landed columns: declared ones as they are, others changed where a table can't have them.

    >>> column_names(["flag", "flag", "ref range (low)", "", "line", "hadm_id"], {"hadm_id"})
    ['flag', 'flag_2', 'ref_range_low', 'column_4', 'line_2', 'hadm_id']
    """
    taken = {*declared, *BRONZE.column_names}
    names = []
    for i, written in enumerate(header, start=1):
        plain = re.sub(r"[\x00-\x20,;{}()=.`\"\\/]+", "_", written).strip("_") or f"column_{i}"
        candidates = (plain, *(f"{plain}_{n}" for n in range(2, len(header) + 3)))
        name = written if written in declared else next(name for name in candidates if name not in taken)
        taken.add(name)
        names.append(name)
    return names


def _check_records(
    source: Source, files: dict[str, Path], columns: dict[str, list[str]], root: Path
) -> tuple[int, dict[str, int]]:
    """Reads every file to its end; returns the number of records, and of those whose words no list has."""
    with ThreadPoolExecutor() as pool:
        read = partial(_count, root)
        counts = list(
            pool.map(read, files.values(), columns.values(), (source.tables[name] for name in files))
        )
    empty = [
        str(file.relative_to(root)) for file, (n, _) in zip(files.values(), counts, strict=True) if not n
    ]
    if empty:
        raise InputError(
            f"{', '.join(empty)}: a header and no rows; nothing was landed. Extract it again, or remove the file "
            "if the hospital truly has none."
        )
    unlisted = {
        f"{name}.{column}": n
        for name, (_, words) in zip(files, counts, strict=True)
        for column, n in sorted(words.items())
        if n
    }
    return sum(n for n, _ in counts), unlisted


def _count(root: Path, path: Path, names: list[str], table: SourceTable) -> tuple[int, Counter[str]]:
    import pyarrow as pa

    rows, words = 0, Counter[str]()
    try:
        for batch in _reader(path, names, [*table.vocabularies] or names[:1]):
            rows += batch.num_rows
            for column, lists in table.vocabularies.items():
                text = parsing.map_distinct(batch.column(column), _decoded)
                words[column] += parsing.unlisted(parsing.words(text), lists)
    except (OSError, pa.ArrowInvalid) as error:
        raise _unreadable(path.relative_to(root)) from error
    return rows, words


def _decoded(text: bytes) -> str:
    return text.decode(errors="replace")


def _reader(path: Path, names: list[str], columns: list[str]) -> "CSVStreamingReader":
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    return arrow_csv.open_csv(
        pa.input_stream(str(path)),  # decompresses by the file's ending
        read_options=arrow_csv.ReadOptions(column_names=names, skip_rows=1, block_size=4 << 20),
        parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
        convert_options=arrow_csv.ConvertOptions(
            check_utf8=False,  # only counted here
            include_columns=columns,
            column_types=dict.fromkeys(columns, pa.binary()),
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
    settings: Settings,
    dataset: str,
    root: Path,
    key: str,
    leave_out: "Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]] | None",
    name: str,
    path: Path,
    columns: list[str],
) -> TableRef:
    from pyspark.sql import functions as f

    from mediscale.storage import spark

    schema = ", ".join(f"`{column}` string" for column in columns)
    # Records may span lines, so a file is read by one task, in order: the row's number is the record's.
    rows = spark.session(settings).read.csv(
        spark.literal_path(str(path)), schema, header=True, multiLine=True, escape='"'
    )
    file = f.lit(path.relative_to(root).as_posix()).alias("file")
    line = (f.monotonically_increasing_id() + 2).alias("line")
    landed = rows.select("*", file, line)
    if leave_out is not None:
        landed = landed.mapInArrow(leave_out, landed.schema)
    return spark.write(settings, landed, dataset, f"bronze_{name}", key)


def runtime_inputs(given: Mapping[str, Any], settings: Settings) -> Iterator[Context]:
    """Gives the fingerprint of the list of erased patients."""
    if "dataset" in given:
        yield Context({"excluded": exclusions.fingerprint(settings, given["dataset"])})


def _summary(result: Result) -> str:
    absent = f"; not in the extract: {', '.join(result.absent)}" if result.absent else ""
    words = ", ".join(f"{column} in {count(n)} rows" for column, n in result.unlisted_words.items())
    unlisted = f"; words that no list of the source has: {words}" if words else ""
    renamed = f"; renamed: {', '.join(result.renamed)}" if result.renamed else ""
    tables = f"{result.rows:,} rows of {len(result.bronze)} tables landed as they came"
    return f"{tables}{absent}{unlisted}{renamed}"


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="land the extract as it came",
    summary=_summary,
    resources=SPARK,
    runtime_inputs=runtime_inputs,
)
