"""Planted data-quality defects of the synthetic extract and their rates, each a share of the rows that it names.

Less than one row in a hundred is unusable. Units that are right but different (temperature in both scales, oxygen as a
fraction, creatinine in µmol/L) are no errors, and neither are corrections or late results.
"""

from typing import Final

import numpy as np
import polars as pl

from data_pipeline.synthetic.frames import Bools, Floats, Ints, happens, minutes

CORRECTED: Final = 0.005
"""Labs that are written twice with the same labevent_id; the row with the later storetime has the right value."""
LAB_UNIT: Final = 0.01
"""Creatinine in umol/L and glucose in mmol/L, with these units."""
LAB_UNIT_UNLABELLED: Final = 0.001
"""Creatinine in umol/L with the wrong unit mg/dL."""
NEGATIVE: Final = 0.0005
"""Labs with the wrong sign."""
UNREADABLE: Final = 0.003
"""Labs with words instead of a number."""
REPEATED: Final = 0.002
"""Lab and chart rows that are in the file twice."""
UNLINKED: Final = 0.15
"""Blood draws during a stay without hadm_id; with those of the outpatient clinic, 19 % of all labs have none."""
HEART_RATE_ZERO: Final = 0.002
"""Charted heart rates of 0, from a monitor that fell off."""
STORED_EARLY: Final = 0.06
"""Chart rows stored before the time they are charted for."""
TEMPERATURE_TWICE: Final = 0.08
"""Temperatures charted in °F and in °C for the same moment."""
FIO2_FRACTION: Final = 0.15
"""Inspired oxygen charted as 0.21-1 instead of percent."""

CREATININE, GLUCOSE, HEART_RATE = 50912, 50931, 220045
_OTHER_UNIT = {CREATININE: (88.42, "umol/L", 0), GLUCOSE: (1 / 18.016, "mmol/L", 1)}
_NO_NUMBER = ("HEMOLYZED", "UNABLE TO REPORT", "SPECIMEN CLOTTED", "ERROR")


def correct(
    rng: np.random.Generator, values: Floats, spreads: Floats, logs: Bools
) -> tuple[Floats, Ints, Ints]:
    """Plants wrong first reports: reported values, rows to correct, and delays of the corrections in seconds."""
    rows = np.flatnonzero(happens(rng, CORRECTED, len(values)))
    error = rng.choice([-1.0, 1.0], len(rows)) * rng.uniform(1.0, 2.5, len(rows)) * spreads[rows]
    reported = values.copy()
    reported[rows] = np.where(logs[rows], values[rows] * np.exp(error), values[rows] + error)
    return reported, rows, minutes(rng, 200, 0.8, len(rows))


def mix_units(
    rng: np.random.Generator, items: Ints, values: Floats, units: pl.Series, decimals: Ints
) -> tuple[Floats, pl.Series, Ints]:
    """Converts some values to another laboratory's unit, mostly with its label: values, units and decimals."""
    for item, (factor, unit, places) in _OTHER_UNIT.items():
        other = (items == item) & happens(rng, LAB_UNIT, len(items))
        unlabelled = (
            (items == item) & ~other & happens(rng, LAB_UNIT_UNLABELLED * (item == CREATININE), len(items))
        )
        values = np.where(other | unlabelled, values * factor, values)
        units = units.zip_with(pl.Series(~other), pl.Series([unit]).new_from_index(0, len(items)))
        decimals = np.where(other, places, decimals)
    return values, units, decimals


def turn_signs(rng: np.random.Generator, values: Floats) -> Floats:
    """Makes some values negative."""
    return np.where(happens(rng, NEGATIVE, len(values)), -np.abs(values), values)


def lose_numbers(rng: np.random.Generator, frame: pl.DataFrame) -> pl.DataFrame:
    """Replaces some numbers by words in ``value`` and null in ``valuenum``."""
    lost = pl.Series(happens(rng, UNREADABLE, len(frame)))
    reason = pl.Series(_NO_NUMBER).gather(pl.Series(rng.integers(0, len(_NO_NUMBER), len(frame))))
    return frame.with_columns(
        frame["value"].zip_with(~lost, reason),
        pl.when(lost).then(None).otherwise(frame["valuenum"]).alias("valuenum"),
    )


def repeat(rng: np.random.Generator, frame: pl.DataFrame) -> pl.DataFrame:
    """Repeats some rows exactly, each directly after the first."""
    times = 1 + happens(rng, REPEATED, len(frame)).astype(np.int64)
    return frame[np.repeat(np.arange(len(frame)), times)]
