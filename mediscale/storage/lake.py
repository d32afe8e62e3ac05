"""The lake without a JVM: the same Delta tables through deltalake and Arrow, for serving, monitoring and kernels."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import takewhile
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from mediscale.core.errors import NotFoundError, StorageError
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.storage import object_store, snapshots

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable
    from pyarrow import dataset as ds
    from pyarrow import fs


def open_table(settings: Settings, dataset: str, table: str) -> "DeltaTable":
    """A table as it is now, to commit to: the handle is of the caller alone.

    Raises:
        NotFoundError: there is no such table.
        StorageError: its Delta log is damaged or incomplete.
    """
    from deltalake import DeltaTable

    with _sentences(settings, dataset, table):
        return DeltaTable(settings.table_uri(dataset, table))


def _snapshot(settings: Settings, dataset: str, table: str, version: int | None = None) -> "DeltaTable":
    """A table as it is now, or at a version of the table that is there now, to read.

    Raises:
        NotFoundError, StorageError: as ``open_table``.
    """
    from deltalake import DeltaTable

    uri, folder = settings.table_uri(dataset, table), settings.lake_folder
    with _sentences(settings, dataset, table, version):
        if folder is None:
            return DeltaTable(uri, version=version)
        return snapshots.snapshot(uri, folder / dataset / table, version)


@contextmanager
def _sentences(settings: Settings, dataset: str, table: str, version: int | None = None) -> Iterator[None]:
    """Says in one sentence that a table can't be opened."""
    from deltalake.exceptions import DeltaError, TableNotFoundError

    object_store.check(settings.lake)
    try:
        yield
    except TableNotFoundError:
        raise NotFoundError(
            f"The lake has no table {dataset}/{table}; run the stage that writes it first."
        ) from None
    except DeltaError as error:
        at = "" if version is None else f" at version {version}"
        raise StorageError(
            f"The table {dataset}/{table}{at} can't be opened: its Delta log is damaged or incomplete; restore "
            "the table from a backup."
        ) from error


def newest(settings: Settings, dataset: str, table: str) -> "DeltaTable | None":
    """``open_table``; None where there is none."""
    try:
        return open_table(settings, dataset, table)
    except NotFoundError:
        return None


def _newest_snapshot(settings: Settings, dataset: str, table: str) -> "DeltaTable | None":
    try:
        return _snapshot(settings, dataset, table)
    except NotFoundError:
        return None


def exists(settings: Settings, dataset: str, table: str) -> bool:
    """Whether the lake has a Delta table of that name.

    Raises:
        StorageError: the object store can't be reached or refuses who asks.
    """
    from deltalake import DeltaTable

    object_store.check(settings.lake)
    return DeltaTable.is_deltatable(settings.table_uri(dataset, table))


def filesystem(uri: str) -> "tuple[fs.FileSystem, str]":
    """Arrow's file system for a path or URI, and the path in it.

    Raises:
        StorageError: the URI's store can't be reached, has no such bucket, or refuses who asks.
    """
    from pyarrow import fs

    object_store.check(uri)
    return object_store.filesystem(uri) if "://" in uri else (fs.LocalFileSystem(), uri)


def datasets(settings: Settings) -> list[str]:
    """Names of the datasets that have a folder in the lake."""
    from pyarrow import fs

    files, root = filesystem(settings.lake)
    infos = files.get_file_info(fs.FileSelector(root, allow_not_found=True))
    folders = (info.base_name for info in infos if not info.is_file)
    return sorted(name for name in folders if not name.startswith("_"))


def tables(settings: Settings, dataset: str) -> list[str]:
    """Names of the tables of a dataset."""
    from pyarrow import fs

    files, folder = filesystem(f"{settings.lake.rstrip('/')}/{dataset}")
    infos = files.get_file_info(fs.FileSelector(folder, allow_not_found=True))
    folders = sorted(info.base_name for info in infos if not info.is_file)
    return [name for name in folders if exists(settings, dataset, name)]


def delete_tables(settings: Settings, dataset: str) -> None:
    """Deletes the tables of a dataset, of which the home still remembers that they were there."""
    files, folder = filesystem(f"{settings.lake.rstrip('/')}/{dataset}")
    with suppress(FileNotFoundError):
        files.delete_dir(folder)


def write_whole(uri: str, content: bytes) -> None:
    """Writes a file under a temporary name and moves it into place, so that a reader never sees half of it."""
    files, path = filesystem(uri)
    files.create_dir(path.rpartition("/")[0], recursive=True)
    with files.open_output_stream(f"{path}.part") as stream:
        stream.write(content)
    files.move(f"{path}.part", path)


def read_whole(uri: str) -> bytes:
    """The content of a file.

    Raises:
        FileNotFoundError: it is not there.
    """
    files, path = filesystem(uri)
    with files.open_input_stream(path) as stream:
        content: bytes = stream.read()
    return content


def list_files(uri: str) -> "list[fs.FileInfo]":
    """All files in a folder and in the folders in it; none where it is not there."""
    from pyarrow import fs

    files, root = filesystem(uri)
    infos = files.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found=True))
    return [info for info in infos if info.is_file]


def latest(settings: Settings, dataset: str, table: str) -> TableRef:
    """The newest version now. For callers, which resolve it into Params; never inside a stage.

    Raises:
        NotFoundError: there is no such table.
    """
    return ref_of(dataset, table, _snapshot(settings, dataset, table))


def find_latest(settings: Settings, dataset: str, table: str) -> TableRef | None:
    """``latest``; None where there is no such table."""
    delta = _newest_snapshot(settings, dataset, table)
    return None if delta is None else ref_of(dataset, table, delta)


def ref_of(dataset: str, table: str, delta: "DeltaTable") -> TableRef:
    """The reference to a version that is open."""
    return TableRef(dataset=dataset, table=table, table_id=str(delta.metadata().id), version=delta.version())


def at_version(settings: Settings, dataset: str, table: str, version: int) -> TableRef:
    """A version that a record names by its number alone, of the table that is there now.

    Raises:
        NotFoundError: there is no such table.
        StorageError: it has no such version.
    """
    ref = latest(settings, dataset, table).model_copy(update={"version": version})
    check_identity(settings, ref)
    return ref


def versions(settings: Settings, dataset: str, table: str) -> Iterator[TableRef]:
    """All versions of a table, newest first; none where there is no table. Files of old ones may be gone."""
    delta = _newest_snapshot(settings, dataset, table)
    if delta is not None:
        ref = ref_of(dataset, table, delta)
        yield from (ref.model_copy(update={"version": v}) for v in range(ref.version, -1, -1))


def find_commit(settings: Settings, dataset: str, table: str, key: str) -> TableRef | None:
    """The version that a stage call with this key committed, or None."""
    delta = _newest_snapshot(settings, dataset, table)
    if delta is None or delta.transaction_version(key) is None:
        return None
    ref = ref_of(dataset, table, delta)
    stating = (version for version, stated in _statements(settings, ref) if key in stated)
    return next((ref.model_copy(update={"version": version}) for version in stating), None)


def _statements(settings: Settings, ref: TableRef) -> Iterator[tuple[int, str]]:
    """The commits of a table up to a version, the newest first: each one's version and what its writer stated of it."""
    for version, actions in _commits(settings, ref):
        info: dict[str, Any] = next(
            (action["commitInfo"] for action in actions if "commitInfo" in action), {}
        )
        yield version, info.get("userMetadata") or "{}"


def _commits(settings: Settings, ref: TableRef) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """The commits of a table up to a version, the newest first: each one's version and its actions."""
    files, root = filesystem(f"{settings.table_uri(ref.dataset, ref.table)}/_delta_log")
    for version in range(ref.version, -1, -1):
        try:
            with files.open_input_stream(f"{root}/{version:020}.json") as stream:
                yield version, [json.loads(line) for line in stream.read().splitlines()]
        except FileNotFoundError:  # engines may drop commits that a checkpoint covers
            return


def as_of(settings: Settings, dataset: str, table: str, at: datetime) -> TableRef:
    """The newest version that had been committed by a time (UTC without a zone).

    Raises:
        NotFoundError: there was none, or its commit is gone.
    """
    ref, until = latest(settings, dataset, table), at.replace(tzinfo=UTC).timestamp() * 1000
    for version, actions in _commits(settings, ref):
        if any("commitInfo" in each and each["commitInfo"]["timestamp"] <= until for each in actions):
            return ref.model_copy(update={"version": version})
    raise NotFoundError(f"The lake has no commit of {dataset}/{table} of before {at:%Y-%m-%d %H:%M:%S}.")


def before_compactions(settings: Settings, ref: TableRef) -> TableRef:
    """The version with the same rows that only compactions made into this one."""
    compactions = takewhile(lambda commit: _is_compaction(commit[1]), _commits(settings, ref))
    return ref.model_copy(update={"version": ref.version - sum(1 for _ in compactions)})


def _is_compaction(actions: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a commit says of each file that it adds or takes out that no row changes by it."""
    files = [action[kind] for action in actions for kind in ("add", "remove") if kind in action]
    return bool(files) and not any(file["dataChange"] for file in files)


def check_identity(settings: Settings, ref: TableRef) -> None:
    """Refuses a reference to a table that was deleted and made anew since.

    Raises:
        StorageError: the table under this name is another one, or the version is gone.
    """
    open_version(settings, ref)


def open_version(settings: Settings, ref: TableRef) -> "DeltaTable":
    """A table at a version, to read.

    Raises:
        NotFoundError: there is no such table.
        StorageError: the table under this name is another one, or the version is gone.
    """
    try:
        delta = _snapshot(settings, ref.dataset, ref.table, ref.version)
    except StorageError:
        if latest(settings, ref.dataset, ref.table).version >= ref.version:
            raise
        delta = None
    if delta is None or str(delta.metadata().id) != ref.table_id:
        raise StorageError(
            f"{ref} is no longer in the lake (the table was made anew); run the stage that writes it again."
        )
    return delta


def column_names(settings: Settings, ref: TableRef) -> list[str]:
    """The columns of a table version, in order."""
    return [field.name for field in open_version(settings, ref).schema().fields]


def dataset(settings: Settings, ref: TableRef) -> "ds.Dataset":
    """A table version as a lazy Arrow dataset; push filters on the partition column and on subject_id into it."""
    from pyarrow import fs

    files, root = filesystem(settings.table_uri(ref.dataset, ref.table))
    # Arrow's own file system: deltalake's is called back in Python from Arrow's threads, which aborts some processes
    # as they exit.
    return open_version(settings, ref).to_pyarrow_dataset(filesystem=fs.SubTreeFileSystem(root, files))


def read(settings: Settings, ref: TableRef, columns: Sequence[str] | None = None) -> "pa.Table":
    """All rows of a table version, in no promised order."""
    return dataset(settings, ref).to_table(columns=list(columns) if columns else None)


def rows(settings: Settings, ref: TableRef) -> list[dict[str, Any]]:
    """All rows of a small table version as Python values, in no promised order.

    delta-rs reads them. Arrow's datasets import pandas, which alone takes longer than an emergency may.
    """
    import pyarrow as pa
    from deltalake import QueryBuilder

    query = (
        QueryBuilder()
        .register(ref.table, open_version(settings, ref))
        .execute(f'SELECT * FROM "{ref.table}"')
    )
    try:
        result = query.read_all()
    except Exception as error:
        # delta-rs has no class of its own for a file that is not as it was written.
        if type(error) is not Exception:
            raise
        raise StorageError(
            f"A file of {ref} can't be read: it was changed or cut since it was written. Restore it from a backup."
        ) from error
    values: list[dict[str, Any]] = pa.RecordBatchReader.from_stream(result).read_all().to_pylist()
    return values


def rows_added(settings: Settings, ref: TableRef) -> "pa.Table":
    """The rows that the commit of a version added, of a table without partitions."""
    import pyarrow as pa
    from pyarrow import parquet

    before = ref.model_copy(update={"version": ref.version - 1})
    earlier = set(files(settings, before)) if ref.version else set()
    parts = []
    for uri in sorted(set(files(settings, ref)) - earlier):
        store, path = filesystem(uri)
        parts.append(parquet.read_table(path, filesystem=store, partitioning=None))
    return pa.concat_tables(parts)


def newest_first(
    settings: Settings, ref: TableRef, columns: Sequence[str], rows_of: "ds.Expression"
) -> "Iterator[pa.Table]":
    """Some rows of each file of a version, of a table without partitions, the file that was committed last first."""
    from pyarrow import dataset as ds

    added = open_version(settings, ref).get_add_actions(flatten=True)
    when = dict(zip(*(added.column(name).to_pylist() for name in ("path", "modification_time")), strict=True))
    store, root = filesystem(settings.table_uri(ref.dataset, ref.table))
    for path in sorted(when, key=lambda path: when[path], reverse=True):
        rows = ds.dataset(f"{root}/{unquote(path)}", format="parquet", filesystem=store)
        yield rows.to_table(columns=list(columns), filter=rows_of)


def files(settings: Settings, ref: TableRef, partition: tuple[str, str] | None = None) -> list[str]:
    """Paths of a version's Parquet files, of one partition value if given. Partition columns are not in the files."""
    return paths(open_version(settings, ref), partition)


def paths(delta: "DeltaTable", partition: tuple[str, str] | None = None) -> list[str]:
    """``files`` of a version that is open."""
    filters: list[Any] | None = [(partition[0], "=", partition[1])] if partition else None
    return sorted(
        uri if "://" in uri else unquote(uri)  # a home may have a space in its name
        for uri in delta.file_uris(filters)
    )


def historical_paths(settings: Settings, ref: TableRef) -> set[str]:
    """Encoded paths within the table of all files that some version up to this one has had."""
    from pyarrow import fs

    files, root = filesystem(f"{settings.table_uri(ref.dataset, ref.table)}/_delta_log")
    paths: set[str] = set()
    for info in files.get_file_info(fs.FileSelector(root)):
        if info.base_name.endswith(".json"):
            with files.open_input_stream(info.path) as stream:
                actions = (json.loads(line) for line in stream.read().splitlines() if line)
                paths |= {action["add"]["path"] for action in actions if "add" in action}
    return paths


def fact(settings: Settings, ref: TableRef, name: str) -> int:
    """A fact of a whole table as the newest commit up to this version that states it does, such as its shards.

    Raises:
        StorageError: no commit states it.
    """
    check_identity(settings, ref)
    for _, stated in _statements(settings, ref):
        if name in (facts := json.loads(stated)):
            return int(facts[name])
    raise StorageError(f"{ref} does not record its {name}; run the stage that writes it again.")


def sums_of_facts(settings: Settings, since: TableRef, ref: TableRef, names: Sequence[str]) -> dict[str, int]:
    """Facts of single commits, such as the rows that each appended, summed over those from ``since`` to ``ref``."""
    check_identity(settings, ref)
    later = takewhile(lambda commit: commit[0] > since.version, _statements(settings, ref))
    facts = [json.loads(stated) for _, stated in later]
    return {name: sum(int(of_commit.get(name, 0)) for of_commit in facts) for name in names}


def last_sequence(settings: Settings, dataset: str, table: str, application: str) -> int:
    """The newest sequence number that the table holds of an application's transactions; -1 if none."""
    delta = _newest_snapshot(settings, dataset, table)
    number = None if delta is None else delta.transaction_version(application)
    return -1 if number is None else number
