"""The moment at which death in hospital is predicted, and who reaches it: adults, after 24 hours, alive and there."""

from datetime import datetime, timedelta

import pyarrow as pa

from data_pipeline.cohort.bitemporal import standing
from data_pipeline.cohort.stays import Patient, Stay, patients

ADULT_YEARS = 18
LANDMARK = timedelta(hours=24)

COLUMNS = (
    "subject_id", "time", "code", "numeric_value", "available_time", "visit_id", "event_id", "retracted"
)  # fmt: skip
"""Of the events, what stays and landmarks are told from."""


def due(events: pa.Table, since: datetime, until: datetime) -> list[tuple[int, datetime]]:
    """Whom to predict for: (subject_id, landmark) with ``since < landmark <= until``, in order of time.

    Told from what was known at ``until``, so a stay counts that has not ended yet.
    """
    reached = (
        (patient.subject_id, at)
        for patient in patients(standing(events, until))
        for stay in patient.stays
        if adult(patient, stay) and (at := reached_by(stay)) and not dead_before(patient, at)
    )
    return sorted((who for who in reached if since < who[1] <= until), key=lambda who: (who[1], who[0]))


def reached_by(stay: Stay) -> datetime | None:
    """The stay's landmark, or None where the patient was not there, or had died, by then.

    Between two visits of a merged stay the patient is not there: that there would be a return was not known yet.
    """
    at = stay.admitted.time + LANDMARK
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
