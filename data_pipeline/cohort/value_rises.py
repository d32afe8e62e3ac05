"""Rises of a measured value over its own earlier values, such as acute kidney injury by creatinine."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from itertools import groupby
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from mediscale.core.concepts import by_name
from mediscale.core.tasks import ValueRise


class Value(NamedTuple):
    """A measured value with its bitemporal time."""

    time: datetime
    value: float
    available: datetime


def values_by_subject(latest: pa.Table, outcome: ValueRise) -> Mapping[int, tuple[Value, ...]]:
    """Each subject's values of the outcome's concept in order of time, from the latest assertion of each event."""
    measured = latest.filter(
        pc.and_(
            pc.equal(latest["code"].cast(pa.string()), by_name()[outcome.concept].code),
            pc.is_valid(latest["numeric_value"]),
        )
    )
    columns = ["subject_id", "time", "numeric_value", "available_time"]
    rows = measured.select(columns).sort_by([(name, "ascending") for name in columns]).to_pylist()
    return {
        int(subject): tuple(Value(row["time"], row["numeric_value"], row["available_time"]) for row in own)
        for subject, own in groupby(rows, key=lambda row: row["subject_id"])
    }


def onsets(values: tuple[Value, ...], outcome: ValueRise) -> Iterator[datetime]:
    """The times at which a value stood so far above an earlier one as the outcome asks.

    KDIGO's: by 0.3 mg/dL within 48 hours, or to 1.5 times within 7 days.

    >>> from mediscale.core.tasks import Rise
    >>> outcome = ValueRise.model_construct(rises=(Rise(by=0.3, within_hours=48), Rise(times=1.5, within_hours=168)))
    >>> at = [datetime(2150, 1, day) for day in (1, 2, 5, 6)]
    >>> values = tuple(Value(t, v, t) for t, v in zip(at, (1.0, 1.2, 1.3, 1.6), strict=True))
    >>> [onset.day for onset in onsets(values, outcome)]
    [6]
    """
    for i, (time, value, _) in enumerate(values):
        for rise in outcome.rises:
            start = time - timedelta(hours=rise.within_hours)
            lowest = min((v for t, v, _ in values[:i] if start <= t < time), default=None)
            if lowest is not None and _risen(value, lowest, rise.by, rise.times):
                yield time
                break


def _risen(value: float, lowest: float, by: float | None, times: float | None) -> bool:
    # A rise from 1.0 to 1.3 is one of 0.3, though not in binary fractions.
    least = lowest + by if by is not None else lowest * (times or 1)
    return value >= least - 1e-9
