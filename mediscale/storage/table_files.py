"""Whole Delta tables without a JVM: Parquet files are written first, by any number of workers, and committed once.

Until the commit nobody sees the files, so that a stage may look at all of its rows before any of them counts.
"""

import json
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import declaration_of
from mediscale.storage import commits, lake, locks

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import CommitProperties, DeltaTable
    from pyarrow import parquet

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
    settings: Settings, dataset: str, table: str, batches: "Iterable[pa.RecordBatch]", schema: "pa.Schema"
) -> TableFile:
    """Writes rows to a file of the table, in their order; the file is deleted again where ``batches`` raises."""
    writer = _FileWriter(settings, dataset, table, schema, {}, ROW_GROUP)
    try:
        for batch in batches:
            writer.write(batch)
        return writer.close()
    except BaseException:
        writer.discard()
        raise


def write_partitions(
    settings: Settings,
    dataset: str,
    table: str,
    batches: "Iterable[tuple[int, pa.RecordBatch]]",
    schema: "pa.Schema",
    column: str,
) -> list[TableFile]:
    """Writes rows to a file of each value of ``column`` that comes with them, in their order; ``column`` is in the
    file's path and not in ``schema``. The files are deleted again where ``batches`` raises. Their groups are small, for
    such a table is also read by patient."""
    writers: dict[int, _FileWriter] = {}
    try:
        for value, batch in batches:
            if value not in writers:
                partition = {column: value}
                writers[value] = _FileWriter(settings, dataset, table, schema, partition, commits.ROW_GROUP)
            writers[value].write(batch)
        return [writers[value].close() for value in sorted(writers)]
    except BaseException:
        for writer in writers.values():
            writer.discard()
        raise


class _FileWriter:
    """A Parquet file of a table, to which rows are written in groups; no more than a group is in memory."""

    def __init__(
        self,
        settings: Settings,
        dataset: str,
        table: str,
        schema: "pa.Schema",
        partition: Mapping[str, int],
        row_group: int,
    ) -> None:
        folder = "".join(f"{column}={value}/" for column, value in partition.items())
        self._place = (settings, dataset, table)
        self._path = f"{folder}part-{uuid.uuid4()}.snappy.parquet"
        self._partition, self._schema, self._row_group = partition, schema, row_group
        self._files, self._root = lake.filesystem(settings.table_uri(dataset, table))
        self._waiting: list[pa.RecordBatch] = []
        self._writer: parquet.ParquetWriter | None = None
        self._rows = 0
        if settings.lake_folder is not None:  # an object store has no folders
            self._files.create_dir(f"{self._root}/{folder}".rstrip("/"), recursive=True)

    def write(self, batch: "pa.RecordBatch") -> None:
        self._waiting.append(batch)
        if sum(one.num_rows for one in self._waiting) >= self._row_group:
            self._write_group()

    def close(self) -> TableFile:
        if self._writer is None or sum(one.num_rows for one in self._waiting):
            self._write_group()
        assert self._writer is not None
        self._writer.close()
        size = self._files.get_file_info(f"{self._root}/{self._path}").size
        return TableFile(self._path, size, self._rows, self._partition)

    def discard(self) -> None:
        if self._writer is not None:
            self._writer.close()
        discard(*self._place, [TableFile(self._path, 0, 0)])

    def _write_group(self) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        group = pa.Table.from_batches(self._waiting) if self._waiting else self._schema.empty_table()
        if _decoded(group.schema) != self._schema:
            raise TypeError(f"rows of {self._place[2]} have the columns {group.schema}")
        group = group.unify_dictionaries()
        self._waiting = []
        if self._writer is None:
            self._writer = parquet.ParquetWriter(
                f"{self._root}/{self._path}",
                group.schema,
                filesystem=self._files,
                compression="snappy",
                store_schema=False,
                use_dictionary=_recurring(group),
                write_statistics=_ordered(group),
            )
        if len(group):
            groups = len(group) // self._row_group or 1
            self._writer.write_table(group, row_group_size=-(-len(group) // groups))
            self._rows += len(group)


def _decoded(schema: "pa.Schema") -> "pa.Schema":
    """The schema with plain texts in place of dictionary-encoded ones, as the file has it."""
    import pyarrow as pa

    return pa.schema(
        [f.with_type(f.type.value_type) if pa.types.is_dictionary(f.type) else f for f in schema]
    )


def _recurring(rows: "pa.Table") -> list[str]:
    """The columns whose first values recur: a dictionary of others costs a Parquet writer more than all else and makes
    the file larger."""
    import pyarrow as pa

    sample = rows.slice(0, _SAMPLED)
    lists = [name for name in sample.column_names if pa.types.is_list(sample[name].type)]
    return [
        *(f"{name}.list.element" for name in lists),
        *(
            name
            for name in sample.column_names
            if name not in lists and 2 * len(sample[name].unique()) <= len(sample)
        ),
    ]


_SAMPLED = 1 << 12


def _ordered(rows: "pa.Table") -> list[str]:
    """The columns whose first values come in order: of no other does the range of a group exclude it from a search, and
    to find the first and the last text of each column takes a quarter of the time of writing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    plain = _decoded(rows.schema)
    names = [f.name for f in plain if pa.types.is_primitive(f.type) or pa.types.is_string(f.type)]
    sample = rows.slice(0, _SAMPLED).cast(plain).combine_chunks()
    return [
        name
        for name in names
        if pc.all(pc.less_equal(sample[name][:-1], sample[name][1:])).as_py() is not False
    ]


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
            raise commits.write_conflict(dataset, table)
        try:
            _commit(
                settings, dataset, table, delta, files, schema, properties, None if onto is None else removed
            )
        except CommitFailedError as error:
            discard(settings, dataset, table, files)
            raise commits.write_conflict(dataset, table) from error
    return _written(settings, dataset, table, key)


def _written(settings: Settings, dataset: str, table: str, key: str) -> TableRef:
    written = lake.find_commit(settings, dataset, table, key)
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

    declaration, now = declaration_of(table), int(time.time() * 1000)
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
    done = lake.find_commit(settings, dataset, table, key)
    if done is not None:
        return done
    schema = declaration_of(table).arrow_schema()
    file = write_file(settings, dataset, table, batches, schema)
    return commit(settings, dataset, table, key, [file], schema, facts, onto)
