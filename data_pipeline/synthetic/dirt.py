"""What is wrong in the synthetic extract, and how often: every rate is a share of the rows it names.

Rows that no reader can use add up to less than one in a hundred. Units that are right but different (temperature in
both scales, oxygen as fraction, creatinine in µmol/L) are not errors, and neither are corrections or late results.
"""

from typing import Final

import numpy as np
import polars as pl

from data_pipeline.synthetic.frames import Bools, Floats, Ints, happens, minutes

CORRECTED: Final = 0.005
"""Labs written twice with the same labevent_id: the later storetime holds the right value."""
LAB_UNIT: Final = 0.01
"""Creatinine in umol/L and glucose in mmol/L, labelled as such."""
LAB_UNIT_UNLABELLED: Final = 0.001
"""Creatinine in umol/L that says mg/dL."""
NEGATIVE: Final = 0.0005
"""Labs with the sign turned."""
UNREADABLE: Final = 0.003
"""Labs with words instead of a number."""
REPEATED: Final = 0.002
"""Lab and chart rows that stand in the file twice."""
UNLINKED: Final = 0.15
"""Draws during a stay without hadm_id; with those of the outpatient clinic, 19 % of all labs have none."""
HEART_RATE_ZERO: Final = 0.002
"""Charted heart rates: a monitor that fell off."""
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
    """First reports that were wrong, the rows to write again, and how many seconds later that is done."""
    rows = np.flatnonzero(happens(rng, CORRECTED, len(values)))
    error = rng.choice([-1.0, 1.0], len(rows)) * rng.uniform(1.0, 2.5, len(rows)) * spreads[rows]
    reported = values.copy()
    reported[rows] = np.where(logs[rows], values[rows] * np.exp(error), values[rows] + error)
    return reported, rows, minutes(rng, 200, 0.8, len(rows))


def mix_units(
    rng: np.random.Generator, items: Ints, values: Floats, units: pl.Series, decimals: Ints
) -> tuple[Floats, pl.Series, Ints]:
    """The same quantity in the unit that other laboratories use, labelled so, and rarely not labelled."""
    for item, (factor, unit, places) in _OTHER_UNIT.items():
        other = (items == item) & happens(rng, LAB_UNIT, len(items))
        silent = (
            (items == item) & ~other & happens(rng, LAB_UNIT_UNLABELLED * (item == CREATININE), len(items))
        )
        values = np.where(other | silent, values * factor, values)
        units = units.zip_with(pl.Series(~other), pl.Series([unit]).new_from_index(0, len(items)))
        decimals = np.where(other, places, decimals)
    return values, units, decimals


def turn_signs(rng: np.random.Generator, values: Floats) -> Floats:
    return np.where(happens(rng, NEGATIVE, len(values)), -np.abs(values), values)


def lose_numbers(rng: np.random.Generator, frame: pl.DataFrame) -> pl.DataFrame:
    """Words in ``value`` and nothing in ``valuenum``."""
    lost = pl.Series(happens(rng, UNREADABLE, len(frame)))
    reason = pl.Series(_NO_NUMBER).gather(pl.Series(rng.integers(0, len(_NO_NUMBER), len(frame))))
    return frame.with_columns(
        frame["value"].zip_with(~lost, reason),
        pl.when(lost).then(None).otherwise(frame["valuenum"]).alias("valuenum"),
    )


def repeat(rng: np.random.Generator, frame: pl.DataFrame) -> pl.DataFrame:
    """Some rows twice in a row, in every field the same."""
    times = 1 + happens(rng, REPEATED, len(frame)).astype(np.int64)
    return frame[np.repeat(np.arange(len(frame)), times)]
