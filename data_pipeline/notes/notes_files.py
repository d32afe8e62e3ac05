"""What is made of each note alone: a file of another table for each file of the notes, by workers."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import pyarrow as pa

from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.table import Table
from mediscale.core.tables import declaration_of
from mediscale.storage import lake, table_files, workers
from mediscale.storage.table_files import TableFile

MakeRows = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]

_BATCH_ROWS = 1000


def write_per_note(
    settings: Settings, notes: TableRef, table: Table, dataset: str, key: str, make: MakeRows, processes: int
) -> TableRef:
    """Writes the rows that ``make`` has of all notes, in one commit that carries ``key``."""
    written = lake.find_commit(settings, dataset, table.name, key)
    if written is not None:
        return written
    files = lake.files(settings, notes)
    write = partial(_write_of_file, settings, dataset, table.name, make)
    files_written = list(workers.map_pieces(settings, write, files, min(processes, len(files))))
    return table_files.commit(settings, dataset, table.name, key, files_written, table.arrow_schema())


def _write_of_file(settings: Settings, dataset: str, table: str, make: MakeRows, uri: str) -> TableFile:
    from pyarrow import parquet

    files, path = lake.filesystem(uri)
    with files.open_input_file(path) as opened:
        rows = make(parquet.ParquetFile(opened).iter_batches(_BATCH_ROWS))
        return table_files.write_file(settings, dataset, table, rows, declaration_of(table).arrow_schema())
