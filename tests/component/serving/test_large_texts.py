"""Large bodies are read in a process of their own, whichever route they are sent to: nobody else waits for them."""

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from fixtures.promoted_models import promoter

from data_pipeline import safety
from mediscale.core.settings import Settings
from serving.app import create_app
from serving.language_schemas import QUESTION_CHARACTERS
from serving.log.prediction_log import PredictionLog
from serving.requests import ehr_bodies, json_body
from serving.risk.models import Predictors

OBJECTS = b'{"age": [' + b",".join([b"{}"] * 250_000) + b"]}"
"""Three quarters of a megabyte that a reader of whole JSON makes objects of."""
ROUTES = [
    "/analyze",
    "/approvals",
    "/cds-services/mediscale-risk",
    "/feedback",
    "/fhir/RiskAssessment/$predict",
    "/generate",
    "/models/{name}/{version}/predict",
    "/predict",
    "/v1/chat/completions",
    "/v1/completions",
]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, trained: Any) -> Iterator[TestClient]:
    settings = Settings(home=tmp_path_factory.mktemp("large") / "home")
    promoter(settings, trained)("mortality")
    app = create_app(
        settings, Predictors(settings, "synthetic", "production"), PredictionLog(settings, "synthetic")
    )
    with TestClient(app) as client:
        yield client


def cpu(work: Callable[[], object]) -> float:
    """Seconds of this process, the least of three: its threads look at the history meanwhile."""
    spent = []
    for _ in range(3):
        begun = time.process_time()
        work()
        spent.append(time.process_time() - begun)
    return min(spent)


def test_every_route_that_takes_a_body_is_asked_here(client: TestClient) -> None:
    routes = [route for route in client.app.routes if isinstance(route, APIRoute)]  # type: ignore[attr-defined]
    assert sorted(route.path for route in routes if "POST" in route.methods) == ROUTES


@pytest.mark.parametrize("path", ROUTES)
def test_what_a_large_body_holds_costs_the_worker_nothing(client: TestClient, path: str) -> None:
    path = path.format(name="synthetic-mortality", version=1)
    assert client.post(path, content=OBJECTS).status_code in (413, 422)
    here = cpu(partial(json_body.read, OBJECTS, ""))
    assert cpu(partial(client.post, path, content=OBJECTS)) < here / 2


def test_what_is_wrong_with_a_large_body_is_said_as_of_a_small_one(client: TestClient) -> None:
    about = {"prediction_id": "w-1-1", "verdict": "wrong"}
    answers = [
        client.post("/feedback", json={**about, "corrected_answer": text}) for text in ("\0", "x" * 9000)
    ]
    assert [answer.status_code for answer in answers] == [422, 422]
    assert all("corrected_answer" in answer.json()["error"] for answer in answers)


def test_a_bundle_is_read_as_in_the_worker_and_elsewhere(client: TestClient) -> None:
    bundle = json.dumps({"resourceType": "Bundle", "entry": [*map(_entry, range(4000))]}).encode()
    answer = client.post("/fhir/RiskAssessment/$predict", content=bundle)
    assert (answer.status_code, "had not been admitted" in answer.json()["error"]) == (422, True)
    assert "3999 Observations whose LOINC code no model reads" in answer.json()["error"]
    here = cpu(partial(ehr_bodies.bundle, bundle, None))
    assert cpu(partial(client.post, "/fhir/RiskAssessment/$predict", content=bundle)) < here / 2


def _entry(number: int) -> dict[str, Any]:
    if number == 0:
        return {"resource": {"resourceType": "Patient", "id": "1", "birthDate": "1950-01-01"}}
    code = {"coding": [{"system": "http://loinc.org", "code": "0000-0"}]}
    observation = {"resourceType": "Observation", "id": str(number), "status": "final", "code": code}
    return {"resource": {**observation, "subject": {"reference": "Patient/1"}}}


def test_a_long_question_that_nobody_can_answer_is_looked_at_elsewhere(client: TestClient) -> None:
    """What an emergency needs comes first all the same."""
    question = "I took all my pills and want to die. " + "x é" * (QUESTION_CHARACTERS // 4)
    first = safety.check_request(question).first
    answer = client.post("/generate", json={"question": question})
    assert first
    assert (answer.status_code, answer.json()["error"].startswith(f"{first} No language version")) == (
        503,
        True,
    )
    assert answer.headers["retry-after"] == "2"
    here = cpu(partial(safety.check_request, question))
    assert cpu(partial(client.post, "/generate", json={"question": question})) < here / 2
