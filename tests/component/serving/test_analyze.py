"""``POST /analyze``: typed fields of a note, logged without the note."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from mediscale.core.settings import Settings
from mediscale.core.tables import PREDICTIONS
from mediscale.storage import lake
from serving.app import create_app
from serving.log.logged_answers import NOTE_ANALYSIS
from serving.log.prediction_log import PredictionLog
from serving.risk.models import Predictors

NOTE = (
    "HISTORY: Zacharias Quillfeather has cough and fever, no chest pain. His father had a stroke. BP 128/76. "
    "MEDICATIONS: Lisinopril 10 mg p.o. daily. PLAN: Follow up with Dr. Roe in two weeks."
)


def test_a_note_is_analysed_logged_and_not_kept(settings: Settings, promote: Any, caplog) -> None:
    promote("mortality")
    log = PredictionLog(settings, "synthetic")
    with TestClient(create_app(settings, Predictors(settings, "synthetic", "production"), log)) as client:
        response = client.post("/analyze", json={"clinical_note": NOTE})
        refused = client.post("/analyze", json={"clinical_note": ""})
        numbers = client.get("/metrics").text
        log.flush()
    answer = response.json()
    assert response.status_code == 200, response.text
    assert {finding["name"]: finding["status"] for finding in answer["symptoms"]} == {
        "cough": "present",
        "fever": "present",
        "chest pain": "absent",
    }
    [drug] = answer["medications"]
    assert (drug["name"], drug["dose"], drug["route"], drug["frequency"]) == (
        "lisinopril",
        "10 mg",
        "p.o",
        "daily",
    )
    assert NOTE[drug["start"] : drug["end"]] == "Lisinopril 10 mg p.o. daily"
    assert answer["needs_clinician_review"] is True
    assert "clinical judgement" in answer["notice"]
    assert refused.status_code == 422
    assert f'task="{NOTE_ANALYSIS}"' in numbers

    [row] = lake.read(settings, lake.latest(settings, "synthetic", PREDICTIONS.name)).to_pylist()
    assert (row["task"], row["prediction_id"]) == (NOTE_ANALYSIS, answer["prediction_id"])
    assert row["risk"] is row["question"] is row["answer"] is None
    for where in (str(row), caplog.text, refused.text, numbers):
        assert "Quillfeather" not in where
        assert "cough" not in where


@pytest.mark.parametrize("body", [{}, {"note": "x"}, {"clinical_note": 5}, {"clinical_note": "x", "more": 1}])
def test_what_is_no_note_is_refused_in_one_sentence(settings: Settings, promote: Any, body: object) -> None:
    promote("mortality")
    predictors = Predictors(settings, "synthetic", "production")
    with TestClient(create_app(settings, predictors, PredictionLog(settings, "synthetic"))) as client:
        response = client.post("/analyze", json=body)
    assert response.status_code == 422
    assert response.json()["error"].startswith("The request can't be answered")


def test_a_note_in_another_language_is_not_called_routine(settings: Settings, promote: Any) -> None:
    promote("mortality")
    predictors = Predictors(settings, "synthetic", "production")
    note = "Paciente de 54 años con dolor torácico opresivo. PA 210/130. No refiere disnea."
    with TestClient(create_app(settings, predictors, PredictionLog(settings, "synthetic"))) as client:
        response = client.post("/analyze", json={"clinical_note": note})
    assert response.status_code == 422
    assert response.json()["error"] == (
        "The note seems to be in Spanish; notes are analysed by rules for English alone, so nothing is said of this "
        "one, nor how urgent it is."
    )
