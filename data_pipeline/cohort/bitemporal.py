"""Events as assertions: which of them hold at a moment, given what the hospital had written down by then.

An event's assertions share its ``event_id``; the latest one known at a moment is what was believed then. Works on
Arrow columns with NumPy alone, so that Spark's workers and the server run the same code.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

FOREVER = np.iinfo(np.int64).max


def microseconds(column: pa.ChunkedArray) -> Ints:
    """Times as integers since 1970: pandas refuses and NumPy's nanoseconds overflow for births 300 years back."""
    return np.asarray(column.cast(pa.timestamp("us")).cast(pa.int64()).to_numpy())


def mapped(codes: pa.ChunkedArray, meaning: Callable[[str], Any], kind: npt.DTypeLike) -> npt.NDArray[Any]:
    """``meaning`` of each row's code, asked once for each distinct code when the column is dictionary-encoded."""
    if not pa.types.is_dictionary(codes.type):
        codes = codes.dictionary_encode()
    parts = [np.empty(0, kind)]
    for chunk in codes.chunks:
        of_word = np.array([meaning(word) for word in chunk.dictionary.to_pylist()], dtype=kind)
        parts.append(of_word[chunk.indices.to_numpy()])
    return np.concatenate(parts)


def superseded_at(events: pa.Table) -> Ints:
    """When each assertion stopped being the latest of its event: it is believed from its ``available_time`` until then.

    Two assertions of one event known at the same moment, which the table's key forbids, are ordered by content (a
    retraction last), so that the order of rows never matters.
    """
    ids = np.asarray(events["event_id"].to_numpy())
    until = np.full(len(ids), FOREVER)
    ordered = np.sort(ids)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(repeated):
        return until
    rows = np.flatnonzero(np.isin(ids, repeated))
    few = events.select(["time", "available_time", "numeric_value", "retracted"]).take(pa.array(rows))
    available = microseconds(few["available_time"])
    order = np.lexsort(
        (
            few["numeric_value"].to_numpy(),
            microseconds(few["time"]),
            few["retracted"].to_numpy(),
            available,
            ids[rows],
        )
    )
    rows, available = rows[order], available[order]
    followed = ids[rows[:-1]] == ids[rows[1:]]
    until[rows[:-1][followed]] = available[1:][followed]
    return until


def standing(events: pa.Table, as_of: datetime | None) -> pa.Table:
    """The assertions believed at ``as_of`` (None: by all that is known now), without withdrawn events.

    A potassium of 7.9 was drawn at 6 and known at 7; at 9 the laboratory corrected it to 3.9:

    >>> drawn, known, corrected = (datetime(2150, 1, 1, hour) for hour in (6, 7, 9))
    >>> events = pa.table({
    ...     "event_id": [1, 1], "time": [drawn, drawn], "available_time": [known, corrected],
    ...     "numeric_value": [7.9, 3.9], "retracted": [False, False],
    ... })
    >>> [standing(events, datetime(2150, 1, 1, hour))["numeric_value"].to_pylist() for hour in (6, 8, 10)]
    [[], [7.9], [3.9]]
    """
    if as_of is not None:
        events = events.filter(pc.less_equal(events["available_time"], pa.scalar(as_of, pa.timestamp("us"))))
    latest = superseded_at(events) == FOREVER
    return events.filter(pc.and_(pa.array(latest), pc.invert(events["retracted"])))
