"""Whole Delta tables without a JVM: Parquet files are written first, by any number of workers, and committed once.

Until the commit nobody sees the files, so that a stage may look at all of its rows before any of them counts.
"""

import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import declared
from mediscale.storage import commits, lake, locks

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import CommitProperties, DeltaTable

ROW_GROUP = 1 << 17
"""Rows of a file that are encoded together: no more of a table is in memory."""


@dataclass(frozen=True)
class TableFile:
    """A Parquet file of a table that no commit names yet."""

    path: str
    """Within the table's folder."""
    bytes: int
    rows: int
    partition: Mapping[str, int] = field(default_factory=dict)


def write_file(
    settings: Settings,
    dataset: str,
    table: str,
    batches: "Iterable[pa.RecordBatch]",
    schema: "pa.Schema",
    partition: Mapping[str, int] | None = None,
) -> TableFile:
    """Writes rows to a file of the table, in their order; ``partition`` is in the file's path and not in ``schema``.

    The file is deleted again where ``batches`` raises.
    """
    from pyarrow import parquet

    partition = dict(partition or {})
    folder = "".join(f"{column}={value}/" for column, value in partition.items())
    path = f"{folder}part-{uuid.uuid4()}.snappy.parquet"
    files, root = lake.filesystem(settings.table_uri(dataset, table))
    if settings.lake_folder is not None:  # an object store has no folders
        files.create_dir(f"{root}/{folder}".rstrip("/"), recursive=True)
    rows = 0
    try:
        groups = _row_groups(batches, schema)
        first = next(groups, schema.empty_table())
        with parquet.ParquetWriter(
            f"{root}/{path}",
            schema,
            filesystem=files,
            compression="snappy",
            store_schema=False,
            use_dictionary=_recurring(first),
        ) as writer:
            for group in chain([first] if len(first) else [], groups):
                writer.write_table(group, row_group_size=len(group))
                rows += len(group)
    except BaseException:
        discard(settings, dataset, table, [TableFile(path, 0, 0)])
        raise
    return TableFile(path, files.get_file_info(f"{root}/{path}").size, rows, partition)


def _recurring(rows: "pa.Table") -> list[str]:
    """The columns whose first values recur: a dictionary of others costs a Parquet writer more than all else and makes
    the file larger."""
    import pyarrow as pa
    import pyarrow.compute as pc

    sample = rows.slice(0, _SAMPLED)
    return [
        f"{name}.list.element" if pa.types.is_list(sample[name].type) else name
        for name in sample.column_names
        if pa.types.is_list(sample[name].type) or 2 * pc.count_distinct(sample[name]).as_py() <= len(sample)
    ]


_SAMPLED = 1 << 12


def _row_groups(batches: "Iterable[pa.RecordBatch]", schema: "pa.Schema") -> "Iterator[pa.Table]":
    import pyarrow as pa

    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(one.num_rows for one in waiting) >= ROW_GROUP:
            yield pa.Table.from_batches(waiting, schema)
            waiting = []
    if sum(one.num_rows for one in waiting):
        yield pa.Table.from_batches(waiting, schema)


def discard(settings: Settings, dataset: str, table: str, files: Iterable[TableFile]) -> None:
    """Deletes files that no commit names, and on a disk the folders that were made for them alone."""
    filesystem, root = lake.filesystem(settings.table_uri(dataset, table))
    for file in files:
        with suppress(OSError):
            filesystem.delete_file(f"{root}/{file.path}")
    if settings.lake_folder is not None:
        with suppress(OSError):  # it is not empty, or was never made
            for folder in (Path(root), *Path(root).parents[:2]):
                folder.rmdir()


def commit(
    settings: Settings,
    dataset: str,
    table: str,
    key: str,
    files: Sequence[TableFile],
    schema: "pa.Schema",
    facts: Mapping[str, int] | None = None,
    onto: TableRef | None = None,
    removed: Sequence[str] = (),
) -> TableRef:
    """Replaces a table's rows by those of the files in one commit that carries ``key``, or makes the table.

    Given ``onto``, which has the same columns, the rows are appended to those of that version; of its files, the
    ``removed`` ones are taken out. Of a key that was committed before, the files are discarded. ``facts`` of the whole
    table are kept with the commit (``lake.fact``).

    Raises:
        BusyError: another process wrote the table at the same moment, or ``onto`` is no longer its newest version.
    """
    from deltalake import CommitProperties, Transaction
    from deltalake.exceptions import CommitFailedError

    with locks.commit_lease(settings, dataset, table):
        delta = lake.newest(settings, dataset, table)
        if delta is not None and delta.transaction_version(key) is not None:
            discard(settings, dataset, table, files)
            return _written(settings, dataset, table, key)
        properties = CommitProperties(
            custom_metadata={"userMetadata": json.dumps({**(facts or {}), "key": key})},
            app_transactions=[Transaction(key, 1)],
        )
        if onto is not None and (delta is None or onto != lake.ref_of(dataset, table, delta)):
            discard(settings, dataset, table, files)
            raise commits.another_wrote(dataset, table)
        try:
            _commit(
                settings, dataset, table, delta, files, schema, properties, None if onto is None else removed
            )
        except CommitFailedError as error:
            discard(settings, dataset, table, files)
            raise commits.another_wrote(dataset, table) from error
    return _written(settings, dataset, table, key)


def _written(settings: Settings, dataset: str, table: str, key: str) -> TableRef:
    written = lake.committed(settings, dataset, table, key)
    if written is None:
        raise RuntimeError(f"Delta reported success, but {dataset}/{table} has no commit of key {key}")
    return written


def _commit(
    settings: Settings,
    dataset: str,
    table: str,
    delta: "DeltaTable | None",
    files: Sequence[TableFile],
    schema: "pa.Schema",
    properties: "CommitProperties",
    removed: Sequence[str] | None,
) -> None:
    """Commits files to a table as it was found, or makes it; all others go, or where ``removed`` is given those."""
    from deltalake import Schema
    from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

    declaration, now = declared(table), int(time.time() * 1000)
    added = [
        AddAction(
            path=file.path,
            size=file.bytes,
            partition_values={column: str(value) for column, value in file.partition.items()},
            modification_time=now,
            data_change=True,
            stats=json.dumps({"numRecords": file.rows}),
        )
        for file in files
    ]
    delta_schema, partition_by = Schema.from_arrow(schema), list(declaration.partition_by)
    if delta is not None:
        delta.create_write_transaction(
            [*added, *(RemoveAction(path, True, now) for path in removed or ())],
            "overwrite" if removed is None else "append",
            delta_schema,
            partition_by,
            commit_properties=properties,
        )
        return
    configuration = commits.table_configuration()
    if declaration.open_ended:  # nothing looks for rows by the range of a feature or of a source's text
        configuration["delta.dataSkippingNumIndexedCols"] = "0"
    create_table_with_add_actions(
        settings.table_uri(dataset, table),
        delta_schema,
        added,
        "error",
        partition_by,
        configuration=configuration,
        commit_properties=properties,
    )


def write(
    settings: Settings,
    dataset: str,
    table: str,
    key: str,
    batches: "Iterable[pa.RecordBatch]",
    facts: Mapping[str, int] | None = None,
    onto: TableRef | None = None,
) -> TableRef:
    """Writes rows of a declared table that has no partitions, in one file and one commit; see ``commit``."""
    done = lake.committed(settings, dataset, table, key)
    if done is not None:
        return done
    schema = declared(table).arrow_schema()
    file = write_file(settings, dataset, table, batches, schema)
    return commit(settings, dataset, table, key, [file], schema, facts, onto)
