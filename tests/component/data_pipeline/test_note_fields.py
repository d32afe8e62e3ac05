"""The batch analysis of notes: one row for each field, with the words of the note that support it."""

from datetime import datetime
from typing import Any

import pyarrow as pa

from mediscale.core.settings import Settings
from mediscale.core.tables import NOTES
from mediscale.pipeline import runtime_inputs
from mediscale.storage import commits, lake

DATASET, WHEN = "wards", datetime(2150, 1, 2, 3)
TEXTS = (
    "HISTORY: Cough and fever, no chest pain. His father had a stroke. BP 128/76. "
    "MEDICATIONS: Lisinopril 10 mg p.o. daily. PLAN: Follow up with his doctor in two weeks.",
    "Crushing chest pain since this morning. Oxygen saturation 82%.",
    "Nothing to report.",
    "Paciente de 54 años con dolor torácico opresivo. PA 210/130. No refiere disnea.",
)


def test_every_note_becomes_fields_that_its_own_words_support(settings: Settings) -> None:
    notes = [
        {
            "note_id": i, "subject_id": 10 + i, "time": WHEN, "available_time": WHEN, "note_type": "discharge",
            "text": text, "replaced": 0, "file": "notes.csv", "line": i + 2,
        }
        for i, text in enumerate(TEXTS)
    ]  # fmt: skip
    table = pa.Table.from_pylist(notes, schema=NOTES.arrow_schema())
    commits.append(settings, NOTES.name, table, DATASET, "made", 1)
    finished = runtime_inputs.call("note_fields", {"dataset": DATASET}, [], settings, "test")
    result: Any = finished.result
    rows = lake.read(settings, result.note_fields).to_pylist()
    assert (result.notes_read, result.fields) == (4, len(rows))
    for row in rows:
        assert row["subject_id"] == 10 + row["note_id"]
        if row["start"] is not None:
            assert TEXTS[row["note_id"]][row["start"] : row["end"]] == row["text"]
    of_first = {(row["field"], row["name"]): row for row in rows if row["note_id"] == 0}
    assert of_first["symptom", "chest pain"]["status"] == "absent"
    assert of_first["condition", "stroke"]["status"] == "family"
    drug = of_first["medication", "lisinopril"]
    assert (drug["dose"], drug["route"], drug["frequency"]) == ("10 mg", "p.o", "daily")
    assert of_first["vital sign", "blood pressure"]["value"] == "128/76"
    of_spanish = [(row["field"], row["name"]) for row in rows if row["note_id"] == 3]
    assert of_spanish == [("language", "Spanish")], "nothing is said of it, nor how urgent it is"
    levels = {row["note_id"]: row["name"] for row in rows if row["field"] == "urgency"}
    assert levels == {0: "routine", 1: "emergency", 2: "routine"}
    again: Any = runtime_inputs.call("note_fields", {"dataset": DATASET}, [], settings, "test").result
    assert again.note_fields == result.note_fields
