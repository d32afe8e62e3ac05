"""Commits: rows that are appended to a Delta table, or replace some of it, in one transaction, without a JVM."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from mediscale.core.errors import BusyError
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import declaration_of
from mediscale.storage import lake, locks

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable, WriterProperties

_FOREVER = "interval 36500 days"
RETENTION: Mapping[str, str] = {"logRetentionDuration": _FOREVER, "deletedFileRetentionDuration": _FOREVER}
"""Delta drops old log entries after 30 days by default; a registered model's inputs must stay readable."""

ROW_GROUP = 1 << 14
"""Rows of a file that are decoded together: in the order of the patients, one patient's lie in few groups."""


def write_conflict(dataset: str, table: str) -> BusyError:
    """The error of the second of two writers, whose commit is refused."""
    return BusyError(
        f"Another process wrote {dataset}/{table} at the same moment; nothing was written here, try again."
    )


def table_configuration() -> dict[str, str | None]:
    """Properties of every table that deltalake makes here."""
    return {f"delta.{name}": interval for name, interval in RETENTION.items()}


def _created(
    settings: Settings,
    dataset: str,
    table: str,
    schema: "pa.Schema",
    partition_by: Sequence[str] = (),
    configuration: dict[str, str | None] | None = None,
) -> "DeltaTable":
    """The table, made without rows when it is new, so that two first writers meet in the same table."""
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    delta = lake.newest(settings, dataset, table)
    if delta is not None:
        return delta
    with suppress(DeltaError):  # somebody made it at this moment
        DeltaTable.create(
            settings.table_uri(dataset, table),
            schema,
            mode="ignore",
            partition_by=list(partition_by),
            configuration=configuration,
        )
    return lake.open_table(settings, dataset, table)


def append(
    settings: Settings,
    table: str,
    rows: "pa.Table",
    dataset: str,
    application: str,
    sequence: int,
    same_as: TableRef | None = None,
) -> TableRef | None:
    """Appends rows in one commit that carries the transaction ``(application, sequence)``; makes a new table.

    Given ``same_as``, the rows go into that very table, and none is made.

    Returns None, and writes nothing, when the table already holds this sequence number or a later one of the
    application: that is how a retried flush and a lost race look.

    Raises:
        BusyError: another writer committed the same application transaction at the same moment.
        StorageError: the table is not ``same_as``.
        NotFoundError: it is gone.
    """
    with locks.commit_lease(settings, dataset, table):
        if same_as is None:
            delta = _created(settings, dataset, table, rows.schema)
        else:
            lake.check_identity(settings, same_as)
            delta = lake.open_table(settings, dataset, table)
        return _append(settings, delta, rows, (dataset, table), application, sequence)


def _append(
    settings: Settings,
    delta: "DeltaTable",
    rows: "pa.Table",
    name: tuple[str, str],
    application: str,
    sequence: int,
) -> TableRef | None:
    from deltalake import CommitProperties, Transaction, write_deltalake
    from deltalake.exceptions import CommitFailedError

    newest = delta.transaction_version(application)
    if newest is not None and newest >= sequence:
        return None
    metadata = json.dumps({"key": application, "sequence": sequence})
    try:
        # through the handle that was looked at: by its address it would be opened again, at a version that may hold
        # somebody's commit of the same number, and Delta would see no conflict
        write_deltalake(
            delta,
            rows,
            mode="append",
            schema_mode="merge",  # a table that was begun by an earlier release gets its new columns
            commit_properties=CommitProperties(
                custom_metadata={"userMetadata": metadata},
                app_transactions=[Transaction(application, sequence)],
            ),
        )
    except CommitFailedError as error:
        raise write_conflict(*name) from error
    return lake.latest(settings, *name)


def compact(settings: Settings, dataset: str, table: str, by: str) -> int:
    """Writes the rows of several files, or of one as it landed, as few large files in the order of a column if there is
    one, in one commit; how many files that spares."""
    with locks.commit_lease(settings, dataset, table):
        delta = lake.open_table(settings, dataset, table)
        files = lake.paths(delta)
        if not files or (len(files) == 1 and _has_small_groups(files[0])):
            return 0
        properties = _writer_properties()
        if by in (field.name for field in delta.schema().fields):
            metrics = delta.optimize.z_order([by], writer_properties=properties)
        else:
            metrics = delta.optimize.compact(writer_properties=properties)
    return int(metrics["numFilesRemoved"]) - int(metrics["numFilesAdded"])


def _writer_properties() -> "WriterProperties":
    from deltalake import WriterProperties

    return WriterProperties(compression="SNAPPY", max_row_group_size=ROW_GROUP)


def _has_small_groups(uri: str) -> bool:
    """Whether no rows of a file are to be divided: it was compacted, or is a small one."""
    from pyarrow import parquet

    filesystem, path = lake.filesystem(uri)
    with filesystem.open_input_file(path) as opened:
        written = parquet.read_metadata(opened)
    return all(written.row_group(n).num_rows <= ROW_GROUP for n in range(written.num_row_groups))


def commit(
    settings: Settings,
    table: str,
    rows: "pa.Table",
    dataset: str,
    transactions: Mapping[str, int],
    *,
    made_from: TableRef | None = None,
    replacing: str | None = None,
    facts: Mapping[str, int] | None = None,
) -> TableRef:
    """Appends rows to a declared table in one commit that carries several transactions; makes a new table.

    ``transactions`` are sequence numbers by application, each greater than what the table holds. Given ``made_from``,
    that is still the newest version. Given ``replacing``, a predicate over partition columns, the rows replace those
    for which it holds; an empty one holds for all. ``facts`` of the whole table are kept with the commit.

    Raises:
        BusyError: another writer was first.
    """
    from deltalake import CommitProperties, Transaction, write_deltalake
    from deltalake.exceptions import CommitFailedError

    declaration = declaration_of(table)
    busy = write_conflict(dataset, table)
    with locks.commit_lease(settings, dataset, table):
        delta = _created(
            settings, dataset, table, rows.schema, declaration.partition_by, table_configuration()
        )
        newest = {name: delta.transaction_version(name) for name in transactions}
        if any(n is not None and n >= transactions[name] for name, n in newest.items()):
            raise busy
        if made_from is not None and delta.version() != made_from.version:
            raise busy
        properties = CommitProperties(
            custom_metadata={"userMetadata": json.dumps({**(facts or {}), "transactions": transactions})},
            app_transactions=[Transaction(name, number) for name, number in transactions.items()],
        )
        try:
            if replacing is None:
                write_deltalake(delta, rows, mode="append", schema_mode="merge", commit_properties=properties)
            else:
                write_deltalake(
                    delta,
                    rows,
                    mode="overwrite",
                    predicate=replacing or None,
                    commit_properties=properties,
                    writer_properties=_writer_properties(),
                )
        except CommitFailedError as error:
            raise busy from error
        return lake.latest(settings, dataset, table)
