"""Hospital stays from events: admissions paired with their discharges, transfers merged.

Visits of a patient that lie next to each other by a day or less are one stay (a transfer between units or hospitals
that was booked as two); stays for observation and births are no admissions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa

from data_pipeline.cohort.bitemporal import mapped

TRANSFER_GAP = timedelta(days=1)
"""Visits no further apart are one stay. So what is known of a stay, measurements and notes, begins this long before its
admission, in the emergency department, and holds nothing of an earlier stay."""
NOT_INPATIENT = frozenset({"OBSERVATION", "NEWBORN"})

_HEADS = ("HOSPITAL_ADMISSION", "HOSPITAL_DISCHARGE", "MEDS_BIRTH", "MEDS_DEATH")
_ADMISSION, _DISCHARGE, _BIRTH, _DEATH = _HEADS


@dataclass(frozen=True)
class Known:
    """A fact's time, and when it was known."""

    time: datetime
    available: datetime


@dataclass(frozen=True)
class Visit:
    """One admission as the source booked it. ``kind`` and ``destination`` are the words after ``//`` in the codes."""

    subject_id: int
    visit_id: int
    kind: str
    admitted: Known
    discharged: Known | None
    destination: str
    death: Known | None
    """Death that the source records for this visit."""

    @property
    def inpatient(self) -> bool:
        return self.kind not in NOT_INPATIENT


@dataclass(frozen=True)
class Stay:
    """Inpatient visits that follow each other within ``TRANSFER_GAP``, in order."""

    visits: tuple[Visit, ...]

    @property
    def first(self) -> Visit:
        return self.visits[0]

    @property
    def admitted(self) -> Known:
        return self.first.admitted

    @property
    def last(self) -> Visit | None:
        """The visit that ends last; None while any is open."""
        if any(visit.discharged is None for visit in self.visits):
            return None
        return max(
            self.visits, key=lambda visit: visit.discharged.time if visit.discharged else visit.admitted.time
        )

    @property
    def discharged(self) -> Known | None:
        return self.last.discharged if self.last else None

    @property
    def destination(self) -> str:
        return self.last.destination if self.last else ""

    @property
    def death(self) -> Known | None:
        """Death in hospital: the recorded time, or the discharge of a patient who left dead."""
        recorded = next((visit.death for visit in self.visits if visit.death), None)
        return recorded or next((v.discharged for v in self.visits if v.destination == "DIED"), None)


@dataclass(frozen=True)
class Patient:
    """A subject with all stays in order of time."""

    subject_id: int
    visits: tuple[Visit, ...]
    stays: tuple[Stay, ...]
    birth: datetime | None
    death: Known | None


def patients(standing: pa.Table) -> Iterator[Patient]:
    """Everyone who has been admitted, by subject_id, from assertions that stand (``assertions.standing``)."""
    wanted = mapped(standing["code"], lambda code: code.partition("//")[0] in _HEADS, np.bool_)
    chosen = standing.filter(pa.array(wanted))
    columns = ["subject_id", "time", "available_time", "event_id", "code", "visit_id"]
    rows = chosen.select(columns).sort_by([(name, "ascending") for name in columns[:4]]).to_pylist()
    for subject_id, own in groupby(rows, key=lambda row: int(row["subject_id"])):
        patient = _patient(subject_id, list(own))
        if patient.visits:
            yield patient


def _patient(subject_id: int, rows: list[dict[str, Any]]) -> Patient:
    by_head: dict[str, list[dict[str, Any]]] = {head: [] for head in _HEADS}
    for row in rows:
        by_head[row["code"].partition("//")[0]].append(row)
    discharges = {row["visit_id"]: row for row in by_head[_DISCHARGE]}
    deaths = {row["visit_id"]: _known(row) for row in by_head[_DEATH]}
    visits = tuple(
        _visit(row, discharges.get(row["visit_id"]), deaths) for row in by_head[_ADMISSION] if row["visit_id"]
    )
    births, died = by_head[_BIRTH], by_head[_DEATH]
    return Patient(
        subject_id,
        visits,
        tuple(_merged([visit for visit in visits if visit.inpatient])),
        births[-1]["time"] if births else None,
        _known(died[-1]) if died else None,
    )


def _visit(row: dict[str, Any], discharge: dict[str, Any] | None, deaths: dict[int | None, Known]) -> Visit:
    return Visit(
        subject_id=row["subject_id"],
        visit_id=row["visit_id"],
        kind=row["code"].partition("//")[2],
        admitted=_known(row),
        discharged=_known(discharge) if discharge else None,
        destination=discharge["code"].partition("//")[2] if discharge else "",
        death=deaths.get(row["visit_id"]),
    )


def _known(row: dict[str, Any]) -> Known:
    return Known(row["time"], row["available_time"])


def _merged(visits: list[Visit]) -> Iterator[Stay]:
    """Visits come in order of admission; one may lie inside another."""
    held: list[Visit] = []
    end: datetime | None = None
    for visit in visits:
        if held and (end is None or visit.admitted.time - end > TRANSFER_GAP):
            yield Stay(tuple(held))
            held, end = [], None
        held.append(visit)
        if visit.discharged:
            end = max(end or visit.discharged.time, visit.discharged.time)
    if held:
        yield Stay(tuple(held))
