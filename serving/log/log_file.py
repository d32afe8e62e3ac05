"""The log file: one worker's SQLite file of predictions that are answered and not yet in the lake."""

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from mediscale.core.errors import BusyError, MediscaleError, StorageError

LOCK_SECONDS = 2.0
"""How long a write waits for another process that holds the file."""
FREE_BYTES = 16 * 2**20
"""Nothing is answered when the file's disk has less room: with this much the rows can still be moved away."""

SETTLED_NANOSECONDS = 3 * 10**9
"""A folder that changed longer ago than this has another time after the next change, on any file system."""

PIECE, PAUSE_SECONDS = 250, 0.005
"""Rows or pages of one transaction that gives room back, and the pause after it in which answers are logged."""

Row = Sequence[Any]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS worker (name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS predictions (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    prediction_id TEXT, predicted_at INTEGER, task TEXT, model TEXT, model_version INTEGER,
    subject_id INTEGER, prediction_time INTEGER, events_version INTEGER, risk REAL, note_margin REAL, features BLOB,
    asked_by TEXT, purpose TEXT, question TEXT, answer TEXT, safety TEXT, arm TEXT,
    about TEXT, verdict TEXT, cited TEXT, cited_dataset TEXT
);
"""
COLUMNS = (
    "sequence", "prediction_id", "predicted_at", "task", "model", "model_version",
    "subject_id", "prediction_time", "events_version", "risk", "note_margin", "features", "asked_by", "purpose",
    "question", "answer", "safety", "arm", "about", "verdict", "cited", "cited_dataset",
)  # fmt: skip
_NAMES = ", ".join(COLUMNS)
_INSERT = f"INSERT INTO predictions ({', '.join(COLUMNS[1:])}) VALUES ({', '.join('?' * len(COLUMNS[1:]))})"
_RESTORE = f"INSERT OR IGNORE INTO predictions ({_NAMES}) VALUES ({', '.join('?' * len(COLUMNS))})"
_FIRST_NUMBER = """
INSERT INTO sqlite_sequence SELECT 'predictions', 0 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence)
"""
_ALL = f"SELECT {_NAMES} FROM predictions ORDER BY sequence"
_COLUMNS_PRESENT = "SELECT name FROM pragma_table_info('predictions')"
_LATER_COLUMNS = {
    "note_margin": "REAL",
    **dict.fromkeys(
        (
            "asked_by",
            "purpose",
            "question",
            "answer",
            "safety",
            "arm",
            "about",
            "verdict",
            "cited",
            "cited_dataset",
        ),
        "TEXT",
    ),
}
"""Those that an older release did not have; its predictions keep nothing in them."""
_DELETE = """
DELETE FROM predictions WHERE sequence IN (
    SELECT sequence FROM predictions WHERE sequence <= ? ORDER BY sequence LIMIT ?
)
"""
_ABOUT = "FROM predictions WHERE subject_id = ? AND (cited_dataset = ? OR cited_dataset IS NULL AND ?)"
"""Of a patient: one of the log's own dataset, or the one whose note is quoted."""
_TOUCH = "UPDATE worker SET name = name"
_TRY_ROOM = "INSERT INTO worker VALUES (zeroblob(16384))"
"""More than an answer takes, so that what is found writable does not refuse the next answer."""


class LogFile:
    """The file as its one writer holds it. A file that was removed or replaced under it is noticed and made again."""

    def __init__(self, path: Path, worker: str = "") -> None:
        """Opens the file, or makes it, in the name of ``worker`` or one that no other file has.

        Raises:
            StorageError: the file can't be read or written.
            BusyError: another process holds it.
        """
        self.path, self._parent = path, path.parent
        self._ahead = path.with_name(f"{path.name}-wal")
        self.connection = connect(path, make=True)
        self.worker = worker_name(self.connection, worker)
        self.connection.execute(_TOUCH)  # after a first write there is a write-ahead log
        self._inodes = self._current_inodes()
        self._folder: tuple[int, int, int] | None = None
        """Of the folder, when the file was seen to lie in it."""
        self._rescued: tuple[Sequence[Row], int] | None = None
        """Rows and last number of a file that is gone, until they are in a new one."""

    def count(self) -> int:
        """Predictions in the file."""
        return int(self.connection.execute("SELECT count(*) FROM predictions").fetchone()[0])

    def take_number(self, held_by_lake: int) -> int:
        """The next of the file's numbers, which no prediction gets and no other opening.

        A file restored from a backup must not give those again that Delta has.
        """
        self._raise_numbers(held_by_lake)
        self.connection.execute("UPDATE sqlite_sequence SET seq = seq + 1")
        return self._last_number()

    def commit(self, rows: Sequence[Row]) -> None:
        """Returns when the rows are on disk, in the file that lies at the path. Without rows it only tries to write.

        Raises:
            StorageError: they are not: the disk is full or broken, or the file is gone and can't be made again.
            BusyError: another process holds the file. The same.
        """
        disk = os.statvfs(self._parent)
        if disk.f_bavail * disk.f_frsize < FREE_BYTES:
            raise StorageError(_full(self.path, f"less than {FREE_BYTES // 2**20} MiB are free"))
        with _transaction(self.connection, self.path):
            self.connection.executemany(_INSERT, rows)
            if not rows:
                tried = self.connection.execute(_TRY_ROOM).lastrowid
                self.connection.execute("DELETE FROM worker WHERE rowid = ?", (tried,))

    def is_in_place(self) -> bool:
        """Whether the file that is open lies at the path.

        Of the file itself nothing is asked while its folder is as it was: who asks for the times of a file between two
        syncs makes the second write them, too, and that takes a third longer.
        """
        if self._rescued is not None:
            return False
        folder = _changed(self._parent)
        if folder is not None and folder == self._folder:
            return True
        in_place = self._current_inodes() == self._inodes
        settled = folder is not None and time.time_ns() - folder[2] > SETTLED_NANOSECONDS
        self._folder = folder if in_place and settled else None
        return in_place

    def restore(self) -> int | None:
        """Writes everything into a new file when the one that is open no longer lies at the path.

        Returns how many predictions that were, or None when the file is where it should be.

        Raises:
            MediscaleError: the file is gone and can't be made again; its rows are kept in memory.
        """
        if self.is_in_place():
            return None
        if self._rescued is None:
            self._rescued = self.connection.execute(_ALL).fetchall(), self._last_number()
            self.connection.close()
            self._remove_leftovers()
        return self._make_again()

    def _remove_leftovers(self) -> None:
        """A write-ahead log whose file is gone: SQLite leaves it behind and would play it into the next file."""
        file, ahead = self._current_inodes()
        if file != self._inodes[0] and ahead == self._inodes[1]:
            for suffix in ("-wal", "-shm"):
                self.path.with_name(f"{self.path.name}{suffix}").unlink(missing_ok=True)

    def _make_again(self) -> int:
        assert self._rescued is not None
        rows, last = self._rescued
        self._parent.mkdir(parents=True, exist_ok=True)
        connection = connect(self.path, make=True)
        if worker_name(connection, self.worker) != self.worker:
            connection.close()
            raise StorageError(
                f"The file {self.path} was replaced by another log. Where its disk was unmounted, mount it again; "
                "else move the file to a free number of its folder. Nothing is answered until then."
            )
        self.connection = connection
        with _transaction(connection, self.path):
            connection.executemany(_RESTORE, rows)
            self._raise_numbers(last)
        self._rescued, self._inodes, self._folder = None, self._current_inodes(), None
        return len(rows)

    def _raise_numbers(self, least: int) -> None:
        self.connection.execute(_FIRST_NUMBER)
        self.connection.execute("UPDATE sqlite_sequence SET seq = max(seq, ?)", (least,))

    def _last_number(self) -> int:
        number = self.connection.execute("SELECT seq FROM sqlite_sequence").fetchone()
        return int(number[0]) if number else 0

    def _current_inodes(self) -> tuple[tuple[int, int] | None, ...]:
        """Inodes of the file and of its write-ahead log, which holds the newest rows."""
        return _inode(self.path), _inode(self._ahead)


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _changed(folder: Path) -> tuple[int, int, int] | None:
    """Which folder that is, and when something was last made, renamed or removed in it."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns


@contextmanager
def _transaction(connection: sqlite3.Connection, path: Path) -> Iterator[None]:
    """Commits when the block ends, rolls back when it fails."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise readable(error, path) from error


def connect(path: Path, make: bool = False) -> sqlite3.Connection:
    """Opens a log's file so that a commit is on disk when it returns; ``make`` makes one where there is none.

    Raises:
        StorageError: the file can't be read or written.
        BusyError: another process holds it.
    """
    address = f"file:{quote(str(path))}?mode={'rwc' if make else 'rw'}"
    try:
        connection = sqlite3.connect(
            address, uri=True, timeout=LOCK_SECONDS, isolation_level=None, check_same_thread=False
        )
        # rows that were moved away give their room back
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {FREE_BYTES // 4}")
        connection.executescript(_SCHEMA)
        present = {name for (name,) in connection.execute(_COLUMNS_PRESENT)}
        for name in _LATER_COLUMNS.keys() - present:
            connection.execute(f"ALTER TABLE predictions ADD COLUMN {name} {_LATER_COLUMNS[name]}")
    except sqlite3.Error as error:
        raise readable(error, path) from error
    return connection


def worker_name(connection: sqlite3.Connection, new: str = "") -> str:
    """The name that this file's transactions carry in Delta: as unique as the file, unless one is given."""
    worker_row = connection.execute("SELECT name FROM worker").fetchone()
    if worker_row is None:
        worker_row = (new or uuid4().hex[:16],)
        connection.execute("INSERT INTO worker VALUES (?)", worker_row)
    return str(worker_row[0])


def oldest(path: Path, limit: int) -> tuple[str, list[Row]]:
    """The file's name in Delta and its oldest rows; all where the limit is negative.

    Raises:
        MediscaleError: the file can't be read, or is gone.
    """
    with closing(connect(path)) as connection:
        try:
            rows = connection.execute(f"{_ALL} LIMIT ?", (limit,)).fetchall()
            return worker_name(connection), rows
        except sqlite3.Error as error:
            raise readable(error, path) from error


def delete(path: Path, worker: str, last: int) -> int:
    """Deletes rows up to a number from the file of this name, and gives their room back; how many they were.

    Answers are logged between the pieces of it: in one piece, thousands of rows kept all of them waiting for most of a
    second.

    Raises:
        MediscaleError: the file can't be written, or is gone.
    """
    with closing(connect(path)) as connection:
        try:
            if worker_name(connection) != worker:  # another file took its place meanwhile
                return 0
            deleted = 0
            while piece := connection.execute(_DELETE, (last, PIECE)).rowcount:
                deleted += piece
                time.sleep(PAUSE_SECONDS)
            while connection.execute("PRAGMA freelist_count").fetchone()[0]:
                # execute() frees one page only
                connection.executescript(f"PRAGMA incremental_vacuum({PIECE})")
                time.sleep(PAUSE_SECONDS)
            # The first one works beside writers, and leaves the other little.
            for mode in ("PASSIVE", "TRUNCATE"):
                connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
        except sqlite3.Error as error:
            raise readable(error, path) from error
    return deleted


def count_about(path: Path, dataset: str, subject_id: int, own: bool) -> int:
    """How many predictions about a patient of a dataset are in the file; ``own``: the log is that dataset's.

    Raises:
        MediscaleError: it can't be read, or is gone.
    """
    with closing(connect(path)) as connection:
        try:
            query = f"SELECT count(*) {_ABOUT}"
            return int(connection.execute(query, (subject_id, dataset, own)).fetchone()[0])
        except sqlite3.Error as error:
            raise readable(error, path) from error


def erase(path: Path, dataset: str, subject_id: int, own: bool) -> int:
    """Deletes what ``count_about`` counts, so that no byte of it is left in the file; how many rows that was.

    Raises:
        MediscaleError: the file can't be written, or is gone.
    """
    with closing(connect(path)) as connection:
        try:
            connection.execute("PRAGMA secure_delete = ON")
            erased = connection.execute(f"DELETE {_ABOUT}", (subject_id, dataset, own)).rowcount
            connection.executescript("PRAGMA incremental_vacuum")
            busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            raise readable(error, path) from error
    if busy:
        raise BusyError(f"A server reads the prediction log {path} at this moment; run again.")
    return erased


def readable(error: sqlite3.Error, path: Path) -> MediscaleError:
    """One sentence about what SQLite could not do."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return BusyError(
            "The prediction log is locked by another process, so no prediction can be answered now; try again."
        )
    if code == sqlite3.SQLITE_FULL:
        return StorageError(_full(path, "it takes no more"))
    if code == sqlite3.SQLITE_CANTOPEN and path.exists() and not os.access(path.parent, os.W_OK):
        return StorageError(
            f"The prediction log's file {path} is there and lies where nothing can be written, so no prediction can be "
            "answered, and it can't be read either; to read it, copy the home and let MEDISCALE_HOME name the copy."
        )
    if code == sqlite3.SQLITE_CANTOPEN:
        return StorageError(
            f"The prediction log's file {path} is gone or can't be opened; no prediction can be answered without it."
        )
    name = getattr(error, "sqlite_errorname", "SQLITE_ERROR")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StorageError(
            f"The prediction log's file {path} is damaged ({name}); move it out of its folder, and a new one is begun. "
            "`sqlite3 FILE .recover` may read the answers in it that were not yet in the lake."
        )
    return StorageError(
        f"The prediction log's file {path} can't be read or written ({name}), so no prediction can be answered; look "
        "at its disk."
    )


def _full(path: Path, how: str) -> str:
    return (
        f"The disk of the prediction log {path.parent} is full ({how}), so no prediction can be answered; free "
        "space."
    )
