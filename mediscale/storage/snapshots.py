"""Snapshots: versions of Delta tables on a local disk that this process has open, each opened once.

A version is opened anew where anything in the table's log up to it is another file than it was: an erasure has
rewritten it, an engine has laid a checkpoint, or the table was made anew. Whoever commits takes a handle of its own,
which its commit moves on (``lake.open_table``).
"""

import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from deltalake import DeltaTable

_OF_VERSION = re.compile(r"(\d{20})\.(json|checkpoint\..*)")
"""Files of a log that make a version: its commit, or a checkpoint of it."""
_MOST = 64
"""Versions that stay open; a night reads about thirty tables, most of them in two."""


class LogFile(NamedTuple):
    """A file of a table's log, by what tells it from another of the same name."""

    version: int
    name: str
    inode: int
    modified: int
    size: int


def snapshot(uri: str, folder: Path, version: int | None) -> "DeltaTable":
    """The table of an address and a folder at a version, or as it is now; for reading alone.

    Raises:
        DeltaError: there is no such table or version, or its log is damaged.
    """
    log = sorted(_log_files(folder / "_delta_log"))
    if not log:
        return _opened.__wrapped__(uri, version, ())
    number = log[-1].version if version is None else version
    return _opened(uri, number, tuple(file for file in log if file.version <= number))


@lru_cache(_MOST)
def _opened(uri: str, version: int | None, log: tuple[LogFile, ...]) -> "DeltaTable":  # noqa: ARG001 - of the key
    from deltalake import DeltaTable

    return DeltaTable(uri, version=version)


def _log_files(log: Path) -> Iterator[LogFile]:
    try:
        with os.scandir(log) as entries:
            for entry in entries:
                if matched := _OF_VERSION.fullmatch(entry.name):
                    stat = entry.stat()
                    yield LogFile(int(matched[1]), entry.name, stat.st_ino, stat.st_mtime_ns, stat.st_size)
    except (FileNotFoundError, NotADirectoryError):
        return
