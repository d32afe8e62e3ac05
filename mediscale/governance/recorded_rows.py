"""Recorded rows: the rows that a table of the lake has now, beside those that the call which wrote it recorded.

A record holds the number of rows and their logical digest. That finds rows that were changed, lost or damaged; that the
records are those of the signed history is for ``record_list`` to say.
"""

from collections.abc import Iterable, Iterator

from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.storage import calls, duckdb_tables, history, lake
from mediscale.storage.calls import Call, Output
from mediscale.storage.history_entries import Erasure


def comparable_tables(
    settings: Settings, dataset: str, writers: Iterable[Call]
) -> Iterator[tuple[Call, Output]]:
    """The tables that calls wrote and whose rows can be compared with their records, each once.

    An erasure takes a patient's rows out of every version of a table, so that there is nothing to compare with what was
    written before it; and a digest is of the DuckDB that the call's lock names.
    """
    entries = history.entries(settings, dataset)
    erased = max((entry.at for entry, _ in history.bodies(entries, Erasure)), default=None)
    written = {
        (output.ref.table_id, output.ref.version): (writer, output)
        for writer in writers
        if writer.lock == calls.lock()
        and (erased is None or erased <= writer.started_at.replace(tzinfo=None))
        for output in writer.outputs
    }
    yield from written.values()


def match_record(settings: Settings, output: Output) -> bool:
    """Reads the whole table at the version that was written.

    Raises:
        MediscaleError: it is gone, or can't be read.
    """
    same = duckdb_tables.digest(settings, output.ref) == (output.rows, output.digest)
    return same and _arrow_reads_columns(settings, output.ref)


def _arrow_reads_columns(settings: Settings, ref: TableRef) -> bool:
    """Whether Arrow finds the columns of a table in its files: where one letter has another case, it reads nothing,
    and DuckDB, which found the digest, reads the column."""
    from pyarrow import ArrowException

    names = set(lake.column_names(settings, ref))
    try:
        return all(
            names.issuperset(file.physical_schema.names)
            for file in lake.dataset(settings, ref).get_fragments()
        )
    except (OSError, ArrowException, UnicodeDecodeError):  # DuckDB passes over more than Arrow does
        return False
