"""Helpers for arrays and frames: random streams, times in seconds, optional values, and columns as in MIMIC-IV."""

import zlib

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

MINUTE, HOUR, DAY = 60, 3_600, 86_400
"""Durations in seconds. Times are int64 seconds since 1970 by the hospital's local clock."""


def stream(seed: int, block: int, name: str) -> np.random.Generator:
    """The random stream of one table in one block of patients; a change of one table leaves the others as they are."""
    return np.random.default_rng([seed, block, zlib.crc32(name.encode())])


def sigmoid(logit: Floats) -> Floats:
    """The logistic function."""
    return np.asarray(1.0 / (1.0 + np.exp(-logit)), dtype=np.float64)


def happens(rng: np.random.Generator, probability: Floats | float, size: int) -> Bools:
    """One Bernoulli draw for each of ``size`` elements."""
    return np.asarray(rng.random(size) < probability, dtype=np.bool_)


def minutes(rng: np.random.Generator, median: Floats | float, spread: float, size: int) -> Ints:
    """Log-normal delays in seconds, rounded up to whole minutes; ``median`` is in minutes."""
    drawn = np.asarray(median, dtype=np.float64) * np.exp(spread * rng.standard_normal(size))
    return np.ceil(drawn).astype(np.int64) * MINUTE


def floor_to_minute(seconds: Ints | Floats) -> Ints:
    """Times in seconds, rounded down to whole minutes."""
    return (np.asarray(seconds).astype(np.int64) // MINUTE) * MINUTE


def repeated(counts: Ints) -> tuple[Ints, Ints]:
    """Each index as often as counted, and which time it is, from 0 on."""
    of = np.repeat(np.arange(len(counts)), counts)
    return of, np.arange(len(of)) - np.repeat(np.cumsum(counts) - counts, counts)


def moments(seconds: Ints, present: Bools | None = None) -> pl.Series:
    """Times in seconds as a timestamp column, null where not ``present``."""
    times = pl.Series(seconds * 1_000_000).cast(pl.Datetime("us"))
    return times if present is None else optional(times, present)


def dates(seconds: Ints, present: Bools | None = None) -> pl.Series:
    """Times in seconds as a date column, null where not ``present``."""
    days = pl.Series(seconds // DAY).cast(pl.Int32).cast(pl.Date)
    return days if present is None else optional(days, present)


def optional(values: pl.Series | Ints | Floats, present: Bools) -> pl.Series:
    """The values, null where not ``present``; MIMIC writes a missing number as an empty field."""
    series = values if isinstance(values, pl.Series) else pl.Series(values)
    return series.zip_with(
        pl.Series(present), pl.Series([None], dtype=series.dtype).new_from_index(0, len(series))
    )


def words(choices: tuple[str, ...], index: Ints) -> pl.Series:
    """The word of each index, as a string column."""
    return pl.Series(choices, dtype=pl.String).gather(pl.Series(index))


def blanks(size: int) -> pl.Series:
    """An empty column, for columns of MIMIC that this extract does not fill."""
    return pl.Series([None], dtype=pl.String).new_from_index(0, size)


def digits(values: Floats, decimals: Ints) -> pl.Series:
    """Numbers as a laboratory prints them; those with no ``decimals`` have no decimal point."""
    text = pl.Series(values).cast(pl.String)
    return text.zip_with(pl.Series(decimals > 0), text.str.strip_suffix(".0"))


def providers(rng: np.random.Generator, size: int) -> pl.Series:
    """Random provider identifiers in MIMIC-IV's pattern (P, two digits, two letters, one digit)."""
    letters = [chr(a) + chr(b) for a in range(65, 91) for b in range(65, 91, 5)]
    names = tuple(f"P{n % 90 + 10}{letters[n * 7 % len(letters)]}{n % 7}" for n in range(400))
    return words(names, rng.integers(0, len(names), size))
