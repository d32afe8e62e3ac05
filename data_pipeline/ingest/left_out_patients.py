"""Patients who are left out of what is read: their rows, also those that name a key of theirs and no patient."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Protocol

from data_pipeline.ingest import parsing
from data_pipeline.ingest.extract_parts import Part
from data_pipeline.ingest.source import Source

if TYPE_CHECKING:
    import pyarrow as pa


class Patients(Protocol):
    """Some patients, by the hospital's own numbers."""

    def among(self, numbers: Iterable[str]) -> set[str]:
        """The numbers among these that are of patients who are left out."""


def leave_out_rows(
    left_out: Patients, source: Source, tables: Mapping[str, tuple[Part, ...]]
) -> "Callable[[str, Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]":
    """The filter of a table's rows, by the table's name, that leaves out those of some patients."""
    subject, visit = source.subjects.id, source.visits.id
    through = {
        name: table.patient_through
        for name, table in source.tables.items()
        if name in tables and table.patient_through
    }
    keys = {
        name: _keys_of(left_out, source, tables.get(other.table, ()), other.key)
        for name, other in through.items()
    }
    own_visits = _keys_of(left_out, source, tables[source.visits.table], visit, keys.get(source.visits.table))
    by_table = {
        name: (other.key, keys[name]) if (other := through.get(name)) else (visit, own_visits)
        for name in tables
    }
    return partial(_without, source, left_out, subject, by_table)


def _keys_of(
    left_out: Patients, source: Source, parts: Iterable[Part], key: str, owned: frozenset[str] | None = None
) -> frozenset[str]:
    """The keys, such as visits, of patients who are left out: some rows name a key and no patient.

    ``owned`` are their keys of the table through which these rows find their patients, where they do.
    """
    keys: set[str] = set()
    for part in parts:
        through = source.tables[part.table].patient_through
        owner = source.subjects.id if through is None else through.key
        for batch in part.records(list(dict.fromkeys((owner, key)))):
            owners, own = (
                parsing.identifiers(batch.column(name), source.null_words).to_pylist()
                for name in (owner, key)
            )
            listed = {name for name in owners if name is not None}
            erased = left_out.among(listed) if through is None else listed & (owned or frozenset())
            keys |= {k for name, k in zip(owners, own, strict=True) if name in erased and k is not None}
    return frozenset(keys)


def _without(
    source: Source,
    left_out: Patients,
    subject_column: str,
    by_table: Mapping[str, tuple[str, frozenset[str]]],
    name: str,
    batches: "Iterator[pa.RecordBatch]",
) -> "Iterator[pa.RecordBatch]":
    """A table's rows without those of patients who are left out."""
    import pyarrow as pa
    import pyarrow.compute as pc

    key_column, keys = by_table[name]
    for batch in batches:
        keep = pa.array([True] * batch.num_rows)
        nobody = keep
        if subject_column in batch.schema.names:
            subject = parsing.identifiers(batch[subject_column], source.null_words)
            erased = left_out.among(subject.drop_null().unique().to_pylist())
            keep = pc.invert(pc.is_in(subject, value_set=pa.array(sorted(erased), pa.string())))
            nobody = subject.is_null()
        if key_column in batch.schema.names:
            key = parsing.identifiers(batch[key_column], source.null_words)
            theirs = pc.is_in(key, value_set=pa.array(sorted(keys), pa.string()))
            keep = pc.and_(keep, pc.invert(pc.and_(nobody, theirs)))
        yield batch.filter(keep)
