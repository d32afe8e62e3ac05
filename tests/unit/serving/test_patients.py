from datetime import datetime
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fastapi.testclient import TestClient
from fixtures import lake_patients
from fixtures.lake_patients import ADMITTED, SECRET, add, hours, logged, row_of, utc, write_lake
from fixtures.promoted_models import split

from data_pipeline.features import kernel
from mediscale.core import tasks
from mediscale.core.errors import InputError
from mediscale.core.settings import Settings
from mediscale.core.tables import EVENTS
from mediscale.storage import commits, lake
from serving.app import create_app
from serving.log.prediction_log import PredictionLog
from serving.requests.request import Patient
from serving.risk import challengers, patient_records
from serving.risk.models import Predictors

client = lake_patients.client


def ask(client: TestClient, at: datetime | None = None, patient: str = SECRET) -> dict[str, Any]:
    time = {"prediction_time": at.isoformat()} if at else {}
    response = client.post("/predict", json={"patient": patient, **time})
    assert response.status_code == 200, response.text
    return response.json()


def test_the_features_are_the_kernels_at_that_time(client: TestClient, settings: Settings) -> None:
    answer = ask(client, hours(24))
    assert answer["prediction_time"] == utc(hours(24))
    ref = lake.latest(settings, "synthetic", "events")
    events = lake.read(settings, ref)
    when = pa.table({"subject_id": [1], "admission_time": [ADMITTED], "prediction_time": [hours(24)]})
    rows = logged(client, settings)
    assert {row["prediction_id"] for row in rows} == {answer["prediction_id"]}
    for row in rows:
        expected = kernel.compute(events, when, row["task"])[0]
        assert np.array_equal(np.array(row["features"]), expected, equal_nan=True)
        assert (row["subject_id"], row["prediction_time"], row["events_version"]) == (
            1,
            hours(24),
            ref.version,
        )


def test_a_patient_of_the_lake_is_in_one_arm_by_every_route(
    settings: Settings, promote: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(challengers, "SHIFT_ODDS", 100)  # the two versions have little in common
    write_lake(settings)
    promote("mortality")
    promote("readmission")
    split(settings, promote("mortality", 2, alias="staging"), 100)
    predictors = Predictors(settings, "synthetic", "production")
    with TestClient(create_app(settings, predictors, PredictionLog(settings, "synthetic"))) as client:
        answer = ask(client, hours(24))
        assert [(one["task"], one["version"]) for one in answer["predictions"]] == [("mortality", 2)]
        hook = {"hook": "patient-view", "hookInstance": "1", "context": {"patientId": "patient-4713"}}
        (card,) = client.post("/cds-services/mediscale-risk", json=hook).json()["cards"]
        assert card["source"]["label"].endswith("synthetic-mortality version 2")
        assert [one["task"] for one in ask(client)["predictions"]] == ["readmission"], "at the discharge"
        about = {"patient": SECRET, "prediction_time": hours(24).isoformat()}
        by_path = client.post("/models/synthetic-mortality/1/predict", json=about)
        assert [one["version"] for one in by_path.json()["predictions"]] == [1]
        rows = [row for row in logged(client, settings) if row["task"] == "mortality"]
    assert [(row["arm"], row["model_version"], row["subject_id"]) for row in rows] == [
        ("canary", 2, 1), ("canary", 2, 3), ("direct", 1, 1)
    ]  # fmt: skip


def test_what_became_known_later_is_not_used(client: TestClient) -> None:
    early, late = ask(client, hours(24)), ask(client, hours(31))
    assert "creatinine" in early["missing"]
    assert "creatinine" not in late["missing"]


def test_without_a_time_a_finished_stay_is_seen_at_its_discharge(client: TestClient) -> None:
    assert ask(client)["prediction_time"] == utc(hours(40))
    assert ask(client, patient="patient-4713")["prediction_time"] == utc(hours(7))


def test_without_a_time_an_open_stay_is_seen_when_something_was_last_true(
    client: TestClient, settings: Settings
) -> None:
    """Not when it may be known: codes of a visit that ended this morning, a week later; a culture, after three days."""
    add(
        settings,
        (3, hours(-60), "HOSPITAL_ADMISSION//EMERGENCY", None, hours(-60)),
        (3, hours(-40), "HOSPITAL_DISCHARGE//HOME", None, hours(-40)),
        (3, hours(-40), "ICD10CM//I509", None, hours(-40 + 7 * 24)),
        (3, hours(1), "MICROBIOLOGY//POSITIVE", None, hours(73)),
        (3, hours(8), "LOINC//8867-4", 64.0, hours(8)),
    )
    answer = ask(client, patient="patient-4713")
    assert answer["prediction_time"] == utc(hours(8))
    assert "heart_rate" not in answer["missing"]


def test_a_withdrawn_row_does_not_move_the_default_time(client: TestClient, settings: Settings) -> None:
    misdated = pa.Table.from_pylist(
        [{**row_of(900, (3, hours(9000), "LOINC//8867-4", 64.0, hours(2))), "retracted": withdrawn,
          "available_time": hours(2 + withdrawn)} for withdrawn in (False, True)],
        schema=EVENTS.arrow_schema(),
    )  # fmt: skip
    commits.append(settings, "events", misdated, "synthetic", "test", 2)
    assert ask(client, patient="patient-4713")["prediction_time"] == utc(hours(7))


def test_factors_are_features_in_words(client: TestClient) -> None:
    factors = ask(client, hours(24))["predictions"][0]["factors"]
    assert all(factor["feature"] in kernel.names("mortality") for factor in factors)
    assert all("_" not in factor["meaning"] for factor in factors)


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ({"patient": "patient-9999"}, 404, "does not know this patient"),
        ({"patient": "patient-4712"}, 422, "had not been admitted"),
        ({"patient": SECRET, "prediction_time": "2150-02-01T00:00:00"}, 422, "had not been admitted"),
        ({"patient": SECRET, "prediction_time": "2150-03-03T00:00:01"}, 422, "had left by that time"),
        ({"patient": "patient-4714"}, 422, "made for patients of 18 or older"),
        ({"patient": "patient-4715"}, 422, "had died by that time"),
        ({"patient": "patient-4715", "prediction_time": "2150-03-02T15:00:00"}, 422, "had died by that time"),
    ],
)
def test_who_can_not_be_found_gets_a_sentence_without_the_identifier(
    client: TestClient, body: dict[str, Any], status: int, sentence: str
) -> None:
    response = client.post("/predict", json=body)
    assert response.status_code == status
    assert sentence in response.json()["error"]
    assert body["patient"] not in response.text


def test_times_with_a_zone_are_understood(client: TestClient) -> None:
    with_zone = {"patient": SECRET, "prediction_time": "2150-03-02T10:00:00+02:00"}
    answer = client.post("/predict", json=with_zone).json()
    assert answer["prediction_time"] == utc(hours(24))
    assert answer["prediction_time_basis"] == "given with its offset"


def test_the_answer_says_what_its_time_is_taken_from(client: TestClient) -> None:
    assert ask(client, hours(24))["prediction_time_basis"] == "given without an offset, taken as UTC"
    assert ask(client)["prediction_time_basis"] == "discharge of the last stay"
    assert ask(client, patient="patient-4713")["prediction_time_basis"] == "newest moment in the record"


@pytest.mark.parametrize(
    ("at", "answered", "refused"),
    [
        (hours(6), "mortality", "readmission may be asked at discharge, and not at this time."),
        (hours(39), "mortality", "readmission may be asked at discharge, and not at this time."),
        (
            hours(40),
            "readmission",
            "mortality may be asked from 6 to 48 hours after admission, while the patient is in hospital, "
            "and not at this time.",
        ),
    ],
)
def test_a_model_asked_outside_its_moment_is_refused_by_name_and_the_other_answers(
    client: TestClient, settings: Settings, at: datetime, answered: str, refused: str
) -> None:
    answer = ask(client, at)
    assert [risk["task"] for risk in answer["predictions"]] == [answered]
    assert answer["not_predicted"] == [{"task": refused.split()[0], "reason": refused}]
    assert [row["task"] for row in logged(client, settings)] == [answered]


def test_a_moment_at_which_no_model_may_be_asked_is_one_sentence(client: TestClient) -> None:
    body = {"patient": SECRET, "prediction_time": hours(5.9).isoformat()}
    response = client.post("/predict", json=body)
    assert response.status_code == 422
    assert "mortality may be asked from 6 to 48 hours" in response.json()["error"]
    assert "readmission may be asked at discharge" in response.json()["error"]


def test_after_a_discharge_to_where_the_outcome_can_not_happen_that_task_is_refused(
    client: TestClient, settings: Settings
) -> None:
    add(settings, (3, hours(60), "HOSPITAL_DISCHARGE//HOSPICE", None, hours(60)))
    response = client.post("/predict", json={"patient": "patient-4713"})
    assert response.status_code == 422
    assert "readmission is not asked after a discharge to where" in response.json()["error"]


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_that_has_no_utc_is_one_sentence(client: TestClient, time: str) -> None:
    response = client.post("/predict", json={"patient": SECRET, "prediction_time": time})
    assert response.status_code == 422
    assert "outside the years 1 to 9999" in response.json()["error"]


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00", "9999-12-31T23:59:59"])
def test_the_first_and_the_last_time_that_there_is_are_no_fault_of_the_server(
    client: TestClient, time: str
) -> None:
    response = client.post("/predict", json={"patient": SECRET, "prediction_time": time})
    assert response.status_code == 422


def test_who_dies_or_leaves_later_is_answered_until_then(client: TestClient) -> None:
    assert ask(client, hours(29), "patient-4715")["prediction_time"] == utc(hours(29))
    assert ask(client, hours(40))["prediction_time"] == utc(hours(40))


def test_a_lake_without_events_says_which_table_is_missing(settings: Settings, promote: Any) -> None:
    promote("mortality")
    predictors = Predictors(settings, "synthetic", "production")
    with TestClient(create_app(settings, predictors, PredictionLog(settings, "synthetic"))) as client:
        response = client.post("/predict", json={"patient": SECRET})
    assert response.status_code == 404
    assert "no table synthetic/subjects" in response.json()["error"]


def test_a_model_of_encounters_is_not_asked_by_a_patient_s_number() -> None:
    spec: Any = SimpleNamespace(task="encounter_readmission")
    stay: Any = None
    reason = patient_records._not_to_be_asked(spec, stay, ADMITTED, EVENTS.arrow_schema().empty_table())
    assert (
        reason
        == "encounter_readmission is of one encounter by itself, and a patient's number does not say which"
    )


def test_a_model_of_a_first_onset_is_asked_at_any_moment_until_it_is_known(settings: Settings) -> None:
    """A creatinine that was drawn early is known at hour 30; it has risen at hour 34, which is known at hour 36."""
    write_lake(settings)
    add(settings, (1, hours(34), "LOINC//2160-0", 5.5, hours(36)))
    task = tasks.load("kidney_injury")
    spec: Any = SimpleNamespace(task=task.name, may_be_asked=task.may_be_asked, excluded_destinations=())
    patients = patient_records.Patients(settings, "synthetic")
    for at, reason in (
        (23, "may be asked from 24 to 168 hours after admission"),
        (29, "is for patients with a creatinine of the last seven days to compare with"),
        (37, "is for patients without an acute kidney injury by then, and by what was known at that time"),
    ):
        with pytest.raises(InputError, match=f"kidney_injury {reason}"):
            patients.find(Patient(SECRET, hours(at)), [spec])
    for later in (31, 33.5, 35):
        assert patients.find(Patient(SECRET, hours(later)), [spec]).refused == {}
