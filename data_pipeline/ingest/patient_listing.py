"""Patient listing: the patients and visits that an extract lists, and what rules ask them of each fact.

A fact's patient and visit are looked up in Arrow: joins take an engine three times as long, and nearly all facts break
no rule that they could break, so that few are left to compare.
"""

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline.ingest.timestamps import AROUND_VISIT, BEFORE_BIRTH, LIFE
from mediscale.storage import duckdb_tables

if TYPE_CHECKING:
    import duckdb

_ATTRIBUTES = {
    "MEDS_BIRTH": "birth",
    "GENDER//": "sex",
    "HOSPITAL_ADMISSION//": "admission",
    "HOSPITAL_DISCHARGE//": "discharge",
}
"""What has one truth, by how its codes begin: a patient's birth and sex, and of a visit, within one file, its admission
and its discharge."""


@dataclass(frozen=True)
class PatientListing:
    """The patients of an extract and those of its visits that are not disputed between patients, by pseudonym."""

    patients: pa.Array
    visits: pa.Table
    """Columns ``booked_visit, booked_by, unusable, counted, started, last``."""

    def describe(self, stated: pa.Table) -> pa.Table:
        """Stated facts, all of some patients, with their ``number``, whether several are ``recurring`` as one event,
        the ``attribute`` of which there is one truth, the visit that counts (``own_visit``), and what rules look at."""
        columns = {
            "number": pa.array(np.arange(len(stated))),
            "recurring": _are_recurring(stated["event_id"]),
            "attribute": _attributes(stated["code"].combine_chunks()),
            "subject_listed": pc.is_in(stated["subject_id"], value_set=self.patients),
            **self._of_visits(stated),
        }
        columns["out_of_life"] = _are_out_of_life(stated, pc.equal(columns["attribute"], "birth"))
        for name, column in columns.items():
            stated = stated.append_column(name, column)
        return stated

    def _of_visits(self, stated: pa.Table) -> dict[str, pa.Array]:
        """A row of a visit that does not count, such as one to a clinic, is of no visit."""
        at = pc.index_in(stated["visit_id"], value_set=self.visits["booked_visit"])
        visitor, unusable, counted = (
            self.visits[name].take(at) for name in ("booked_by", "unusable", "counted")
        )
        is_booked = pc.fill_null(pc.equal(visitor, stated["subject_id"]), False)
        is_counted = pc.fill_null(counted, True)
        left = pc.or_(is_counted, pc.invert(is_booked))
        is_own = pc.and_(is_booked, is_counted)
        return {
            "own_visit": pc.if_else(left, stated["visit_id"], pa.scalar(None, pa.int64())),
            "visit_listed": pc.or_(is_booked, stated["visit_id"].is_null()),
            "visit_inverted": pc.and_(is_own, pc.fill_null(unusable, False)),
            "far_from_visit": pc.and_(is_own, self._are_far(stated, at)),
        }

    def _are_far(self, stated: pa.Table, at: pa.ChunkedArray) -> pa.ChunkedArray:
        """Whether something was measured long before the visit ``at`` that place in the list, or long after it."""
        started, last = (self.visits[name].take(at) for name in ("started", "last"))
        around = pa.scalar(AROUND_VISIT, pa.duration("us"))
        early = pc.less(stated["time"], pc.subtract(started, around))
        late = pc.greater(stated["time"], pc.add(last, around))
        return pc.and_(stated["item"].is_valid(), pc.fill_null(pc.or_kleene(early, late), False))


def listing(database: "duckdb.DuckDBPyConnection") -> PatientListing:
    """What the tables ``patients`` and ``booked`` of ``extract_facts.joined_tables`` list."""
    patients = duckdb_tables.rows(
        database, "select patient from patients where patient is not null"
    ).read_all()
    booked = "select booked_visit, booked_by, unusable, counted, started, last from booked"
    visits = duckdb_tables.rows(database, booked).read_all()
    return PatientListing(patients["patient"].combine_chunks(), visits.combine_chunks())


def are_to_compare(described: pa.Table) -> pa.ChunkedArray:
    """Whether a fact breaks a rule, or has another beside it that may make it break one."""
    every = [
        pc.not_equal(described["flags"], 0),
        described["recurring"],
        described["attribute"].is_valid(),
        pc.invert(described["subject_listed"]),
        pc.invert(described["visit_listed"]),
        described["visit_inverted"],
        described["far_from_visit"],
        described["out_of_life"],
    ]
    return reduce(pc.or_, every)


def _are_recurring(events: pa.ChunkedArray) -> pa.ChunkedArray:
    ordered = np.sort(events.drop_null())
    recurring = pa.array(np.unique(ordered[1:][ordered[1:] == ordered[:-1]]))
    return pc.is_in(events, value_set=recurring)


def _attributes(codes: pa.DictionaryArray) -> pa.Array:
    """The attribute of each code, null for nearly all."""
    own = [
        next((attribute for begin, attribute in _ATTRIBUTES.items() if code.startswith(begin)), None)
        for code in codes.dictionary.to_pylist()
    ]
    return pa.array(own, pa.string()).take(codes.indices)


def _are_out_of_life(stated: pa.Table, are_births: pa.Array) -> pa.ChunkedArray:
    """Whether a fact is dated before its patient's birth, or too long after it; not where no birth is known."""
    births = stated.select(["subject_id", "time"]).filter(are_births)
    first = births.group_by("subject_id").aggregate([("time", "min")])
    birth = first["time_min"].take(pc.index_in(stated["subject_id"], value_set=first["subject_id"]))
    early = pc.less(stated["time"], pc.subtract(birth, pa.scalar(BEFORE_BIRTH, pa.duration("us"))))
    late = pc.greater(stated["time"], pc.add(birth, pa.scalar(LIFE, pa.duration("us"))))
    return pc.fill_null(pc.or_(early, late), False)
