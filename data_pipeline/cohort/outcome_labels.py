"""The label of a stay or prediction by the outcome that its task declares, and from when on it is certain."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from data_pipeline.cohort import at_risk
from data_pipeline.cohort.at_risk import Assertions
from data_pipeline.cohort.bitemporal import HOUR, BitemporalTime, Ints
from data_pipeline.cohort.stays import TRANSFER_GAP, Patient, Stay
from mediscale.core.outcomes import (
    DeathInHospital,
    DeathInIcu,
    DeclaredOutcome,
    FlowStep,
    LongStay,
    Readmission,
    ValueRise,
)
from mediscale.core.tasks import Task


@dataclass(frozen=True)
class Label:
    """The outcome of a stay, or of a prediction."""

    outcome: str
    positive: bool
    outcome_time: datetime | None
    certain: datetime
    """When the label is known, which is the same time after the stay for every outcome.

    If one outcome were known sooner than the other, the newest days of the cohort would hold only that outcome."""


def label_of(
    patient: Patient, stay: Stay, ended: BitemporalTime, following: Stay | None, task: Task, at: datetime
) -> Label | None:
    """The label of an ended stay, predicted at a time; None where the source does not give its outcome."""
    match task.outcome:
        case Readmission():
            return _readmission(patient, ended, following, task.outcome)
        case LongStay():
            return _long_stay(stay, ended, task.outcome)
        case DeclaredOutcome():
            return _declared(stay, ended, task.outcome)
        case DeathInHospital():
            return _death_in_hospital(stay, ended, task.outcome)
        case DeathInIcu():
            return _death_in_icu(stay, ended, task.outcome, at)
    raise TypeError(task.outcome)


@dataclass(frozen=True)
class Rises:
    """The values of a stay, and of before it, as they are finally known, and which of the stay's had risen."""

    outcome: ValueRise
    values: Assertions
    onsets: Ints

    @classmethod
    def of(cls, record: Assertions, stay: Stay, outcome: ValueRise) -> "Rises":
        values = record.final().values(at_risk.beginning(stay) - outcome.lookback_hours * HOUR)
        return cls(outcome, values, at_risk.onsets(values, stay, outcome))

    def failed_step(self, at: datetime) -> FlowStep | None:
        """The step of the flow that a prediction does not pass because the value had risen by then, though nobody knew
        it yet: what began before is no outcome to predict."""
        risen = (self.onsets <= at_risk.in_microseconds(at)).any()
        return self.outcome.first_onset if risen else None

    def label(self, stay: Stay, ended: BitemporalTime, at: datetime) -> Label | None:
        """The label of a prediction before the first onset; None where nothing was measured in its hours."""
        horizon = at + timedelta(hours=self.outcome.within_hours)
        start, end = (at_risk.in_microseconds(time) for time in (at, min(horizon, ended.time)))
        values = self.values.where(self.values.time <= end)
        if not (values.time > start).any():
            return None
        certain = max(ended.available + TRANSFER_GAP, _datetime(values.available.max()))
        if len(self.onsets) and self.onsets[0] <= end:
            return Label(self.outcome.positive.name, True, _datetime(self.onsets[0]), certain)
        died, left = stay.death is not None and stay.death.time <= horizon, ended.time <= horizon
        category = self.outcome.negative
        if died or left:
            category = self.outcome.competing_event if died else self.outcome.discharged
        return Label(category.name, False, None, certain)


def _datetime(time: np.int64) -> datetime:
    """The time in UTC without a zone of microseconds since 1970."""
    return datetime(1970, 1, 1) + timedelta(microseconds=int(time))


def _declared(stay: Stay, ended: BitemporalTime, outcome: DeclaredOutcome) -> Label | None:
    declared = stay.first.outcomes.get(outcome.code)
    if declared is None:
        return None
    category = outcome.positive if declared.happened else outcome.negative
    certain = max(ended.available, declared.recorded.available)
    return Label(
        category.name, declared.happened, declared.recorded.time if declared.happened else None, certain
    )


def _long_stay(stay: Stay, ended: BitemporalTime, outcome: LongStay) -> Label:
    certain = ended.available + TRANSFER_GAP
    end = stay.admitted.time + timedelta(days=outcome.longer_than_days)
    # A visit that lies around that in which the patient died may be booked to an end long after.
    last = min(ended.time, stay.death.time) if stay.death else ended.time
    if last > end:
        return Label(outcome.positive.name, True, end, certain)
    category = outcome.competing_event if stay.death else outcome.negative
    return Label(category.name, False, None, certain)


def _death_in_hospital(stay: Stay, ended: BitemporalTime, outcome: DeathInHospital) -> Label:
    # Until the transfer gap has passed, the discharge may yet turn out to be a transfer.
    certain, death = ended.available + TRANSFER_GAP, stay.death
    if death:
        return Label(outcome.positive.name, True, death.time, max(certain, death.available))
    return Label(outcome.negative.name, False, None, certain)


def _death_in_icu(stay: Stay, ended: BitemporalTime, outcome: DeathInIcu, at: datetime) -> Label:
    """The label of death in intensive care. It allows no tolerance, because both demos of MIMIC book a patient who dies
    in intensive care out of it only afterwards."""
    there = [icu for icu in stay.icu_stays if icu.admitted.time <= at][-1]
    left, death = there.discharged or ended, stay.death
    certain = max(ended.available + TRANSFER_GAP, left.available)
    if death and death.time <= left.time:
        return Label(outcome.positive.name, True, death.time, max(certain, death.available))
    category = outcome.died_later if death else outcome.negative
    return Label(category.name, False, None, max(certain, death.available) if death else certain)


def _readmission(
    patient: Patient, ended: BitemporalTime, following: Stay | None, outcome: Readmission
) -> Label:
    end = ended.time + timedelta(days=outcome.within_days)
    returned = following.first if following and following.admitted.time <= end else None
    if returned and returned.admission_type in outcome.unplanned_admissions:
        return Label(
            outcome.positive.name, True, returned.admitted.time, max(end, returned.admitted.available)
        )
    died = patient.death is not None and patient.death.time <= end
    category = outcome.planned_return if returned else outcome.competing_event if died else outcome.negative
    return Label(category.name, False, None, end)
