"""Recorded rows: the rows that a table of the lake has now, beside those that the call which wrote it recorded.

A record holds the number of rows and their logical digest. That finds rows that were changed, lost or damaged; that the
records are those of the signed history is for ``record_list`` to say.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain

from mediscale.core.errors import MediscaleError, StorageError
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.storage import calls, duckdb_tables, history, lake, record_list, registry
from mediscale.storage.calls import Call, Output
from mediscale.storage.history_entries import Entry, Erasure, RowAttestation
from mediscale.storage.lineage import Lineage

_LOCK = "lock"
"""In a list of what an erasure left: the lock under which the digests were found."""


def writers(settings: Settings, dataset: str) -> list[Call]:
    """The calls behind the versions that a dataset's history moved: those whose records were signed, or, of an older
    release's moves, those that the records name.

    Raises:
        StorageError: the history can't be believed.
    """
    moves = registry.history(settings, dataset)
    lineage = Lineage(settings)
    lists = [record_list.read(settings, digest) for digest in {move.records_digest for move in moves} - {""}]
    listed = (calls.find(settings, *name.split("/")) for name in set().union(*lists))
    signed = [call for call in listed if call is not None]
    unsigned = (
        record_list.calls_behind(lineage, move.evidence_digest) for move in moves if not move.records_digest
    )
    return [*chain.from_iterable(unsigned), *signed]  # of two that name one table the signed one counts


def comparable_tables(
    settings: Settings, dataset: str, written_by: Iterable[Call]
) -> Iterator[tuple[Call, Output]]:
    """The tables that calls wrote and whose rows can be compared, each once, with the rows that they should have.

    An erasure takes a patient's rows out of every version of a table. What was written before it is compared with what
    the newest erasure left and signed, and not at all where it signed nothing; a digest is of the DuckDB that the lock
    names.
    """
    entries = history.entries(settings, dataset)
    erased = max((entry.at for entry, _ in history.bodies(entries, Erasure)), default=None)
    left = _left_by_erasure(settings, entries)
    comparable = {}
    for writer in written_by:
        is_later = erased is None or erased <= writer.started_at.replace(tzinfo=None)
        for output in writer.outputs:
            key = _key(output)
            if key in left:
                rows, digest = left[key].split()
                comparable[key] = writer, Output(ref=output.ref, rows=int(rows), digest=digest)
            elif is_later and writer.lock == calls.lock():
                comparable[key] = writer, output
    yield from comparable.values()


def sound_tables(settings: Settings, dataset: str) -> tuple[str, ...]:
    """The tables behind the versions of a dataset's history that have the rows that they should have, to be attested
    once an erasure has taken rows out of them; none where a signed list is gone or changed, which is for ``verify`` to
    say and keeps no patient from being erased."""
    try:
        compared = list(comparable_tables(settings, dataset, writers(settings, dataset)))
    except StorageError:
        return ()
    return tuple(_key(output) for _, output in compared if _is_sound(settings, output))


def attest(settings: Settings, dataset: str, tables: Collection[str]) -> RowAttestation:
    """Reads tables after an erasure, as ``sound_tables`` named them before, and keeps the list of what they hold."""
    outputs = (output for writer in writers(settings, dataset) for output in writer.outputs)
    chosen = {_key(output): output.ref for output in outputs if _key(output) in tables}
    digests = {key: duckdb_tables.digest(settings, ref) for key, ref in sorted(chosen.items())}
    listed = {key: f"{rows} {digest}" for key, (rows, digest) in digests.items()}
    kept = record_list.keep(settings, {_LOCK: calls.lock(), **listed})
    return RowAttestation(tables=len(listed), digest=kept)


def _left_by_erasure(settings: Settings, entries: Sequence[Entry]) -> Mapping[str, str]:
    """Row count and digest of each table that the newest erasure attested."""
    erasures = [entry for entry in entries if entry.kind in (Erasure.kind, RowAttestation.kind)]
    if not erasures or not isinstance(attestation := erasures[-1].content, RowAttestation):
        return {}
    listed = dict(record_list.read(settings, attestation.digest))
    return listed if listed.pop(_LOCK) == calls.lock() else {}


def _key(output: Output) -> str:
    return f"{output.ref.table_id}@{output.ref.version}"


def _is_sound(settings: Settings, output: Output) -> bool:
    try:
        return match_record(settings, output)
    except MediscaleError:  # it is gone or damaged, for ``verify`` to say
        return False


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
