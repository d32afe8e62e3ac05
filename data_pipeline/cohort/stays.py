"""Hospital stays: admissions are paired with their discharges, and transfers are merged.

A visit is one admission as the source booked it. Inpatient visits of a patient that are a day or less apart are one
stay, because a transfer between units or hospitals may be booked as two visits. Visits for observation and births of
newborns are not inpatient visits.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa

from data_pipeline.cohort import deaths
from data_pipeline.cohort.bitemporal import BitemporalTime, map_codes
from data_pipeline.cohort.deaths import DeathColumns, DeathInStay
from mediscale.core.outcomes import OUTCOME
from mediscale.core.tasks import Unit

TRANSFER_GAP = timedelta(days=1)
"""Visits that are no further apart than this are one stay.

The measurements and notes of a stay begin this long before its admission, in the emergency department; they can't
belong to an earlier stay, which would have been merged."""
NOT_INPATIENT = frozenset({"OBSERVATION", "NEWBORN"})

_CODE_PREFIXES = (
    "HOSPITAL_ADMISSION", "HOSPITAL_DISCHARGE", "HOSPITAL_EXPIRE_FLAG", "MEDS_BIRTH", "MEDS_DEATH", "ICU_ADMISSION",
    "ICU_DISCHARGE", "AGE", OUTCOME,
)  # fmt: skip
(
    _ADMISSION, _DISCHARGE, _EXPIRE_FLAG, _BIRTH, _DEATH, _TO_ICU, _FROM_ICU, _AGE, _OUTCOME
) = _CODE_PREFIXES  # fmt: skip
_DIED = "DIED"
_NO_DESTINATION = frozenset({"", "OTHER"})
"""Of a discharge that does not say where the patient went."""


@dataclass(frozen=True)
class DeclaredOutcome:
    """What a source's own column says of an outcome, and when that was known."""

    happened: bool
    recorded: BitemporalTime


@dataclass(frozen=True)
class Visit:
    """One admission as the source booked it; an open visit has no ``discharged``.

    ``admission_type`` and ``destination`` are what follows ``//`` in the codes of admission and discharge.
    """

    subject_id: int
    visit_id: int
    admission_type: str
    admitted: BitemporalTime
    discharged: BitemporalTime | None
    destination: str
    death: BitemporalTime | None
    """The time of death in the visit's own row, which may be later than its discharge."""
    expire_flag: bool | None
    """Whether the visit's row flags that the patient died in hospital; None where it does not say."""
    age: float | None = None
    """In years at the visit, where the source gives it beside or in place of a birth."""
    outcomes: Mapping[str, DeclaredOutcome] = field(default_factory=dict)
    """By code, the outcomes that the source declares for the visit."""

    @property
    def inpatient(self) -> bool:
        return self.admission_type not in NOT_INPATIENT


@dataclass(frozen=True)
class IcuStay:
    """A part of a stay in intensive care; an open one has no ``discharged``."""

    admitted: BitemporalTime
    discharged: BitemporalTime | None


@dataclass(frozen=True)
class Stay:
    """A hospital stay: inpatient visits no further apart than ``TRANSFER_GAP``, in order of admission."""

    visits: tuple[Visit, ...]
    deaths: tuple[BitemporalTime, ...] = ()
    """The patient's deaths that are recorded elsewhere than for these visits, as times or as discharges to ``DIED``, in
    order of time."""
    icu_stays: tuple[IcuStay, ...] = ()
    """In order of admission."""

    @property
    def first(self) -> Visit:
        return self.visits[0]

    @property
    def admitted(self) -> BitemporalTime:
        return self.first.admitted

    @property
    def last(self) -> Visit | None:
        """The visit that ends last; None while any visit is open."""
        if any(visit.discharged is None for visit in self.visits):
            return None
        return max(
            self.visits, key=lambda visit: visit.discharged.time if visit.discharged else visit.admitted.time
        )

    @property
    def discharged(self) -> BitemporalTime | None:
        return self.last.discharged if self.last else None

    @property
    def destination(self) -> str:
        return self.last.destination if self.last else ""

    @property
    def death(self) -> BitemporalTime | None:
        """Death in hospital; None where the patient left alive, has not left, or where that is unclear."""
        return self.end.death

    @cached_property
    def end(self) -> DeathInStay:
        """Whether the stay ended in death, by all columns of the source; of an open stay, by the visits' own rows."""
        recorded = next((visit.death for visit in self.visits if visit.death), None)
        left_dead = next((v.discharged for v in self.visits if v.destination == _DIED), None)
        if self.discharged is None:
            return DeathInStay(recorded or left_dead)
        flags = {visit.expire_flag for visit in self.visits} - {None}
        columns = DeathColumns(
            recorded=recorded,
            left_dead=left_dead,
            left_elsewhere=self.destination not in _NO_DESTINATION | {_DIED},
            flag=True in flags if flags else None,
            elsewhere=next((death for death in self.deaths if death.time > self.admitted.time), None),
        )
        return deaths.in_stay(columns, self.discharged)


@dataclass(frozen=True)
class Patient:
    """A patient with all visits and stays in order of admission; ``birth`` is naive UTC."""

    subject_id: int
    visits: tuple[Visit, ...]
    stays: tuple[Stay, ...]
    birth: datetime | None
    death: BitemporalTime | None

    def units(self, unit: Unit) -> tuple[Stay, ...]:
        """What is predicted for: the stays, or each inpatient visit as one of its own."""
        if unit == "stay":
            return self.stays
        return tuple(Stay((visit,)) for visit in self.visits if visit.inpatient)


def patients(latest: pa.Table) -> Iterator[Patient]:
    """Every patient with an admission, in order of ``subject_id``.

    ``latest`` holds one assertion of each event, as ``bitemporal.latest_as_of`` gives them.
    """
    columns = ["subject_id", "time", "available_time", "event_id", "code", "visit_id", "numeric_value"]
    rows = (
        about_stays(latest).select(columns).sort_by([(name, "ascending") for name in columns[:4]]).to_pylist()
    )
    for subject_id, own in groupby(rows, key=lambda row: int(row["subject_id"])):
        patient = _patient(subject_id, list(own))
        if patient.visits:
            yield patient


def about_stays(events: pa.Table) -> pa.Table:
    """The assertions that patients and their stays are made from."""
    chosen = map_codes(events["code"], lambda code: code.partition("//")[0] in _CODE_PREFIXES, np.bool_)
    return events.filter(pa.array(chosen))


def _patient(subject_id: int, rows: list[dict[str, Any]]) -> Patient:
    by_prefix: dict[str, list[dict[str, Any]]] = {prefix: [] for prefix in _CODE_PREFIXES}
    for row in rows:
        by_prefix[row["code"].partition("//")[0]].append(row)
    of_visits = {prefix: {row["visit_id"]: row for row in own} for prefix, own in by_prefix.items()}
    outcomes = _declared_outcomes(by_prefix[_OUTCOME])
    visits = tuple(
        _visit(row, of_visits, outcomes.get(row["visit_id"], {}))
        for row in by_prefix[_ADMISSION]
        if row["visit_id"]
    )
    births = by_prefix[_BIRTH]
    merged = _merge_transfers([visit for visit in visits if visit.inpatient])
    return Patient(
        subject_id,
        visits,
        tuple(_stay(part, by_prefix) for part in merged),
        births[-1]["time"] if births else None,
        _death_of_patient(by_prefix[_DEATH]),
    )


def _stay(visits: tuple[Visit, ...], by_prefix: Mapping[str, list[dict[str, Any]]]) -> Stay:
    own = {visit.visit_id for visit in visits}
    to_icu, from_icu = (
        [_bitemporal_time(row) for row in by_prefix[prefix] if row["visit_id"] in own]
        for prefix in (_TO_ICU, _FROM_ICU)
    )
    left_dead = [row for row in by_prefix[_DISCHARGE] if row["code"] == f"{_DISCHARGE}//{_DIED}"]
    deaths_of_patient = sorted(
        (_bitemporal_time(row) for row in [*by_prefix[_DEATH], *left_dead] if row["visit_id"] not in own),
        key=lambda death: death.time,
    )
    return Stay(visits, tuple(deaths_of_patient), tuple(_icu_stays(to_icu, from_icu)))


def _icu_stays(to_icu: list[BitemporalTime], from_icu: list[BitemporalTime]) -> Iterator[IcuStay]:
    """Admissions with the discharges that follow them; without one, the next admission ends an ICU stay. Both come in
    order of time."""
    for admitted, following in zip(to_icu, [*to_icu[1:], None], strict=False):
        end = next((end for end in from_icu if end.time >= admitted.time), None)
        if following and (end is None or end.time > following.time):
            end = following
        yield IcuStay(admitted, end)


def _death_of_patient(rows: list[dict[str, Any]]) -> BitemporalTime | None:
    """The latest that a visit's row tells to the minute, else the latest date; the rows come in order of time."""
    to_the_minute = [row for row in rows if row["visit_id"]]
    return _bitemporal_time((to_the_minute or rows)[-1]) if rows else None


def _visit(
    row: dict[str, Any],
    of_visits: Mapping[str, Mapping[int | None, dict[str, Any]]],
    outcomes: Mapping[str, DeclaredOutcome],
) -> Visit:
    """The visit of an admission's row, with what the other rows of its number say."""
    discharge, flag, death, age = (
        of_visits[prefix].get(row["visit_id"]) for prefix in (_DISCHARGE, _EXPIRE_FLAG, _DEATH, _AGE)
    )
    return Visit(
        subject_id=row["subject_id"],
        visit_id=row["visit_id"],
        admission_type=row["code"].partition("//")[2],
        admitted=_bitemporal_time(row),
        discharged=_bitemporal_time(discharge) if discharge else None,
        destination=discharge["code"].partition("//")[2] if discharge else "",
        death=_bitemporal_time(death) if death else None,
        expire_flag={0.0: False, 1.0: True}.get(flag["numeric_value"]) if flag else None,
        age=age["numeric_value"] if age else None,
        outcomes=outcomes,
    )


def _declared_outcomes(rows: list[dict[str, Any]]) -> dict[int | None, dict[str, DeclaredOutcome]]:
    """The declared outcomes by visit and code; a value that is neither 0 nor 1 declares none."""
    declared: dict[int | None, dict[str, DeclaredOutcome]] = {}
    for row in rows:
        if row["numeric_value"] in (0, 1):
            outcome = DeclaredOutcome(bool(row["numeric_value"]), _bitemporal_time(row))
            declared.setdefault(row["visit_id"], {})[row["code"]] = outcome
    return declared


def _bitemporal_time(row: dict[str, Any]) -> BitemporalTime:
    return BitemporalTime(row["time"], row["available_time"])


def _merge_transfers(visits: list[Visit]) -> Iterator[tuple[Visit, ...]]:
    """The visits come in order of admission; one visit may lie inside another."""
    merged: list[Visit] = []
    end: datetime | None = None
    for visit in visits:
        if merged and (end is None or visit.admitted.time - end > TRANSFER_GAP):
            yield tuple(merged)
            merged, end = [], None
        merged.append(visit)
        if visit.discharged:
            end = max(end or visit.discharged.time, visit.discharged.time)
    if merged:
        yield tuple(merged)
