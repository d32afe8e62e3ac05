"""The causal model of the synthetic hospital: admissions, severity, deaths and readmissions with true probabilities.

Directed graph, per patient and visit (→ reads "is drawn given")::

    age → burden → chronic conditions → organ axes at rest
    age, burden → frailty*;  support*, adherence* are independent
    chronic conditions → syndrome;  syndrome, burden → S0;  S0 → S24 (response to treatment) → S(discharge)
    syndrome, chronic conditions → organ axes;  axes(t) = rest + syndrome + GAIN · S(t)
    axes(t) → labs, vital signs, treatments, complications;  S(t), axes(t) → what is measured, and how often
    S0, age, frailty* → goals of care*;  unwell* is independent
    S24, age, burden, frailty*, unwell*, goals* → death in hospital after the first 24 hours
    S(discharge), burden, earlier visits, conditions, frailty*, support*, adherence* → unplanned return, death at home

``*`` marks what enters an outcome but no table; only the notes mention it. S is the latent acute severity, in standard
deviations of inpatients. Nothing before a landmark depends on what is drawn after it, so the recorded probability
is the true one given all latent variables: an upper bound for any model, which sees only their traces.

Constants, chosen before any model was fitted for a spread of the logit that gives published discrimination: about 1.8
for death (AUROC 0.85-0.90, as APACHE IV reports, doi:10.1097/01.CCM.0000215112.84523.F0) and 1.0 for readmission
(0.70-0.75, above what models without notes reach, Kansagara 2011, doi:10.1001/jama.2011.1515). The two intercepts set
the event rates that were asked for, 8 % and 15 %.
"""

from dataclasses import dataclass, fields
from datetime import UTC, datetime

import numpy as np
import polars as pl

from data_pipeline.synthetic.codes import AXES, CHRONIC, SYNDROMES, AxisShift
from data_pipeline.synthetic.frames import (
    DAY,
    HOUR,
    Bools,
    Floats,
    Ints,
    floor_to_minute,
    happens,
    moments,
    sigmoid,
)

START = int(datetime(2022, 1, 1, tzinfo=UTC).timestamp())
DAYS = 1_277
"""The length of the extract's calendar in days, which ends on 2025-07-01.

Patients who leave before its end are followed up for 30 days, so that the extract has unplanned returns that begin
later. MIMIC shifts the dates of each patient; these dates are not shifted.
"""

MERGE_FREE_DAYS = 3
"""The least days until a return, so that stays that are a day or less apart are always transfers."""

DEATH_INTERCEPT = -3.95
DEATH = {"severity": 1.15, "age": 0.45, "burden": 0.3, "frailty": 0.35, "unwell": 0.45, "goals": 1.1}
READMISSION_INTERCEPT = -2.15
READMISSION = {
    "severity": 0.35, "burden": 0.30, "prior": 0.25, "heart_failure": 0.35, "copd": 0.25,
    "chronic_kidney_disease": 0.25, "against_advice": 0.8, "planned": -0.6, "frailty": 0.25, "support": -0.40,
    "adherence": -0.35,
}  # fmt: skip
"""Logits per standard deviation, earlier visit (at most 4) or condition."""

GAIN: AxisShift = {
    "inflammation": 0.45, "respiratory": 0.5, "circulatory": 0.55, "renal": 0.4,
    "hepatic": 0.25, "bleeding": 0.3, "neurologic": 0.5, "metabolic": 0.35,
}  # fmt: skip
"""How far one standard deviation of severity moves each organ's axis, because critical illness affects every organ."""

FIRST, RETURN, PLANNED, OBSERVATION = range(4)
"""The routes to a visit: first or much later visit, unplanned return, planned return, observation stay."""


@dataclass(frozen=True)
class Subjects:
    """The patients, one element each; times in seconds since 1970; ``chronic`` has shape ``[patients, conditions]``."""

    subject_id: Ints
    female: Bools
    birth: Ints
    burden: Floats
    frailty: Floats
    support: Floats
    adherence: Floats
    chronic: Bools
    race: Ints
    language: Ints
    marital: Ints
    height: Floats
    """cm"""
    weight: Floats
    """kg"""
    first_arrival: Ints


@dataclass(frozen=True)
class Visits:
    """The merged stays, one element each, by patient and time; times are seconds since 1970, and 0 for none."""

    subject: Ints
    """Row of the patient in ``Subjects``."""
    prior: Ints
    route: Ints
    syndrome: Ints
    age: Floats
    admit: Ints
    discharge: Ints
    icu_in: Ints
    icu_out: Ints
    severity: Floats
    """Latent severity at admission, at 24 hours and at the end, shape ``[visits, 3]``."""
    axes: Floats
    """The organ axes without the part that follows severity, shape ``[visits, organ axes]``."""
    unwell: Floats
    goals: Bools
    at_risk: Bools
    died: Bools
    death_probability: Floats
    hospice: Bools
    transferred: Bools
    against_advice: Bools
    eligible: Bools
    return_if_alive: Floats
    """The probability of an unplanned return within 30 days, given that the patient does not die at home then."""
    return_probability: Floats
    home_death: Ints
    blocked_until: Ints

    def __len__(self) -> int:
        return len(self.subject)

    def take(self, rows: Ints) -> "Visits":
        """The visits at the given indices."""
        return Visits(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def severity_at(self, rows: Ints, seconds: Ints) -> Floats:
        """The latent severity at a time of each visit: linear from admission to 24 hours, and from there to the end."""
        hours = (seconds - self.admit[rows]) / HOUR
        length = (self.discharge[rows] - self.admit[rows]) / HOUR
        first, later, last = self.severity[rows].T
        early = first + (later - first) * np.clip(hours / 24, 0, 1)
        share = np.clip((hours - 24) / np.maximum(length - 24, 1), 0, 1)
        return np.asarray(early + (last - later) * share * (length > 24))

    def axes_at(self, rows: Ints, seconds: Ints) -> Floats:
        """The organ axes at a time of each visit, shape ``[rows, organ axes]``."""
        return self.axes[rows] + np.outer(self.severity_at(rows, seconds), axis_vector(GAIN))


def axis_vector(shift: AxisShift) -> Floats:
    """The shift of each organ axis, in the order of ``AXES``; 0 where it is not given."""
    return np.array([shift.get(axis, 0.0) for axis in AXES])


CHRONIC_AXES = np.array([axis_vector(condition.axes) for condition in CHRONIC])
SYNDROME_AXES = np.array([axis_vector(syndrome.axes) for syndrome in SYNDROMES])
_FAVOURS = np.array([[s.favours.get(c.name, 0.0) for s in SYNDROMES] for c in CHRONIC])
_KIND = np.array([("emergency", "planned", "observation").index(s.kind) for s in SYNDROMES])


def per_syndrome(attribute: str) -> Floats:
    """An attribute of each syndrome, in the order of ``SYNDROMES``."""
    return np.array([float(getattr(syndrome, attribute)) for syndrome in SYNDROMES])


def has(subjects: Subjects, condition: str) -> Bools:
    """Whether each patient has the chronic condition."""
    return subjects.chronic[:, [c.name for c in CHRONIC].index(condition)]


def draw_subjects(rng: np.random.Generator, size: int, first_id: int, calendar_days: int = DAYS) -> Subjects:
    """Random patients, with times of their first arrival within the calendar."""
    age = np.clip(rng.normal(64, 17, size), 18, 98)
    standard_age = (age - 64) / 17
    burden = 0.5 * standard_age + rng.normal(0, 0.9, size)
    odds = np.array([np.log(c.prevalence / (1 - c.prevalence)) for c in CHRONIC])
    slopes = np.array([c.age_slope for c in CHRONIC])
    logit = odds + 0.6 * burden[:, None] + slopes * standard_age[:, None]
    days = np.arange(calendar_days)
    season = 1 + 0.15 * np.cos(2 * np.pi * (days - 15) / 365)  # winter is busier
    arrival_day = rng.choice(days, size, p=season / season.sum())
    female = happens(rng, 0.5, size)
    height = rng.normal(np.where(female, 162, 176), 7)
    return Subjects(
        subject_id=first_id + np.arange(size) * 3 + rng.integers(0, 3, size),
        female=female,
        height=height,
        weight=np.clip((height / 100) ** 2 * 27.5 * np.exp(rng.normal(0, 0.2, size)), 36, 220),
        birth=(START + arrival_day * DAY - age * 365.25 * DAY).astype(np.int64),
        burden=burden,
        frailty=0.45 * standard_age + 0.3 * burden + rng.normal(0, 0.8, size),
        support=rng.standard_normal(size),
        adherence=rng.standard_normal(size),
        chronic=rng.random(logit.shape) < sigmoid(logit),
        race=rng.choice(6, size, p=[0.66, 0.15, 0.07, 0.04, 0.03, 0.05]),
        language=rng.choice(2, size, p=[0.9, 0.1]),
        marital=np.where(age < 35, rng.choice(4, size, p=[0.75, 0.2, 0.04, 0.01]),
                         rng.choice(4, size, p=[0.28, 0.45, 0.10, 0.17])),
        first_arrival=START + arrival_day * DAY,
    )  # fmt: skip


@dataclass(frozen=True)
class Arrivals:
    """Patients to admit: ``day`` is the midnight before, and no unplanned return begins before ``blocked_until``."""

    subject: Ints
    day: Ints
    route: Ints
    prior: Ints
    blocked_until: Ints


def simulate(rng: np.random.Generator, subjects: Subjects, calendar_days: int = DAYS) -> Visits:
    """All visits of the calendar, by patient and time."""
    size = len(subjects.subject_id)
    nothing = np.zeros(size, dtype=np.int64)
    arrivals = Arrivals(np.arange(size), subjects.first_arrival, nothing, nothing, nothing)
    waves = []
    while len(arrivals.subject):
        stays = _follow_home(rng, subjects, _stay(rng, subjects, arrivals))
        waves.append(stays)
        arrivals = _return(rng, subjects, stays, START + calendar_days * DAY)
    visits = Visits(
        **{f.name: np.concatenate([getattr(wave, f.name) for wave in waves]) for f in fields(Visits)}
    )
    order = np.lexsort((visits.admit, visits.subject))
    return visits.take(order)


def _stay(rng: np.random.Generator, subjects: Subjects, arrivals: Arrivals) -> Visits:
    """Simulates stays from arrival to discharge or death."""
    who, size = arrivals.subject, len(arrivals.subject)
    syndrome = _syndrome(rng, subjects, arrivals)
    kind = _KIND[syndrome]
    hour = np.where(kind == 1, rng.uniform(6, 10, size), rng.triangular(0, 15, 24, size))
    admit = floor_to_minute(arrivals.day + hour * HOUR)
    age = (admit - subjects.birth[who]) / (365.25 * DAY)
    frailty, standard_age = subjects.frailty[who], (age - 64) / 17
    severity = per_syndrome("severity")[syndrome] + 0.2 * subjects.burden[who] + rng.standard_normal(size)
    later = 0.8 * severity + rng.normal(-0.1, 0.6, size)
    unwell = rng.standard_normal(size)
    goals = happens(rng, sigmoid(-3.4 + 0.9 * frailty + 0.5 * standard_age + 0.6 * severity), size)
    early_death = happens(rng, sigmoid(-6.8 + 1.2 * severity + 0.3 * frailty), size)
    early_exit = (
        happens(rng, sigmoid(np.array([-3.2, -2.6, 0.8])[kind] - 0.9 * severity), size) & ~early_death
    )
    probability = sigmoid(
        DEATH_INTERCEPT + DEATH["severity"] * later + DEATH["age"] * standard_age
        + DEATH["burden"] * subjects.burden[who] + DEATH["frailty"] * frailty
        + DEATH["unwell"] * unwell + DEATH["goals"] * goals
    )  # fmt: skip
    at_risk = ~early_death & ~early_exit
    died = early_death | (at_risk & happens(rng, probability, size))
    last = np.where(died, later + 1.2, 0.5 * later - 0.5) + rng.normal(0, 0.4, size)
    discharge = _discharge(
        rng, admit, _length_hours(rng, syndrome, later, frailty, at_risk, died), at_risk, died
    )
    icu_in, icu_out = _intensive_care(rng, syndrome, severity, admit, discharge)
    axes = (
        subjects.chronic[who] @ CHRONIC_AXES
        + SYNDROME_AXES[syndrome] * rng.uniform(0.6, 1.4, (size, 1))
        + rng.normal(0, 0.4, (size, len(AXES)))
    )
    nobody, never, unknown = np.zeros(size, dtype=bool), np.zeros(size, dtype=np.int64), np.zeros(size)
    return Visits(
        subject=who, prior=arrivals.prior, route=arrivals.route, syndrome=syndrome, age=age, admit=admit,
        discharge=discharge, icu_in=icu_in, icu_out=icu_out, severity=np.stack([severity, later, last], axis=1),
        axes=axes, unwell=unwell, goals=goals, at_risk=at_risk, died=died, death_probability=probability,
        hospice=nobody, transferred=nobody, against_advice=nobody, eligible=nobody, return_if_alive=unknown,
        return_probability=unknown, home_death=never, blocked_until=arrivals.blocked_until,
    )  # fmt: skip


def _syndrome(rng: np.random.Generator, subjects: Subjects, arrivals: Arrivals) -> Ints:
    """The syndrome of each visit, by chronic conditions; the route decides if it is emergency, planned or observed."""
    allowed = np.array([[1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=bool)[arrivals.route][:, _KIND]
    score = np.log(per_syndrome("weight")) + subjects.chronic[arrivals.subject] @ _FAVOURS
    score += rng.gumbel(size=score.shape)
    return np.asarray(np.argmax(np.where(allowed, score, -np.inf), axis=1), dtype=np.int64)


def _length_hours(
    rng: np.random.Generator, syndrome: Ints, later: Floats, frailty: Floats, at_risk: Bools, died: Bools
) -> Floats:
    size = len(syndrome)
    home = per_syndrome("stay_days")[syndrome] * 24 * np.exp(0.2 * later + 0.1 * frailty)
    median = np.where(died, 84 * np.exp(-0.15 * later), home)
    beyond = np.minimum(median * np.exp(0.65 * rng.standard_normal(size)), 45 * 24)
    return np.asarray(np.where(at_risk, 24.5 + beyond, rng.uniform(3, 23.5, size)))


def _discharge(rng: np.random.Generator, admit: Ints, hours: Floats, at_risk: Bools, died: Bools) -> Ints:
    """The time of discharge: deaths at any hour, and discharges after the first day between 11:00 and 17:30."""
    exact = admit + (hours * HOUR).astype(np.int64)
    by_day = (exact // DAY) * DAY + (rng.uniform(11, 17.5, len(admit)) * HOUR).astype(np.int64)
    by_day += np.where(by_day < admit + 25 * HOUR, DAY, 0)
    by_day += np.where(by_day < admit + 25 * HOUR, DAY, 0)
    return floor_to_minute(np.where(at_risk & ~died, by_day, exact))


def _intensive_care(
    rng: np.random.Generator, syndrome: Ints, severity: Floats, admit: Ints, discharge: Ints
) -> tuple[Ints, Ints]:
    size = len(admit)
    admitted = happens(rng, sigmoid(-2.4 + 1.2 * severity + per_syndrome("icu")[syndrome]), size)
    wait = np.where(happens(rng, 0.8, size), rng.uniform(0.1, 4, size), rng.uniform(4, 20, size))
    begin = floor_to_minute(admit + wait * HOUR)
    stay = 40 * np.exp(0.25 * severity + 0.7 * rng.standard_normal(size))
    end = np.minimum(floor_to_minute(begin + stay * HOUR), discharge)
    admitted &= end > begin + 2 * HOUR
    return np.where(admitted, begin, 0), np.where(admitted, end, 0)


def _follow_home(rng: np.random.Generator, subjects: Subjects, stays: Visits) -> Visits:
    """Adds how each stay ends, and the two competing risks of the 30 days after it: death at home and return."""
    size, who, last = len(stays), stays.subject, stays.severity[:, 2]
    alive, observed = ~stays.died, _KIND[stays.syndrome] == 2
    frailty, standard_age = subjects.frailty[who], (stays.age - 64) / 17
    hospice = alive & happens(rng, sigmoid(-5.0 + 1.6 * stays.goals + 0.5 * frailty + 0.6 * last), size)
    transferred = alive & ~hospice & happens(rng, 0.01, size)
    advice = (
        alive & ~hospice & ~transferred & happens(rng, sigmoid(-4.0 - 0.4 * subjects.adherence[who]), size)
    )
    home_death_probability = np.where(
        hospice, 0.7, sigmoid(-4.6 + 0.5 * last + 0.5 * frailty + 0.4 * standard_age + 1.0 * stays.goals)
    )
    barred = hospice | (stays.route == OBSERVATION)
    comes_back = np.where(barred, 0.0, sigmoid(_return_logit(subjects, stays, advice)))
    dies = alive & happens(rng, home_death_probability, size)
    when = stays.discharge + (rng.uniform(1, 29, size) * DAY).astype(np.int64)
    return Visits(**{
        **{f.name: getattr(stays, f.name) for f in fields(stays)},
        "hospice": hospice, "transferred": transferred, "against_advice": advice,
        "eligible": alive & ~hospice & ~transferred & ~observed,
        "return_if_alive": comes_back, "return_probability": (1 - home_death_probability) * comes_back,
        "home_death": np.where(dies, when, 0),
    })  # fmt: skip


def _return_logit(subjects: Subjects, stays: Visits, advice: Bools) -> Floats:
    who = stays.subject
    logit = (
        READMISSION_INTERCEPT + READMISSION["severity"] * stays.severity[:, 2]
        + READMISSION["prior"] * np.minimum(stays.prior, 4) + READMISSION["against_advice"] * advice
        + READMISSION["planned"] * (_KIND[stays.syndrome] == 1)
    )  # fmt: skip
    for latent in ("burden", "frailty", "support", "adherence"):
        logit = logit + READMISSION[latent] * getattr(subjects, latent)[who]
    for condition in ("heart_failure", "copd", "chronic_kidney_disease"):
        logit = logit + READMISSION[condition] * has(subjects, condition)[who]
    return np.asarray(logit)


def _return(rng: np.random.Generator, subjects: Subjects, stays: Visits, end: int) -> Arrivals:
    """The next arrivals: an unplanned return within 30 days, else a planned or observation stay, else a later visit."""
    size = len(stays)
    home = ~stays.died & (stays.home_death == 0)
    unplanned = home & happens(rng, stays.return_if_alive, size)
    decoy = home & ~unplanned & stays.eligible & (stays.route != PLANNED) & happens(rng, 0.05, size)
    late = (
        home & ~unplanned & ~decoy & happens(rng, sigmoid(-1.2 + 0.5 * subjects.burden[stays.subject]), size)
    )
    route = np.select(
        [unplanned, decoy], [RETURN, np.where(happens(rng, 0.5, size), PLANNED, OBSERVATION)], FIRST
    )
    soon = MERGE_FREE_DAYS + np.floor((30 - MERGE_FREE_DAYS) * rng.beta(1, 1.5, size))
    soon = np.maximum(soon, np.ceil((stays.blocked_until - stays.discharge) / DAY) + 1)
    days = np.select([unplanned, decoy], [soon, rng.integers(14, 27, size)], 32 + rng.exponential(220, size))
    midnight = (stays.discharge // DAY) * DAY + days.astype(np.int64) * DAY
    blocked = np.where(route == PLANNED, stays.discharge + 31 * DAY, 0)
    rows = np.flatnonzero(unplanned | ((decoy | late) & (midnight < end)))
    return Arrivals(stays.subject[rows], midnight[rows], route[rows], stays.prior[rows] + 1, blocked[rows])


def truth(subjects: Subjects, visits: Visits, hadm_id: Ints) -> pl.DataFrame:
    """The true probabilities at each prediction time; ``hadm_id`` is that of the merged stay's first admission."""

    def task(name: str, rows: Bools, moment: Ints, probability: Floats) -> pl.DataFrame:
        return pl.DataFrame({
            "subject_id": subjects.subject_id[visits.subject[rows]],
            "hadm_id": hadm_id[rows],
            "task": pl.Series([name]).new_from_index(0, int(rows.sum())),
            "prediction_time": moments(moment[rows]),
            "probability": np.round(probability[rows], 9),
        })  # fmt: skip

    death = task("mortality", visits.at_risk, visits.admit + 24 * HOUR, visits.death_probability)
    back = task("readmission", visits.eligible, visits.discharge, visits.return_probability)
    return pl.concat([death, back]).sort("subject_id", "prediction_time", "task")
