"""Prediction times: the moment at which a task's outcome is predicted for a stay, and which stays reach it."""

from datetime import datetime, timedelta

import pyarrow as pa

from data_pipeline.cohort.bitemporal import standing
from data_pipeline.cohort.stays import Patient, Stay, patients
from mediscale.core.tasks import ADULT_YEARS, AtRisk, PredictionTime, Task

COLUMNS = (
    "subject_id", "time", "code", "numeric_value", "available_time", "visit_id", "event_id", "retracted"
)  # fmt: skip
"""The columns of events from which stays and prediction times follow."""


def due(events: pa.Table, task: Task, since: datetime, until: datetime) -> list[tuple[int, datetime]]:
    """The predictions to make: (subject_id, prediction time) with ``since < prediction time <= until``, in time order.

    They follow from what was known at ``until``, so a stay counts that has not ended yet.
    """
    reached = (
        (patient.subject_id, at)
        for patient in patients(standing(events, until))
        for stay in patient.stays
        if adult(patient, stay) and (at := of_stay(patient, stay, task))
    )
    return sorted((who for who in reached if since < who[1] <= until), key=lambda who: (who[1], who[0]))


def of_stay(patient: Patient, stay: Stay, task: Task) -> datetime | None:
    """The stay's prediction time, or None where the patient is not at risk then."""
    at = (
        _after_admission(stay, task.prediction_time)
        if task.prediction_time.anchor == "admission"
        else _at_discharge(stay, task.at_risk)
    )
    return None if at is None or dead_before(patient, at) else at


def _at_discharge(stay: Stay, at_risk: AtRisk) -> datetime | None:
    if stay.discharged is None or stay.death or stay.destination in at_risk.excluded_destinations:
        return None
    return stay.discharged.time


def _after_admission(stay: Stay, prediction_time: PredictionTime) -> datetime | None:
    """Some hours after admission, or None where the patient was not there, or had died, by then.

    Between two visits of a merged stay the patient is not there: that there would be a return was not known yet.
    """
    at = stay.admitted.time + timedelta(hours=prediction_time.hours_after)
    there = any(
        visit.admitted.time <= at and (visit.discharged is None or visit.discharged.time > at)
        for visit in stay.visits
    )
    died = stay.death
    return at if there and not (died and died.time <= at) else None


def adult(patient: Patient, stay: Stay) -> bool:
    """At admission; a patient without a known birth is none."""
    if patient.birth is None:
        return False
    born, admitted = patient.birth, stay.admitted.time
    birthday_to_come = (admitted.month, admitted.day) < (born.month, born.day)
    return admitted.year - born.year - birthday_to_come >= ADULT_YEARS


def dead_before(patient: Patient, at: datetime) -> bool:
    """Organ donors are admitted again after death. By day: a death outside the hospital has no hour."""
    return patient.death is not None and patient.death.time.date() < at.date()
