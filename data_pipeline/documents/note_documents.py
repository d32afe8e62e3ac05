"""The lake's de-identified notes as documents, which clinicians alone may see."""

import hashlib

from pyarrow import compute as pc

from data_pipeline.documents.passages import Document
from data_pipeline.documents.readers import Read
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.storage import lake

READERS = ("clinician",)
"""The roles that may see a note."""
_COLUMNS = ("note_id", "subject_id", "time", "available_time", "note_type", "text")


def read(settings: Settings, notes: TableRef) -> Read:
    """The newest version of each note, in the order of their ids. A note is dated by when it was charted."""
    rows = lake.read(settings, notes, _COLUMNS)
    newest = rows.group_by("note_id").aggregate([("available_time", "max")])
    joined = rows.join(newest.rename_columns(["note_id", "newest"]), keys="note_id", join_type="inner")
    current = joined.filter(pc.equal(joined["available_time"], joined["newest"])).sort_by("note_id")
    by_id = {row["note_id"]: row for row in current.to_pylist()}
    return Read([_document(notes.dataset, row) for row in by_id.values()])


def _document(dataset: str, note: dict[str, object]) -> Document:
    text = str(note["text"])
    return Document(
        file=f"notes/{dataset}/{note['note_id']}",
        source=f"{note['note_type']} note {note['note_id']}",
        text=text,
        digest=hashlib.sha256(text.encode()).hexdigest(),
        date=f"{note['time']:%Y-%m-%d}",
        roles=READERS,
        dataset=dataset,
        subject_id=int(str(note["subject_id"])),
    )
