"""Bronze's files: the records of an extract's files, written by many threads and not committed yet."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from data_pipeline.ingest.counted_records import CountedRecords
from data_pipeline.ingest.extract_parts import Part
from data_pipeline.ingest.source import Source
from mediscale.core.settings import Settings
from mediscale.core.tables import BRONZE
from mediscale.storage import table_files, workers
from mediscale.storage.table_files import TableFile

if TYPE_CHECKING:
    import pyarrow as pa

LeaveOut = Callable[[str, "Iterator[pa.RecordBatch]"], "Iterator[pa.RecordBatch]"]
"""Takes the rows of patients who are left out from a table's batches."""


@dataclass(frozen=True)
class UncommittedFile:
    """A file of the extract, written to bronze and not committed yet."""

    part: Part
    file: TableFile
    rows: int
    """Records that were read; those of patients who are left out are not in ``file``."""
    unlisted: Mapping[str, int]


def write(
    settings: Settings,
    source: Source,
    dataset: str,
    tables: Mapping[str, tuple[Part, ...]],
    schemas: "Mapping[str, pa.Schema]",
    leave_out: LeaveOut | None,
) -> dict[str, list[UncommittedFile]]:
    """Reads every file and writes its records, as many files at once as there are cores, the largest first.

    A record may span lines, so one file is read by one worker. Where one raises, or Ctrl-C is pressed, the others stop
    at their next batch, and nothing is left of them.
    """
    parts = sorted(chain.from_iterable(tables.values()), key=lambda part: -part.path.stat().st_size)
    stopped = threading.Event()
    running: list[tuple[str, Future[UncommittedFile]]] = []
    try:
        with ThreadPoolExecutor(workers.cores(settings)) as pool:
            write_part = partial(_write_part, settings, source, dataset, leave_out, stopped)
            try:
                running += [
                    (part.table, pool.submit(write_part, part, schemas[part.table])) for part in parts
                ]
                for one in as_completed(one for _, one in running):
                    one.result()
            finally:
                stopped.set()
                for _, waiting in running:
                    waiting.cancel()
    except BaseException:
        discard(settings, dataset, _files(tables, running))
        raise
    return _files(tables, running)


def _files(
    tables: Iterable[str], ended: "Sequence[tuple[str, Future[UncommittedFile]]]"
) -> dict[str, list[UncommittedFile]]:
    """What was written of each table, in the order in which it was begun."""
    whole = [
        (name, one) for name, one in ended if one.done() and not one.cancelled() and one.exception() is None
    ]
    return {table: [one.result() for name, one in whole if name == table] for table in tables}


def _write_part(
    settings: Settings,
    source: Source,
    dataset: str,
    leave_out: LeaveOut | None,
    stopped: threading.Event,
    part: Part,
    schema: "pa.Schema",
) -> UncommittedFile:
    counted = CountedRecords(source.tables[part.table], part)
    batches = counted.look(_until(stopped, part.landed(schema.names[len(BRONZE.columns) :])))
    if leave_out is not None:
        batches = leave_out(part.table, batches)
    file = table_files.write_file(settings, dataset, f"bronze_{part.table}", batches, schema)
    return UncommittedFile(part, file, counted.rows, counted.unlisted)


def _until(stopped: threading.Event, batches: "Iterator[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
    for batch in batches:
        if stopped.is_set():
            raise CancelledError
        yield batch


def discard(settings: Settings, dataset: str, written: Mapping[str, Iterable[UncommittedFile]]) -> None:
    """Removes files that no commit names, by table."""
    for name, parts in written.items():
        table_files.discard(settings, dataset, f"bronze_{name}", [part.file for part in parts])
