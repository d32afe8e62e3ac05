"""Snapshots: versions of Delta tables on a local disk that this process has open, each opened once.

A version is opened anew where anything of the log that it is read from is another file than it was: an erasure has
rewritten it, an engine has laid a checkpoint, or the table was made anew. Whoever commits takes a handle of its own,
which its commit moves on (``lake.open_table``).
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from deltalake import DeltaTable

_OF_VERSION = re.compile(r"(\d{20})\.(json|checkpoint\..*)")
"""Files of a log that make a version: its commit, or a checkpoint of it."""
_CHECKPOINT = ".checkpoint.parquet"
"""End of the name of a checkpoint that is one file, and so whole once it is there."""
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
    log = _log_files(folder / "_delta_log", version)
    if not log:
        return _opened.__wrapped__(uri, version, ())
    return _opened(uri, log[-1].version if version is None else version, log)


@lru_cache(_MOST)
def _opened(uri: str, version: int | None, log: tuple[LogFile, ...]) -> "DeltaTable":  # noqa: ARG001 - of the key
    from deltalake import DeltaTable

    return DeltaTable(uri, version=version)


def _log_files(log: Path, version: int | None) -> tuple[LogFile, ...]:
    """What a version is read from: the newest checkpoint up to it, and the commits since.

    A log that is written every half minute has tens of thousands of files; only these are looked at.
    """
    try:
        with os.scandir(log) as entries:
            names = [entry.name for entry in entries]
    except (FileNotFoundError, NotADirectoryError):
        return ()
    newest = "9" * 20 if version is None else f"{version:020}"
    names = [name for name in names if name[:20] <= newest]
    checkpoint = max((name for name in names if name.endswith(_CHECKPOINT)), default="")
    since = sorted(name for name in names if name >= checkpoint)
    return tuple(_stated(log, [match for name in since if (match := _OF_VERSION.fullmatch(name))]))


def _stated(log: Path, names: Iterable[re.Match[str]]) -> Iterator[LogFile]:
    for name in names:
        with suppress(FileNotFoundError):  # engines drop commits that a newer checkpoint covers
            stat = (log / name[0]).stat()
            yield LogFile(int(name[1]), name[0], stat.st_ino, stat.st_mtime_ns, stat.st_size)
