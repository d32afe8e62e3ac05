"""Which notes of a patient could be read at a moment: the same choice for training, evaluation and serving."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mediscale.inference.collate import Tokens

if TYPE_CHECKING:
    import pyarrow as pa

EARLY = np.timedelta64(1, "D")
"""A stay's notes begin in the emergency department, up to a day before the admission."""
COLUMNS = ("subject_id", "note_id", "time", "available_time", "tokens")


@dataclass(frozen=True)
class Note:
    """One version of a note: charted at ``time``, readable from ``available`` on."""

    note_id: int
    time: np.datetime64
    available: np.datetime64
    tokens: Tokens


def of_patients(table: "pa.Table") -> dict[int, list[Note]]:
    """Rows of NOTE_TOKENS by patient, in the order of becoming readable: a later version comes after its former."""
    table = table.sort_by([("available_time", "ascending"), ("note_id", "ascending")])
    flat = table["tokens"].combine_chunks()
    ends, values = flat.offsets.to_numpy(), flat.values.to_numpy()
    columns = (
        table["subject_id"].to_pylist(),
        table["note_id"].to_pylist(),
        times(table, "time"),
        times(table, "available_time"),
    )
    found: dict[int, list[Note]] = {}
    for i, (subject, note_id, time, available) in enumerate(zip(*columns, strict=True)):
        found.setdefault(subject, []).append(Note(note_id, time, available, values[ends[i] : ends[i + 1]]))
    return found


def of_rows(rows: Iterable[Mapping[str, Any]]) -> list[Note]:
    """A patient's notes from rows of ``COLUMNS``."""
    ordered = sorted(rows, key=lambda row: (row["available_time"], row["note_id"]))
    return [
        Note(
            row["note_id"],
            np.datetime64(row["time"], "us"),
            np.datetime64(row["available_time"], "us"),
            np.array(row["tokens"], dtype=np.int32),
        )
        for row in ordered
    ]


def times(table: "pa.Table", name: str) -> NDArray[np.datetime64]:
    return np.asarray(table[name].to_numpy()).astype("datetime64[us]")


def at(notes: Iterable[Note], admitted: np.datetime64, time: np.datetime64) -> list[Tokens]:
    """Tokens of what was charted in the stay, newest first: of each note the version that counted by ``time``.

    The version is chosen first: a correction may have taken a note out of the stay.
    """
    known = {n.note_id: n for n in notes if n.available <= time}
    charted = [n for n in known.values() if admitted - EARLY <= n.time <= time]
    newest = sorted(charted, key=lambda n: (n.time, n.available, n.note_id), reverse=True)
    return [note.tokens for note in newest]
