"""Synthetic administrative tables as in MIMIC-IV: admissions, transfers, and billing codes.

They have the traps of real extracts: one merged stay in 30 long ones is written as two admissions some hours apart;
observation stays and planned stays come between unplanned ones; patients over 89 have an anchor age of 91; a few
admissions end before they begin (``INVERTED``); labs are drawn in the emergency department before admittime.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from data_pipeline.synthetic.codes import AXES, CHRONIC, COMPLICATIONS, SYNDROMES, Complication, Condition
from data_pipeline.synthetic.frames import (
    DAY,
    HOUR,
    Bools,
    Floats,
    Ints,
    blanks,
    dates,
    floor_to_minute,
    happens,
    minutes,
    moments,
    providers,
    sigmoid,
    words,
)
from data_pipeline.synthetic.patients import RETURN, Subjects, Visits, axis_vector, has

INVERTED: Final = 0.0015
"""The share of admissions with dischtime before admittime."""

_TYPES = ("EW EMER.", "DIRECT EMER.", "URGENT", "OBSERVATION ADMIT", "ELECTIVE", "SURGICAL SAME DAY ADMISSION",
          "EU OBSERVATION", "DIRECT OBSERVATION", "AMBULATORY OBSERVATION")  # fmt: skip
_TYPE_SHARES = {
    "return": (0.80, 0.12, 0.08, 0, 0, 0, 0, 0, 0),
    "emergency": (0.68, 0.08, 0.16, 0.08, 0, 0, 0, 0, 0),
    "planned": (0, 0, 0, 0, 0.4, 0.6, 0, 0, 0),
    "observation": (0, 0, 0, 0, 0, 0, 0.7, 0.2, 0.1),
}
_FROM = ("EMERGENCY ROOM", "PHYSICIAN REFERRAL", "TRANSFER FROM HOSPITAL", "EMERGENCY ROOM", "PHYSICIAN REFERRAL",
         "PHYSICIAN REFERRAL", "EMERGENCY ROOM", "CLINIC REFERRAL", "PROCEDURE SITE")  # fmt: skip
_THROUGH_ED = np.array([kind in ("EW EMER.", "OBSERVATION ADMIT", "EU OBSERVATION") for kind in _TYPES])
_TO = ("HOME", "HOME HEALTH CARE", "SKILLED NURSING FACILITY", "REHAB", "CHRONIC/LONG TERM ACUTE CARE",
       "ACUTE HOSPITAL", "AGAINST ADVICE", "HOSPICE", "DIED")  # fmt: skip
_INSURANCE = ("Medicare", "Medicaid", "Private", "Other")
_RACES = (
    "WHITE",
    "BLACK/AFRICAN AMERICAN",
    "HISPANIC/LATINO - PUERTO RICAN",
    "ASIAN - CHINESE",
    "OTHER",
    "UNKNOWN",
)
_MARITAL = ("SINGLE", "MARRIED", "DIVORCED", "WIDOWED")
_ICU_OF_SERVICE = {
    "MED": "Medical Intensive Care Unit (MICU)", "OMED": "Medical/Surgical Intensive Care Unit (MICU/SICU)",
    "CMED": "Coronary Care Unit (CCU)", "CSURG": "Cardiac Vascular Intensive Care Unit (CVICU)",
    "SURG": "Surgical Intensive Care Unit (SICU)", "ORTHO": "Trauma SICU (TSICU)",
    "NMED": "Neuro Surgical Intensive Care Unit (Neuro SICU)",
    "NSURG": "Neuro Surgical Intensive Care Unit (Neuro SICU)",
}  # fmt: skip
WARDS = tuple(syndrome.ward for syndrome in SYNDROMES)
ICUS = tuple(_ICU_OF_SERVICE[syndrome.service] for syndrome in SYNDROMES)


@dataclass(frozen=True)
class Encounters:
    """The administrative data of each visit; times are seconds since 1970, and times and identifiers are 0 for none."""

    hadm_id: Ints
    second_hadm_id: Ints
    first_end: Ints
    second_start: Ints
    ed_register: Ints
    stay_id: Ints
    admission_type: Ints
    ventilated: Bools
    icd_version: Ints
    block: int

    def hadm_at(self, rows: Ints, seconds: Ints) -> Ints:
        """The admission (hadm_id) that covers a time of each visit."""
        late = (self.second_hadm_id[rows] > 0) & (seconds >= self.second_start[rows])
        return np.where(late, self.second_hadm_id[rows], self.hadm_id[rows])

    def between(self, rows: Ints, seconds: Ints) -> Bools:
        """Whether a time lies between the two admissions of a split stay, when nothing is charted."""
        return (seconds >= self.first_end[rows]) & (seconds < self.second_start[rows])

    def arrival(self, visits: Visits) -> Ints:
        """The time of arrival: registration in the emergency department, else admission."""
        return np.where(self.ed_register > 0, self.ed_register, visits.admit)


def draw_encounters(rng: np.random.Generator, subjects: Subjects, visits: Visits, block: int) -> Encounters:
    """Random administrative data of each visit; some long stays are split into two admissions."""
    size = len(visits)
    kinds = _admission_types(rng, visits)
    waited = np.minimum(minutes(rng, 300, 0.5, size), 18 * HOUR)
    hours = (visits.discharge - visits.admit) / HOUR
    split = (hours > 72) & ~visits.died & (visits.icu_in == 0) & happens(rng, 1 / 30, size)
    second = floor_to_minute(visits.admit + 0.6 * hours * HOUR)
    ids = rng.permutation(100_000)[: 2 * size] + block * 100_000 + 20_000_000
    stays = rng.permutation(100_000)[:size] + block * 100_000 + 30_000_000
    lungs, mind = (visits.axes[:, AXES.index(a)] for a in ("respiratory", "neurologic"))
    strain = np.maximum(lungs, mind) + 0.5 * visits.severity[:, 0]
    version = np.where(happens(rng, 0.3, len(subjects.birth)), 9, 10)
    return Encounters(
        hadm_id=ids[:size],
        second_hadm_id=np.where(split, ids[size:], 0),
        first_end=np.where(split, second - minutes(rng, 90, 0.7, size), visits.discharge),
        second_start=np.where(split, second, 0),
        ed_register=np.where(_THROUGH_ED[kinds], visits.admit - waited, 0),
        stay_id=np.where(visits.icu_in > 0, stays, 0),
        admission_type=kinds,
        ventilated=(visits.icu_in > 0) & happens(rng, sigmoid(1.4 * (strain - 2.2)), size),
        icd_version=version[visits.subject],
        block=block,
    )


def _admission_types(rng: np.random.Generator, visits: Visits) -> Ints:
    kinds = [SYNDROMES[s].kind for s in visits.syndrome]
    rows = ["return" if r == RETURN else kind for r, kind in zip(visits.route, kinds, strict=True)]
    shares = np.cumsum([_TYPE_SHARES[row] for row in rows], axis=1)
    return np.asarray((rng.random((len(rows), 1)) > shares).sum(axis=1), dtype=np.int64)


def patients(subjects: Subjects, visits: Visits) -> pl.DataFrame:
    """MIMIC-IV's patients: everyone with a visit, with anchor age and date of death."""
    first = np.unique(visits.subject, return_index=True)[1]
    who = visits.subject[first]
    dod = np.zeros(len(subjects.birth), dtype=np.int64)
    np.maximum.at(dod, visits.subject, np.where(visits.died, visits.discharge, visits.home_death))
    age = visits.age[first].astype(np.int64)
    year = 1970 + (visits.admit[first] / (365.2425 * DAY)).astype(np.int64)
    group = 2020 + 3 * ((year - 2020) // 3)
    return pl.DataFrame({
        "subject_id": subjects.subject_id[who],
        "gender": words(("M", "F"), subjects.female[who].astype(np.int64)),
        "anchor_age": np.where(age > 89, 91, age),
        "anchor_year": year,
        "anchor_year_group": [f"{start} - {start + 2}" for start in group],
        "dod": dates(dod[who], dod[who] > 0),
    })  # fmt: skip


def admissions(
    rng: np.random.Generator, subjects: Subjects, visits: Visits, encounters: Encounters
) -> pl.DataFrame:
    """MIMIC-IV's admissions; a split stay has two, and only the second one has the end of the stay."""
    size = len(visits)
    split = np.flatnonzero(encounters.second_hadm_id > 0)
    rows = np.concatenate([np.arange(size), split])
    second = np.arange(len(rows)) >= size
    ends = second | (encounters.second_hadm_id[rows] == 0)
    start = np.where(second, encounters.second_start[rows], visits.admit[rows])
    end = np.where(ends, visits.discharge[rows], encounters.first_end[rows])
    died = visits.died[rows] & ends
    inverted = ~visits.died[rows] & happens(rng, INVERTED, len(rows))
    register = np.where(second, 0, encounters.ed_register[rows])
    who = visits.subject[rows]
    frame = pl.DataFrame({
        "subject_id": subjects.subject_id[who],
        "hadm_id": np.where(second, encounters.second_hadm_id[rows], encounters.hadm_id[rows]),
        "admittime": moments(start),
        "dischtime": moments(np.where(inverted, start - minutes(rng, 240, 0.5, len(rows)), end)),
        "deathtime": moments(end, died),
        "admission_type": words(_TYPES, np.where(second, 2, encounters.admission_type[rows])),
        "admit_provider_id": providers(rng, len(rows)),
        "admission_location": words(_FROM, np.where(second, 2, encounters.admission_type[rows])),
        "discharge_location": words(_TO, np.where(ends, _destination(rng, visits)[rows], _TO.index("ACUTE HOSPITAL"))),
        "insurance": words(_INSURANCE, _insurance(rng, visits)[rows]),
        "language": words(("ENGLISH", "?"), subjects.language[who]),
        "marital_status": words(_MARITAL, subjects.marital[who]),
        "race": words(_RACES, subjects.race[who]),
        "edregtime": moments(register, register > 0),
        "edouttime": moments(start + minutes(rng, 60, 0.6, len(rows)), register > 0),
        "hospital_expire_flag": died.astype(np.int64),
    })  # fmt: skip
    return frame.sort("subject_id", "hadm_id")


def _destination(rng: np.random.Generator, visits: Visits) -> Ints:
    """The discharge location, which depends on age and residual severity of survivors."""
    age, last = (visits.age - 64) / 17, visits.severity[:, 2]
    limb_or_brain = np.isin(
        visits.syndrome, [i for i, s in enumerate(SYNDROMES) if s.service in ("ORTHO", "NMED")]
    )
    flat = np.zeros(len(visits))
    utility = np.stack([flat + 1.4, 0.5 + 0.3 * age, -0.8 + 0.8 * age + 0.4 * last,
                        -1.8 + 1.8 * limb_or_brain, -3.0 + 0.6 * last], axis=1)  # fmt: skip
    home = np.argmax(utility + rng.gumbel(size=utility.shape), axis=1)
    special = [visits.died, visits.hospice, visits.against_advice, visits.transferred]
    places = [_TO.index(place) for place in ("DIED", "HOSPICE", "AGAINST ADVICE", "ACUTE HOSPITAL")]
    return np.select(special, places, home).astype(np.int64)


def _insurance(rng: np.random.Generator, visits: Visits) -> Ints:
    size = len(visits)
    young = rng.choice(4, size, p=[0.12, 0.26, 0.5, 0.12])
    return np.where(visits.age >= 65, rng.choice(4, size, p=[0.86, 0.05, 0.06, 0.03]), young)


def transfers(
    rng: np.random.Generator, subjects: Subjects, visits: Visits, encounters: Encounters
) -> pl.DataFrame:
    """MIMIC-IV's transfers: emergency department, ward, intensive care, ward, discharge."""
    rows = np.arange(len(visits))
    nowhere = blanks(len(visits))
    icu, two = visits.icu_in > 0, encounters.second_hadm_id > 0
    end = np.where(two, encounters.first_end, visits.discharge)
    steps = [
        (
            "ED",
            ("Emergency Department",) * len(WARDS),
            encounters.ed_register,
            visits.admit,
            encounters.ed_register > 0,
        ),
        ("admit", WARDS, visits.admit, np.where(icu, visits.icu_in, end), visits.admit > 0),
        ("transfer", ICUS, visits.icu_in, visits.icu_out, icu),
        ("transfer", WARDS, visits.icu_out, visits.discharge, icu & (visits.icu_out < visits.discharge)),
        ("discharge", None, end, end, visits.admit > 0),
        ("admit", WARDS, encounters.second_start, visits.discharge, two),
        ("discharge", None, visits.discharge, visits.discharge, two),
    ]
    parts = [
        pl.DataFrame({
            "subject_id": subjects.subject_id[visits.subject[keep]],
            "hadm_id": encounters.hadm_at(rows[keep], start[keep]),
            "eventtype": [event] * int(keep.sum()),
            "careunit": words(units, visits.syndrome[keep]) if units else nowhere.head(int(keep.sum())),
            "intime": moments(start[keep]),
            "outtime": moments(stop[keep], np.full(int(keep.sum()), units is not None)),
        })
        for event, units, start, stop, keep in steps
    ]  # fmt: skip
    frame = pl.concat(parts).sort("subject_id", "intime", "eventtype", maintain_order=True)
    ids = rng.permutation(len(frame)) + encounters.block * 100_000 + 40_000_000
    return frame.insert_column(2, pl.Series("transfer_id", ids))


def services(subjects: Subjects, visits: Visits, encounters: Encounters) -> pl.DataFrame:
    """MIMIC-IV's services: one per visit."""
    return pl.DataFrame({
        "subject_id": subjects.subject_id[visits.subject],
        "hadm_id": encounters.hadm_id,
        "transfertime": moments(visits.admit + 60),
        "prev_service": blanks(len(visits)),
        "curr_service": words(tuple(s.service for s in SYNDROMES), visits.syndrome),
    })  # fmt: skip


def icustays(subjects: Subjects, visits: Visits, encounters: Encounters) -> pl.DataFrame:
    """MIMIC-IV's icustays: at most one per visit."""
    rows = np.flatnonzero(visits.icu_in > 0)
    unit = words(ICUS, visits.syndrome[rows])
    return pl.DataFrame({
        "subject_id": subjects.subject_id[visits.subject[rows]],
        "hadm_id": encounters.hadm_id[rows],
        "stay_id": encounters.stay_id[rows],
        "first_careunit": unit,
        "last_careunit": unit,
        "intime": moments(visits.icu_in[rows]),
        "outtime": moments(visits.icu_out[rows]),
        "los": (visits.icu_out[rows] - visits.icu_in[rows]) / DAY,
    })  # fmt: skip


def worst_axes(visits: Visits) -> Floats:
    """The organ axes at the most severe time of each stay, shape ``[visits, organ axes]``."""
    rows = np.arange(len(visits))
    moments_of = (visits.admit, np.minimum(visits.admit + DAY, visits.discharge), visits.discharge)
    return np.asarray(np.maximum.reduce([visits.axes_at(rows, moment) for moment in moments_of]))


def diagnoses_icd(
    rng: np.random.Generator, subjects: Subjects, visits: Visits, encounters: Encounters
) -> pl.DataFrame:
    """MIMIC-IV's diagnoses_icd: the reason for admission, complications, and nine in ten chronic conditions."""
    size = len(visits)
    peak = worst_axes(visits)
    excess = np.stack([peak[:, AXES.index(c.axis)] - c.threshold for c in COMPLICATIONS], axis=1)
    complicated = rng.random(excess.shape) < sigmoid(3 * excess)
    chronic = subjects.chronic[visits.subject] & (rng.random((size, len(CHRONIC))) < 0.9)
    coded = np.hstack([np.ones((size, 1), dtype=bool), complicated, chronic])
    rows, column = np.nonzero(coded)
    others: tuple[Complication | Condition, ...] = (*COMPLICATIONS, *CHRONIC)
    nine = np.array([[s.icd9, *(o.icd9 for o in others)] for s in SYNDROMES])
    ten = np.array([[s.icd10, *(o.icd10 for o in others)] for s in SYNDROMES])
    reason, version = visits.syndrome[rows], encounters.icd_version[rows]
    frame = pl.DataFrame({
        "subject_id": subjects.subject_id[visits.subject[rows]],
        "hadm_id": encounters.hadm_id[rows],
        "icd_code": np.where(version == 9, nine[reason, column], ten[reason, column]),
        "icd_version": version,
        "second": encounters.second_hadm_id[rows],
    }).unique(["hadm_id", "icd_code"], maintain_order=True)  # fmt: skip
    again = frame.filter(pl.col("second") > 0).with_columns(hadm_id="second")
    sequence = pl.int_range(1, pl.len() + 1).over("hadm_id").alias("seq_num")
    frame = pl.concat([frame, again]).with_columns(sequence).sort("subject_id", "hadm_id", "seq_num")
    return frame.select("subject_id", "hadm_id", "seq_num", "icd_code", "icd_version")


_OTHER_PROCEDURES = (("9671", "5A1935Z"), ("3995", "5A1D70Z"), ("9904", "30233N1"))
"""ICD-9-CM and ICD-10-PCS codes of mechanical ventilation, haemodialysis and red-cell transfusion."""


def procedures_icd(
    rng: np.random.Generator, subjects: Subjects, visits: Visits, encounters: Encounters
) -> pl.DataFrame:
    """MIMIC-IV's procedures_icd."""
    size = len(visits)
    usual = np.array([(0.98 if s.kind == "planned" else 0.7) if s.procedure else 0.0 for s in SYNDROMES])
    dialysed = has(subjects, "end_stage_renal_disease")[visits.subject]
    bleeding = worst_axes(visits) @ axis_vector({"bleeding": 1.0})
    done = np.stack(
        [happens(rng, usual[visits.syndrome], size), encounters.ventilated, dialysed, bleeding > 2.2], axis=1
    )
    rows, column = np.nonzero(done)
    pairs = np.array([[s.procedure or ("", ""), *_OTHER_PROCEDURES] for s in SYNDROMES])
    version = encounters.icd_version[rows]
    day = np.minimum(visits.admit[rows] + rng.integers(0, 2, len(rows)) * DAY, visits.discharge[rows])
    frame = pl.DataFrame({
        "subject_id": subjects.subject_id[visits.subject[rows]],
        "hadm_id": encounters.hadm_at(rows, day),
        "chartdate": dates(day),
        "icd_code": pairs[visits.syndrome[rows], column, np.where(version == 9, 0, 1)],
        "icd_version": version,
    }).with_columns(pl.int_range(1, pl.len() + 1).over("hadm_id").alias("seq_num"))  # fmt: skip
    return frame.select("subject_id", "hadm_id", "seq_num", "chartdate", "icd_code", "icd_version")
