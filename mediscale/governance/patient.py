"""A patient of the lake, by the hospital's own number, and which rows of which table are theirs.

The number is what a hospital's people have; ``subject_id`` is its pseudonym within a dataset. No sentence repeats
either.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline.ingest import parsing
from data_pipeline.ingest import source as sources
from data_pipeline.ingest.source import Source
from mediscale.core.errors import NotFoundError
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import BRONZE, SUBJECTS
from mediscale.storage import calls, lake

SUBJECT = "subject_id"
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


def find(settings: Settings, dataset: str, number: str) -> Patient:
    """The patient of a dataset by the hospital's own number.

    Raises:
        NotFoundError: the lake has no patients of that dataset, or not this one.
    """
    number = str(parsing.identifiers(pa.array([number]))[0].as_py() or "")
    subjects = lake.dataset(settings, lake.latest(settings, dataset, SUBJECTS.name))
    rows = subjects.to_table(columns=[SUBJECT], filter=pc.field("source_subject") == number)
    if not len(rows):
        raise NotFoundError(
            f"{dataset} in the lake does not know this patient; check the number, as the hospital writes it."
        )
    return Patient(dataset, number, int(rows[SUBJECT][0].as_py()))


@dataclass(frozen=True)
class Holdings:
    """Which rows of a dataset's tables are a patient's."""

    settings: Settings
    patient: Patient

    @cached_property
    def source(self) -> Source | None:
        """What the dataset's extract is, by the newest call that landed it."""
        landed = [call for call in calls.of_stage(self.settings, "bronze") if self._is_ours(call)]
        return sources.load(landed[-1].params["source"]) if landed else None

    def _is_ours(self, call: calls.Call) -> bool:
        return str(call.params["dataset"]) == self.patient.dataset

    @cached_property
    def visits(self) -> pa.Array:
        """The numbers of the patient's hospital visits, as the source has them."""
        if self.source is None:
            return pa.array([], pa.string())
        table, key = f"{BRONZE.name}_{self.source.visits.table}", self.source.visits.id
        if not lake.exists(self.settings, self.patient.dataset, table):
            return pa.array([], pa.string())
        ref = lake.latest(self.settings, self.patient.dataset, table)
        rows = lake.dataset(self.settings, ref).to_table(columns=[self.source.subjects.id, key])
        return self._read(rows[key]).filter(self._equal(rows[self.source.subjects.id])).unique()

    def columns(self, table: str, names: Collection[str]) -> list[str]:
        """The columns of a table that say whose a row is; none where it holds nobody's rows."""
        if SUBJECT in names and not table.startswith(f"{BRONZE.name}_"):
            return [SUBJECT]
        if table.startswith(f"{BRONZE.name}_") and self.source is not None:
            return [name for name in (self.source.subjects.id, self.source.visits.id) if name in names]
        return []

    def mask(self, table: str, rows: pa.Table) -> pa.BooleanArray:
        """Whether each row is the patient's; ``rows`` has at least ``columns``."""
        names = self.columns(table, rows.schema.names)
        if names == [SUBJECT] and not table.startswith(f"{BRONZE.name}_"):
            return _filled(pc.equal(rows[SUBJECT], self.patient.subject_id))
        mine = pa.array([False] * rows.num_rows)
        assert self.source is not None
        nobody = pa.array([True] * rows.num_rows)
        if self.source.subjects.id in names:
            number = self._read(rows[self.source.subjects.id])
            mine, nobody = _filled(pc.equal(number, self.patient.number)), number.is_null()
        if self.source.visits.id in names:  # a row that names a visit and no patient
            visit = pc.is_in(self._read(rows[self.source.visits.id]), value_set=self.visits)
            mine = pc.or_(mine, pc.and_(nobody, visit))
        return mine

    def _read(self, column: pa.ChunkedArray) -> pa.Array:
        assert self.source is not None
        return parsing.identifiers(column.combine_chunks(), self.source.null_words)

    def _equal(self, column: pa.ChunkedArray) -> pa.BooleanArray:
        return _filled(pc.equal(self._read(column), self.patient.number))

    def count(self, ref: TableRef) -> int:
        """The patient's rows in a table's version."""
        opened = lake.dataset(self.settings, ref)
        names = self.columns(ref.table, opened.schema.names)
        if not names:
            return 0
        if names == [SUBJECT] and not ref.table.startswith(f"{BRONZE.name}_"):
            return int(opened.count_rows(filter=pc.field(SUBJECT) == self.patient.subject_id))
        batches = opened.to_batches(columns=names)
        return sum(int(pc.sum(self.mask(ref.table, pa.table(b))).as_py() or 0) for b in batches if b.num_rows)

    def splits(self, training_set: TableRef) -> Sequence[str]:
        """The splits of a training set in which the patient is: all of one patient's stays are in one."""
        rows = lake.dataset(self.settings, training_set).to_table(
            columns=["split"], filter=pc.field(SUBJECT) == self.patient.subject_id
        )
        return sorted(set(rows["split"].to_pylist()))


def _filled(mask: pa.Array) -> pa.BooleanArray:
    filled = pc.fill_null(mask, False)
    return filled.combine_chunks() if isinstance(filled, pa.ChunkedArray) else filled
