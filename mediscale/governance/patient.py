"""A patient of the lake, by the hospital's own number, and which rows of which table are theirs.

The number is what a hospital's people have; ``subject_id`` is its pseudonym within a dataset. No sentence repeats
either.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline.ingest import parsing
from data_pipeline.ingest import source as sources
from data_pipeline.ingest.source import Source
from mediscale.core.errors import NotFoundError
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import BRONZE, EVENTS, FACTS, SUBJECTS
from mediscale.storage import calls, lake

SUBJECT, VISIT = "subject_id", "visit_id"
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
    lake.latest(settings, dataset, SUBJECTS.name)
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
    wanted: Any,
    refine: Callable[[pa.Table], pa.Table] = lambda rows: rows,
) -> pa.Table | None:
    """The wanted rows of the newest version of a table that has some; ``wanted`` may let others pass."""
    for ref in lake.versions(settings, dataset, table):
        try:
            rows = refine(lake.dataset(settings, ref).to_table(columns=list(columns), filter=wanted))
        except FileNotFoundError:  # reclaimed
            continue
        if len(rows):
            return rows
    return None


@dataclass(frozen=True)
class Visits:
    """The hospital visits of a patient: some rows name a visit and no patient."""

    numbers: tuple[str, ...] = ()
    """As the source has them."""
    visit_ids: tuple[int, ...] = ()
    """Their pseudonyms."""


@dataclass(frozen=True)
class Holdings:
    """Which rows of a dataset's tables are a patient's."""

    settings: Settings
    patient: Patient
    known_visits: "Visits | None" = None
    """Of an erasure that goes on when the rows that name them are gone."""

    @cached_property
    def source(self) -> Source | None:
        """What the dataset's extract is, by the newest call that landed it."""
        landed = [call for call in calls.of_stage(self.settings, "bronze") if self._is_ours(call)]
        return sources.load(landed[-1].params["source"]) if landed else None

    def _is_ours(self, call: calls.Call) -> bool:
        return str(call.params["dataset"]) == self.patient.dataset

    @cached_property
    def visits(self) -> Visits:
        """The patient's, by the newest versions that have some."""
        if self.known_visits is not None:
            return self.known_visits
        numbers = self._visit_numbers(self.source) if self.source is not None else set()
        visit_ids: set[int] = set()
        for table in (FACTS.name, EVENTS.name):
            mine = pc.field(SUBJECT) == self.patient.subject_id
            rows = _newest_with(self.settings, self.patient.dataset, table, [VISIT], mine)
            visit_ids |= set(rows[VISIT].drop_null().unique().to_pylist()) if rows is not None else set()
        return Visits(tuple(sorted(numbers)), tuple(sorted(visit_ids)))

    def _visit_numbers(self, source: Source) -> set[str]:
        subject, key = source.subjects.id, source.visits.id
        rows = _newest_with(
            self.settings,
            self.patient.dataset,
            f"{BRONZE.name}_{source.visits.table}",
            [subject, key],
            pc.match_substring(pc.field(subject), self.patient.number),  # 11 is 11.0, and 111 is another
            lambda rows: rows.filter(_filled(pc.equal(self._read(rows[subject]), self.patient.number))),
        )
        return set() if rows is None else set(self._read(rows[key]).drop_null().to_pylist())

    def columns(self, table: str, names: Collection[str]) -> list[str]:
        """The columns of a table that say whose a row is; none where it holds nobody's rows."""
        return [name for name in self._keys(table) if name in names]

    def _keys(self, table: str) -> tuple[str, ...]:
        """A table's columns of patient and visit: in bronze they have the source's own names."""
        if not table.startswith(f"{BRONZE.name}_"):
            return SUBJECT, VISIT
        return () if self.source is None else (self.source.subjects.id, self.source.visits.id)

    def mask(self, table: str, rows: pa.Table) -> pa.BooleanArray:
        """Whether each row is the patient's; ``rows`` has at least ``columns``."""
        subject, visit = self._keys(table)
        landed = table.startswith(f"{BRONZE.name}_")
        mine = nobody = pa.array([False] * rows.num_rows)
        if subject in rows.schema.names:
            column = self._read(rows[subject]) if landed else rows[subject].combine_chunks()
            mine = _filled(pc.equal(column, self.patient.number if landed else self.patient.subject_id))
            nobody = column.is_null()
        if visit in rows.schema.names:
            column = self._read(rows[visit]) if landed else rows[visit].combine_chunks()
            visits = (
                pa.array(self.visits.numbers, pa.string())
                if landed
                else pa.array(self.visits.visit_ids, pa.int64())
            )
            mine = pc.or_(mine, pc.and_(nobody, pc.is_in(column, value_set=visits)))
        return mine

    def _read(self, column: pa.ChunkedArray) -> pa.Array:
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
        found: set[tuple[str, int]] = set()
        for batch in opened.to_batches(columns=[*names, *PLACE]) if names else ():
            rows = pa.table(batch)
            mine = rows.filter(self.mask(bronze.table, rows))
            found |= set(zip(mine["file"].to_pylist(), mine["line"].to_pylist(), strict=True))
        return found

    def splits(self, training_set: TableRef) -> Sequence[str]:
        """The splits of a training set in which the patient is: all of one patient's stays are in one."""
        rows = lake.dataset(self.settings, training_set).to_table(
            columns=["split"], filter=pc.field(SUBJECT) == self.patient.subject_id
        )
        return sorted(set(rows["split"].to_pylist()))


def _filled(mask: pa.Array) -> pa.BooleanArray:
    filled = pc.fill_null(mask, False)
    return filled.combine_chunks() if isinstance(filled, pa.ChunkedArray) else filled
