"""Tables of the lake in DuckDB: a version as a view, and the digest of its rows. No JVM is started."""

import os
import re
import signal
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from mediscale.core.errors import StorageError
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.storage import lake
from mediscale.storage.calls import Output

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    from deltalake import DeltaTable


@contextmanager
def session() -> Iterator["duckdb.DuckDBPyConnection"]:
    """A session of this process's database in memory. Its temporary tables, its temporary views and what is registered
    are its own.

    Opening a database takes DuckDB longer than it needs for the rows of a night; a session takes it nothing.

    Raises:
        StorageError: a file of the lake is gone or damaged.
    """
    with _unreadable_files(), _database().cursor() as own, interruptible(own):
        yield own


@contextmanager
def _unreadable_files() -> Iterator[None]:
    """Names the file alone: what else DuckDB says may hold a value."""
    import duckdb

    try:
        yield
    except (duckdb.IOException, duckdb.InvalidInputException) as error:
        file = _PARQUET_FILE.search(str(error))
        if file is None:
            raise
        raise StorageError(
            f"The lake's file {file[1]} is gone or damaged, so its table can't be read; restore it from a backup."
        ) from error


@contextmanager
def _damaged_table(ref: TableRef) -> Iterator[None]:
    """Names the table where a query of ours fails that no sound table lets fail: a bit of a file or of the log that was
    flipped is found by whichever part of DuckDB comes upon it, and most of its errors name no file."""
    import duckdb

    try:
        yield
    except duckdb.OutOfMemoryException:
        raise
    except (duckdb.Error, UnicodeDecodeError) as error:  # the latter where a message holds bytes of the file
        raise StorageError(
            f"The rows of {ref} can't be read: a file of it is damaged, or its store or a disk gave out; try again, "
            "and restore the table from a backup where the same is said."
        ) from error


_PARQUET_FILE = re.compile(r"""["']([^"']+\.parquet)["']""")


_BATCH_ROWS = 1 << 16

_PUSHED_KEYS = 1000
"""The keys of a join up to which they are looked for while a file is read, so that only their rows are decoded; DuckDB
does so with 50. Of more than these, to look for each costs what it saves."""


@cache
def _database() -> "duckdb.DuckDBPyConnection":
    import duckdb

    return duckdb.connect(config={"dynamic_or_filter_threshold": _PUSHED_KEYS})


def rows(
    database: "duckdb.DuckDBPyConnection", sql: str, parameters: Sequence[Any] = ()
) -> "pa.RecordBatchReader":
    """The rows of a query.

    The engine's relations are planned twice, before and when they are run: of a night, that takes longer than its rows.
    What is run at once has its rows copied, of which the engine warns, and which costs next to nothing.
    """
    database.execute(sql, *([parameters] if parameters else []))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return database.to_arrow_reader(_BATCH_ROWS)


@contextmanager
def interruptible(database: "duckdb.DuckDBPyConnection") -> Iterator[None]:
    """Lets Ctrl-C end a query at once, as ``KeyboardInterrupt``.

    DuckDB looks for signals between its tasks alone, and a sort or a ``COPY`` is one for minutes; what it finds it
    raises as ``RuntimeError``. Only the main thread gets signals, so elsewhere nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer)

    def watch() -> None:
        while number := os.read(reader, 1):
            if number[0] == signal.SIGINT:
                database.interrupt()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    except RuntimeError as error:
        if str(error) != "Query interrupted":
            raise
        raise KeyboardInterrupt from None
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)
        watcher.join()
        os.close(reader)


def view(database: "duckdb.DuckDBPyConnection", settings: Settings, ref: TableRef, name: str) -> list[str]:
    """Makes a version of a table a view of the database, and returns its columns; files on a local disk are read by
    DuckDB itself."""
    delta = lake.open_version(settings, ref)
    files, columns = lake.paths(delta), _columns(delta)
    if settings.lake_folder is None or not files:
        database.register(name, lake.dataset(settings, ref))
        return columns
    names = ", ".join(map(quoted, columns))  # not those that a home's path spells
    database.execute(f"create or replace temp view {name} as select {names} from {_read_parquet(files)}")
    return columns


def _columns(delta: "DeltaTable") -> list[str]:
    return [field.name for field in delta.schema().fields]


def _read_parquet(files: Iterable[str]) -> str:
    paths = ", ".join("'" + literal_path(file).replace("'", "''") + "'" for file in files)
    return f"read_parquet([{paths}], hive_partitioning = true)"


def literal_path(path: str) -> str:
    """A path by which DuckDB finds just this file: it takes ``[``, ``*`` and ``?`` for patterns.

    >>> literal_path("/a [1]/b*.parquet")
    '/a [[]1]/b[*].parquet'
    """
    return re.sub(r"([\[*?])", r"[\1]", path)


def quoted(column: str) -> str:
    """A column's name as a quoted identifier of SQL."""
    return '"' + column.replace('"', '""') + '"'


def digest(settings: Settings, ref: TableRef, earlier: Output | None = None) -> tuple[int, str]:
    """Row count and logical digest of a table version: equal rows give equal digests in any order and files.

    The digest is the sum of the rows' 64-bit hashes, so it is found in one pass without a sort, and from that of an
    ``earlier`` version by the files that were added and taken out since. It detects change and corruption, not an
    adversary. The hash is DuckDB's, of the release that the lock of a call names.

    Raises:
        StorageError: the table is gone or damaged.
    """
    delta = lake.open_version(settings, ref)
    columns = ", ".join(map(quoted, sorted(_columns(delta))))
    with _damaged_table(ref), session() as database:

        def hashed(rows: str) -> tuple[int, int]:
            sql = f"select count(*), coalesce(sum(hash({columns})), 0) from {rows}"
            n, total = database.execute(sql).fetchall()[0]
            return int(n), int(total)

        before = None if earlier is None else lake.open_version(settings, earlier.ref)
        if earlier is not None and before is not None and _is_comparable(settings, delta, before, earlier):
            files, others = (set(lake.paths(version)) for version in (delta, before))
            (more, plus), (less, minus) = (
                hashed(_read_parquet(sorted(changed))) if changed else (0, 0)
                for changed in (files - others, others - files)
            )
            return earlier.rows + more - less, f"{int(earlier.digest, 16) + plus - minus:032x}"
        view(database, settings, ref, "digested")
        rows, total = hashed("digested")
    return rows, f"{total:032x}"


def _is_comparable(settings: Settings, delta: "DeltaTable", before: "DeltaTable", earlier: Output) -> bool:
    """Whether an earlier version, on a local disk, has the rows that its digest was found for, in the columns of this
    one: an erasure takes rows out of every version."""
    if settings.lake_folder is None or _columns(before) != _columns(delta):
        return False
    counts = before.get_add_actions(flatten=True).column("num_records").to_pylist()
    return None not in counts and sum(counts) == earlier.rows
