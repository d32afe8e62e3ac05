"""Tables of the lake in DuckDB: a version as a view, and the digest of its rows. No JVM is started."""

import re
from typing import TYPE_CHECKING

from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.storage import lake

if TYPE_CHECKING:
    import duckdb


def view(database: "duckdb.DuckDBPyConnection", settings: Settings, ref: TableRef, name: str) -> None:
    """Makes a version of a table a view of the database; files on a local disk are read by DuckDB itself."""
    files = lake.files(settings, ref)
    if settings.lake_folder is None or not files:
        database.register(name, lake.dataset(settings, ref))
        return
    paths = ", ".join("'" + literal_path(file).replace("'", "''") + "'" for file in files)
    columns = ", ".join(
        map(quoted, lake.dataset(settings, ref).schema.names)
    )  # not those that a home's path spells
    database.execute(
        f"create or replace view {name} as select {columns} from read_parquet([{paths}], hive_partitioning = true)"
    )


def literal_path(path: str) -> str:
    """A path by which DuckDB finds just this file: it takes ``[``, ``*`` and ``?`` for patterns.

    >>> literal_path("/a [1]/b*.parquet")
    '/a [[]1]/b[*].parquet'
    """
    return re.sub(r"([\[*?])", r"[\1]", path)


def quoted(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def digest(settings: Settings, ref: TableRef) -> tuple[int, str]:
    """Row count and logical digest of a table version: equal rows give equal digests in any order and files.

    The digest is the sum of the rows' 64-bit hashes, so it is found in one pass without a sort. It detects change and
    corruption, not an adversary. The hash is DuckDB's, of the release that the lock of a call names.
    """
    import duckdb

    columns = ", ".join(map(quoted, sorted(lake.dataset(settings, ref).schema.names)))
    with duckdb.connect() as database:
        view(database, settings, ref, "digested")
        rows, total = database.execute(
            f"select count(*), coalesce(sum(hash({columns})), 0) from digested"
        ).fetchall()[0]
    return int(rows), f"{int(total):032x}"
