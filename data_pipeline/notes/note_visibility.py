"""Which notes of a patient could be read at a moment: the same choice for training, evaluation and serving."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_pipeline.cohort.bitemporal import latest_until
from data_pipeline.cohort.stays import TRANSFER_GAP
from mediscale.core.tables import NOTE_TOKENS
from mediscale.inference.collate import Tokens

BEFORE_ADMISSION = np.timedelta64(TRANSFER_GAP)
"""A stay's notes begin in the emergency department, up to a transfer gap before the admission."""
COLUMNS = ("subject_id", "note_id", "time", "available_time", "tokens")


@dataclass(frozen=True)
class Note:
    """One version of a note: charted at ``time``, readable from ``available`` on, until the next version is."""

    note_id: int
    time: np.datetime64
    available: np.datetime64
    until: np.datetime64
    tokens: Tokens


def of_patients(table: pa.Table) -> dict[int, list[Note]]:
    """Rows of NOTE_TOKENS by patient."""
    flat = table["tokens"].combine_chunks()
    ends, values = flat.offsets.to_numpy(), flat.values.to_numpy()
    columns = (
        table["subject_id"].to_pylist(),
        table["note_id"].to_pylist(),
        times(table, "time"),
        times(table, "available_time"),
        _superseded(table),
    )
    notes: dict[int, list[Note]] = {}
    for i, (subject, note_id, time, available, until) in enumerate(zip(*columns, strict=True)):
        note = Note(note_id, time, available, until, values[ends[i] : ends[i + 1]])
        notes.setdefault(subject, []).append(note)
    return notes


def of_rows(rows: Iterable[Mapping[str, Any]]) -> list[Note]:
    """One patient's notes from rows of ``COLUMNS``, with or without the patient."""
    schema = pa.schema([NOTE_TOKENS.arrow_schema().field(name).with_nullable(True) for name in COLUMNS])
    patients = of_patients(pa.Table.from_pylist(list(rows), schema=schema))
    return [note for notes in patients.values() for note in notes]


def times(table: pa.Table, name: str) -> NDArray[np.datetime64]:
    return np.asarray(table[name].to_numpy()).astype("datetime64[us]")


def _superseded(table: pa.Table) -> NDArray[np.datetime64]:
    """When each version of a note stopped being the latest known: a note is an assertion like an event."""
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


def at(notes: Iterable[Note], admitted: np.datetime64, time: np.datetime64) -> list[Tokens]:
    """Tokens of what was charted in the stay, newest first: of each note the version that counted by ``time``.

    The version is chosen first: a correction may have taken a note out of the stay.
    """
    known = [n for n in notes if n.available <= time < n.until]
    charted = [n for n in known if admitted - BEFORE_ADMISSION <= n.time <= time]
    newest = sorted(charted, key=lambda n: (n.time, n.available, n.note_id), reverse=True)
    return [note.tokens for note in newest]
