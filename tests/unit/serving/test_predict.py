import asyncio
import json
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost as xgb
from fastapi.testclient import TestClient

from data_pipeline.features import kernel, plain_inputs
from mediscale.core.concepts import CONCEPTS
from mediscale.core.settings import Settings
from mediscale.inference import tabular
from mediscale.inference.model_spec import NOTICE
from mediscale.storage import lake
from serving import schemas
from serving.app import create_app
from serving.log.prediction_log import PredictionLog
from serving.risk.explainer import Explainer
from serving.risk.models import Predictors
from serving.routes.predict import BODY_BYTES

CANARY = "Jane-Canary-1934"


@pytest.fixture
def client(settings: Settings, promote: Any) -> Iterator[TestClient]:
    promote("mortality")
    promote("readmission")
    predictors = Predictors(settings, "synthetic", "production")
    with TestClient(create_app(settings, predictors, PredictionLog(settings, "synthetic"))) as client:
        yield client


def ask(client: TestClient, body: object) -> dict[str, Any]:
    response = client.post("/predict", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_two_plain_values_work_as_written(client: TestClient, trained: dict[tuple[str, int], Path]) -> None:
    answer = ask(client, {"age": 67, "blood_pressure": 140})
    assert [risk["task"] for risk in answer["predictions"]] == ["mortality", "readmission"]
    for risk in answer["predictions"]:
        booster = xgb.Booster(model_file=trained[risk["task"], 1] / "model.json")
        row = plain_inputs.features({"age": 67, "systolic_blood_pressure": 140}, risk["task"])
        matrix = xgb.DMatrix(row[None], feature_names=booster.feature_names)
        log_odds = 0.9 * float(booster.predict(matrix, output_margin=True)[0]) - 0.1
        assert risk["risk"] == pytest.approx(1 / (1 + np.exp(-log_odds)), abs=1e-5)
        assert (risk["model"], risk["version"]) == (f"synthetic-{risk['task']}", 1)
        exceeded = {threshold["name"]: threshold["exceeded"] for threshold in risk["thresholds"]}
        assert exceeded == {"clinical": risk["risk"] >= 0.1, "specific": risk["risk"] >= 0.9}
    assert "heart_rate" in answer["missing"]
    assert not {"age", "systolic_blood_pressure"} & set(answer["missing"])
    assert answer["notice"] == NOTICE
    assert "judgement" in answer["notice"]
    assert answer["needs_clinician_review"] is True


def test_the_reasons_of_an_answer_come_out_again_of_what_was_logged(settings: Settings, promote: Any) -> None:
    """What a patient's risk came from is kept as the inputs of the version that answered, in the log alone."""
    move, log = promote("mortality"), PredictionLog(settings, "synthetic")
    with TestClient(create_app(settings, Predictors(settings, "synthetic", "production"), log)) as client:
        (told,) = ask(client, {"age": 88, "blood_pressure": 60})["predictions"]
        log.flush()
    (row,) = lake.read(settings, lake.latest(settings, "synthetic", "predictions")).to_pylist()
    predictor = tabular.load(settings, move.version, "mortality")
    again = predictor.score(np.array(row["features"]))
    factors = Explainer(predictor.spec).of_values(again.contributions, frozenset(), 0.0)
    assert [(f["feature"], f["contribution"]) for f in told["factors"]] == [
        (factor.feature, factor.contribution) for factor in factors
    ]


def test_factors_name_the_inputs_and_add_their_features_up(
    client: TestClient, trained: dict[tuple[str, int], Path]
) -> None:
    risk = ask(client, {"age": 88, "blood_pressure": 60})["predictions"][0]
    booster = xgb.Booster(model_file=trained["mortality", 1] / "model.json")
    row = plain_inputs.features({"age": 88, "systolic_blood_pressure": 60}, "mortality")
    parts = booster.predict(xgb.DMatrix(row[None], feature_names=booster.feature_names), pred_contribs=True)[
        0
    ]
    pressure = sum(
        part
        for name, part in zip(kernel.names("mortality"), parts[:-1], strict=True)
        if name.startswith("systolic_blood_pressure")
    )
    factors = {factor["feature"]: factor for factor in risk["factors"]}
    found = factors["systolic_blood_pressure"]
    assert found["contribution"] == pytest.approx(0.9 * pressure, abs=1e-4)
    assert found["direction"] == ("raises" if pressure > 0 else "lowers")
    assert found["meaning"] == "systolic blood pressure"
    assert "(not given)" in next(
        f["meaning"] for name, f in factors.items() if name not in ("age", found["feature"])
    )
    sizes = [abs(factor["contribution"]) for factor in risk["factors"]]
    assert sizes == sorted(sizes, reverse=True)


def test_a_value_out_of_range_counts_as_missing_and_is_said(client: TestClient) -> None:
    without = ask(client, {"age": 67})
    implausible = ask(client, {"age": 67, "heart_rate": 900, "temperature": 98.6})
    assert [risk["risk"] for risk in implausible["predictions"]] == [
        r["risk"] for r in without["predictions"]
    ]
    assert implausible["out_of_range"] == [
        {"input": "heart_rate", "plausible": "10 to 350 /min", "used": "treated as missing"},
        {"input": "temperature", "plausible": "26 to 45 °C", "used": "treated as missing"},
    ]
    assert {"heart_rate", "temperature"} <= set(implausible["missing"])


def test_every_concept_and_alias_is_an_input(client: TestClient) -> None:
    for concept in CONCEPTS:
        value = round((concept.low + concept.high) / 2)
        answers = [ask(client, {name: value}) for name in (concept.name, *concept.aliases)]
        assert len({json.dumps(answer["predictions"]) for answer in answers}) == 1, concept.name
        assert concept.name not in answers[0]["missing"]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"ages": 67}, "ages is not an input; did you mean age?"),
        ({"blood_presure": 67}, "did you mean blood_pressure?"),
        ({CANARY: 67}, "A field of the request is not an input"),
        ({"age": CANARY}, "age must be a number."),
        ({"age": True}, "age must be a number."),
        ({"age": [67]}, "age must be a number."),
        ({"heart_rate": {CANARY: 1}}, "heart_rate must be a number."),
        ({"sex": CANARY}, "sex must be female or male."),
        ({"hr": 60, "pulse": 61}, "hr and pulse are the same input; send one of them."),
        ({"hr": CANARY}, "hr must be a number."),
        ({"temperature": 98.6}, "no value lies within what a record can hold, temperature (26 to 45 °C)"),
        ({"age": 17.9, "heart_rate": 90}, "age is below 18; the models are made for adults."),
        ({"patient": 17}, "patient must be text"),
        ({"patient": "17", "age": 3}, "not both"),
        ({"patient": "17", "prediction_time": CANARY}, "prediction_time must be a time"),
        ({"patient": "17", "prediction_time": 1e9}, "prediction_time must be a time"),
        ({"patient": "17", "prediction_time": "2150"}, "prediction_time must be a time"),
        ({"patient": "17", "prediction_time": "2150-03-02"}, "prediction_time must be a time"),
        ({"patient": "17", "prediction_time": "2150-02-30T08:00:00"}, "prediction_time must be a time"),
        ({"patient": "17", "prediction_time": "2150-03-02T24:00:00"}, "prediction_time must be a time"),
        ({"prediction_time": "2150-01-01T00:00:00"}, "goes with patient"),
        ({}, "gives no value"),
        ([CANARY], "must be a JSON object"),
    ],
)
def test_a_wrong_request_gets_one_sentence_without_its_values(
    client: TestClient, body: object, sentence: str
) -> None:
    response = client.post("/predict", json=body)
    assert response.status_code == 422
    assert list(response.json()) == ["error"]
    assert sentence in response.json()["error"]
    assert CANARY not in response.text


def test_a_body_that_is_too_large_is_refused(client: TestClient) -> None:
    response = client.post("/predict", content=b" " * (BODY_BYTES + 1))
    assert response.status_code == 413
    assert str(BODY_BYTES) in response.json()["error"]
    assert "clinical_note of at most 1048576 characters" in response.json()["error"]


def test_nulls_are_missing(client: TestClient) -> None:
    assert (
        ask(client, {"age": 67, "hr": None, "sex": None})["predictions"]
        == ask(client, {"age": 67})["predictions"]
    )


def test_a_value_that_the_model_has_hardly_seen_is_used_and_remarked(
    settings: Settings, promote: Any, trained: dict[tuple[str, int], Path], tmp_path: Path
) -> None:
    """Creatinine in µmol/L, troponin in ng/L and pO2 in kPa: each possible, none likely."""
    ranges = {"age": [19.0, 90.0], "creatinine": [0.4, 7.33], "troponin_t": [0.0, 3.1], "po2": [28.0, 320.0]}
    folder = tmp_path / "model"
    shutil.copytree(trained["mortality", 1], folder)
    spec = json.loads((folder / "predictor.json").read_text())
    (folder / "predictor.json").write_text(json.dumps(spec | {"usual_ranges": ranges}))
    promote("mortality", folder=folder)
    promote("readmission")
    body = {"age": 104, "creatinine": 58, "troponin_t": 6, "po2": 12.2, "heart_rate": 300}
    predictors = Predictors(settings, "synthetic", "production")
    with TestClient(create_app(settings, predictors, PredictionLog(settings, "synthetic"))) as client:
        answer = ask(client, body)
        usual = ask(client, body | {"creatinine": 0.4, "troponin_t": 0, "po2": 320})["predictions"][0]
    mortality, readmission = answer["predictions"]
    remarks = {remark["input"]: remark for remark in mortality["unusual_values"]}
    assert remarks.keys() == {"creatinine", "troponin_t", "po2"}
    assert remarks["creatinine"]["expected_unit"] == "mg/dL"
    assert remarks["creatinine"]["usual"] == "0.4 to 7.33 mg/dL"
    for remark in remarks.values():
        assert remark["usual"] in remark["remark"]
        assert "check its unit" in remark["remark"]
        assert str(body[remark["input"]]) not in remark["remark"].replace(remark["usual"], "")
    assert usual["unusual_values"] == readmission["unusual_values"] == []
    assert mortality["without_usual_range"] == ["heart_rate"], (
        "nothing is remarked of 300, and that says nothing"
    )
    assert set(readmission["without_usual_range"]) == body.keys()
    assert mortality["uncertain"]
    assert {"creatinine", "troponin_t", "po2"}.isdisjoint(answer["missing"])


def test_a_risk_from_few_values_or_beside_an_implausible_one_is_marked_uncertain(client: TestClient) -> None:
    few = ask(client, {"age": 67})
    assert all(risk["uncertain"] for risk in few["predictions"])
    middle = {concept.name: (concept.low + concept.high) / 2 for concept in CONCEPTS}
    whole = {name: value // 1 for name, value in middle.items() if name in schemas.SCORES}
    most = {name: (middle | whole | {"sex": "female"})[name] for name in few["missing"]}
    assert not any(risk["uncertain"] for risk in ask(client, most)["predictions"])
    implausible = most | {"heart_rate": 3000}
    assert all(risk["uncertain"] for risk in ask(client, implausible)["predictions"])


def test_an_answer_names_each_task_of_the_dataset_that_it_lacks_and_says_why(
    settings: Settings, promote: Any, trained: dict[tuple[str, int], Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(trained["readmission", 1], broken)
    (broken / "model.json").write_text("{}")
    promote("mortality")
    promote("readmission", folder=broken, digest="0" * 64)
    predictors = Predictors(settings, "synthetic", "production")
    with TestClient(create_app(settings, predictors, PredictionLog(settings, "synthetic"))) as client:
        [lacking] = ask(client, {"age": 67})["not_predicted"]
        assert lacking["task"] == "readmission"
        assert "were changed since it was registered" in lacking["reason"]
        promote("readmission", 2)
        predictors.refresh()
        assert ask(client, {"age": 67})["not_predicted"] == []


def test_a_task_that_was_only_promoted_to_staging_is_named(settings: Settings, promote: Any) -> None:
    promote("mortality")
    promote("readmission", alias="staging")
    predictors = Predictors(settings, "synthetic", "production")
    with TestClient(create_app(settings, predictors, PredictionLog(settings, "synthetic"))) as client:
        reason = "No version of it is in production."
        assert ask(client, {"age": 67})["not_predicted"] == [{"task": "readmission", "reason": reason}]


def test_every_answer_is_in_the_lake_after_the_server_stopped(settings: Settings, promote: Any) -> None:
    promote("mortality")
    promote("readmission")
    predictors = Predictors(settings, "synthetic", "production")
    with TestClient(create_app(settings, predictors, PredictionLog(settings, "synthetic"))) as client:
        answers = [ask(client, {"age": age, "blood_pressure": 140}) for age in (50, 60, 70)]
        client.post("/predict", json={"age": "wrong"})
    rows = lake.read(settings, lake.latest(settings, "synthetic", "predictions")).to_pylist()
    logged = {(row["prediction_id"], row["task"]): row for row in rows}
    assert len(rows) == len(logged) == 6
    for answer in answers:
        for risk in answer["predictions"]:
            row = logged[answer["prediction_id"], risk["task"]]
            assert (row["risk"], row["model_version"]) == (risk["risk"], risk["version"])
            assert len(row["features"]) == len(kernel.names(risk["task"]))
    age = kernel.names("mortality").index("age_years")
    assert sorted(row["features"][age] for row in rows if row["task"] == "mortality") == [50, 60, 70]


def test_what_can_not_be_logged_is_not_answered(settings: Settings, promote: Any) -> None:
    promote("mortality")
    log = PredictionLog(settings, "synthetic")
    with TestClient(create_app(settings, Predictors(settings, "synthetic", "production"), log)) as client:
        ask(client, {"age": 67})
        log.file.connection.execute("PRAGMA max_page_count = 1")
        refused = [client.post("/predict", json={"age": 67}) for _ in range(20)]
        assert refused[-1].status_code == 503
        assert "is full (it takes no more)" in refused[-1].json()["error"]
        log.file.connection.execute("PRAGMA max_page_count = 1000000")
        ask(client, {"age": 67})
        answered = 2 + sum(response.status_code == 200 for response in refused)
    rows = lake.read(settings, lake.latest(settings, "synthetic", "predictions"))
    assert len(rows) == answered


def test_the_documented_examples_work(client: TestClient) -> None:
    contract = client.get("/openapi.json").json()
    content = contract["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    assert set(content["examples"]) == set(schemas.EXAMPLES)
    for example in content["examples"].values():
        ask(client, example["value"])
        assert set(example["value"]) <= set(content["schema"]["properties"])
    assert content["schema"]["additionalProperties"] is False
    answer = contract["paths"]["/predict"]["post"]["responses"]["200"]["content"]["application/json"][
        "schema"
    ]
    assert answer == {"$ref": "#/components/schemas/Answer"}
    assert client.get("/docs").status_code == 200


def test_metrics_count_answers_and_refusals_and_hold_no_value(client: TestClient) -> None:
    ask(client, {"age": 67.25})
    client.post("/predict", json={"age": CANARY})
    text = client.get("/metrics").text
    assert 'mediscale_predictions_total{model_version="1",task="mortality"} 1.0' in text
    assert 'mediscale_refusals_total{status="422"} 1.0' in text
    assert 'mediscale_model_version{task="readmission"} 1.0' in text
    assert "67.25" not in text
    assert CANARY not in text


def test_no_model_is_an_answer_too(settings: Settings) -> None:
    predictors = Predictors(settings, "synthetic", "production")
    with TestClient(create_app(settings, predictors, PredictionLog(settings, "synthetic"))) as client:
        response = client.post("/predict", json={"age": 67})
        assert response.status_code == 503
        assert "No production model of synthetic is served yet" in response.json()["error"]
        assert client.get("/health").status_code == 503


def test_simultaneous_requests_are_all_logged(settings: Settings, promote: Any) -> None:
    promote("mortality")
    import httpx

    predictors = Predictors(settings, "synthetic", "production")
    log = PredictionLog(settings, "synthetic")
    app = create_app(settings, predictors, log)

    async def together() -> list[int]:
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client,
        ):
            asked = [client.post("/predict", json={"age": 20 + number % 60}) for number in range(120)]
            return [response.status_code for response in await asyncio.gather(*asked)]

    assert asyncio.run(together()) == [200] * 120
    assert len(lake.read(settings, lake.latest(settings, "synthetic", "predictions"))) == 120


def test_health_says_what_is_wrong_until_it_is_right_again(
    settings: Settings, promote: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.app.POLL_SECONDS", 0.05)
    promote("mortality")
    log = PredictionLog(settings, "synthetic")
    with TestClient(create_app(settings, Predictors(settings, "synthetic", "production"), log)) as client:
        assert client.get("/health").json()["status"] == "ready"
        log.file.connection.execute("PRAGMA max_page_count = 1")
        while client.post("/predict", json={"age": 67}).status_code == 200:
            pass
        health = client.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "unavailable")
        assert "is full (it takes no more)" in health.json()["problems"][0]
        assert "lake" not in health.json()["problems"][0]
        assert client.get("/ready").status_code == 503
        assert client.get("/live").status_code == 200
        log.file.connection.execute("PRAGMA max_page_count = 1000000")
        # without a request: nobody sends one to who is not ready
        assert wait_for(client, "ready")["unflushed"] > 0
        assert client.get("/ready").status_code == 200


def test_a_log_that_can_not_be_read_does_not_end_its_flushes(
    settings: Settings, promote: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.app.FLUSH_SECONDS", 0.02)
    promote("mortality")
    log = PredictionLog(settings, "synthetic")
    with TestClient(create_app(settings, Predictors(settings, "synthetic", "production"), log)) as client:
        with monkeypatch.context() as broken:
            broken.setattr("serving.log.log_file.connect", lambda _path: sqlite3.connect(":memory:"))
            wait_for(client, "degraded")
        ask(client, {"age": 67})
        wait_for(client, "ready")
        deadline = time.monotonic() + 20
        while client.get("/health").json()["unflushed"] and time.monotonic() < deadline:
            time.sleep(0.02)
        assert client.get("/health").json()["unflushed"] == 0


def wait_for(client: TestClient, status: str) -> dict[str, Any]:
    """What /health says as soon as it says this status."""
    deadline = time.monotonic() + 20
    while (health := client.get("/health").json())["status"] != status and time.monotonic() < deadline:
        time.sleep(0.02)
    assert health["status"] == status
    return health


def test_who_hangs_up_while_sending_is_no_failure_of_the_server(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    said: list[dict[str, Any]] = [
        {"type": "http.request", "body": b'{"age": ', "more_body": True},
        {"type": "http.disconnect"},
    ]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/predict", "raw_path": b"/predict", "root_path": "", "query_string": b"", "headers": [],
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return said.pop(0)

    async def send(_message: Any) -> None:
        return None

    asyncio.run(client.app(scope, receive, send))  # type: ignore[arg-type]
    assert not said
    assert not caplog.records
    assert "mediscale_refusals_total{" not in client.get("/metrics").text


def test_a_history_that_can_not_be_read_leaves_what_is_served(
    settings: Settings, promote: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # else the second move may be read before it is torn
    monkeypatch.setattr("serving.app.POLL_SECONDS", 3600)
    promote("mortality")
    log = PredictionLog(settings, "synthetic")
    with TestClient(create_app(settings, Predictors(settings, "synthetic", "production"), log)) as client:
        promote("mortality", 2)
        history = next((settings.home / "lake" / "synthetic" / "history").glob("_delta_log/*1.json"))
        history.write_text("torn")
        client.app.state.service.follow()  # type: ignore[attr-defined]
        health = wait_for(client, "degraded")
        assert "its Delta log is damaged" in health["problems"][0]
        assert ask(client, {"age": 67})["predictions"][0]["version"] == 1


def test_a_parameter_of_the_address_changes_nothing_and_is_refused(client: TestClient) -> None:
    answer = client.post("/predict?hour=6", json={"age": 67, "blood_pressure": 140})
    assert (answer.status_code, answer.json()["error"]) == (
        422, "The address has a parameter that is unknown here; this route takes everything in the body."
    )  # fmt: skip
