"""The prediction log: durable on this machine before an answer leaves, then moved to Delta exactly once.

Each worker process has a SQLite file of its own and one writer thread. Requests that wait while the disk syncs are
written together by the next transaction (group commit), so many answers share one sync. A flush appends rows to the
Delta table ``predictions`` under the transaction (worker, last sequence) and deletes them here afterwards; killed in
between, the next flush asks Delta what it holds and goes on from there.
"""

import asyncio
import itertools
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, TextIO
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from mediscale.core.errors import BusyError, MediscaleError, StorageError
from mediscale.core.settings import Settings
from mediscale.core.tables import PREDICTIONS
from mediscale.storage import lake, locks

if TYPE_CHECKING:
    import pyarrow as pa

FLUSH_ROWS = 20_000
"""Rows in one Delta commit."""
LOCK_SECONDS = 2.0
"""How long a write waits for another process that holds the file."""

_EPOCH = datetime(1970, 1, 1)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS worker (name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS predictions (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    prediction_id TEXT, predicted_at INTEGER, task TEXT, model TEXT, model_version INTEGER,
    subject_id INTEGER, prediction_time INTEGER, events_version INTEGER, risk REAL, note_margin REAL, features BLOB
);
"""
_COLUMNS = (
    "sequence", "prediction_id", "predicted_at", "task", "model", "model_version",
    "subject_id", "prediction_time", "events_version", "risk", "note_margin", "features",
)  # fmt: skip
_INSERT = f"INSERT INTO predictions ({', '.join(_COLUMNS[1:])}) VALUES ({', '.join('?' * len(_COLUMNS[1:]))})"
_FIRST_NUMBER = """
INSERT INTO sqlite_sequence SELECT 'predictions', 0 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence)
"""
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM predictions ORDER BY sequence LIMIT ?"
_COLUMNS_HELD = "SELECT name FROM pragma_table_info('predictions')"
_WITH_NOTES = "ALTER TABLE predictions ADD COLUMN note_margin REAL"
"""For a log that was begun before notes were read."""
_DELETE = "DELETE FROM predictions WHERE sequence <= ?"


@dataclass(frozen=True, slots=True)
class Prediction:
    """One model's answer. Times are UTC without a zone; the last three are set for a patient known to the lake.

    Of a note only ``note_margin`` is kept, what the note model made of it; the text never is.
    """

    prediction_id: str
    predicted_at: datetime
    task: str
    model: str
    model_version: int
    risk: float
    features: NDArray[np.float64]
    note_margin: float | None = None
    subject_id: int | None = None
    prediction_time: datetime | None = None
    events_version: int | None = None


class PredictionLog:
    """One worker's log. The first free slot of the home is claimed, so a restarted worker goes on with its own log."""

    def __init__(self, settings: Settings, dataset: str, worker: str = "") -> None:
        """Opens the log and starts its writer. A new log's name is ``worker`` and its slot, or one that no other has.

        Raises:
            StorageError: the folder or file can't be written.
            BusyError: another process holds the file.
        """
        self._settings, self.dataset = settings, dataset
        slot, self._path, self._lock = _claim(settings, dataset)
        self._waiting: SimpleQueue[_Waiting | None] = SimpleQueue()
        self.connection = connect(self._path)  # the writer thread's
        self._flushing = threading.Lock()
        self.worker = _worker(self.connection, worker and f"{worker}-{slot}")
        self._opening, self._ids = self._next_number(), itertools.count(1)
        self._writer = threading.Thread(target=self._write_forever, name="prediction-log", daemon=True)
        self._writer.start()

    def next_id(self) -> str:
        """A name for the next prediction that no other has, whether what had one was logged or not."""
        return f"{self.worker}-{self._opening}-{next(self._ids)}"

    async def append(self, predictions: Sequence[Prediction]) -> None:
        """Returns when the predictions are on disk, and synced.

        Raises:
            StorageError: the disk is full or broken. Nothing was logged, so nothing may be answered.
            BusyError: another process holds the file. The same.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting([_row(p) for p in predictions], loop, loop.create_future())
        self._waiting.put(waiting)
        await waiting.written

    def flush(self) -> int:
        """Moves everything that is in the file now to Delta; the number of predictions moved.

        Raises:
            MediscaleError: the lake could not take them; they stay here, and the next flush takes them.
        """
        with self._flushing, closing(connect(self._path)) as connection:
            return _flush(connection, self._settings, self.dataset, self.worker)

    def backlog(self) -> int:
        """Predictions that are durable here and not yet in Delta.

        Raises:
            StorageError: the file can't be read.
            BusyError: another process holds it.
        """
        with closing(connect(self._path)) as connection:
            try:
                return int(connection.execute("SELECT count(*) FROM predictions").fetchone()[0])
            except sqlite3.Error as error:
                raise _readable(error) from error

    def close(self) -> None:
        """Ends the writer and frees the slot. Does not flush."""
        self._waiting.put(None)
        self._writer.join()
        self._lock.close()

    def _next_number(self) -> int:
        """The next of the log's numbers, which this opening takes for itself: no prediction, no other opening gets it.

        A file restored from a backup must not give those again that Delta has.
        """
        committed = lake.sequence_held(self._settings, self.dataset, PREDICTIONS.name, self.worker)
        self.connection.execute(_FIRST_NUMBER)
        self.connection.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) + 1", (committed,))
        return int(self.connection.execute("SELECT seq FROM sqlite_sequence").fetchone()[0])

    def _write_forever(self) -> None:
        while True:
            batch, open_ = _drain(self._waiting)
            if batch:
                _settle(batch, _commit(self.connection, batch))
            if not open_:
                self.connection.close()
                return


@dataclass(frozen=True, slots=True)
class _Waiting:
    rows: Sequence[tuple[object, ...]]
    loop: asyncio.AbstractEventLoop
    written: "asyncio.Future[None]"


def flush_left_behind(settings: Settings, dataset: str) -> int:
    """Moves to Delta what workers that no longer run left in this home; the number of predictions moved."""
    moved = 0
    for path in sorted(_folder(settings, dataset).glob("*.sqlite")):
        with locks.unless_held(path.with_suffix(".lock")) as free:
            if free:
                with closing(connect(path)) as connection:
                    moved += _flush(connection, settings, dataset, _worker(connection))
    return moved


def _flush(connection: sqlite3.Connection, settings: Settings, dataset: str, worker: str) -> int:
    if connection.execute("SELECT 1 FROM predictions LIMIT 1").fetchone() is None:
        return 0
    connection.execute(_DELETE, (lake.sequence_held(settings, dataset, PREDICTIONS.name, worker),))
    moved = 0
    while rows := connection.execute(_SELECT, (FLUSH_ROWS,)).fetchall():
        last = rows[-1][0]
        lake.append(settings, PREDICTIONS.name, _arrow(worker, rows), dataset, worker, last)
        connection.execute(_DELETE, (last,))
        moved += len(rows)
    return moved


def _arrow(worker: str, rows: Sequence[tuple[object, ...]]) -> "pa.Table":
    import pyarrow as pa

    columns = dict(zip(_COLUMNS, zip(*rows, strict=True), strict=True))
    columns["worker"] = (worker,) * len(rows)
    columns["features"] = tuple(np.frombuffer(blob, dtype="<f8") for blob in columns["features"])
    schema = PREDICTIONS.arrow_schema()
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


def _row(prediction: Prediction) -> tuple[object, ...]:
    return (
        prediction.prediction_id,
        _microseconds(prediction.predicted_at),
        prediction.task,
        prediction.model,
        prediction.model_version,
        prediction.subject_id,
        _microseconds(prediction.prediction_time),
        prediction.events_version,
        prediction.risk,
        prediction.note_margin,
        prediction.features.astype("<f8").tobytes(),
    )


def _microseconds(time: datetime | None) -> int | None:
    return None if time is None else (time - _EPOCH) // timedelta(microseconds=1)


def _drain(queue: "SimpleQueue[_Waiting | None]") -> tuple[list[_Waiting], bool]:
    """Everything that waits, at least one; False when the log is to be closed after it."""
    first = queue.get()
    batch = []
    while first is not None:
        batch.append(first)
        if queue.empty():
            return batch, True
        first = queue.get()
    return batch, False


def _commit(connection: sqlite3.Connection, batch: Sequence[_Waiting]) -> MediscaleError | None:
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(_INSERT, (row for waiting in batch for row in waiting.rows))
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        return _readable(error)
    return None


def _settle(batch: Sequence[_Waiting], failure: MediscaleError | None) -> None:
    for waiting in batch:
        waiting.loop.call_soon_threadsafe(_resolve, waiting.written, failure)


def _resolve(written: "asyncio.Future[None]", failure: MediscaleError | None) -> None:
    if written.done():  # the caller went away
        return
    if failure:
        written.set_exception(failure)
    else:
        written.set_result(None)


def _readable(error: sqlite3.Error) -> MediscaleError:
    if "locked" in str(error) or "busy" in str(error):
        return BusyError(
            "The prediction log is locked by another process, so no prediction can be answered now; try again."
        )
    return StorageError(
        "The prediction log can't be written (is the disk full?), so no prediction can be answered; free space."
    )


def _folder(settings: Settings, dataset: str) -> Path:
    return settings.home / "serving" / dataset


def _claim(settings: Settings, dataset: str) -> tuple[int, Path, TextIO]:
    """The first slot that no living process holds, its file and its lock."""
    folder = _folder(settings, dataset)
    try:
        slot, lock = locks.claim(folder)
    except OSError as error:
        raise StorageError(f"The prediction log in {folder} can't be written: {error.strerror}.") from error
    return slot, folder / f"{slot}.sqlite", lock


def connect(path: Path) -> sqlite3.Connection:
    """Opens a log's file, with its tables, so that a commit is on disk when it returns.

    Raises:
        StorageError: the file can't be read or written.
        BusyError: another process holds it.
    """
    try:
        connection = sqlite3.connect(
            path, timeout=LOCK_SECONDS, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(_SCHEMA)
        if ("note_margin",) not in connection.execute(_COLUMNS_HELD).fetchall():
            connection.execute(_WITH_NOTES)
    except sqlite3.Error as error:
        raise _readable(error) from error
    return connection


def _worker(connection: sqlite3.Connection, new: str = "") -> str:
    """The name that this file's transactions carry in Delta: as unique as the file, unless one is given."""
    worker_row = connection.execute("SELECT name FROM worker").fetchone()
    if worker_row is None:
        worker_row = (new or uuid4().hex[:16],)
        connection.execute("INSERT INTO worker VALUES (?)", worker_row)
    return str(worker_row[0])
