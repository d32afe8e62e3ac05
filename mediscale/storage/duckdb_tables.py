"""Tables of the lake in DuckDB: a version as a view, and the digest of its rows. No JVM is started."""

import re
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.storage import lake
from mediscale.storage.calls import Output

if TYPE_CHECKING:
    import duckdb


def session() -> "duckdb.DuckDBPyConnection":
    """A session of this process's database in memory, to be closed. Its temporary tables, its temporary views and what
    is registered are its own.

    Opening a database takes DuckDB longer than it needs for the rows of a night; a session takes it nothing.
    """
    return _database().cursor()


@cache
def _database() -> "duckdb.DuckDBPyConnection":
    import duckdb

    return duckdb.connect()


def view(database: "duckdb.DuckDBPyConnection", settings: Settings, ref: TableRef, name: str) -> None:
    """Makes a version of a table a view of the database; files on a local disk are read by DuckDB itself."""
    files = lake.files(settings, ref)
    if settings.lake_folder is None or not files:
        database.register(name, lake.dataset(settings, ref))
        return
    names = lake.dataset(settings, ref).schema.names  # not those that a home's path spells
    columns = ", ".join(map(quoted, names))
    database.execute(f"create or replace temp view {name} as select {columns} from {_read_parquet(files)}")


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
    return '"' + column.replace('"', '""') + '"'


def digest(settings: Settings, ref: TableRef, earlier: Output | None = None) -> tuple[int, str]:
    """Row count and logical digest of a table version: equal rows give equal digests in any order and files.

    The digest is the sum of the rows' 64-bit hashes, so it is found in one pass without a sort, and from that of an
    ``earlier`` version by the files that were added and taken out since. It detects change and corruption, not an
    adversary. The hash is DuckDB's, of the release that the lock of a call names.
    """
    columns = ", ".join(map(quoted, sorted(lake.dataset(settings, ref).schema.names)))
    with session() as database:

        def hashed(rows: str) -> tuple[int, int]:
            sql = f"select count(*), coalesce(sum(hash({columns})), 0) from {rows}"
            n, total = database.execute(sql).fetchall()[0]
            return int(n), int(total)

        if earlier is not None and _still_there(settings, ref, earlier):
            files, before = (set(lake.files(settings, version)) for version in (ref, earlier.ref))
            (more, plus), (less, minus) = (
                hashed(_read_parquet(sorted(changed))) if changed else (0, 0)
                for changed in (files - before, before - files)
            )
            return earlier.rows + more - less, f"{int(earlier.digest, 16) + plus - minus:032x}"
        view(database, settings, ref, "digested")
        rows, total = hashed("digested")
    return rows, f"{total:032x}"


def _still_there(settings: Settings, ref: TableRef, earlier: Output) -> bool:
    """Whether an earlier version, on a local disk, has the rows that its digest was found for, in the columns of this
    one: an erasure takes rows out of every version."""
    if settings.lake_folder is None:
        return False
    before = lake.dataset(settings, earlier.ref)
    same_columns = before.schema.names == lake.dataset(settings, ref).schema.names
    return bool(same_columns and before.count_rows() == earlier.rows)
