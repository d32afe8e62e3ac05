"""Backup and restore: home, lake, models, and of the folder of trust all but private keys.

A backup is a folder with a list of its files and their digests, which is written last: without it there is no backup.
It holds patient data, also of patients who are erased later. So a restore ends by erasing again whomever the list of
the erased names (``storage.exclusions``), which lies in the folder of trust and so outlives the home; an erasure that
was cut short goes on.
"""

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mediscale.core.errors import NotFoundError, StorageError, UsageError
from mediscale.core.settings import Settings
from mediscale.core.tables import HISTORY, SUBJECTS
from mediscale.governance import erasure
from mediscale.governance.erasure import UPKEEP
from mediscale.storage import accepted_heads, exclusions, history, lake, locks

LIST = "backup.json"
_PASSING = {"spark", "locks", "ray"}
"""Folders of the home that hold nothing when no process runs."""
_PRIVATE = b"PRIVATE KEY"
"""Stands in every private key in PEM."""


@dataclass(frozen=True)
class HistoryEnd:
    """Where a restored history ends."""

    sequence: int
    at: datetime
    accepted: int
    """The newest entry that was accepted here of a lake at this place; 0 where none was."""


@dataclass(frozen=True)
class Restored:
    """What a restore found."""

    files: int
    histories: dict[str, HistoryEnd]
    """By dataset; what was decided after its end is lost."""
    erased: dict[str, int]
    """By dataset, how many patients were erased again."""


def backup(settings: Settings, folder: Path) -> int:
    """Copies everything into a new folder; the number of files.

    Raises:
        UsageError: the folder holds something, or lies in what is copied.
        BusyError: an erasure, a cleaning or a restore is at work.
    """
    _refuse_used(folder, "A backup")
    if folder.resolve().is_relative_to(settings.home):
        raise UsageError(f"{folder} lies in the home that it would copy; choose a folder elsewhere.")
    with locks.exclusive(settings, *UPKEEP):
        digests: dict[str, str] = {}
        for part, source in _parts(settings).items():
            for path in _files(source):
                if digest := _copy(source, path, folder / part / path):
                    digests[f"{part}/{path}"] = digest
    (folder / LIST).write_text(json.dumps(digests, indent=1))
    return len(digests)


def restore(settings: Settings, folder: Path, actor: str, at: datetime) -> Restored:
    """Puts a backup where the settings say, and erases again whoever was erased since.

    Raises:
        NotFoundError: the folder holds no whole backup.
        StorageError: a file of it was changed.
        UsageError: there is a home or a lake already.
    """
    try:
        digests: dict[str, str] = json.loads((folder / LIST).read_text())
    except (OSError, ValueError) as error:
        raise NotFoundError(
            f"{folder} holds no whole backup: its list {LIST} is missing or damaged."
        ) from error
    for part, uri in _parts(settings).items():
        if part != "trust":
            _refuse_used(uri, "What is restored")
    wrong = [name for name, digest in digests.items() if _digest(folder / name) != digest]
    if wrong:
        raise StorageError(
            f"{len(wrong)} of the {len(digests)} files of the backup are gone or were changed; nothing was restored. "
            "Take another backup."
        )
    for name in sorted(digests, key=lambda name: ("/_delta_log/" in name, name)):  # logs of tables last
        part, _, path = name.partition("/")
        _upload(folder / name, f"{_parts(settings)[part]}/{path}", replace=part != "trust")
    histories = dict(_history_ends(settings))
    return Restored(len(digests), histories, _erase_again(settings, actor, at))


def _parts(settings: Settings) -> dict[str, str]:
    """The folders that are copied, by their names in the backup; what lies in the home is copied with it."""
    elsewhere = {
        name: uri
        for name, uri in (("lake", settings.lake), ("artifacts", settings.artifact_root))
        if not Path(uri.removeprefix("file://")).is_relative_to(settings.home)
    }
    return {"home": str(settings.home), **elsewhere, "trust": str(settings.trust)}


def _refuse_used(uri: Path | str, what: str) -> None:
    if lake.list_files(str(uri)):
        raise UsageError(
            f"{what} goes into a new folder, and {uri} holds something; choose another, or move it away."
        )


# --- copying -----------------------------------------------------------------------------------------------------


def _files(uri: str) -> list[str]:
    """Paths within a folder, logs of tables first: what a commit names was written before it."""
    _, root = lake.filesystem(uri)
    paths = (info.path.removeprefix(f"{root.rstrip('/')}/") for info in lake.list_files(uri))
    kept = [
        p for p in paths if p.partition("/")[0] not in _PASSING and not p.endswith((".lock", "-wal", "-shm"))
    ]
    return sorted(kept, key=lambda path: ("/_delta_log/" not in path, path))


def _copy(source: str, path: str, target: Path) -> str:
    """Copies a file; its digest, or nothing where it is not to be copied."""
    filesystem, root = lake.filesystem(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.endswith((".sqlite", ".db")):  # with what its write-ahead log has
        with closing(sqlite3.connect(f"{root}/{path}")) as live, closing(sqlite3.connect(target)) as copy:
            live.backup(copy)
        return _digest(target)
    with filesystem.open_input_stream(f"{root}/{path}") as read, target.open("wb") as write:
        shutil.copyfileobj(read, write)
    if target.stat().st_size < 1 << 20 and _PRIVATE in target.read_bytes():
        target.unlink()
        return ""
    return _digest(target)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""


def _upload(source: Path, uri: str, replace: bool) -> None:
    filesystem, path = lake.filesystem(uri)
    if not replace and filesystem.get_file_info(path).is_file:
        return  # what this machine believes is newer than a backup
    filesystem.create_dir(path.rpartition("/")[0], recursive=True)
    with source.open("rb") as read, filesystem.open_output_stream(path) as write:
        shutil.copyfileobj(read, write)


# --- after a restore ---------------------------------------------------------------------------------------------


def _history_ends(settings: Settings) -> Iterator[tuple[str, HistoryEnd]]:
    """Accepts histories that end before what was accepted here: a person who restores a backup decides that."""
    for dataset in lake.datasets(settings):
        kept = max((head.sequence for head in accepted_heads.accepted(settings, dataset)), default=0)
        if kept and (newest := lake.find_latest(settings, dataset, HISTORY.name)):
            rows = lake.read(settings, newest, ["sequence"])
            if max(rows["sequence"].to_pylist(), default=0) < kept:
                accepted_heads.forget(settings, dataset)
        entries = history.entries(settings, dataset)
        if entries:
            yield dataset, HistoryEnd(entries[-1].sequence, entries[-1].at, kept)


def _erase_again(settings: Settings, actor: str, at: datetime) -> dict[str, int]:
    """Finishes erasures that were cut short, and erases whoever is on the list and in the lake."""
    erased: dict[str, int] = {}
    for journal in erasure.unfinished(settings):
        erasure.erase(settings, journal.dataset, journal.number, journal.reason, actor, at)
        erased[journal.dataset] = erased.get(journal.dataset, 0) + 1
    for dataset in lake.datasets(settings):
        listed, subjects = (
            exclusions.load(settings, dataset),
            lake.find_latest(settings, dataset, SUBJECTS.name),
        )
        if listed is None or subjects is None:
            continue
        numbers = lake.read(settings, subjects, ["source_subject"])
        for number in sorted(listed.among(numbers["source_subject"].to_pylist())):
            reason = "erased again after a backup was restored"
            erasure.erase(settings, dataset, number, reason, actor, at)
            erased[dataset] = erased.get(dataset, 0) + 1
    return erased
