"""A version that reads notes, served: with a note, without one, and with what is no note."""

import json
import logging
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fastapi.testclient import TestClient
from fixtures.promoted_models import promoter

from mediscale.core.settings import Settings
from mediscale.core.tables import EVENTS, NOTE_TOKENS, SUBJECTS
from mediscale.inference.model_spec import PredictorSpec
from mediscale.inference.notes import NoteReader
from mediscale.storage import commits, lake
from serving import schemas
from serving.app import create_app
from serving.helper_process import HelperProcess
from serving.log.log_file import connect
from serving.log.prediction_log import PredictionLog
from serving.risk.models import Predictors

AS_WRITTEN = {"age": 67, "blood_pressure": 140, "clinical_note": "Patient presents with chest pain..."}


@contextmanager
def served(settings: Settings, trained: Any, reading: Path) -> Iterator[TestClient]:
    promote = promoter(settings, trained)
    promote("mortality", 7, folder=reading)
    promote("readmission")
    predictors = Predictors(settings, "synthetic", "production")
    with TestClient(create_app(settings, predictors, PredictionLog(settings, "synthetic"))) as client:
        yield client


@pytest.fixture(scope="module")
def client(trained: Any, reading: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """One server for all who only ask: its processes beside it start once."""
    with served(Settings(home=tmp_path_factory.mktemp("served")), trained, reading) as client:
        yield client


@pytest.fixture
def own_client(settings: Settings, trained: Any, reading: Path) -> Iterator[TestClient]:
    """A server of the test's own home, whose lake and log it looks at."""
    with served(settings, trained, reading) as client:
        yield client


def ask(client: TestClient, body: object) -> dict[str, Any]:
    response = client.post("/predict", json=body)
    assert response.status_code == 200, response.text
    return {risk["task"]: risk for risk in response.json()["predictions"]}


def log_odds(risk: float) -> float:
    return float(np.log(risk / (1 - risk)))


def test_a_note_in_another_language_is_named(client: TestClient) -> None:
    note = "Paciente con dolor en el pecho desde hace tres horas, sin fiebre; refiere que no fuma."
    assert ask(client, AS_WRITTEN | {"clinical_note": note})["mortality"]["note"]["language"] == "Spanish"
    assert "language" not in ask(client, AS_WRITTEN)["mortality"]["note"]


def test_a_note_beside_two_values_works_as_written(client: TestClient, reading: Path) -> None:
    alone = ask(client, {"age": 67, "blood_pressure": 140})["mortality"]
    found = ask(client, AS_WRITTEN)["mortality"]
    reader = NoteReader({path.name: path.read_bytes() for path in (reading / "notes").iterdir()})
    [margin] = reader.margins([reader.windows([reader.tokens(AS_WRITTEN["clinical_note"])])])  # type: ignore[arg-type]
    spec = PredictorSpec.model_validate_json((reading / "predictor.json").read_bytes())
    assert spec.notes is not None
    expected = spec.notes.log_odds(log_odds(alone["risk"]), 1.1 * margin - 0.3)
    assert log_odds(found["risk"]) == pytest.approx(expected, abs=1e-6)
    assert found["note"] == {"used": "read", "tokens": 8}
    assert [threshold["name"] for threshold in found["thresholds"]] == ["clinical"]
    assert found["thresholds"][0]["risk"] == 0.12
    said = {factor["feature"]: factor for factor in found["factors"]}
    assert said["clinical_note"]["contribution"] == pytest.approx(0.7 * (1.1 * margin - 0.3 + 1.0), abs=1e-4)


def test_without_a_note_the_answer_is_that_of_the_values(client: TestClient, reading: Path) -> None:
    found = ask(client, {"age": 67, "blood_pressure": 140})["mortality"]
    assert "note" not in found
    assert "clinical_note" not in {factor["feature"] for factor in found["factors"]}
    spec = PredictorSpec.model_validate_json((reading / "predictor.json").read_bytes())
    plain = next(answer for answer in spec.known_answers if answer.name == "plain")
    assert found["risk"] == pytest.approx(plain.risk, abs=1e-6)


def test_a_version_without_notes_says_so(client: TestClient) -> None:
    found = ask(client, AS_WRITTEN)
    assert found["mortality"]["note"]["used"] == "read"
    assert found["readmission"]["note"] == {"used": "not read", "tokens": 0}


def test_a_note_alone_is_answered_by_who_reads_it_and_the_other_task_is_named(client: TestClient) -> None:
    answer = client.post("/predict", json={"clinical_note": "Comfortable."}).json()
    assert [risk["task"] for risk in answer["predictions"]] == ["mortality"]
    reason = "Nothing that was given is an input of this version."
    assert answer["not_predicted"] == [{"task": "readmission", "reason": reason}]


def test_an_age_over_89_is_read_as_it_was_in_training(client: TestClient) -> None:
    """There no note tells a higher age than 90+, of which this tokenizer makes two tokens."""
    answers = [
        ask(client, {"clinical_note": f"Patient is a {age} year old man with chest pain."})["mortality"]
        for age in ("90+", "94", "101")
    ]
    assert {answer["note"]["tokens"] for answer in answers} == {12}
    assert len({answer["risk"] for answer in answers}) == 1


def test_a_note_of_a_request_is_deidentified_before_it_is_read(client: TestClient) -> None:
    """This tokenizer knows ``bedbound``, and no name: a surrogate in its place is one unknown word."""
    risks = [
        ask(client, {"clinical_note": f"Dr. {name} saw the patient."})["mortality"]["risk"]
        for name in ("Bedbound", "Bed\u00adbound", "Wexcombe", "Wex\u200bcombe")
    ]
    assert len(set(risks)) == 1
    word = ask(client, {"clinical_note": "The bedbound patient."})["mortality"]["risk"]
    assert word != ask(client, {"clinical_note": "The Dr. Wexcombe patient."})["mortality"]["risk"]


def test_of_a_long_note_is_told_that_it_was_read_in_part(client: TestClient) -> None:
    found = ask(client, {"clinical_note": "mottled bedbound " * 100})["mortality"]
    assert found["note"] == {"used": "read in part", "tokens": 64}


def test_what_lies_beyond_what_is_read_of_a_note_changes_nothing_and_is_not_worked_on(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    really = HelperProcess.call

    def call(process: HelperProcess, work: Any, *arguments: Any) -> Any:
        lengths.extend(len(argument) for argument in arguments if isinstance(argument, str))
        return really(process, work, *arguments)

    monkeypatch.setattr(HelperProcess, "call", call)
    long = "mottled bedbound " * 100
    answers = [
        ask(client, {"clinical_note": text})["mortality"] for text in (long, long + "comfortable " * 50_000)
    ]
    assert answers[0] == answers[1]
    assert max(lengths) < 1000


@pytest.mark.parametrize(
    ("note", "sentence"),
    [
        ("  ...\n", "holds no letter or digit"),
        ("", "must be text of 1 to 1048576 characters"),
        ("pain\x00\x01", "not text"),
        ("f\ufffdvrier", "not text"),
        ("pain " * 300_000, "must be text of 1 to"),
        (["pain"], "must be text"),
        (7, "must be text"),
    ],
    ids=["blank", "empty", "binary", "encoding", "too long", "list", "number"],
)
def test_what_is_no_note_is_one_sentence(client: TestClient, note: object, sentence: str) -> None:
    response = client.post("/predict", json={"age": 67, "clinical_note": note})
    assert response.status_code == 422
    assert sentence in response.json()["error"]
    assert "pain" not in response.text


def test_the_text_is_never_stored(
    own_client: TestClient, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        ask(own_client, {**AS_WRITTEN, "clinical_note": "Quillfeather presents mottled"})
        own_client.post("/predict", json={"age": "x", "clinical_note": "Quillfeather presents mottled"})
        metrics = own_client.get("/metrics").text
        own_client.__exit__(None, None, None)  # flushes
    files = (path for path in settings.home.rglob("*") if path.is_file())
    vocabulary = Path(settings.artifact_root)
    held = b"".join(path.read_bytes() for path in files if not path.is_relative_to(vocabulary))
    for place in (caplog.text.encode(), metrics.encode(), held):
        assert b"quillfeather" not in place.lower()
    rows = lake.read(settings, lake.latest(settings, "synthetic", "predictions")).to_pylist()
    assert {row["task"]: row["note_margin"] is not None for row in rows} == {
        "mortality": True,
        "readmission": False,
    }


ADMITTED = datetime(2150, 3, 1, 8)


def admit(settings: Settings, codes: Sequence[str] = ("GENDER//F", "HOSPITAL_ADMISSION//EMERGENCY")) -> None:
    """Patient 1, known to the lake by what is known at the admission."""
    events = [
        {"subject_id": 1, "time": ADMITTED, "code": code, "available_time": ADMITTED, "visit_id": 10,
         "source": "test", "event_id": i, "retracted": False, "shard": 0}
        for i, code in enumerate(codes)
    ]  # fmt: skip
    events.append({**events[0], "time": datetime(2080, 6, 1), "code": "MEDS_BIRTH", "event_id": len(codes)})
    land(settings, "events", events, EVENTS.arrow_schema())
    land(settings, "subjects", [{"source_subject": "patient-1", "subject_id": 1}], SUBJECTS.arrow_schema())


def write(settings: Settings, *notes: tuple[int, int, str, list[int]]) -> None:
    """Notes of patient 1: number, hour, tokenizer and tokens; each can be read an hour after it was charted."""
    rows = [
        {"note_id": number, "subject_id": 1, "visit_id": 10, "time": ADMITTED + timedelta(hours=hour),
         "available_time": ADMITTED + timedelta(hours=hour + 1), "note_type": "x", "tokenizer": tokenizer * 64,
         "tokens": tokens}
        for number, hour, tokenizer, tokens in notes
    ]  # fmt: skip
    land(settings, "note_tokens", rows, NOTE_TOKENS.arrow_schema())


def test_a_patient_s_notes_count_from_when_they_could_be_read(
    own_client: TestClient, settings: Settings
) -> None:
    admit(settings)
    write(settings, (0, 7, "t", [5, 11]), (1, 10, "t", [5, 11]))
    read = {
        hour: ask(
            own_client, {"patient": "patient-1", "prediction_time": str(ADMITTED + timedelta(hours=hour))}
        )
        for hour in (6, 9, 12)
    }
    told = [read[hour]["mortality"].get("note") for hour in (6, 9, 12)]
    assert told == [None, {"used": "read", "tokens": 2}, {"used": "read", "tokens": 4}]


def test_without_a_time_a_note_written_after_the_newest_event_is_known_too(
    own_client: TestClient, settings: Settings
) -> None:
    admit(settings)
    write(settings, (0, 7, "t", [5, 11]))
    response = own_client.post("/predict", json={"patient": "patient-1"}).json()
    assert response["prediction_time"] == f"{(ADMITTED + timedelta(hours=8)).isoformat()}Z"
    told = {risk["task"]: risk for risk in response["predictions"]}
    assert told["mortality"]["note"] == {"used": "read", "tokens": 2}


def test_each_version_reads_the_notes_in_its_own_numbers(
    settings: Settings, promote: Any, reading: Path, trained: Any, add_notes: Any, tmp_path: Path
) -> None:
    """Of the other tokenizer's words this network has no vectors: it would fail."""
    other = tmp_path / "other"
    shutil.copytree(trained["readmission", 2], other)
    add_notes(other)
    model = json.loads((other / "predictor.json").read_text())
    admitted = {"anchor": "admission", "hours": [6, 48]}
    (other / "predictor.json").write_text(json.dumps({**model, "may_be_asked": admitted}))
    spec = json.loads((other / "notes" / "notes.json").read_text())
    (other / "notes" / "notes.json").write_text(json.dumps({**spec, "tokenizer": "u" * 64}))
    promote("mortality", 7, folder=reading)
    promote("readmission", 8, folder=other)
    admit(settings)
    write(settings, (0, 2, "t", [5, 11]), (0, 2, "u", [6, 7, 8]), (1, 4, "v", [30_000]))
    predictors = Predictors(settings, "synthetic", "production")
    with TestClient(create_app(settings, predictors, PredictionLog(settings, "synthetic"))) as client:
        at = {"patient": "patient-1", "prediction_time": str(ADMITTED + timedelta(hours=12))}
        found = ask(client, at)
    assert {task: risk["note"] for task, risk in found.items()} == {
        "mortality": {"used": "read", "tokens": 2},
        "readmission": {"used": "read", "tokens": 3},
    }


def test_that_a_patient_s_notes_are_in_other_numbers_only_is_told(
    own_client: TestClient, settings: Settings
) -> None:
    admit(settings)
    at = {"patient": "patient-1", "prediction_time": str(ADMITTED + timedelta(hours=12))}
    without = ask(own_client, at)["mortality"]["risk"]
    write(settings, (0, 2, "u", [30_000]))
    found = ask(own_client, at)["mortality"]
    assert found["note"] == {"used": "not read", "tokens": 0}
    assert found["risk"] == without


def test_a_note_of_the_greatest_length_may_be_escaped_as_json_clients_do(client: TestClient) -> None:
    body = json.dumps({"age": 67, "clinical_note": "ж" * schemas.NOTE_CHARACTERS})
    assert len(body) > 6 * schemas.NOTE_CHARACTERS
    response = client.post("/predict", content=body)
    assert response.status_code == 200
    told = {risk["task"]: risk for risk in response.json()["predictions"]}
    note = {"used": "read in part", "tokens": 1, "language": "Cyrillic script"}
    assert told["mortality"]["note"] == note, "to this vocabulary it is one unknown word"


def land(settings: Settings, table: str, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    commits.append(settings, table, pa.Table.from_pylist(rows, schema=schema), "synthetic", "test", 1)


def test_a_damaged_note_model_is_not_served(
    settings: Settings, promote: Any, reading: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(reading, folder)
    spec = json.loads((folder / "notes" / "notes.json").read_text())
    spec["known_texts"][0]["margin"] += 0.5
    (folder / "notes" / "notes.json").write_text(json.dumps(spec))
    promote("mortality", 8, folder=folder)
    predictors = Predictors(settings, "synthetic", "production")
    predictors.refresh()
    assert not predictors.current
    assert "does not answer as it did in training" in predictors.refused["mortality"]


def test_a_log_that_was_begun_before_notes_were_read_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "0.sqlite"
    with sqlite3.connect(path) as old:
        old.execute(
            "CREATE TABLE predictions (sequence INTEGER PRIMARY KEY AUTOINCREMENT, prediction_id TEXT, risk REAL)"
        )
        old.execute("INSERT INTO predictions VALUES (1, 'p-1', 0.25)")
    held = connect(path).execute("SELECT prediction_id, risk, note_margin FROM predictions").fetchall()
    assert held == [("p-1", 0.25, None)]
