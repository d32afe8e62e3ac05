"""Prediction times: when a task's outcome is predicted for a stay, and which stays are at risk then."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa

from data_pipeline.cohort import at_risk
from data_pipeline.cohort.bitemporal import FOREVER, BitemporalTime, available_by, latest_as_of, latest_until
from data_pipeline.cohort.stays import Patient, Stay, about_stays, patients
from mediscale.core.task_times import Anchor, MayBeAsked, PredictionTime
from mediscale.core.tasks import ADULT_YEARS, Task

COLUMNS = (
    "subject_id", "time", "code", "numeric_value", "available_time", "visit_id", "event_id", "retracted"
)  # fmt: skip
"""The columns of events that stays and prediction times are computed from."""


def due_predictions(
    events: pa.Table, task: Task, since: datetime, until: datetime
) -> list[tuple[int, datetime]]:
    """The predictions due in a period: (subject_id, prediction time) with ``since < prediction time <= until``.

    They come in order of prediction time, then of subject. Only what was known at ``until`` is used, so that stays
    which have not ended yet count; of who is at risk, what was known at the prediction time. All times are naive UTC.
    """
    visible = available_by(events, until)
    records, revised = at_risk.assertions(visible, task), RevisedStays.of(visible, task)
    predictions = {
        (at, patient.subject_id)
        for patient in patients(latest_as_of(visible, None))
        for stay in patient.units(task.unit)
        if is_adult(patient, stay)
        for at in revised.times(patient, stay)
        if since < at <= until
        and not at_risk.failed_step(records.get(patient.subject_id, at_risk.NOTHING), stay, task, at)
    }
    return [(subject, at) for at, subject in sorted(predictions)]


def of_stay(patient: Patient, stay: Stay, task: Task) -> tuple[datetime, ...]:
    """The prediction times of the stay (naive UTC), in order, at which the patient is alive and there; none where the
    patient is not. Who is at risk of those, ``at_risk`` tells.

    A time that follows from what became known only after it (an admission that was corrected, or came late) is none:
    nobody could have asked then."""
    moments = (
        _at_discharge(stay, task.at_risk.excluded_destinations)
        if task.prediction_time.anchor == "discharge"
        else _after_admission(stay, task.prediction_time)
    )
    return tuple(
        at
        for at in moments
        if stay.admitted.available <= at and (task.unit == "encounter" or not died_before(patient, at))
    )


@dataclass(frozen=True)
class RevisedStays:
    """What was asserted about the stays of those patients of whom an assertion was corrected or withdrawn: at a
    prediction time it may have said something else."""

    task: Task
    assertions: Mapping[int, pa.Table]
    """By subject."""
    superseded: Mapping[int, list[tuple[datetime, datetime]]]
    """By subject, from when (included) until when (excluded) each assertion that was corrected or withdrawn held."""

    @classmethod
    def of(cls, events: pa.Table, task: Task) -> "RevisedStays":
        """``events`` has ``COLUMNS`` of all assertions."""
        about = about_stays(events).sort_by("subject_id")
        until = latest_until(about)
        about = about.append_column("until", pa.array(until).cast(pa.timestamp("us")))
        periods = about.select(["subject_id", "available_time", "until"]).filter(pa.array(until != FOREVER))
        superseded: dict[int, list[tuple[datetime, datetime]]] = {}
        for subject, begin, end in zip(*(column.to_pylist() for column in periods.columns), strict=True):
            superseded.setdefault(subject, []).append((begin, end))
        subjects, first, rows = np.unique(
            about["subject_id"].to_numpy(), return_index=True, return_counts=True
        )
        revised = np.isin(subjects, list(superseded))
        columns = (column[revised].tolist() for column in (subjects, first, rows))
        assertions = {subject: about.slice(begin, n) for subject, begin, n in zip(*columns, strict=True)}
        return cls(task, assertions, superseded)

    def times(self, patient: Patient, stay: Stay) -> Iterator[datetime]:
        """The prediction times of the stay, as ``of_stay`` has them, that follow from what was known at each.

        Only where something else was known than is now are the stays paired again: that costs milliseconds.
        """
        superseded = self.superseded.get(patient.subject_id, ())
        for at in of_stay(patient, stay, self.task):
            if not any(begin <= at < end for begin, end in superseded) or self._was_due(stay, patient, at):
                yield at

    def _was_due(self, stay: Stay, patient: Patient, at: datetime) -> bool:
        """Whether a prediction of the stay was due by the record of that time."""
        return any(
            (then.first.visit_id, then.admitted.time) == (stay.first.visit_id, stay.admitted.time)
            and at in of_stay(who, then, self.task)
            for who in patients(latest_as_of(self.assertions[patient.subject_id], at))
            for then in who.units(self.task.unit)
        )


def _at_discharge(stay: Stay, excluded_destinations: Sequence[str]) -> Iterator[datetime]:
    ended = stay.discharged
    left = not stay.death and stay.destination not in excluded_destinations
    if left and ended and ended.available <= ended.time:
        yield ended.time


def _after_admission(stay: Stay, prediction_time: PredictionTime) -> Iterator[datetime]:
    """The prediction times after an admission at which the patient was there and alive."""
    for start, end in _periods(stay, prediction_time.anchor):
        for hours in prediction_time.hours:
            at = start.time + timedelta(hours=hours)
            if start.available <= at and (end is None or at < end) and _alive_in_hospital(stay, at):
                yield at


def _periods(stay: Stay, anchor: Anchor) -> Iterator[tuple[BitemporalTime, datetime | None]]:
    """When the hours of an anchor begin, and when the patient is no longer there; None where the stay says so."""
    if anchor == "icu_admission":
        for icu in stay.icu_stays:
            yield icu.admitted, icu.discharged.time if icu.discharged else None
    else:
        yield stay.admitted, None


def _alive_in_hospital(stay: Stay, at: datetime) -> bool:
    """Whether a visit of the stay was going on, and known to be, and the patient alive.

    Between two visits of a merged stay the patient is not in hospital: nobody knew yet that the patient would return.
    """
    in_hospital = any(
        max(visit.admitted.time, visit.admitted.available) <= at
        and (visit.discharged is None or visit.discharged.time > at)
        for visit in stay.visits
    )
    return in_hospital and not (stay.death and stay.death.time <= at)


def may_be_asked(stay: Stay, at: datetime, moments: MayBeAsked, excluded_destinations: Sequence[str]) -> bool:
    """Whether a model answers for the stay at that time (naive UTC), by the two fields of its specification.

    ``stay`` is as it was known then. A model for discharges is asked at the very time of the discharge, as in training.
    """
    if moments.anchor == "discharge":
        return at in _at_discharge(stay, excluded_destinations)
    first, last = (timedelta(hours=hours) for hours in moments.hours)
    return _alive_in_hospital(stay, at) and any(
        first <= at - start.time <= last and (end is None or at < end)
        for start, end in _periods(stay, moments.anchor)
    )


def is_adult(patient: Patient, stay: Stay) -> bool:
    """Whether the patient is of age (``ADULT_YEARS``) at admission; False where neither birth nor age is known."""
    if patient.birth is None:
        return stay.first.age is not None and stay.first.age >= ADULT_YEARS
    born, admitted = patient.birth, stay.admitted.time
    birthday_to_come = (admitted.month, admitted.day) < (born.month, born.day)
    return admitted.year - born.year - birthday_to_come >= ADULT_YEARS


def died_before(patient: Patient, at: datetime) -> bool:
    """Whether the patient died on a day before ``at``.

    Organ donors are admitted again after their death. Days are compared because a death outside the hospital has no
    hour.
    """
    return patient.death is not None and patient.death.time.date() < at.date()
