"""Point-in-time visibility of notes: which of a patient's notes could be read at a time.

Training, evaluation and serving make the same choice with it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_pipeline.cohort.bitemporal import latest_until
from data_pipeline.cohort.stays import TRANSFER_GAP
from mediscale.inference.collate import Tokens

BEFORE_ADMISSION = np.timedelta64(TRANSFER_GAP)
"""How long before the admission the notes of a stay begin: in the emergency department, up to a transfer gap before."""
COLUMNS = ("subject_id", "note_id", "time", "available_time", "tokens")


@dataclass(frozen=True)
class NoteVersion:
    """One version of a note, charted at ``time``; it is the latest from ``available`` until ``latest_until``."""

    note_id: int
    time: np.datetime64
    available: np.datetime64
    latest_until: np.datetime64
    tokens: Tokens


def by_patient(table: pa.Table) -> dict[int, list[NoteVersion]]:
    """The note versions of each patient, from rows of ``NOTE_TOKENS`` with ``COLUMNS``."""
    flat = table["tokens"].combine_chunks()
    ends, values = flat.offsets.to_numpy(), flat.values.to_numpy()
    columns = (
        table["subject_id"].to_pylist(),
        table["note_id"].to_pylist(),
        times(table, "time"),
        times(table, "available_time"),
        _latest_until(table),
    )
    notes: dict[int, list[NoteVersion]] = {}
    for i, (subject, note_id, time, available, until) in enumerate(zip(*columns, strict=True)):
        note = NoteVersion(note_id, time, available, until, values[ends[i] : ends[i + 1]])
        notes.setdefault(subject, []).append(note)
    return notes


def times(table: pa.Table, name: str) -> NDArray[np.datetime64]:
    """A column of timestamps in microseconds, shape ``[table.num_rows]``."""
    return np.asarray(table[name].to_numpy()).astype("datetime64[us]")


def _latest_until(table: pa.Table) -> NDArray[np.datetime64]:
    """When a later version supersedes each version (``bitemporal.latest_until``): notes are assertions like events."""
    n = table.num_rows
    assertions = pa.table(
        {
            "event_id": table["note_id"],
            "time": table["time"],
            "available_time": table["available_time"],
            "numeric_value": pa.array(np.zeros(n)),
            "retracted": pa.array(np.zeros(n, np.bool_)),
        }
    )
    return latest_until(assertions).astype("datetime64[us]")


def visible_tokens(
    notes: Iterable[NoteVersion], admitted: np.datetime64, time: np.datetime64
) -> list[Tokens]:
    """The tokens of a stay's notes that are visible at ``time``, newest note first."""
    return [note.tokens for note in visible(notes, admitted, time)]


def visible(notes: Iterable[NoteVersion], admitted: np.datetime64, time: np.datetime64) -> list[NoteVersion]:
    """A stay's notes that are visible at ``time``, newest note first.

    Of each note the latest version as of ``time`` is chosen first, because a correction may move a note out of the
    stay. A note belongs to the stay where it was charted from ``BEFORE_ADMISSION`` before ``admitted`` up to ``time``.
    """
    latest = [n for n in notes if n.available <= time < n.latest_until]
    charted = [n for n in latest if admitted - BEFORE_ADMISSION <= n.time <= time]
    return sorted(charted, key=lambda n: (n.time, n.available, n.note_id), reverse=True)
