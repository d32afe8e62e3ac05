"""The prediction log: durable on this machine before an answer leaves, then moved to Delta exactly once.

Each worker process has a file of its own (``serving.log.log_file``) and one writer thread. Requests that wait while the
disk syncs are written together by the next transaction (group commit), so many answers share one sync. A flush appends
rows to the Delta table ``predictions`` under the transaction (worker, last sequence), and deletes them here when it has
read that transaction back from the same table; killed in between, the next flush asks Delta what it holds and goes on
from there.
"""

import asyncio
import itertools
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, TextIO

from mediscale.core.errors import MediscaleError, StorageError
from mediscale.core.settings import Settings
from mediscale.core.tables import HISTORY, PREDICTIONS
from mediscale.storage import commits, lake, locks, seen_tables
from mediscale.storage.logged_predictions import ORDER
from serving.log import log_file
from serving.log.log_file import LogFile, Row
from serving.log.logged_answers import Answered, Requester, row_of, table_of

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc

FLUSH_ROWS = 20_000
"""Rows in one Delta commit."""
ALL_ROWS = -1

log = logging.getLogger("mediscale.serving")


class PredictionLog:
    """One worker's log. The first free slot of the home is claimed, so a restarted worker goes on with its own log."""

    def __init__(self, settings: Settings, dataset: str, worker: str = "") -> None:
        """Opens the log and starts its writer. A new log's name is ``worker`` and its slot, or one that no other has.

        Raises:
            StorageError: the folder or file can't be written.
            BusyError: another process holds the file.
        """
        self._settings, self.dataset = settings, dataset
        slot, path, self._lock = _claim(settings, dataset)
        self._waiting: SimpleQueue[_Waiting | None] = SimpleQueue()
        self.file = LogFile(path, worker and f"{worker}-{slot}")  # the writer thread's
        self._opened = threading.Lock()
        """Held while a second connection is open: a file that is restored then would be damaged."""
        self._flushing = threading.Lock()
        self.worker = self.file.worker
        last_sequence = lake.last_sequence(settings, dataset, PREDICTIONS.name, self.worker)
        self._opening, self._ids = self.file.take_number(last_sequence), itertools.count(1)
        self.backlog = self.file.count()
        """Predictions that are durable here and not yet in Delta."""
        self._counting = threading.Lock()
        self._writer = threading.Thread(target=self._write_forever, name="prediction-log", daemon=True)
        self._writer.start()

    def next_id(self) -> str:
        """A name for the next prediction that no other has, whether what had one was logged or not."""
        return f"{self.worker}-{self._opening}-{next(self._ids)}"

    async def append(self, predictions: Sequence[Answered], requester: Requester) -> None:
        """Returns when the predictions are on disk, and synced.

        Raises:
            StorageError: the disk is full or broken. Nothing was logged, so nothing may be answered.
            BusyError: another process holds the file. The same.
        """
        loop = asyncio.get_running_loop()
        written = loop.create_future()
        settle = partial(_resolve_in, loop, written)
        self._waiting.put(_Waiting([row_of(p, requester) for p in predictions], settle))
        await written

    def check(self) -> None:
        """Returns when the log can be written and lies where it should; restores a file that was removed.

        Raises:
            MediscaleError: it can't be written now.
        """
        written: Future[None] = Future()
        self._waiting.put(_Waiting([], partial(_resolve, written)))
        written.result()

    def flush(self) -> int:
        """Moves everything that is in the file now to Delta; the number of predictions moved.

        Raises:
            MediscaleError: the lake could not take them; they stay here, and the next flush takes them.
        """
        with self._flushing:
            return _flush(self._settings, self.dataset, self.file.path, self._opened, self._count)

    def close(self) -> None:
        """Ends the writer and frees the slot. Does not flush."""
        self._waiting.put(None)
        self._writer.join()
        self._lock.close()

    def _count(self, change: int) -> None:
        with self._counting:
            self.backlog += change

    def _write_forever(self) -> None:
        while True:
            batch, open_ = _drain(self._waiting)
            if batch:
                failure = self._commit(batch)
                for waiting in batch:
                    waiting.settle(failure)
            if not open_:
                self._end()
                return

    def _end(self) -> None:
        try:
            self._restore()
        except (MediscaleError, OSError) as error:
            log.error("What was logged on this machine and is not yet in the lake is lost: %s", error)
        self.file.connection.close()

    def _commit(self, batch: "Sequence[_Waiting]") -> Exception | None:
        """Writes the batch; looks afterwards whether the file that has it still lies at its path."""
        rows = [row for waiting in batch for row in waiting.rows]
        try:
            self._restore()
            self.file.commit(rows)
            self._count(len(rows))
            self._restore()
        except OSError as error:
            return StorageError(
                f"The prediction log's file {self.file.path} can't be written ({error.strerror}), so no prediction can "
                "be answered; look at its disk."
            )
        except Exception as error:  # whatever it is: requests wait for this thread, and for ever if it ended
            return error
        return None

    def _restore(self) -> None:
        if self.file.is_in_place():
            return
        with self._opened:
            restored = self.file.restore()
        if restored is not None:
            log.warning(
                "The prediction log's file %s was removed while it was open; it was made again with the %d predictions "
                "that are not yet in the lake.",
                self.file.path,
                restored,
            )


@dataclass(frozen=True, slots=True)
class _Waiting:
    rows: Sequence[Row]
    settle: Callable[[Exception | None], object]
    """Called by the writer's thread when the rows are on disk, or with why they are not."""


def flush_orphaned_logs(settings: Settings, dataset: str) -> int:
    """Moves to Delta what workers that no longer run left in this home; the number of predictions moved.

    Raises:
        MediscaleError: a file can't be read, or the lake could not take its rows; those of the others were moved.
    """
    moved, failures = 0, list[MediscaleError]()
    for path in sorted(_folder(settings, dataset).glob("*.sqlite")):
        with locks.try_lock(path.with_suffix(".lock")) as free:
            try:
                moved += _flush(settings, dataset, path, nullcontext(), lambda _: None) if free else 0
            except MediscaleError as failure:
                failures.append(failure)
    if failures:
        raise failures[0]
    return moved


def count_about(settings: Settings, dataset: str, subject_id: int) -> int:
    """How many answers about a patient are not yet in the lake.

    Raises:
        MediscaleError: a log can't be read.
    """
    return sum(
        log_file.count_about(path, dataset, subject_id, own) for path, own in _every_log(settings, dataset)
    )


def erase(settings: Settings, dataset: str, subject_id: int) -> int:
    """Deletes what is answered about a patient and not yet in the lake, also by servers that run; how many that were.

    Raises:
        MediscaleError: a log can't be written.
    """
    return sum(log_file.erase(path, dataset, subject_id, own) for path, own in _every_log(settings, dataset))


def _every_log(settings: Settings, dataset: str) -> Iterator[tuple[Path, bool]]:
    """The files of all datasets, and whether each is of this one: an answer of a language model's log quotes a patient
    of another."""
    for path in sorted((settings.home / "serving").glob("*/*.sqlite")):
        yield path, path.parent == _folder(settings, dataset)


def unflushed(settings: Settings, dataset: str) -> "Iterator[pa.Table]":
    """The predictions of each log of this home that are not yet in Delta, as rows of its table; nothing is changed.

    Raises:
        MediscaleError: a file can't be read.
    """
    for path in sorted(_folder(settings, dataset).glob("*.sqlite")):
        yield table_of(*log_file.oldest(path, ALL_ROWS))


def rows(
    settings: Settings, dataset: str, columns: Sequence[str], row_filter: "pc.Expression | None" = None
) -> "pa.Table":
    """The rows of a dataset's log that a filter wants, each once: of the files of this home, and of the lake.

    The files are read first: what a server moves to the lake meanwhile is then in both, and not in neither. ``columns``
    may name columns that every release kept; of others, an older log's rows hold null.

    Raises:
        MediscaleError: a file or the lake can't be read.
    """
    import pyarrow as pa

    needed = list(dict.fromkeys([*ORDER, *columns]))
    schema = pa.schema([PREDICTIONS.arrow_schema().field(name) for name in needed])
    here = [part if row_filter is None else part.filter(row_filter) for part in unflushed(settings, dataset)]
    first = pa.concat_tables([schema.empty_table(), *(part.select(needed) for part in here)])
    if not lake.exists(settings, dataset, PREDICTIONS.name):
        return first
    log = lake.dataset(settings, lake.latest(settings, dataset, PREDICTIONS.name))
    there = log.to_table(columns=[name for name in needed if name in log.schema.names], filter=row_filter)
    there = pa.concat_tables([schema.empty_table(), there], promote_options="permissive").cast(schema)
    moved = set(zip(*(first[name].to_pylist() for name in ORDER), strict=True))
    if moved:
        keys = zip(*(there[name].to_pylist() for name in ORDER), strict=True)
        there = there.filter(pa.array([key not in moved for key in keys], pa.bool_()))
    return pa.concat_tables([first, there])


def _flush(
    settings: Settings,
    dataset: str,
    path: Path,
    opened: AbstractContextManager[object],
    count: Callable[[int], None],
) -> int:
    """Ends with the first commit that is not full: on a busy server one row or another is always new, and a flush that
    went on until none was left made hundreds of small commits and never ended."""
    moved = 0
    while True:
        with opened:
            worker, rows = log_file.oldest(path, FLUSH_ROWS)
        if rows:
            appended, last_sequence = _into_lake(settings, dataset, worker, rows)
            moved += appended
            with opened:
                count(-log_file.delete(path, worker, last_sequence))
        if len(rows) < FLUSH_ROWS:
            return moved


def _into_lake(settings: Settings, dataset: str, worker: str, rows: Sequence[Row]) -> tuple[int, int]:
    """Appends the rows that the table does not hold; how many, and the newest number that it holds after that.

    Raises:
        MediscaleError: the lake could not take them, or it is not the lake that it was.
    """
    seen_tables.current(settings, dataset, HISTORY.name)  # the same lake, though it has no prediction yet
    table = seen_tables.current(settings, dataset, PREDICTIONS.name)
    last_sequence = lake.last_sequence(settings, dataset, PREDICTIONS.name, worker)
    new = [row for row in rows if row[0] > last_sequence]
    if new:
        last = int(new[-1][0])
        commits.append(
            settings, PREDICTIONS.name, table_of(worker, new), dataset, worker, last, same_as=table
        )
        seen_tables.current(settings, dataset, PREDICTIONS.name)
        last_sequence = lake.last_sequence(settings, dataset, PREDICTIONS.name, worker)
        if last_sequence < last:
            raise StorageError(
                f"The lake took {len(new)} predictions of {dataset} and does not hold them (was it unmounted?); they "
                "are kept on this machine and tried again."
            )
    return len(new), last_sequence


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


def _resolve_in(
    loop: asyncio.AbstractEventLoop, written: "asyncio.Future[None]", failure: Exception | None
) -> None:
    with suppress(RuntimeError):  # the loop was closed, so that nobody waits
        loop.call_soon_threadsafe(_resolve, written, failure)


def _resolve(written: "asyncio.Future[None] | Future[None]", failure: Exception | None) -> None:
    if written.done():  # the caller went away
        return
    if failure:
        written.set_exception(failure)
    else:
        written.set_result(None)


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
