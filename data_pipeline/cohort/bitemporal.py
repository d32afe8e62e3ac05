"""Bitemporal events: the latest assertion of each event, as it was known at a given time.

``time`` is when something was true (valid time) and ``available_time`` when the hospital knew it (transaction time).
The assertions of one event share its ``event_id``; a later assertion corrects or retracts the earlier ones. The module
works on Arrow columns with NumPy alone, so that Spark's workers and the server run the same code.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

HOUR = 3_600_000_000
"""In microseconds, as all times of arrays are."""
DAY = 24 * HOUR

FOREVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class BitemporalTime:
    """When a fact was true (``time``), and when the hospital knew it (``available``); naive UTC."""

    time: datetime
    available: datetime


def microseconds(column: pa.ChunkedArray) -> Ints:
    """Timestamps as int64 microseconds since 1970, shape ``[len(column)]``.

    Births that MIMIC-III moves 300 years back overflow nanoseconds, and pandas refuses them.
    """
    return np.asarray(column.cast(pa.timestamp("us")).cast(pa.int64()).to_numpy())


def map_codes(
    codes: pa.ChunkedArray, function: Callable[[str], Any], dtype: npt.DTypeLike
) -> npt.NDArray[Any]:
    """``function`` of each row's code, shape ``[len(codes)]``; it is called once for each distinct code of a chunk."""
    if not pa.types.is_dictionary(codes.type):
        codes = codes.dictionary_encode()
    parts = [np.empty(0, dtype)]
    for chunk in codes.chunks:
        by_code = np.array([function(code) for code in chunk.dictionary.to_pylist()], dtype=dtype)
        parts.append(by_code[chunk.indices.to_numpy()])
    return np.concatenate(parts)


def latest_until(events: pa.Table) -> Ints:
    """When a later assertion of its event supersedes each row, in microseconds since 1970; ``FOREVER`` if none does.

    An assertion is the latest of its event from its ``available_time``, included, until this time, excluded. Two
    assertions of one event with the same ``available_time``, which the table's key forbids, are ordered by content (a
    retraction last), so that the order of rows never matters. Shape ``[events.num_rows]``, in the order of the rows.
    """
    ids = np.asarray(events["event_id"].to_numpy())
    until = np.full(len(ids), FOREVER)
    ordered = np.sort(ids)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(repeated):
        return until
    rows = np.flatnonzero(np.isin(ids, repeated))
    revised = events.select(["time", "available_time", "numeric_value", "retracted"]).take(pa.array(rows))
    available = microseconds(revised["available_time"])
    order = np.lexsort(
        (
            revised["numeric_value"].to_numpy(),
            microseconds(revised["time"]),
            revised["retracted"].to_numpy(),
            available,
            ids[rows],
        )
    )
    rows, available = rows[order], available[order]
    superseded = ids[rows[:-1]] == ids[rows[1:]]
    until[rows[:-1][superseded]] = available[1:][superseded]
    return until


def available_by(events: pa.Table, as_of: datetime | None) -> pa.Table:
    """The assertions that the hospital knew at ``as_of`` (naive UTC; None: all), superseded and retracted ones too."""
    if as_of is None:
        return events
    return events.filter(pc.less_equal(events["available_time"], pa.scalar(as_of, pa.timestamp("us"))))


def latest_as_of(events: pa.Table, as_of: datetime | None) -> pa.Table:
    """The latest assertion of each event as of ``as_of`` (naive UTC; None: of all), without retracted events.

    The rows keep their order and columns. In this example, a potassium of 7.9 was drawn at 6 and known at 7; at 9 the
    laboratory corrected it to 3.9:

    >>> drawn, known, corrected = (datetime(2150, 1, 1, hour) for hour in (6, 7, 9))
    >>> events = pa.table({
    ...     "event_id": [1, 1], "time": [drawn, drawn], "available_time": [known, corrected],
    ...     "numeric_value": [7.9, 3.9], "retracted": [False, False],
    ... })
    >>> [latest_as_of(events, datetime(2150, 1, 1, hour))["numeric_value"].to_pylist() for hour in (6, 8, 10)]
    [[], [7.9], [3.9]]
    """
    events = available_by(events, as_of)
    latest = latest_until(events) == FOREVER
    return events.filter(pc.and_(pa.array(latest), pc.invert(events["retracted"])))
