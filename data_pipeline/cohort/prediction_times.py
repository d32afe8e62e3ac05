"""Prediction times: when a task's outcome is predicted for a stay, and which stays are at risk then."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import pyarrow as pa

from data_pipeline.cohort.bitemporal import latest_as_of
from data_pipeline.cohort.stays import Patient, Stay, patients
from mediscale.core.tasks import ADULT_YEARS, Anchor, MayBeAsked, PredictionTime, Task

COLUMNS = (
    "subject_id", "time", "code", "numeric_value", "available_time", "visit_id", "event_id", "retracted"
)  # fmt: skip
"""The columns of events that stays and prediction times are computed from."""


def due(events: pa.Table, task: Task, since: datetime, until: datetime) -> list[tuple[int, datetime]]:
    """The predictions due in a period: (subject_id, prediction time) with ``since < prediction time <= until``.

    They come in order of prediction time, then of subject. Only what was known at ``until`` is used, so that stays
    which have not ended yet count. All times are naive UTC.
    """
    predictions = (
        (patient.subject_id, at)
        for patient in patients(latest_as_of(events, until))
        for stay in patient.units(task.unit)
        if is_adult(patient, stay) and (at := of_stay(patient, stay, task))
    )
    in_period = (prediction for prediction in predictions if since < prediction[1] <= until)
    return sorted(in_period, key=lambda prediction: (prediction[1], prediction[0]))


def of_stay(patient: Patient, stay: Stay, task: Task) -> datetime | None:
    """The prediction time of the stay (naive UTC), or None where the patient is not at risk then."""
    at = (
        _at_discharge(stay, task.at_risk.excluded_destinations)
        if task.prediction_time.anchor == "discharge"
        else _after_admission(stay, task.prediction_time)
    )
    gone = at is not None and task.unit == "stay" and died_before(patient, at)
    return None if gone else at


def _at_discharge(stay: Stay, excluded_destinations: Sequence[str]) -> datetime | None:
    if stay.discharged is None or stay.death or stay.destination in excluded_destinations:
        return None
    return stay.discharged.time


def _after_admission(stay: Stay, prediction_time: PredictionTime) -> datetime | None:
    """A fixed number of hours after admission, or None where the patient was not in hospital or had died by then."""
    start = _start(stay, prediction_time.anchor)
    if start is None:
        return None
    at = start + timedelta(hours=prediction_time.hours_after)
    return at if _alive_and_there(stay, at, prediction_time.anchor) else None


def _start(stay: Stay, anchor: Anchor) -> datetime | None:
    """When the hours of an anchor begin; None where a stay has no such moment."""
    if anchor == "icu_admission":
        return stay.icu_admitted.time if stay.icu_admitted else None
    return stay.admitted.time


def _alive_and_there(stay: Stay, at: datetime, anchor: Anchor) -> bool:
    """Whether the patient was alive and in hospital or, where hours are counted from there, in intensive care."""
    left = stay.icu_discharged
    if anchor == "icu_admission" and left is not None and left.time <= at:
        return False
    return _alive_in_hospital(stay, at)


def _alive_in_hospital(stay: Stay, at: datetime) -> bool:
    """Whether a visit of the stay was going on and the patient alive.

    Between two visits of a merged stay the patient is not in hospital: nobody knew yet that the patient would return.
    """
    in_hospital = any(
        visit.admitted.time <= at and (visit.discharged is None or visit.discharged.time > at)
        for visit in stay.visits
    )
    return in_hospital and not (stay.death and stay.death.time <= at)


def may_be_asked(stay: Stay, at: datetime, moments: MayBeAsked, excluded_destinations: Sequence[str]) -> bool:
    """Whether a model answers for the stay at that time (naive UTC), by the two fields of its specification.

    ``stay`` is as it was known then. A model for discharges is asked at the very time of the discharge, as in training.
    """
    if moments.anchor == "discharge":
        return at == _at_discharge(stay, excluded_destinations)
    start = _start(stay, moments.anchor)
    if start is None:
        return False
    first, last = (start + timedelta(hours=hours) for hours in moments.hours)
    return first <= at <= last and _alive_and_there(stay, at, moments.anchor)


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
