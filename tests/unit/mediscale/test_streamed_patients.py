"""A patient of a stream is erased from bronze, quarantine and dead letters, and does not come back with a message."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipeline.ingest import messages, patient_facts, stream_record
from data_pipeline.ingest import source as sources
from data_pipeline.ingest.messages import Message
from data_pipeline.ingest.stream import Stream
from mediscale.core.settings import Settings
from mediscale.core.tables import EVENTS, QUARANTINE, SUBJECTS
from mediscale.governance import erasure
from mediscale.storage import lake, signing

MARY, JOHN = "mary-1", "john-2"


def message(line: int, resource: "dict[str, Any] | bytes") -> Message:
    return Message("ehr/0", line, resource if isinstance(resource, bytes) else json.dumps(resource).encode())


def patient(name: str) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": name, "gender": "female"}


def observation(name: str) -> dict[str, Any]:
    return {"resourceType": "Observation", "id": f"of-{name}", "subject": {"reference": f"Patient/{name}"}}


@pytest.fixture
def stream(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Stream:
    """A stream whose patients have no events: every observation of theirs is in quarantine."""
    ids = {MARY: 11, JOHN: 22}

    def derive(*arguments: Any) -> patient_facts.PatientFacts:
        rows = arguments[2].get("observations", pa.table({"patient": [], "file": [], "line": []})).to_pylist()
        broken = [
            {"source": "observations", "file": r["file"], "line": r["line"], "reason": "time_present"}
            for r in rows
        ]
        people = [{"source_subject": name, "subject_id": ids[name]} for name in arguments[4].to_pylist()]
        return patient_facts.PatientFacts(
            events=EVENTS.arrow_schema().empty_table(),
            quarantine=pa.Table.from_pylist(broken, QUARANTINE.arrow_schema()),
            subjects=pa.Table.from_pylist(people, SUBJECTS.arrow_schema()),
            subject_ids=pa.array([row["subject_id"] for row in people], pa.int64()),
        )

    monkeypatch.setattr(patient_facts, "derive", derive)
    with stream_record.writing(settings, "ward", "fhir"):
        return Stream(settings, sources.load("fhir"), "ward")


def naming(home: Path, name: str) -> list[str]:
    files = [path for path in home.rglob("*.parquet") if name in str(pq.ParquetFile(path).read().to_pydict())]
    return sorted({path.relative_to(home).parts[2] for path in files})


def test_an_erased_patient_of_a_stream_is_gone_and_stays_out(settings: Settings, stream: Stream) -> None:
    sent: list[dict[str, Any] | bytes] = [patient(MARY), patient(JOHN), observation(MARY), observation(JOHN)]
    sent += [f'{{"subject": "Patient/{name}", "val'.encode() for name in (MARY, JOHN)]
    stream.take([message(line, said) for line, said in enumerate(sent)])
    everywhere = ["bronze_dead_letters", "bronze_observations", "bronze_patients", "subjects"]
    assert naming(settings.home, MARY) == naming(settings.home, JOHN) == everywhere
    erasure.erase(settings, "ward", MARY, "asked for it", signing.actor(settings), datetime(2026, 11, 28))
    assert naming(settings.home, MARY) == []
    assert naming(settings.home, JOHN) == everywhere
    quarantine = lake.read(settings, lake.latest(settings, "ward", "quarantine")).to_pylist()
    assert sorted((row["line"], row["reason"]) for row in quarantine) == [
        (3, "time_present"),
        (5, messages.NOT_JSON),
    ]
    taken = Stream(settings, sources.load("fhir"), "ward").take(
        [message(6, patient(MARY)), message(7, patient(JOHN))]
    )
    assert taken.landed == 1
    assert naming(settings.home, MARY) == []
