"""Which notes count at a moment, and in which version."""

from datetime import datetime

import numpy as np
import pyarrow as pa

from data_pipeline.notes import note_visibility
from mediscale.core.tables import NOTE_TOKENS

ADMITTED = np.datetime64("2150-01-02T08:00")


def hour(hours: int) -> datetime:
    return (ADMITTED + np.timedelta64(hours, "h")).astype(datetime)


def read(at: int, *versions: tuple[int, int, int]) -> list[int]:
    """What is read ``at`` hours after admission of versions told as note, hour charted and hour known, each of whose
    only token is its place here."""
    rows = [
        {
            "subject_id": 1,
            "note_id": note,
            "time": hour(charted),
            "available_time": hour(known),
            "tokens": [place],
        }
        for place, (note, charted, known) in enumerate(versions)
    ]
    (notes,) = note_visibility.by_patient(
        pa.Table.from_pylist(rows, schema=NOTE_TOKENS.arrow_schema())
    ).values()
    chosen = note_visibility.visible_tokens(notes, ADMITTED, ADMITTED + np.timedelta64(at, "h"))
    return [int(tokens[0]) for tokens in chosen]


def test_a_note_counts_once_it_is_known_and_in_its_newest_known_version() -> None:
    versions = (7, 1, 2), (7, 1, 5), (8, 3, 4)
    assert read(1, *versions) == []
    assert read(3, *versions) == [0]
    assert read(4, *versions) == [2, 0]
    assert read(5, *versions) == [2, 1]


def test_a_correction_that_moves_a_note_takes_its_former_version_away() -> None:
    assert read(4, (7, 1, 2), (7, -500, 5)) == [0]
    assert read(5, (7, 1, 2), (7, -500, 5)) == []
    assert read(5, (7, 1, 2), (7, 9, 9)) == [0]


def test_notes_of_the_day_before_admission_belong_to_the_stay() -> None:
    assert read(1, (7, -24, -24), (8, -25, -24)) == [0]
