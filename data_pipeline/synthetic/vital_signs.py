"""Synthetic vital signs as MIMIC-IV's chartevents.

MIMIC-IV charts only in intensive care. As an extension, this extract charts ward patients too, in the same table with
an empty stay_id, so that every visit has vital signs.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from data_pipeline.synthetic import dirt
from data_pipeline.synthetic.codes import AXES
from data_pipeline.synthetic.frames import (
    HOUR,
    Bools,
    Floats,
    Ints,
    digits,
    floor_to_minute,
    happens,
    minutes,
    moments,
    optional,
    repeated,
    sigmoid,
    words,
)
from data_pipeline.synthetic.hospital import Encounters
from data_pipeline.synthetic.items import (
    ADMISSION_WEIGHT,
    CHARTED,
    GCS_WORDS,
    HEIGHT,
    ITEMS,
    TEMPERATURE_FAHRENHEIT,
    VITALS,
)
from data_pipeline.synthetic.patients import Subjects, Visits, axis_vector

_LOADS = np.stack([axis_vector(vital.loads) for vital in VITALS], axis=1)
_AT = {vital.abbreviation: column for column, vital in enumerate(VITALS)}
_COLUMN = {vital.itemid: column for column, vital in enumerate(CHARTED)}
MAX_ROUNDS = 60


@dataclass(frozen=True)
class ObservationRounds:
    """Rounds of observations, in order of visit and time.

    They take place every 3 h, later 6 h, in intensive care, and every 8 h, later 16 h, on the ward; more often in the
    sick. ``rows`` are visits; ``axes`` has shape ``[rounds, organ axes]``.
    """

    rows: Ints
    seconds: Ints
    first: Bools
    intensive: Bools
    axes: Floats


def _rounds(rng: np.random.Generator, visits: Visits, encounters: Encounters) -> ObservationRounds:
    pace = np.where(visits.icu_in > 0, 3.0, 8.0) / (1 + 0.15 * np.clip(visits.severity[:, 0], 0, 3))
    hours = (visits.discharge - visits.admit) / HOUR
    early = np.ceil(np.minimum(hours, 24) / pace).astype(np.int64)
    late = np.floor(np.maximum(hours - 24, 0) / (2 * pace)).astype(np.int64)
    counts = np.minimum(early + late, MAX_ROUNDS)
    rows, turn = repeated(counts)
    step = np.where(turn < early[rows], turn, 2 * turn - early[rows]) * pace[rows]
    seconds = floor_to_minute(
        visits.admit[rows] + (step + rng.uniform(0.05, 0.5, len(rows)) * pace[rows]) * HOUR
    )
    keep = (seconds < visits.discharge[rows]) & ~encounters.between(rows, seconds) | (turn == 0)
    rows, seconds, turn = rows[keep], np.minimum(seconds, visits.discharge[rows])[keep], turn[keep]
    intensive = (
        (visits.icu_in[rows] > 0) & (seconds >= visits.icu_in[rows]) & (seconds < visits.icu_out[rows])
    )
    return ObservationRounds(rows, seconds, turn == 0, intensive, visits.axes_at(rows, seconds))


def _values(
    rng: np.random.Generator, subjects: Subjects, visits: Visits, rounds: ObservationRounds
) -> Floats:
    """The values of all vital signs, shape ``[rounds, vital signs]``; mean pressures are computed from the others."""
    person = rng.normal(0, 0.45, (len(subjects.birth), len(VITALS)))[visits.subject[rounds.rows]]
    z = rounds.axes @ _LOADS + person + rng.normal(0, 0.5, person.shape)
    centre, spread, low, high = (
        np.array([getattr(v, n) for v in VITALS]) for n in ("centre", "spread", "low", "high")
    )
    values = centre + spread * z
    for arterial, cuff in (("ABPs", "NBPs"), ("ABPd", "NBPd")):
        values[:, _AT[arterial]] = values[:, _AT[cuff]] + rng.normal(0, 4, len(z))
    for kind in ("NBP", "ABP"):
        upper, lower = values[:, _AT[f"{kind}s"]], values[:, _AT[f"{kind}d"]]
        values[:, _AT[f"{kind}d"]] = np.minimum(lower, upper - 8)
        values[:, _AT[f"{kind}m"]] = (upper + 2 * values[:, _AT[f"{kind}d"]]) / 3
    return np.asarray(np.clip(values, low, high))


def _charted(rng: np.random.Generator, rounds: ObservationRounds, ventilated: Bools) -> Bools:
    """Which vital signs were charted, shape ``[rounds, vital signs]``; some of them only where they are needed."""
    size = len(rounds.rows)
    lungs, heart, mind = (rounds.axes[:, AXES.index(a)] for a in ("respiratory", "circulatory", "neurologic"))
    line = rounds.intensive & (heart + rng.normal(0, 0.3, size) > 1.6)
    scale = happens(rng, sigmoid(-2.2 + 0.8 * mind + 2.2 * rounds.intensive), size)
    oxygen = ventilated[rounds.rows] & rounds.intensive | happens(rng, sigmoid(-3.2 + 1.3 * lungs), size)
    charted = np.empty((size, len(VITALS)), dtype=bool)
    for column, vital in enumerate(VITALS):
        need = {"GCS": scale, "Ins": oxygen, "Art": line}.get(vital.label[:3], np.ones(size, dtype=bool))
        charted[:, column] = need & happens(rng, 0.93, size)
    routine = [_AT[name] for name in ("HR", "NBPs", "NBPd", "NBPm", "RR", "SpO2", "Temperature C")]
    charted[np.ix_(np.flatnonzero(rounds.first), np.array(routine))] = True
    return charted


@dataclass(frozen=True)
class Observations:
    """Single observations: visit, time, column of ``CHARTED``, and value."""

    rows: Ints
    seconds: Ints
    column: Ints
    values: Floats


def _observations(
    rng: np.random.Generator, subjects: Subjects, visits: Visits, encounters: Encounters
) -> Observations:
    rounds = _rounds(rng, visits, encounters)
    turn, column = np.nonzero(_charted(rng, rounds, encounters.ventilated))
    values = _values(rng, subjects, visits, rounds)[turn, column]
    rows, seconds = rounds.rows[turn], rounds.seconds[turn]
    body_rows, body_seconds, body_column, body = _bodies(rng, subjects, visits)
    column, values = _fahrenheit(rng, column, values)
    twice = np.flatnonzero((column == _COLUMN[TEMPERATURE_FAHRENHEIT.itemid])
                           & happens(rng, dirt.TEMPERATURE_TWICE, len(rows)))  # fmt: skip
    celsius = np.full(len(twice), _AT["Temperature C"])
    return Observations(
        np.concatenate([rows, rows[twice], body_rows]),
        np.concatenate([seconds, seconds[twice], body_seconds]),
        np.concatenate([column, celsius, body_column]),
        np.concatenate([values, (values[twice] - 32) / 1.8, body]),
    )


def _fahrenheit(rng: np.random.Generator, column: Ints, values: Floats) -> tuple[Ints, Floats]:
    """Converts four in five temperatures to °F."""
    moved = (column == _AT["Temperature C"]) & happens(rng, 0.8, len(column))
    target = _COLUMN[TEMPERATURE_FAHRENHEIT.itemid]
    return np.where(moved, target, column), np.where(moved, values * 1.8 + 32, values)


def _bodies(rng: np.random.Generator, subjects: Subjects, visits: Visits) -> tuple[Ints, Ints, Ints, Floats]:
    """Weights and heights soon after admission: visits, times, columns and values."""
    rows = np.flatnonzero(happens(rng, np.where(visits.icu_in > 0, 0.95, 0.7), len(visits)))
    seconds = np.minimum(visits.admit[rows] + minutes(rng, 90, 0.6, len(rows)), visits.discharge[rows])
    weight = subjects.weight[visits.subject[rows]] * np.exp(rng.normal(0, 0.03, len(rows)))
    tall = happens(rng, 0.6, len(rows))
    return (
        np.concatenate([rows, rows[tall]]),
        np.concatenate([seconds, seconds[tall]]),
        np.repeat([_COLUMN[ADMISSION_WEIGHT.itemid], _COLUMN[HEIGHT.itemid]], [len(rows), int(tall.sum())]),
        np.concatenate([weight, subjects.height[visits.subject[rows[tall]]]]),
    )


def chartevents(
    rng: np.random.Generator, subjects: Subjects, visits: Visits, encounters: Encounters
) -> pl.DataFrame:
    """MIMIC-IV's chartevents, in order of visit and time."""
    observations = _observations(rng, subjects, visits, encounters)
    order = np.lexsort((observations.column, observations.seconds, observations.rows))
    rows, seconds, column, values = (
        getattr(observations, f)[order] for f in ("rows", "seconds", "column", "values")
    )
    size = len(rows)
    items = np.array([vital.itemid for vital in CHARTED])[column]
    decimals = np.array([vital.decimals for vital in CHARTED])[column]
    fraction = (column == _AT["FiO2"]) & happens(rng, dirt.FIO2_FRACTION, size)
    values = np.round(values * 10.0**decimals) / 10.0**decimals
    values = np.where(fraction, np.round(values / 100, 2), values)
    values = np.where((column == _AT["HR"]) & happens(rng, dirt.HEART_RATE_ZERO, size), 0.0, values)
    intensive = (
        (visits.icu_in[rows] > 0) & (seconds >= visits.icu_in[rows]) & (seconds < visits.icu_out[rows])
    )
    delay = minutes(rng, 14, 1.0, size)
    early = happens(rng, dirt.STORED_EARLY, size)
    units = words(tuple(vital.unit for vital in CHARTED), column)
    frame = pl.DataFrame({
        "subject_id": subjects.subject_id[visits.subject[rows]],
        "hadm_id": encounters.hadm_at(rows, seconds),
        "stay_id": optional(encounters.stay_id[rows], intensive),
        "caregiver_id": encounters.hadm_id[rows] % 900 + 10_000,
        "charttime": moments(seconds),
        "storetime": moments(np.where(early, seconds - delay, seconds + delay)),
        "itemid": items,
        "value": _as_charted(items, values, np.where(fraction, 2, decimals)),
        "valuenum": values,
        "valueuom": units.replace("", None),
        "warning": happens(rng, 0.01, size).astype(np.int64),
    })  # fmt: skip
    return dirt.repeat(rng, frame)


def _as_charted(items: Ints, values: Floats, decimals: Ints) -> pl.Series:
    """Numbers as text, and for the coma scale the words of its points."""
    text = digits(values, decimals)
    for item, scale in GCS_WORDS.items():
        points = np.where(items == item, values, 1).astype(np.int64) - 1
        text = text.zip_with(pl.Series(items != item), words(scale, np.clip(points, 0, len(scale) - 1)))
    return text


def d_items() -> pl.DataFrame:
    """MIMIC-IV's d_items: the dictionary of charted items and treatments."""
    charted = [(v.itemid, v.label, v.abbreviation, "chartevents", v.category, v.unit or None,
                "Text" if v.itemid in GCS_WORDS else "Numeric", None, None) for v in CHARTED]  # fmt: skip
    kinds = {"inputevents": "Solution", "outputevents": "Numeric", "procedureevents": "Processes"}
    others = [
        (i.itemid, i.label, i.label, i.linksto, i.category, i.unit, kinds[i.linksto], None, None)
        for i in ITEMS
    ]
    schema = ["itemid", "label", "abbreviation", "linksto", "category", "unitname", "param_type",
              "lownormalvalue", "highnormalvalue"]  # fmt: skip
    return pl.DataFrame([*charted, *others], schema=schema, orient="row").sort("itemid")
