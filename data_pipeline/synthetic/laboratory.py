"""Synthetic laboratory results, microbiology and outpatient measurements.

Sicker patients are measured more often and more widely; a result is known minutes to hours after the draw, a culture
about three days after (median 73 h, as in MIMIC-IV).
"""

from dataclasses import dataclass
from typing import get_args

import numpy as np
import polars as pl

from data_pipeline.synthetic import dirt
from data_pipeline.synthetic.codes import AXES, SYNDROMES
from data_pipeline.synthetic.frames import (
    DAY,
    HOUR,
    Bools,
    Floats,
    Ints,
    blanks,
    dates,
    digits,
    floor_to_minute,
    happens,
    minutes,
    moments,
    optional,
    providers,
    repeated,
    sigmoid,
    words,
)
from data_pipeline.synthetic.hospital import Encounters
from data_pipeline.synthetic.items import ANTIBIOTICS, LABS, ORDERS, ORGANISMS, Panel
from data_pipeline.synthetic.patients import CHRONIC_AXES, START, Subjects, Visits, axis_vector

PANELS: tuple[Panel, ...] = get_args(Panel)
_LOADS = np.stack([axis_vector(lab.loads) for lab in LABS], axis=1)
_PANEL = np.array([PANELS.index(lab.panel) for lab in LABS])
_AT = {lab.label: column for column, lab in enumerate(LABS)}
MAX_DRAWS = 30


@dataclass(frozen=True)
class Clinics:
    """Outpatient appointments before a visit, which ``rows`` gives; times are seconds since 1970."""

    rows: Ints
    seconds: Ints


@dataclass(frozen=True)
class Draws:
    """Blood draws in order of patient and time; ``severity`` and ``axes`` are those at the time of the draw."""

    rows: Ints
    seconds: Ints
    hadm_id: Ints
    urgent: Bools
    severity: Floats
    axes: Floats


def draw_clinics(rng: np.random.Generator, visits: Visits, encounters: Encounters) -> Clinics:
    """Up to two appointments in the half year before a visit, never during or just after an earlier visit."""
    counts = rng.choice(3, len(visits), p=[0.55, 0.3, 0.15])
    rows = np.repeat(np.arange(len(visits)), counts)
    day = encounters.arrival(visits)[rows] // DAY - rng.integers(6, 180, len(rows))
    seconds = floor_to_minute(day * DAY + rng.uniform(8, 16, len(rows)) * HOUR)
    same = np.concatenate([[False], visits.subject[1:] == visits.subject[:-1]])
    before = np.where(same, np.roll(visits.discharge, 1), START) + 2 * DAY
    keep = seconds > before[rows]
    order = np.lexsort((seconds[keep], rows[keep]))
    return Clinics(rows[keep][order], seconds[keep][order])


def _draws(
    rng: np.random.Generator, subjects: Subjects, visits: Visits, encounters: Encounters, clinics: Clinics
) -> Draws:
    every = np.clip(24 / (1 + 0.25 * np.maximum(visits.severity[:, 0], 0)), 8, 24) * HOUR
    counts = np.minimum((visits.discharge - visits.admit) / every + 1, MAX_DRAWS).astype(np.int64)
    routine, turn = repeated(counts)
    wait = (turn + rng.uniform(0.02, 0.3, len(routine))) * every[routine]
    exact = floor_to_minute(visits.admit[routine] + wait)
    inside = (exact < visits.discharge[routine]) & ~encounters.between(routine, exact)
    routine, exact = routine[inside], exact[inside]
    door = np.flatnonzero((encounters.ed_register > 0) & happens(rng, 0.92, len(visits)))
    in_stay = np.concatenate([door, routine])
    at_door = np.minimum(
        encounters.ed_register[door] + minutes(rng, 35, 0.5, len(door)), visits.admit[door] - 60
    )
    seconds = np.concatenate([at_door, exact])
    linked = ~happens(rng, dirt.UNLINKED, len(in_stay))
    hadm = np.where(linked, encounters.hadm_at(in_stay, seconds), 0)
    at_rest = subjects.chronic[visits.subject[clinics.rows]] @ CHRONIC_AXES
    urgent = np.concatenate([np.ones(len(door), dtype=bool), visits.icu_in[routine] > 0])
    draws = Draws(
        rows=np.concatenate([in_stay, clinics.rows]),
        seconds=np.concatenate([seconds, clinics.seconds]),
        hadm_id=np.concatenate([hadm, np.zeros(len(clinics.rows), dtype=np.int64)]),
        urgent=np.concatenate([urgent, np.zeros(len(clinics.rows), dtype=bool)]),
        severity=np.concatenate([visits.severity_at(in_stay, seconds), np.full(len(clinics.rows), -1.0)]),
        axes=np.concatenate([visits.axes_at(in_stay, seconds), at_rest]),
    )
    order = np.lexsort((draws.seconds, draws.rows))
    return Draws(*(getattr(draws, name)[order] for name in Draws.__dataclass_fields__))


def _ordered(rng: np.random.Generator, draws: Draws) -> Bools:
    """Which labs were ordered and reported, shape ``[draws, labs]``."""
    size = len(draws.rows)
    ordered = np.stack([
        happens(rng, sigmoid(o.base + o.severity * draws.severity + draws.axes @ axis_vector(o.loads)), size)
        for o in (ORDERS[panel] for panel in PANELS)
    ], axis=1)  # fmt: skip
    return np.asarray(ordered[:, _PANEL] & (rng.random((size, len(LABS))) < 0.97))


def _values(rng: np.random.Generator, subjects: Subjects, visits: Visits, draws: Draws) -> Floats:
    """The values in each lab's unit, shape ``[draws, labs]``; anion gap and haematocrit are computed from others."""
    person = rng.normal(0, 0.5, (len(subjects.birth), len(LABS)))[visits.subject[draws.rows]]
    z = draws.axes @ _LOADS + person + rng.normal(0, 0.4, person.shape)
    centre, spread = (np.array([getattr(lab, name) for lab in LABS]) for name in ("centre", "spread"))
    log = np.array([lab.log for lab in LABS])
    values = np.where(
        log, centre * np.exp(spread * np.minimum(z, 6)), np.maximum(centre + spread * z, 0.2 * centre)
    )
    ions = [values[:, _AT[name]] for name in ("Sodium", "Chloride", "Bicarbonate")]
    values[:, _AT["Anion Gap"]] = np.maximum(ions[0] - ions[1] - ions[2] + rng.normal(0, 0.7, len(z)), 2)
    values[:, _AT["Hematocrit"]] = 2.95 * values[:, _AT["Hemoglobin"]] + rng.normal(0, 0.9, len(z))
    return values


def labevents(
    rng: np.random.Generator, subjects: Subjects, visits: Visits, encounters: Encounters, clinics: Clinics,
    first_id: int,
) -> pl.DataFrame:  # fmt: skip
    """MIMIC-IV's labevents, with defects of data quality."""
    draws = _draws(rng, subjects, visits, encounters, clinics)
    draw, lab = np.nonzero(_ordered(rng, draws))
    values = _values(rng, subjects, visits, draws)[draw, lab]
    delays = np.array([ORDERS[entry.panel].delay_minutes for entry in LABS])[lab]
    panel_delay = minutes(rng, 1.0, 0.0, 1)[0] * np.exp(
        0.55 * rng.standard_normal((len(draws.rows), len(PANELS)))
    )
    available = floor_to_minute(draws.seconds[draw] + delays * panel_delay[draw, _PANEL[lab]] + 60)
    spreads = np.array([entry.spread for entry in LABS])[lab]
    logs = np.array([entry.log for entry in LABS])[lab]
    reported, corrections, later = dirt.correct(rng, values, spreads, logs)
    rows = np.concatenate([np.arange(len(draw)), corrections])
    frame = _lab_rows(
        rng, draws, draw[rows], lab[rows],
        values=np.concatenate([reported, values[corrections]]),
        stored=np.concatenate([available, available[corrections] + later]),
        corrected=np.arange(len(rows)) >= len(draw),
    ).with_columns(labevent_id=pl.Series(rows + first_id))  # fmt: skip
    who = subjects.subject_id[visits.subject[draws.rows[draw[rows]]]]
    frame = frame.insert_column(1, pl.Series("subject_id", who))
    frame = frame.with_columns(specimen_id=pl.col("specimen_id") + first_id)
    return dirt.repeat(
        rng, dirt.lose_numbers(rng, frame.sort("labevent_id", "storetime", maintain_order=True))
    )


def _lab_rows(
    rng: np.random.Generator,
    draws: Draws,
    draw: Ints,
    lab: Ints,
    values: Floats,
    stored: Ints,
    corrected: Bools,
) -> pl.DataFrame:
    """MIMIC-IV's labevents without subject_id; a value below the detection limit is written ``<0.01``, with 0.01."""
    items = np.array([entry.itemid for entry in LABS])[lab]
    units = words(tuple(entry.unit for entry in LABS), lab)
    decimals = np.array([entry.decimals for entry in LABS])[lab]
    low, high = (np.array([getattr(entry, name) for entry in LABS])[lab] for name in ("low", "high"))
    outside = (values < low) | (values > high)
    values, units, decimals = dirt.mix_units(rng, items, values, units, decimals)
    values = dirt.turn_signs(rng, np.round(values * 10.0**decimals) / 10.0**decimals)
    undetected = (items == LABS[_AT["Troponin T"]].itemid) & (np.abs(values) < 0.01)
    values = np.where(undetected, 0.01, values)
    text = digits(values, decimals)
    return pl.DataFrame({
        "labevent_id": np.zeros(len(draw), dtype=np.int64),
        "hadm_id": optional(draws.hadm_id[draw], draws.hadm_id[draw] > 0),
        "specimen_id": draw * len(PANELS) + _PANEL[lab],
        "itemid": items,
        "order_provider_id": providers(rng, len(draw)).zip_with(
            pl.Series(happens(rng, 0.3, len(draw))), blanks(len(draw))),
        "charttime": moments(draws.seconds[draw]),
        "storetime": moments(stored),
        "value": text.zip_with(pl.Series(~undetected), "<" + text),
        "valuenum": values,
        "valueuom": units.zip_with(units != "", blanks(len(draw))),
        "ref_range_lower": low,
        "ref_range_upper": high,
        "flag": words(("", "abnormal"), outside.astype(np.int64)).replace("", None),
        "priority": words(("ROUTINE", "STAT"), draws.urgent[draw].astype(np.int64)),
        "comments": words(("", "CORRECTED RESULT."), corrected.astype(np.int64)).replace("", None),
    })  # fmt: skip


def d_labitems() -> pl.DataFrame:
    return pl.DataFrame(
        [(lab.itemid, lab.label, "Blood", lab.category) for lab in LABS],
        schema=["itemid", "label", "fluid", "category"],
        orient="row",
    ).sort("itemid")


def omr(rng: np.random.Generator, subjects: Subjects, visits: Visits, clinics: Clinics) -> pl.DataFrame:
    """What the clinic noted: dates without a time."""
    who = visits.subject[clinics.rows]
    size = len(who)
    weight = subjects.weight[who] * np.exp(rng.normal(0, 0.02, size)) * 2.2046
    height = subjects.height[who] / 2.54
    pressure = (rng.normal(128, 15, size), rng.normal(74, 9, size))
    results = {
        "Weight (Lbs)": [f"{x:.0f}" for x in weight],
        "Height (Inches)": [f"{x:.0f}" for x in height],
        "BMI (kg/m2)": [f"{x:.1f}" for x in weight / height**2 * 703],
        "Blood Pressure": [f"{s:.0f}/{d:.0f}" for s, d in zip(*pressure, strict=True)],
    }
    parts = [
        pl.DataFrame({
            "subject_id": subjects.subject_id[who], "chartdate": dates(clinics.seconds),
            "seq_num": np.ones(size, dtype=np.int64), "result_name": [name] * size, "result_value": values,
        })
        for name, values in results.items()
    ]  # fmt: skip
    return (
        pl.concat(parts)
        .unique(["subject_id", "chartdate", "result_name"], maintain_order=True)
        .sort("subject_id", "chartdate", "result_name")
    )


def _cultures(
    rng: np.random.Generator, visits: Visits, encounters: Encounters
) -> tuple[Ints, Bools, Ints, Ints, Bools]:
    """Cultures of blood and urine: each one's visit, whether it is of urine, when it was drawn and resulted, whether
    something grew."""
    size = len(visits)
    fever = visits.axes_at(np.arange(size), visits.admit)[:, AXES.index("inflammation")]
    infected = np.array([s.infection for s in SYNDROMES])[visits.syndrome]
    suspected = sigmoid(-3.0 + 0.8 * fever + 3.0 * infected)
    blood, urine = (np.flatnonzero(happens(rng, suspected * share, size)) for share in (1.0, 0.6))
    rows = np.concatenate([blood, urine])
    is_urine = np.arange(len(rows)) >= len(blood)
    drawn = np.minimum(
        encounters.arrival(visits)[rows] + minutes(rng, 150, 0.8, len(rows)), visits.discharge[rows]
    )
    grown = happens(rng, sigmoid(-2.6 + 0.6 * fever[rows] + 0.9 * infected[rows] + 0.5 * is_urine), len(rows))
    return rows, is_urine, drawn, drawn + minutes(rng, 73 * 60, 0.3, len(rows)), grown


def microbiologyevents(
    rng: np.random.Generator, subjects: Subjects, visits: Visits, encounters: Encounters, first_id: int
) -> pl.DataFrame:
    """Cultures on suspicion; a positive one has a row for each antibiotic tested."""
    rows, is_urine, drawn, resulted, grown = _cultures(rng, visits, encounters)
    of, antibiotic = repeated(np.where(grown, len(ANTIBIOTICS), 1))
    organism = rng.integers(0, len(ORGANISMS), len(rows))[of]
    present = grown[of]
    empty = blanks(len(of))
    frame = pl.DataFrame({
        "microevent_id": np.arange(len(of)) + first_id,
        "subject_id": subjects.subject_id[visits.subject[rows[of]]],
        "hadm_id": encounters.hadm_at(rows[of], drawn[of]),
        "micro_specimen_id": of + first_id,
        "order_provider_id": empty,
        "chartdate": moments(drawn[of] // DAY * DAY),
        "charttime": moments(drawn[of]),
        "spec_itemid": np.where(is_urine[of], 70079, 70012),
        "spec_type_desc": words(("BLOOD CULTURE", "URINE"), is_urine[of].astype(np.int64)),
        "test_seq": np.ones(len(of), dtype=np.int64),
        "storedate": moments(resulted[of] // DAY * DAY),
        "storetime": moments(resulted[of]),
        "test_itemid": np.where(is_urine[of], 90039, 90201),
        "test_name": words(("Blood Culture, Routine", "URINE CULTURE"), is_urine[of].astype(np.int64)),
        "org_itemid": optional(np.array([o[0] for o in ORGANISMS])[organism], present),
        "org_name": optional(words(tuple(o[1] for o in ORGANISMS), organism), present),
        "isolate_num": optional(np.ones(len(of), dtype=np.int64), present),
        "quantity": empty,
        "ab_itemid": optional(np.array([a[0] for a in ANTIBIOTICS])[antibiotic], present),
        "ab_name": optional(words(tuple(a[1] for a in ANTIBIOTICS), antibiotic), present),
        "dilution_text": empty, "dilution_comparison": empty, "dilution_value": empty,
        "interpretation": optional(words(("S", "I", "R"), rng.choice(3, len(of), p=[0.75, 0.07, 0.18])), present),
        "comments": optional(words(("NO GROWTH.",), np.zeros(len(of), dtype=np.int64)), ~present),
    })  # fmt: skip
    return frame.sort("subject_id", "charttime", "microevent_id")
