"""Canaries at the server: identifiers in the notes of requests, looked for in all that serving leaves behind."""

import logging
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from data_pipeline.clinical_text.name_lexicon import EPONYMS, ORDINARY, plain
from data_pipeline.synthetic import blocks
from mediscale.core.settings import Settings
from mediscale.storage import lake
from serving.app import create_app
from serving.log.prediction_log import PredictionLog
from serving.risk.models import Predictors


def test_no_planted_identifier_is_left_by_serving(
    settings: Settings,
    promote: Any,
    reading: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    notes = next(iter(blocks.generate(12, 7))).notes[:12]
    promote("mortality", 7, folder=reading)
    promote("readmission")
    served = create_app(
        settings, Predictors(settings, "synthetic", "production"), PredictionLog(settings, "synthetic")
    )
    answers = []
    with caplog.at_level(logging.DEBUG), TestClient(served) as client:
        for note in notes:
            answers += [
                client.post("/predict", json={"age": age, "clinical_note": note.text}) for age in (67, "x")
            ]
        metrics = client.get("/metrics").text
    assert {answer.status_code for answer in answers} == {200, 422}
    assert lake.read(settings, lake.latest(settings, "synthetic", "predictions")).num_rows == 2 * len(notes)
    planted = {(s.kind, note.text[s.start : s.end]) for note in notes for s in note.spans}
    whole = {told for kind, told in planted if kind in ("record", "phone", "email", "url", "address")}
    words = {word for kind, told in planted if kind == "name" for word in re.findall(r"\w{4,}", told)}
    canaries = whole | {word for word in words if plain(word) not in ORDINARY | EPONYMS}
    assert len(canaries) > 20
    said = capfd.readouterr()
    refused = "".join(answer.text for answer in answers if answer.status_code == 422)
    texts = "\n".join((caplog.text, said.out, said.err, metrics, refused)).encode()
    held = b"\n".join(path.read_bytes() for path in settings.home.rglob("*") if path.is_file())
    assert not [canary for canary in canaries if canary.encode() in texts + held]
