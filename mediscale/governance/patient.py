"""A patient of the lake, by the hospital's own number, and which rows of which table are theirs.

The number is what a hospital's people have; ``subject_id`` is its pseudonym within a dataset. No sentence repeats
either.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from operator import or_
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline.ingest import parsing, stream_record
from data_pipeline.ingest.source import Source
from data_pipeline.ingest.source_tables import PatientThrough
from data_pipeline.ingest.stream_record import DEAD_LETTERS, RECORD
from mediscale.core.errors import NotFoundError
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import BRONZE, EVENTS, FACTS, SUBJECTS
from mediscale.storage import lake

SUBJECT, VISIT = "subject_id", "visit_id"
CITED_DATASET = "cited_dataset"
"""Of the prediction log: whose patient ``SUBJECT`` is, where a language model's answer quotes a note."""
PLACE = ("file", "line")
"""Where a row stands in the extract: all that quarantine says of whose it is."""


@dataclass(frozen=True)
class Patient:
    """A patient of one dataset."""

    dataset: str
    number: str = field(repr=False)
    """The hospital's own identifier, as the lake has it."""
    subject_id: int = field(repr=False)
    """Its pseudonym."""


def normalized(number: str) -> str:
    """The hospital's own number as the lake has it, however it is typed."""
    return str(parsing.identifiers(pa.array([number]))[0].as_py() or "")


def find(settings: Settings, dataset: str, number: str) -> Patient:
    """The patient of a dataset by the hospital's own number: also one whom the newest extract has no longer.

    Raises:
        NotFoundError: the lake has no patients of that dataset, or not this one.
    """
    number = normalized(number)
    if not lake.exists(settings, dataset, SUBJECTS.name):
        raise NotFoundError(f"The lake has no patients of {dataset}; `mediscale runs` lists the datasets.")
    rows = _newest_with(settings, dataset, SUBJECTS.name, [SUBJECT], pc.field("source_subject") == number)
    if rows is None:
        raise NotFoundError(
            f"{dataset} in the lake does not know this patient; check the number, as the hospital writes it."
        )
    return Patient(dataset, number, int(rows[SUBJECT][0].as_py()))


def _newest_with(
    settings: Settings,
    dataset: str,
    table: str,
    columns: Sequence[str],
    row_filter: Any,
    refine: Callable[[pa.Table], pa.Table] = lambda rows: rows,
) -> pa.Table | None:
    """Rows of the newest version of a table that has some; ``row_filter`` may let more pass than ``refine`` keeps."""
    for ref in lake.versions(settings, dataset, table):
        try:
            rows = refine(lake.dataset(settings, ref).to_table(columns=list(columns), filter=row_filter))
        except FileNotFoundError:  # reclaimed
            continue
        if len(rows):
            return rows
    return None


@dataclass(frozen=True)
class Visits:
    """The hospital visits of a patient, and what else is theirs alone: some rows name one and no patient."""

    numbers: tuple[str, ...] = ()
    """As the source has them."""
    visit_ids: tuple[int, ...] = ()
    """Their pseudonyms."""
    keys: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The patient's keys by the source's table that names patients by a key of another one (``patient_through``)."""


@dataclass(frozen=True)
class Holdings:
    """Which rows of a dataset's tables are a patient's."""

    settings: Settings
    patient: Patient
    known_visits: "Visits | None" = None
    """Of an erasure that goes on when the rows that name them are gone."""

    @cached_property
    def source(self) -> Source | None:
        """What the dataset's extract or stream is of."""
        return stream_record.landed_source(self.settings, self.patient.dataset)

    @cached_property
    def visits(self) -> Visits:
        """The patient's, by the newest versions that have some."""
        if self.known_visits is not None:
            return self.known_visits
        source = self.source
        keys: dict[str, tuple[str, ...]] = {}
        numbers: set[str] = set()
        if source is not None:
            keys = {
                name: tuple(sorted(self._values(source, other.table, other.key)))
                for name, table in source.tables.items()
                if (other := table.patient_through) is not None
            }
            numbers = self._values(source, source.visits.table, source.visits.id, keys)
        visit_ids: set[int] = set()
        for table in (FACTS.name, EVENTS.name):
            mine = pc.field(SUBJECT) == self.patient.subject_id
            rows = _newest_with(self.settings, self.patient.dataset, table, [VISIT], mine)
            visit_ids |= set(rows[VISIT].drop_null().unique().to_pylist()) if rows is not None else set()
        return Visits(tuple(sorted(numbers)), tuple(sorted(visit_ids)), keys)

    def _values(
        self, source: Source, table: str, key: str, keys: Mapping[str, Collection[str]] | None = None
    ) -> set[str]:
        """What the patient's rows of a table of bronze have in a column, by the newest version that has some."""
        other = source.tables[table].patient_through
        names, own = (
            (source.subjects.id, {self.patient.number})
            if other is None
            else (other.key, set((keys or {}).get(table, ())))
        )
        likely = reduce(or_, (pc.match_substring(pc.field(names), text) for text in own), pc.scalar(False))
        rows = _newest_with(
            self.settings,
            self.patient.dataset,
            f"{BRONZE.name}_{table}",
            list(dict.fromkeys((names, key))),
            likely,  # 11 is 11.0, and 111 is another
            lambda rows: rows.filter(
                _filled(
                    pc.is_in(
                        self._parse_identifiers(rows[names]), value_set=pa.array(sorted(own), pa.string())
                    )
                )
            ),
        )
        return set() if rows is None else set(self._parse_identifiers(rows[key]).drop_null().to_pylist())

    def columns(self, table: str, names: Collection[str]) -> list[str]:
        """The columns of a table that say whose a row is; none where it holds nobody's rows."""
        if table == DEAD_LETTERS:
            return [RECORD]
        return [name for name in (*self._keys(table), CITED_DATASET) if name in names]

    def _keys(self, table: str) -> tuple[str, ...]:
        """A table's columns of patient and visit: in bronze they have the source's own names."""
        if not table.startswith(f"{BRONZE.name}_"):
            return SUBJECT, VISIT
        if self.source is None:
            return ()
        through = self._through(table)
        return self.source.subjects.id, through.key if through else self.source.visits.id

    def _through(self, table: str) -> PatientThrough | None:
        """How a table of bronze names its patients, where that is by a key of another table."""
        declared = self.source.tables.get(table.removeprefix(f"{BRONZE.name}_")) if self.source else None
        return declared.patient_through if declared else None

    def mask(self, table: str, rows: pa.Table) -> pa.BooleanArray:
        """Whether each row is the patient's; ``rows`` has at least ``columns``."""
        if table == DEAD_LETTERS:
            return self._naming(rows[RECORD])
        subject, visit = self._keys(table)
        landed = table.startswith(f"{BRONZE.name}_")
        mine = pa.array([False] * rows.num_rows)
        nobody = pa.array([subject not in rows.schema.names] * rows.num_rows)
        if subject in rows.schema.names:
            column = self._parse_identifiers(rows[subject]) if landed else rows[subject].combine_chunks()
            mine = _filled(pc.equal(column, self.patient.number if landed else self.patient.subject_id))
            if CITED_DATASET in rows.schema.names:
                of = pc.fill_null(rows[CITED_DATASET].combine_chunks(), self.patient.dataset)
                mine = pc.and_(mine, pc.equal(of, self.patient.dataset))
            nobody = column.is_null()
        if visit in rows.schema.names:
            column = self._parse_identifiers(rows[visit]) if landed else rows[visit].combine_chunks()
            mine = pc.or_(mine, pc.and_(nobody, pc.is_in(column, value_set=self._visit_keys(table))))
        return mine

    def _naming(self, records: pa.ChunkedArray) -> pa.BooleanArray:
        """Whether a message that could not be read has the patient's number in it, or one of a visit."""
        numbers = "|".join(re.escape(number) for number in (self.patient.number, *self.visits.numbers))
        return _filled(pc.match_substring_regex(records, rf"(^|[^0-9A-Za-z])({numbers})([^0-9A-Za-z]|$)"))

    def _visit_keys(self, table: str) -> pa.Array:
        """The patient's visits, or their keys of a table that names its patients by a key."""
        if not table.startswith(f"{BRONZE.name}_"):
            return pa.array(self.visits.visit_ids, pa.int64())
        name = table.removeprefix(f"{BRONZE.name}_")
        own = self.visits.keys.get(name, ()) if self._through(table) else self.visits.numbers
        return pa.array(own, pa.string())

    def _parse_identifiers(self, column: pa.ChunkedArray) -> pa.Array:
        assert self.source is not None
        return parsing.identifiers(column.combine_chunks(), self.source.null_words)

    def count(self, ref: TableRef) -> int:
        """The patient's rows in a table's version."""
        opened = lake.dataset(self.settings, ref)
        names = self.columns(ref.table, opened.schema.names)
        batches = opened.to_batches(columns=names) if names else ()
        return sum(int(pc.sum(self.mask(ref.table, pa.table(b))).as_py() or 0) for b in batches if b.num_rows)

    def places(self, bronze: TableRef) -> set[tuple[str, int]]:
        """File and line of the extract of each of the patient's rows in a table of bronze."""
        opened = lake.dataset(self.settings, bronze)
        names = self.columns(bronze.table, opened.schema.names)
        places: set[tuple[str, int]] = set()
        for batch in opened.to_batches(columns=[*names, *PLACE]) if names else ():
            rows = pa.table(batch)
            mine = rows.filter(self.mask(bronze.table, rows))
            places |= set(zip(mine["file"].to_pylist(), mine["line"].to_pylist(), strict=True))
        return places

    def splits(self, training_set: TableRef) -> Sequence[str]:
        """The splits of a training set in which the patient is: all of one patient's stays are in one."""
        rows = lake.dataset(self.settings, training_set).to_table(
            columns=["split"], filter=pc.field(SUBJECT) == self.patient.subject_id
        )
        return sorted(set(rows["split"].to_pylist()))


def _filled(mask: pa.Array) -> pa.BooleanArray:
    filled = pc.fill_null(mask, False)
    return filled.combine_chunks() if isinstance(filled, pa.ChunkedArray) else filled
