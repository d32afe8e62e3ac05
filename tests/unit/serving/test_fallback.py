"""A version that fails while it answers: its points score answers in its place, says so and is counted."""

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from fixtures.promoted_models import split
from fixtures.run_records import POINTS

from mediscale.core.settings import Settings
from mediscale.inference.points import PointsTable
from mediscale.inference.tabular import Predictor, Scored
from mediscale.storage import lake
from serving.app import create_app
from serving.log.prediction_log import PredictionLog
from serving.risk.models import Predictors

score = Predictor.score
Break = Callable[[Any], None]


def with_points(folder: Path, to: Path) -> Path:
    """The model's folder with a points score in it."""
    shutil.copytree(folder, to)
    file = to / "predictor.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"points": POINTS.model_dump()}))
    return to


@pytest.fixture
def client(settings: Settings, promote: Any, trained: Any, tmp_path: Path) -> Iterator[TestClient]:
    """Of a mortality model with a points score and a readmission model without one."""
    promote("mortality", 1, folder=with_points(trained["mortality", 1], tmp_path / "with points"))
    promote("readmission", 1)
    predictors = Predictors(settings, "synthetic", "production")
    with TestClient(
        create_app(settings, predictors, PredictionLog(settings, "synthetic")), raise_server_exceptions=False
    ) as client:
        yield client


@pytest.fixture
def break_as(monkeypatch: pytest.MonkeyPatch) -> Break:
    """``break_as(fault)``: from now on the trees of mortality's version 1 raise it, or answer with it."""

    def begin(fault: Any) -> None:
        def broken(self: Predictor, row: Any, note_margin: float | None = None) -> Scored:
            scored = score(self, row, note_margin)
            if isinstance(self.trees, PointsTable) or self.spec.task != "mortality":
                return scored
            if isinstance(fault, Exception):
                raise fault
            return Scored(fault, fault, scored.contributions, scored.baseline)

        monkeypatch.setattr(Predictor, "score", broken)

    return begin


def risks(client: TestClient, **body: Any) -> dict[str, dict[str, Any]]:
    answer = client.post("/predict", json={"age": 81, **body})
    assert answer.status_code == 200, answer.text
    return {risk["task"]: risk for risk in answer.json()["predictions"]}


def fallbacks(client: TestClient) -> float:
    label = 'mediscale_fallback_answers_total{model_version="1",task="mortality"} '
    (line,) = [line for line in client.get("/metrics").text.splitlines() if line.startswith(label)]
    return float(line.removeprefix(label))


@pytest.mark.parametrize(
    "fault", [float("nan"), float("inf"), RuntimeError("patient 81"), OverflowError("math range error")]
)
def test_the_points_score_answers_says_why_and_is_counted(
    client: TestClient, settings: Settings, break_as: Break, caplog: pytest.LogCaptureFixture, fault: Any
) -> None:
    assert risks(client)["mortality"]["model"] == "synthetic-mortality"
    assert fallbacks(client) == 0
    break_as(fault)
    with caplog.at_level(logging.ERROR):
        answer = risks(client)
    mortality = answer["mortality"]
    assert (mortality["model"], mortality["version"]) == ("synthetic-mortality-points-score", 1)
    assert mortality["instead_of"] == (
        "synthetic-mortality v1 failed while it answered. Its points score answers in its place."
    )
    assert mortality["risk"] == pytest.approx(POINTS.risk_of(np.array([7]))[0])
    assert (answer["readmission"]["model"], "instead_of" in answer["readmission"]) == (
        "synthetic-readmission", False
    )  # fmt: skip
    assert fallbacks(client) == 1
    (line,) = caplog.messages
    assert line.startswith("synthetic-mortality v1 failed while it answered: ")
    assert "patient 81" not in line
    client.app.state.service.flush()  # type: ignore[attr-defined]
    logged = lake.read(settings, lake.latest(settings, "synthetic", "predictions")).to_pylist()
    assert {row["model"] for row in logged if row["task"] == "mortality"} == {
        "synthetic-mortality", "synthetic-mortality-points-score"
    }  # fmt: skip


def test_what_is_the_request_s_fault_is_still_refused(client: TestClient, break_as: Break) -> None:
    break_as(RuntimeError())
    for body in ({"age": "none"}, {}, {"nonsense": 1}, {"age": 12}, {"clinical_note": "  "}):
        assert client.post("/predict", json=body).status_code == 422, body
    assert client.post("/predict", content=b"{").status_code == 422
    assert fallbacks(client) == 0


def test_a_version_without_a_points_score_answers_nobody_wrongly(
    settings: Settings, promote: Any, break_as: Break
) -> None:
    promote("mortality", 1)
    predictors = Predictors(settings, "synthetic", "production")
    app = create_app(settings, predictors, PredictionLog(settings, "synthetic"))
    with TestClient(app, raise_server_exceptions=False) as client:
        break_as(float("nan"))
        answer = client.post("/predict", json={"age": 81})
        assert answer.status_code == 500
        assert "Nothing was answered." in answer.text
        assert fallbacks(client) == 0


def test_beside_production_a_failure_stays_one_so_that_the_canary_is_given_up(
    settings: Settings, promote: Any, trained: Any, tmp_path: Path, client: TestClient
) -> None:
    staged = promote(
        "mortality", 2, alias="staging", folder=with_points(trained["mortality", 2], tmp_path / "two")
    )
    split(settings, staged, percent=100)
    client.app.state.service.follow()  # type: ignore[attr-defined]
    (beside,) = client.app.state.service.predictors.splits.current.values()  # type: ignore[attr-defined]
    assert beside.version.points_score is None
    assert client.app.state.service.predictors.current["mortality"].points_score is not None  # type: ignore[attr-defined]


def test_a_canary_is_not_held_against_a_points_score(
    settings: Settings, promote: Any, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Production fails, its points score answers, and says another risk than the canary's trees would."""
    split(settings, promote("mortality", 2, alias="staging"), percent=100)
    service = client.app.state.service  # type: ignore[attr-defined]
    service.follow()

    def broken(self: Predictor, row: Any, note_margin: float | None = None) -> Scored:
        if (
            self.model.version == 1
            and self.spec.task == "mortality"
            and not isinstance(self.trees, PointsTable)
        ):
            raise RuntimeError
        return score(self, row, note_margin)

    monkeypatch.setattr(Predictor, "score", broken)
    for _ in range(30):
        assert risks(client)["mortality"]["model"] == "synthetic-mortality-points-score"
    (beside,) = service.predictors.splits.current.values()
    assert beside.test.counts("shifted")[1] == 0
