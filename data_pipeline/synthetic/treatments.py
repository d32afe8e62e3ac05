"""Synthetic treatments and outputs: orders, infusions, ventilation, dialysis and urine.

An order is known when it is written, and the amount of an infusion when it ends. Some storetimes precede the time
charted, as in MIMIC-IV's outputevents (16 %) and, for the final amount, its inputevents.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from data_pipeline.synthetic.codes import AXES, SYNDROMES, Axis
from data_pipeline.synthetic.frames import (
    DAY,
    HOUR,
    Bools,
    Ints,
    blanks,
    floor_to_minute,
    happens,
    minutes,
    moments,
    providers,
    repeated,
    sigmoid,
)
from data_pipeline.synthetic.hospital import Encounters
from data_pipeline.synthetic.items import (
    CRRT,
    DRUGS,
    FOLEY,
    INVASIVE_VENTILATION,
    NONINVASIVE_VENTILATION,
    NOREPINEPHRINE,
    PROPOFOL,
    SALINE,
    VASOPRESSIN,
    VOID,
    Item,
)
from data_pipeline.synthetic.patients import Subjects, Visits, axis_vector, has

URINE_STORED_EARLY = 0.16


def prescriptions(
    rng: np.random.Generator, subjects: Subjects, visits: Visits, encounters: Encounters
) -> pl.DataFrame:
    """MIMIC-IV's prescriptions, by chronic conditions, infection and organ failure at admission."""
    size = len(visits)
    axes = visits.axes_at(np.arange(size), visits.admit)
    infected = np.array([s.infection for s in SYNDROMES])[visits.syndrome]
    logit = np.stack([
        drug.base + axes @ axis_vector(drug.loads) + 3.0 * (infected & drug.antibiotic)
        + (3.0 * has(subjects, drug.condition)[visits.subject] if drug.condition else 0.0)
        for drug in DRUGS
    ], axis=1)  # fmt: skip
    rows, column = np.nonzero(rng.random(logit.shape) < sigmoid(logit))
    count = len(rows)
    start, stop = _order_times(rng, visits, encounters, rows)
    catalogue = pl.DataFrame(
        [(d.name, d.code, d.dose, d.unit, d.route) for d in DRUGS],
        schema=["drug", "formulary_drug_cd", "dose_val_rx", "dose_unit_rx", "route"],
        orient="row",
    )[column]
    sequence = np.arange(count) + 1
    who = subjects.subject_id[visits.subject[rows]]
    empty = blanks(count)
    frame = pl.DataFrame({
        "subject_id": who,
        "hadm_id": encounters.hadm_at(rows, start),
        "pharmacy_id": sequence + encounters.block * 1_000_000,
        "poe_id": pl.Series(who).cast(pl.String) + "-" + pl.Series(sequence % 997).cast(pl.String),
        "poe_seq": sequence % 997,
        "order_provider_id": providers(rng, count),
        "starttime": moments(start),
        "stoptime": moments(stop),
        "drug_type": ["MAIN"] * count,
        "drug": catalogue["drug"],
        "formulary_drug_cd": catalogue["formulary_drug_cd"],
        "gsn": empty, "ndc": empty, "prod_strength": empty, "form_rx": empty,
        "dose_val_rx": catalogue["dose_val_rx"],
        "dose_unit_rx": catalogue["dose_unit_rx"],
        "form_val_disp": empty, "form_unit_disp": empty, "doses_per_24_hrs": empty,
        "route": catalogue["route"],
    })  # fmt: skip
    return frame.sort("subject_id", "starttime", "drug", maintain_order=True)


def _order_times(
    rng: np.random.Generator, visits: Visits, encounters: Encounters, rows: Ints
) -> tuple[Ints, Ints]:
    """Start and stop of drug orders of the visits ``rows``, on the hour."""
    end, length = visits.discharge[rows], visits.discharge[rows] - visits.admit[rows]
    start = visits.admit[rows] + np.minimum(rng.exponential(8 * HOUR, len(rows)), 0.9 * length).astype(
        np.int64
    )
    start = (start // HOUR + 1) * HOUR
    start = np.where(encounters.between(rows, start), encounters.second_start[rows], start)
    start = np.minimum(start, end)
    days = 1 + rng.exponential(3, len(rows))
    return start, np.minimum(start + (days * DAY).astype(np.int64) // HOUR * HOUR, end)


def _intensive(rng: np.random.Generator, visits: Visits, axis: Axis, threshold: float) -> Bools:
    """Which visits need the treatment: in intensive care, by how much the organ fails at the start of it."""
    axes = visits.axes_at(np.arange(len(visits)), np.maximum(visits.icu_in, visits.admit))
    needs = sigmoid(2.0 * (axes[:, AXES.index(axis)] - threshold))
    return (visits.icu_in > 0) & happens(rng, needs, len(visits))


def _course(rng: np.random.Generator, visits: Visits, rows: Ints, hours: float) -> tuple[Ints, Ints]:
    """Start and end of a treatment: soon after the start of intensive care, and at the latest its end."""
    room = visits.icu_out[rows] - visits.icu_in[rows]
    start = visits.icu_in[rows] + np.minimum(minutes(rng, 60, 0.8, len(rows)), room // 2)
    return start, np.minimum(start + minutes(rng, hours * 60, 0.7, len(rows)), visits.icu_out[rows])


@dataclass(frozen=True)
class Infusion:
    """A continuous infusion: its median length, amount per hour in ``unit``, and the unit of its charted rate."""

    item: Item
    hours: float
    hourly: float
    unit: str
    rate_unit: str
    category: str = "01-Drips"


INFUSIONS = (
    Infusion(NOREPINEPHRINE, 20.0, 0.6, "mg", "mcg/kg/min"),
    Infusion(VASOPRESSIN, 16.0, 2.4, "units", "units/hour"),
    Infusion(PROPOFOL, 24.0, 140.0, "mg", "mcg/kg/min"),
    Infusion(SALINE, 6.0, 120.0, "ml", "mL/hour", "02-Fluids (Crystalloids)"),
)


def inputevents(
    rng: np.random.Generator, subjects: Subjects, visits: Visits, encounters: Encounters
) -> pl.DataFrame:
    """MIMIC-IV's inputevents: continuous infusions in intensive care."""
    pressor = _intensive(rng, visits, "circulatory", 2.0)
    second = pressor & _intensive(rng, visits, "circulatory", 3.2)
    needed = (pressor, second, encounters.ventilated, visits.icu_in > 0)
    parts = [
        _infusions(rng, subjects, visits, encounters, np.flatnonzero(treated), number)
        for number, treated in enumerate(needed)
    ]
    return pl.concat(parts).sort("subject_id", "starttime", "itemid", maintain_order=True)


def _infusions(
    rng: np.random.Generator,
    subjects: Subjects,
    visits: Visits,
    encounters: Encounters,
    rows: Ints,
    number: int,
) -> pl.DataFrame:
    size, infusion = len(rows), INFUSIONS[number]
    start, end = _course(rng, visits, rows, infusion.hours)
    hours = (end - start) / HOUR
    weight = np.round(subjects.weight[visits.subject[rows]], 1)
    total = np.round(infusion.hourly * hours * np.exp(0.4 * rng.standard_normal(size)), 3)
    rate = total / np.maximum(hours, 0.1)
    rate = np.round(rate / weight * 1000 / 60 if infusion.rate_unit == "mcg/kg/min" else rate, 4)
    before_end = happens(rng, 0.5, size)
    stored = np.where(before_end, start + minutes(rng, 10, 0.8, size), end + minutes(rng, 15, 1.0, size))
    order, none = encounters.stay_id[rows] * 10 + number, np.zeros(size, dtype=np.int64)
    return pl.DataFrame({
        **_bedside(subjects, visits, encounters, rows),
        "starttime": moments(start), "endtime": moments(end), "storetime": moments(stored),
        "itemid": np.full(size, infusion.item.itemid),
        "amount": total, "amountuom": [infusion.unit] * size, "rate": rate, "rateuom": [infusion.rate_unit] * size,
        "orderid": order, "linkorderid": order,
        "ordercategoryname": [infusion.category] * size, "secondaryordercategoryname": blanks(size),
        "ordercomponenttypedescription": ["Main order parameter"] * size,
        "ordercategorydescription": ["Continuous Med"] * size,
        "patientweight": weight, "totalamount": total, "totalamountuom": [infusion.unit] * size,
        "isopenbag": none, "continueinnextdept": none,
        "statusdescription": ["FinishedRunning"] * size, "originalamount": total, "originalrate": rate,
    })  # fmt: skip


def _bedside(
    subjects: Subjects, visits: Visits, encounters: Encounters, rows: Ints
) -> dict[str, Ints | pl.Series]:
    return {
        "subject_id": subjects.subject_id[visits.subject[rows]],
        "hadm_id": encounters.hadm_id[rows],
        "stay_id": encounters.stay_id[rows],
        "caregiver_id": encounters.hadm_id[rows] % 900 + 10_000,
    }


def outputevents(
    rng: np.random.Generator, subjects: Subjects, visits: Visits, encounters: Encounters
) -> pl.DataFrame:
    """MIMIC-IV's outputevents: urine every six hours in intensive care, and little where the kidneys fail."""
    counts = np.maximum((visits.icu_out - visits.icu_in) // (6 * HOUR), 0) * (visits.icu_in > 0)
    rows, turn = repeated(counts)
    time = floor_to_minute(visits.icu_in[rows] + (turn + 1) * 6 * HOUR - 30 * 60)
    kidney = visits.axes_at(rows, time) @ axis_vector({"renal": -0.45, "circulatory": -0.15})
    volume = np.round(420 * np.exp(kidney + 0.4 * rng.standard_normal(len(rows))) / 5) * 5
    early = happens(rng, URINE_STORED_EARLY, len(rows))
    delay = minutes(rng, 12, 0.9, len(rows))
    catheter = encounters.ventilated[rows] | happens(rng, 0.7, len(rows))
    return pl.DataFrame({
        **_bedside(subjects, visits, encounters, rows),
        "charttime": moments(time),
        "storetime": moments(np.where(early, time - delay, time + delay)),
        "itemid": np.where(catheter, FOLEY.itemid, VOID.itemid),
        "value": np.clip(volume, 0, 2500),
        "valueuom": ["ml"] * len(rows),
    })  # fmt: skip


def procedureevents(
    rng: np.random.Generator, subjects: Subjects, visits: Visits, encounters: Encounters
) -> pl.DataFrame:
    """MIMIC-IV's procedureevents: ventilation and dialysis in intensive care."""
    mask = _intensive(rng, visits, "respiratory", 2.2) & ~encounters.ventilated
    filtered = _intensive(rng, visits, "renal", 3.4)
    courses = (
        (encounters.ventilated, INVASIVE_VENTILATION, 44.0, "Ventilation"),
        (mask, NONINVASIVE_VENTILATION, 12.0, "Ventilation"),
        (filtered, CRRT, 40.0, "Dialysis"),
    )
    parts = []
    for number, (treated, item, hours, category) in enumerate(courses):
        rows = np.flatnonzero(treated)
        size, (start, end) = len(rows), _course(rng, visits, rows, hours)
        minutes_given = ((end - start) // 60).astype(np.float64)
        order = encounters.stay_id[rows] * 10 + 5 + number
        weight = np.round(subjects.weight[visits.subject[rows]], 1)
        none = np.zeros(size, dtype=np.int64)
        parts.append(pl.DataFrame({
            **_bedside(subjects, visits, encounters, rows),
            "starttime": moments(start), "endtime": moments(end),
            "storetime": moments(end + minutes(rng, 10, 1.0, size)),
            "itemid": np.full(size, item.itemid), "value": minutes_given, "valueuom": ["min"] * size,
            "location": blanks(size), "locationcategory": blanks(size), "orderid": order, "linkorderid": order,
            "ordercategoryname": [category] * size, "ordercategorydescription": ["ContinuousProcess"] * size,
            "patientweight": weight, "isopenbag": none, "continueinnextdept": none,
            "statusdescription": ["FinishedRunning"] * size, "ORIGINALAMOUNT": minutes_given,
            "ORIGINALRATE": np.ones(size, dtype=np.int64),
        }))  # fmt: skip
    return pl.concat(parts).sort("subject_id", "starttime", "itemid", maintain_order=True)
