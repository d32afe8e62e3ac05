"""Risks that are published of a stream's patients are the server's own answers, logged before they leave."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from fixtures.lake_patients import SECRET, hours, utc, write_lake

from mediscale.core.errors import NotFoundError
from mediscale.core.settings import Settings
from mediscale.inference.model_spec import NOTICE
from mediscale.storage import lake
from serving.app import create_app
from serving.log.logged_answers import Requester
from serving.log.prediction_log import PredictionLog
from serving.risk.models import Predictors
from serving.stream_scoring import StreamScorer

REQUESTER = Requester("the stream", "treatment")
EVERYBODY = [f"patient-{4710 + n}" for n in range(1, 7)]
IN_HOSPITAL = "patient-4713"


def test_the_answers_are_the_servers(settings: Settings, promote: Any) -> None:
    write_lake(settings)
    promote("mortality", 2)
    promote("readmission")
    scorer = StreamScorer(settings, "synthetic", REQUESTER)
    messages = {number: json.loads(text) for number, text in scorer.score(EVERYBODY)}
    scorer.close()
    assert set(messages) == {SECRET, IN_HOSPITAL}, "the others left, died, are children, or are nobody"
    predictors = Predictors(settings, "synthetic", "production")
    with TestClient(create_app(settings, predictors, PredictionLog(settings, "synthetic"))) as client:
        for number, message in messages.items():
            answer = client.post("/predict", json={"patient": number}).json()
            assert message.pop("patient") == number
            assert message.pop("prediction_id") != answer.pop("prediction_id")
            assert message == answer
    there = messages[IN_HOSPITAL]
    (risk,) = there["predictions"]
    assert (risk["model"], risk["version"]) == ("synthetic-mortality", 2)
    assert (there["notice"], there["needs_clinician_review"]) == (NOTICE, True)
    assert there["prediction_time"] == utc(hours(7))
    rows = lake.read(settings, lake.latest(settings, "synthetic", "predictions")).to_pylist()
    logged = [
        (row["subject_id"], row["task"], row["asked_by"]) for row in rows if row["asked_by"] == "the stream"
    ]
    assert sorted(logged) == [(1, "readmission", "the stream"), (3, "mortality", "the stream")]


def test_without_a_promoted_version_nothing_is_scored(settings: Settings) -> None:
    write_lake(settings)
    with pytest.raises(NotFoundError, match="No risk model of synthetic is in production"):
        StreamScorer(settings, "synthetic", REQUESTER)


def test_a_version_whose_files_were_changed_does_not_score(settings: Settings, promote: Any) -> None:
    write_lake(settings)
    promote("mortality", digest="0" * 64)
    with pytest.raises(NotFoundError):
        StreamScorer(settings, "synthetic", REQUESTER)
