"""Stays with what their notes said by the moment of prediction, as windows of tokens."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mediscale import lake
from mediscale.note_predictor import windows
from mediscale.refs import TableRef
from mediscale.settings import Settings
from training import examples
from training.examples import Examples, Split

if TYPE_CHECKING:
    import pyarrow as pa

Tokens = NDArray[np.int32]
_EARLY = np.timedelta64(1, "D")
"""A stay's notes begin in the emergency department, up to a day before the admission."""


@dataclass(frozen=True)
class Stays:
    """n stays in the order of ``rows``: per stay its windows of tokens, newest note first, at least one."""

    rows: Examples
    windows: list[list[Tokens]]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def tokens(self) -> int:
        """Real tokens, without special ones."""
        return sum(len(piece) for pieces in self.windows for piece in pieces)

    def lengths(self) -> NDArray[np.int64]:
        """(n, 2): number of windows, and tokens of the longest with the two special ones."""
        return np.array([[len(p), 2 + max(map(len, p))] for p in self.windows], dtype=np.int64).reshape(-1, 2)


@dataclass(frozen=True)
class Tables:
    """Where stays and their notes are."""

    training_set: TableRef
    labels: TableRef
    note_tokens: TableRef


def load(settings: Settings, tables: Tables, split: Split, window: int, most: int) -> Stays:
    """One split. A note is read when it was charted in the stay and could be read by the prediction time.

    Of a note's versions the latest that could be read then counts.
    """
    rows = examples.load(settings, tables.training_set, split, [])
    admitted = _admissions(
        lake.read(settings, tables.labels, ["subject_id", "prediction_time", "admission_time"])
    )
    notes = _notes(lake.read(settings, tables.note_tokens))
    stays: list[list[NDArray[np.int32]]] = []
    for subject, time in zip(rows.subjects.tolist(), rows.times, strict=True):
        started = admitted[subject, time]
        read = notes.get(subject, [])
        known = {n.note_id: n for n in read if started - _EARLY <= n.time <= time and n.available <= time}
        newest = sorted(known.values(), key=lambda n: (n.time, n.available, n.note_id), reverse=True)
        pieces = windows([note.tokens.tolist() for note in newest], window, most)
        stays.append([np.asarray(piece, dtype=np.int32) for piece in pieces])
    return Stays(rows, stays)


@dataclass(frozen=True)
class _Note:
    note_id: int
    time: np.datetime64
    available: np.datetime64
    tokens: Tokens


def _admissions(labels: "pa.Table") -> dict[tuple[int, np.datetime64], np.datetime64]:
    keys = zip(labels["subject_id"].to_pylist(), _times(labels, "prediction_time"), strict=True)
    return dict(zip(keys, _times(labels, "admission_time"), strict=True))


def _times(table: "pa.Table", name: str) -> NDArray[np.datetime64]:
    return np.asarray(table[name].to_numpy()).astype("datetime64[us]")


def _notes(table: "pa.Table") -> dict[int, list[_Note]]:
    """By patient, in the order of becoming readable: a later version comes after the one it replaces."""
    table = table.sort_by([("available_time", "ascending"), ("note_id", "ascending")])
    flat = table["tokens"].combine_chunks()
    ends, values = flat.offsets.to_numpy(), flat.values.to_numpy()
    columns = (
        table["subject_id"].to_pylist(),
        table["note_id"].to_pylist(),
        _times(table, "time"),
        _times(table, "available_time"),
    )
    found: dict[int, list[_Note]] = {}
    for i, (subject, note_id, time, available) in enumerate(zip(*columns, strict=True)):
        found.setdefault(subject, []).append(_Note(note_id, time, available, values[ends[i] : ends[i + 1]]))
    return found
