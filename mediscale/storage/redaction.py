"""Redaction: rows that are taken out of every version of a Delta table, so that none of its bytes holds them.

``DELETE`` and ``VACUUM`` would do less and more than that. Less, because the log keeps the least and the largest value
of each column of a file that was deleted, and the condition that deleted it, and so the identifier. More, because all
old versions would go, those that a registered model was trained on too. So a file that holds such rows is written again
without them, and the log's entries of the old file are made to name the new one: the history is rewritten and stays
whole. Every version can be read as before, by every reader of Delta, without these rows.

Killed at any moment, the table is readable in all its versions, and the same call goes on.
"""

import json
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote
from uuid import uuid4

from mediscale.core.errors import StorageError
from mediscale.core.settings import Settings
from mediscale.storage import lake, locks

if TYPE_CHECKING:
    import pyarrow as pa

LOG = "_delta_log"
_COMMIT = re.compile(r"\d{20}\.json")
_DERIVED = re.compile(
    r"\d{20}\.(checkpoint.*|crc|\d{20}\.compacted\.json)|_last_checkpoint|\.\d{20}\..*\.crc"
)
"""What engines derive from commits, to read them faster, and make again: it would name the old files."""


Mask = Callable[[str, "pa.Table"], "pa.BooleanArray"]
"""Whether each row goes, given the file by its path within the table, and its rows."""


@dataclass(frozen=True)
class Rows:
    """Which rows of a table are to go."""

    columns: Callable[[Collection[str]], list[str]]
    """Of a file's columns, those that ``mask`` needs; none: nothing in it is looked at."""
    mask: Mask


@dataclass(frozen=True)
class _Replacement:
    """A file that takes another's place; paths within the table."""

    path: str
    size: int
    rows: int


def redact(settings: Settings, dataset: str, table: str, rows: Rows) -> int:
    """Takes rows out of all versions of a table and out of files that no version has; how many they were.

    Rows that several versions share are counted once for each file that holds them.

    Raises:
        StorageError: the log lacks its first commits, so that its files can't be exchanged; or a file is damaged.
    """
    import pyarrow as pa

    with locks.commit_lease(settings, dataset, table):
        folder = _Folder(settings.table_uri(dataset, table))
        replaced, removed = {}, 0
        for path in folder.data_files():
            try:
                n, replacement = _without(folder, path, rows)
            except pa.ArrowInvalid as error:
                folder.delete_torn(path, f"{dataset}/{table}", error)
                continue
            if n:
                removed += n
                replaced[path] = replacement
        if replaced:
            folder.exchange(replaced, f"{dataset}/{table}")
            for path in replaced:
                folder.delete(path)
    return removed


def count(settings: Settings, dataset: str, table: str, rows: Rows) -> int:
    """How many rows ``redact`` would take out."""
    from pyarrow import parquet

    folder = _Folder(settings.table_uri(dataset, table))
    n = 0
    for path in folder.data_files():
        with folder.open(path) as stream:
            n += _count(parquet.ParquetFile(stream), path, rows)
    return n


def _count(file: Any, path: str, rows: Rows) -> int:
    import pyarrow.compute as pc

    needed = rows.columns(file.schema_arrow.names)
    if not needed:
        return 0
    groups = (file.read_row_group(i, columns=needed) for i in range(file.num_row_groups))
    return sum(int(pc.sum(rows.mask(path, group)).as_py() or 0) for group in groups if group.num_rows)


def _without(folder: "_Folder", path: str, rows: Rows) -> tuple[int, _Replacement]:
    """Writes a file anew without some of its rows, if it holds any; how many, and the file that has the others."""
    import pyarrow.compute as pc
    from pyarrow import parquet

    with folder.open(path) as stream:
        file = parquet.ParquetFile(stream)
        n = _count(file, path, rows)
        if not n:
            return 0, _Replacement(path, 0, 0)
        parent, slash, _ = path.rpartition("/")
        new, left = f"{parent}{slash}part-{uuid4()}.snappy.parquet", 0
        with (
            folder.create(f"{new}.part") as target,
            parquet.ParquetWriter(target, file.schema_arrow) as writer,
        ):
            for i in range(file.num_row_groups):
                group = file.read_row_group(i)
                kept = group.filter(pc.invert(rows.mask(path, group))) if group.num_rows else group
                left += kept.num_rows
                writer.write_table(kept)
    folder.move(f"{new}.part", new)
    return n, _Replacement(new, folder.size(new), left)


class _Folder:
    """A table's folder, on a disk or in an object store."""

    def __init__(self, uri: str) -> None:
        self._uri, (self._files, self._root) = uri, lake.filesystem(uri)

    def data_files(self) -> Iterator[str]:
        """Paths of all Parquet files within the table, those that no version has included."""
        for info in lake.list_files(self._uri):
            path = info.path.removeprefix(f"{self._root}/")
            if path.endswith(".parquet") and not path.startswith(f"{LOG}/"):
                yield path

    def open(self, path: str) -> Any:
        return self._files.open_input_file(f"{self._root}/{path}")

    def create(self, path: str) -> Any:
        return self._files.open_output_stream(f"{self._root}/{path}")

    def size(self, path: str) -> int:
        return int(self._files.get_file_info(f"{self._root}/{path}").size)

    def move(self, path: str, target: str) -> None:
        self._files.move(f"{self._root}/{path}", f"{self._root}/{target}")

    def delete_torn(self, path: str, name: str, error: Exception) -> None:
        """Deletes a file that a killed writer left half, and no version has.

        Raises:
            StorageError: a version has it.
        """
        if any(path == _named(line) for _, text in self._commits() for line in text.splitlines()):
            raise StorageError(f"A file of {name} is damaged; restore the table from a backup.") from error
        self.delete(path)

    def _commits(self) -> Iterator[tuple[str, str]]:
        """File and text of each commit, newest first."""
        commits = (info.path for info in lake.list_files(f"{self._uri}/{LOG}"))
        for path in sorted((p for p in commits if _COMMIT.fullmatch(p.rpartition("/")[2])), reverse=True):
            with self._files.open_input_stream(path) as stream:
                yield path, stream.read().decode()

    def delete(self, path: str) -> None:
        """The file, and the checksum that Hadoop laid beside it."""
        parent, slash, name = path.rpartition("/")
        for each in (path, f"{parent}{slash}.{name}.crc"):
            if self._files.get_file_info(f"{self._root}/{each}").is_file:
                self._files.delete_file(f"{self._root}/{each}")

    def exchange(self, replaced: dict[str, _Replacement], name: str) -> None:
        """Makes the log name the new files, the newest commit first: a commit that removes an old file then removes the
        new one as well before it is added, and no version shows rows twice."""
        commits = list(self._commits())
        numbers = [int(path.rpartition("/")[2][:20]) for path, _ in commits]
        if numbers != list(reversed(range(len(commits)))):
            raise StorageError(
                f"The log of {name} lacks its first commits, so its files can't be exchanged in its old versions; "
                "nothing was changed in it. Delete the dataset, or make the table anew."
            )
        # the hint before the checkpoint that it names
        log = lake.list_files(f"{self._uri}/{LOG}")
        for info in sorted(log, key=lambda info: info.base_name != "_last_checkpoint"):
            if _DERIVED.fullmatch(info.base_name):
                self.delete(info.path.removeprefix(f"{self._root}/"))
        for path, before in commits:
            after = "".join(_exchanged(line, replaced) for line in before.splitlines(keepends=True))
            if after != before:
                commit = path.removeprefix(f"{self._root}/")
                with self.create(f"{commit}.part") as stream:
                    stream.write(after.encode())
                self.move(f"{commit}.part", commit)


def _named(line: str) -> str:
    """The path that an action of the log adds, if it adds one."""
    action = json.loads(line) if line.strip() else {}
    return unquote(action["add"]["path"]) if "add" in action else ""


def _exchanged(line: str, replaced: dict[str, _Replacement]) -> str:
    """An action of the log that names the new file in place of the old one, with no statistics but its rows."""
    action = json.loads(line) if line.strip() else {}
    kind = next((kind for kind in ("add", "remove") if kind in action), None)
    if kind is None or unquote(action[kind]["path"]) not in replaced:
        return line
    old = dict(action[kind])
    new = replaced[unquote(old["path"])]
    encoded_parent, slash, _ = old["path"].rpartition("/")
    changed = {**old, "path": f"{encoded_parent}{slash}{new.path.rpartition('/')[2]}", "size": new.size}
    changed["stats"] = json.dumps({"numRecords": new.rows})
    lines = [{kind: changed}]
    if kind == "remove":
        old.pop("stats", None)
        lines.append({kind: old})
    return "".join(f"{json.dumps(each, separators=(',', ':'))}\n" for each in lines)
