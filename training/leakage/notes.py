"""Leak checks of notes: which of them a model reads at the prediction time, with and without those of later."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from data_pipeline.cohort.bitemporal import HOUR, microseconds
from data_pipeline.notes import note_visibility
from data_pipeline.notes.note_visibility import NoteVersion
from mediscale.core.privacy import count
from mediscale.inference.collate import Tokens
from training.leakage.certificate import Check, check
from training.leakage.planted import FIRST_PLANTED, MOMENT
from training.leakage.sample import Sample

_PLANTED_TOKEN = 2**31 - 1
"""No tokenizer's."""


def checks(sample: Sample, read_now: Sequence[list[Tokens]]) -> Iterator[Check]:
    """Checks that nothing is read that was written later; ``read_now`` is what a model reads of each stay."""
    then = read(sample, sample.visible_at_prediction(sample.notes))
    yield _unchanged(
        "notes_known_then",
        "a model reads the notes that could be read at the prediction time, in the version of then",
        read_now, then, f"{count(sum(map(len, then)))} notes of {count(len(then))} stays",
    )  # fmt: skip
    yield _unchanged(
        "later_notes",
        "no word of a note that was written, signed or corrected after the prediction is read",
        read(sample, _planted(sample)), then, f"notes that state the outcome planted in {count(len(then))} stays",
    )  # fmt: skip


def read(sample: Sample, notes: pa.Table) -> list[list[Tokens]]:
    """The tokens of each stay's notes as a model would get them."""
    by_patient: Mapping[int, list[NoteVersion]] = note_visibility.by_patient(notes)
    admitted, at = (
        note_visibility.times(sample.predictions, f"{name}_time") for name in ("admission", "prediction")
    )
    return [
        note_visibility.visible_tokens(by_patient.get(subject, []), start, time)
        for subject, start, time in zip(sample.subjects.tolist(), admitted, at, strict=True)
    ]


def _planted(sample: Sample) -> pa.Table:
    """The notes, with one charted before the prediction and signed after it, one of after it, and a later version of
    each that could be read."""
    at, visible, n = sample.times, sample.visible_at_prediction(sample.notes), len(sample)
    late = _versions(sample, FIRST_PLANTED + np.arange(n), sample.subjects, at - HOUR, at + MOMENT)
    future = _versions(sample, FIRST_PLANTED + n + np.arange(n), sample.subjects, at + HOUR, at + HOUR)
    corrected = _versions(
        sample, visible["note_id"].to_numpy(), visible["subject_id"].to_numpy(), microseconds(visible["time"]),
        sample.times_of(visible) + MOMENT,
    )  # fmt: skip
    return pa.concat_tables([sample.notes, late, future, corrected])


def _versions(
    sample: Sample, ids: np.ndarray, subjects: np.ndarray, time: np.ndarray, available: np.ndarray
) -> pa.Table:
    columns = {
        "subject_id": subjects,
        "note_id": ids,
        "time": pa.array(time, pa.timestamp("us")),
        "available_time": pa.array(available, pa.timestamp("us")),
        "tokens": [[_PLANTED_TOKEN]] * len(ids),
    }
    schema = sample.notes.schema
    return pa.table([pa.array(columns[f.name], f.type) for f in schema], schema=schema)


def _unchanged(
    name: str, asks: str, read: Sequence[list[Tokens]], expected: Sequence[list[Tokens]], otherwise: str
) -> Check:
    unlike = sum(
        len(own) != len(then) or not all(map(np.array_equal, own, then))
        for own, then in zip(read, expected, strict=True)
    )
    problem = f"the notes of {count(unlike)} of {count(len(expected))} stays differ"
    return check(name, asks, [problem] if unlike else [], otherwise)
