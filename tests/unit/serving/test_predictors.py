"""The versions that a server follows in the promotion history: loaded, refused, replaced, and withdrawn."""

import base64
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from fixtures.run_records import POINTS

from mediscale.core.errors import StorageError
from mediscale.core.settings import Settings
from mediscale.governance import served_traffic
from mediscale.inference import model_signature
from mediscale.storage import fallbacks, lake, registry
from mediscale.storage.history_entries import Alias
from serving import app as serving_app
from serving.app import create_app
from serving.log.prediction_log import PredictionLog
from serving.risk.models import Predictors


def predictors(settings: Settings, alias: Alias = "production") -> Predictors:
    return Predictors(settings, "synthetic", alias)


def versions(found: Predictors) -> dict[str, int]:
    return {task: served.model.version for task, served in found.current.items()}


def changed_copy(folder: Path, to: Path, **spec: Any) -> Path:
    """The model's folder with other values in its predictor.json."""
    shutil.copytree(folder, to)
    file = to / "predictor.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | spec))
    return to


def test_the_newest_move_of_the_alias_is_served(settings: Settings, promote: Any) -> None:
    found = predictors(settings)
    found.refresh()
    assert versions(found) == {}
    promote("mortality", 1)
    promote("mortality", 2, alias="staging")
    found.refresh()
    assert versions(found) == {"mortality": 1}
    promote("mortality", 2)
    promote("readmission", 1)
    found.refresh()
    assert versions(found) == {"mortality": 2, "readmission": 1}
    promote("mortality", 1)  # a rollback is a move like any other
    found.refresh()
    assert versions(found) == {"mortality": 1, "readmission": 1}


def test_a_request_keeps_the_version_that_it_began_with(settings: Settings, promote: Any) -> None:
    promote("mortality", 1)
    found = predictors(settings)
    found.refresh()
    begun = found.current
    promote("mortality", 2)
    found.refresh()
    assert begun["mortality"].model.version == 1
    assert found.current["mortality"].model.version == 2


def test_a_version_whose_files_changed_is_refused_and_the_one_before_serves(
    settings: Settings, promote: Any
) -> None:
    promote("mortality", 1)
    found = predictors(settings)
    found.refresh()
    promote("mortality", 2, digest="0" * 64)
    found.refresh()
    assert versions(found) == {"mortality": 1}
    assert "were changed since" in found.refused["mortality"]
    promote("mortality", 2)
    found.refresh()
    assert versions(found) == {"mortality": 2}
    assert not found.refused


def test_what_one_server_refuses_every_other_one_sees(
    settings: Settings, promote: Any, trained: dict[Any, Path]
) -> None:
    folder = changed_copy(trained["mortality", 2], settings.home / "artifacts" / "lost")
    promote("mortality", 1)
    whole, broken = predictors(settings), predictors(settings)
    promote("mortality", 2, folder=folder)

    def follow(*servers: Predictors) -> None:
        for each in servers:
            each.refresh()
            each.share_refusals()

    follow(whole)
    away = folder.rename(folder.with_name("away"))
    follow(broken, whole)
    assert (versions(whole), versions(broken)) == ({"mortality": 2}, {"mortality": 1})
    assert "There is no model in" in whole.refused_elsewhere["mortality"]
    assert not broken.refused_elsewhere
    assert any("refused it" in line for line in served_traffic.lines(settings, "synthetic"))
    away.rename(folder)
    follow(broken, whole)
    assert versions(broken) == {"mortality": 2}
    assert not whole.refused_elsewhere
    away = folder.rename(folder.with_name("away"))
    follow(third := predictors(settings))
    assert third.refused
    promote("mortality", 1)  # somebody decides for all of them
    follow(third, whole)
    assert versions(third) == versions(whole) == {"mortality": 1}
    assert not whole.refused_elsewhere
    assert not list((Path(settings.lake) / "synthetic" / fallbacks.FALLBACKS).iterdir())


def test_a_version_that_answers_otherwise_than_in_training_is_refused(
    settings: Settings, promote: Any, trained: dict[Any, Path], tmp_path: Path
) -> None:
    known = json.loads((trained["mortality", 2] / "predictor.json").read_text())["known_answers"]
    known[0]["risk"] += 0.001
    trained_wrongly = changed_copy(trained["mortality", 2], tmp_path / "wrong", known_answers=known)
    promote("mortality", 1)
    found = predictors(settings)
    found.refresh()
    promote("mortality", 2, folder=trained_wrongly)
    found.refresh()
    assert versions(found) == {"mortality": 1}
    assert "1 of 2 known answers differ" in found.refused["mortality"]


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"known_answers": []}, "does not answer as it did"),
        ({"name": "other-mortality"}, "belong to another model"),
        ({"features": ["age_years"]}, "belong to another model"),
        ({"surprise": 1}, "lack what serving reads"),
        ({"task": "readmission"}, "belong to another model"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    settings: Settings,
    promote: Any,
    trained: dict[Any, Path],
    tmp_path: Path,
    spec: dict[str, Any],
    sentence: str,
) -> None:
    promote("mortality", 2, folder=changed_copy(trained["mortality", 2], tmp_path / "wrong", **spec))
    promote("readmission", 1)
    found = predictors(settings)
    found.refresh()
    assert sentence in found.refused["mortality"]
    assert versions(found) == {"readmission": 1}


@pytest.mark.parametrize(
    ("content", "sentence"), [(None, "lack what serving reads"), ("{", "could not be read")]
)
def test_trees_that_are_gone_or_torn_are_refused(
    settings: Settings,
    promote: Any,
    trained: dict[Any, Path],
    tmp_path: Path,
    content: str | None,
    sentence: str,
) -> None:
    folder = changed_copy(trained["mortality", 2], tmp_path / "wrong")
    (folder / "model.json").unlink()
    if content is not None:
        (folder / "model.json").write_text(content)
    promote("mortality", 2, folder=folder)
    found = predictors(settings)
    found.refresh()
    assert sentence in found.refused["mortality"]


def test_features_of_another_release_are_refused(
    settings: Settings, promote: Any, trained: dict[Any, Path], tmp_path: Path
) -> None:
    features = json.loads((trained["mortality", 2] / "predictor.json").read_text())["features"]
    other = changed_copy(trained["mortality", 2], tmp_path / "other", features=["sofa_score", *features[1:]])
    promote("mortality", 2, folder=other)
    found = predictors(settings)
    found.refresh()
    assert "1 features that this release does not compute" in found.refused["mortality"]


def test_vanished_files_are_refused(settings: Settings, promote: Any, trained: dict[Any, Path]) -> None:
    folder = changed_copy(trained["mortality", 1], settings.home / "artifacts" / "gone")
    promote("mortality", 1, folder=folder)
    shutil.rmtree(folder)
    found = predictors(settings)
    found.refresh()
    assert "There is no model in" in found.refused["mortality"]


def test_a_running_server_follows_a_promotion_and_survives_a_bad_one(
    settings: Settings, promote: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_app, "POLL_SECONDS", 0.05)
    promote("mortality", 1)
    app = create_app(settings, predictors(settings), PredictionLog(settings, "synthetic"))

    def served() -> int:
        return client.post("/predict", json={"age": 67}).json()["predictions"][0]["version"]

    def wait_for(status: str, version: int) -> dict[str, Any]:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            health = client.get("/health")
            assert health.status_code == 200
            if (health.json()["status"], health.json()["models"][0]["version"]) == (status, version):
                return health.json()
            assert served() in (1, 2)
            time.sleep(0.02)
        raise AssertionError(f"{status} with version {version} did not come: {health.json()}")

    with TestClient(app) as client:
        assert served() == 1
        promote("mortality", 2, digest="f" * 64)
        degraded = wait_for("degraded", 1)
        assert "were changed since" in degraded["problems"][0]
        assert served() == 1
        promote("mortality", 2)
        assert wait_for("ready", 2)["problems"] == []
        assert served() == 2


def test_a_history_that_is_gone_or_another_is_degraded_and_what_was_served_is_served(
    settings: Settings, promote: Any
) -> None:
    promote("mortality", 1)
    found = predictors(settings)
    found.refresh()
    lake, away = Path(settings.lake), Path(settings.lake).with_name("away")
    lake.rename(away)
    lake.mkdir()
    for _ in range(2):
        with pytest.raises(StorageError, match=r"lacks the table synthetic/history.*is it mounted"):
            found.refresh()
        with pytest.raises(StorageError, match="is it mounted"):
            registry.next_sequence(settings, "synthetic")
    assert versions(found) == {"mortality": 1}
    assert not list(lake.iterdir())
    shutil.rmtree(lake)
    away.rename(lake)
    found.refresh()


def test_after_a_restart_the_newest_version_that_loads_serves_and_says_so(
    settings: Settings, promote: Any, trained: dict[Any, Path]
) -> None:
    """Version 3's file has one other bit, version 2 is gone: the oldest of the three answers."""
    promote("mortality", 1)
    gone = changed_copy(trained["mortality", 2], settings.home / "artifacts" / "gone")
    promote("mortality", 2, folder=gone)
    damaged = changed_copy(trained["mortality", 2], settings.home / "artifacts" / "damaged")
    promote("mortality", 3, folder=damaged)
    promote("readmission", 1)
    shutil.rmtree(gone)
    content = bytearray((damaged / "model.json").read_bytes())
    content[len(content) // 2] ^= 1
    (damaged / "model.json").write_bytes(content)
    app = create_app(settings, predictors(settings), PredictionLog(settings, "synthetic"))
    with TestClient(app) as client:
        health = client.get("/health").json()
        answer = client.post("/predict", json={"age": 67}).json()
    assert health["status"] == "degraded"
    assert {model["task"]: model["version"] for model in health["models"]} == {
        "mortality": 1,
        "readmission": 1,
    }
    (problem,) = health["problems"]
    assert "were changed since" in problem
    assert problem.endswith("Version 1 answers in its place.")
    risks = {risk["task"]: risk for risk in answer["predictions"]}
    assert (risks["mortality"]["version"], risks["mortality"]["instead_of"]) == (1, problem)
    assert "instead_of" not in risks["readmission"]


@pytest.mark.parametrize("torn", ["{", None])
def test_where_no_version_loads_the_points_score_answers_and_says_so(
    settings: Settings, promote: Any, trained: dict[Any, Path], tmp_path: Path, torn: str | None
) -> None:
    """The trees are torn or gone, the file beside them is what was signed; its answers are never the version's."""
    folder = changed_copy(trained["mortality", 1], tmp_path / "torn", points=POINTS.model_dump())
    (folder / "model.json").unlink()
    if torn:
        (folder / "model.json").write_text(torn)
    promote("mortality", 1, folder=folder)
    found = predictors(settings)
    prediction_log = PredictionLog(settings, "synthetic")
    with TestClient(create_app(settings, found, prediction_log)) as client:
        (answer,) = client.post("/predict", json={"age": 81}).json()["predictions"]
        measured = client.get("/metrics").text
        assert client.get("/health").json()["status"] == "degraded"
        found.refresh()
        assert found.current["mortality"].is_points_score, "it goes on answering"
        promote("mortality", 2)
        client.app.state.service.follow()  # type: ignore[attr-defined]
        (repaired,) = client.post("/predict", json={"age": 81}).json()["predictions"]
        assert 'mediscale_points_score_answers{task="mortality"} 0.0' in client.get("/metrics").text
    assert (answer["model"], answer["version"]) == ("synthetic-mortality-points-score", 1)
    assert answer["instead_of"].endswith("The points score of synthetic-mortality v1 answers in its place.")
    assert answer["risk"] == pytest.approx(POINTS.risk_of(np.array([7]))[0]), "7 points from 80 years on"
    assert [factor["feature"] for factor in answer["factors"]] == ["age"]
    assert {threshold["name"]: threshold["exceeded"] for threshold in answer["thresholds"]} == {
        "clinical": True,
        "high": True,
    }
    assert 'mediscale_points_score_answers{task="mortality"} 1.0' in measured
    assert (repaired["model"], repaired["version"]) == ("synthetic-mortality", 2)
    logged = lake.read(settings, lake.latest(settings, "synthetic", "predictions")).to_pylist()
    assert [row["model"] for row in logged] == ["synthetic-mortality-points-score", "synthetic-mortality"]


def test_a_points_score_whose_file_was_changed_does_not_answer(
    settings: Settings, promote: Any, trained: dict[Any, Path]
) -> None:
    folder = changed_copy(
        trained["mortality", 1], settings.home / "artifacts" / "changed", points=POINTS.model_dump()
    )
    promote("mortality", 1, folder=folder)
    file = folder / "predictor.json"
    file.write_text(file.read_text().replace('"below": 65', '"below": 25'))
    found = predictors(settings)
    found.refresh()
    assert versions(found) == {}
    assert "were changed since" in found.refused["mortality"]


def test_a_version_that_is_repaired_takes_its_place_again(
    settings: Settings, promote: Any, trained: dict[Any, Path]
) -> None:
    promote("mortality", 1)
    damaged = changed_copy(trained["mortality", 2], settings.home / "artifacts" / "damaged")
    promote("mortality", 2, folder=damaged)
    trees = (damaged / "model.json").read_bytes()
    (damaged / "model.json").write_bytes(trees[:-1])
    found = predictors(settings)
    found.refresh()
    assert versions(found) == {"mortality": 1}
    assert found.current["mortality"].instead_of == found.refused["mortality"]
    (damaged / "model.json").write_bytes(trees)
    found.refresh()
    assert versions(found) == {"mortality": 2}
    assert found.current["mortality"].instead_of is None
    assert not found.refused


def test_files_damaged_while_they_are_served_are_noticed_and_served_from_memory(
    settings: Settings, promote: Any, trained: dict[Any, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_app, "FILES_SECONDS", 0.05)
    folder = changed_copy(trained["mortality", 1], settings.home / "artifacts" / "damaged")
    promote("mortality", 1, folder=folder)
    app = create_app(settings, predictors(settings), PredictionLog(settings, "synthetic"))
    with TestClient(app) as client:
        assert client.get("/health").json()["status"] == "ready"
        trees = (folder / "model.json").read_bytes()
        (folder / "model.json").write_bytes(trees[:-1])
        deadline = time.monotonic() + 20
        while client.get("/health").json()["status"] == "ready" and time.monotonic() < deadline:
            time.sleep(0.02)
        assert "served from memory" in client.get("/health").json()["problems"][0]
        assert client.post("/predict", json={"age": 67}).status_code == 200
        (folder / "model.json").write_bytes(trees)
        while client.get("/health").json()["status"] != "ready" and time.monotonic() < deadline:
            time.sleep(0.02)
        assert client.get("/health").json()["status"] == "ready"


def test_a_withdrawn_version_never_answers_by_itself(
    settings: Settings, promote: Any, trained: dict[Any, Path]
) -> None:
    """A person went back from version 2 to version 1; a server that can't load version 1 returns to no other."""
    one = changed_copy(trained["mortality", 1], settings.home / "artifacts" / "one")
    promote("mortality", 1, folder=one)
    promote("mortality", 2)
    promote("mortality", 1, folder=one)
    (one / "model.json").write_bytes(b"{}")
    found = predictors(settings)
    found.refresh()
    assert versions(found) == {}
    assert "were changed since" in found.refused["mortality"]


def bundle_of(settings: Settings, move: Any) -> Path:
    return Path(model_signature.place(settings, move.version, move.evidence_digest))


def test_a_version_without_its_own_signature_is_refused_and_the_one_before_serves(
    settings: Settings, promote: Any, trained: dict[Any, Path]
) -> None:
    first = promote("mortality", 1)
    second = promote(
        "mortality", 2, folder=changed_copy(trained["mortality", 2], settings.home / "artifacts" / "two")
    )
    bundle = bundle_of(settings, second)
    sound = bundle.read_bytes()
    envelope = json.loads(sound)["dsseEnvelope"]
    payload = json.loads(base64.b64decode(envelope["payload"]))
    payload["subject"][0]["name"] = "synthetic-mortality/3"
    forged = {**envelope, "payload": base64.b64encode(json.dumps(payload).encode()).decode()}
    for content, sentence in (
        (None, "is not signed for this evidence"),
        (b"{", "can't be read"),
        (bundle_of(settings, first).read_bytes(), "is of synthetic-mortality/1 or of other evidence"),
        (json.dumps({"dsseEnvelope": forged}).encode(), "not of a key that is accepted here"),
    ):
        bundle.unlink()
        if content is not None:
            bundle.write_bytes(content)
        found = predictors(settings)
        found.refresh()
        assert versions(found) == {"mortality": 1}
        assert sentence in found.refused["mortality"]
        bundle.write_bytes(sound)
    found.refresh()
    assert versions(found) == {"mortality": 2}


def test_a_file_that_was_not_signed_as_it_is_does_not_answer(
    settings: Settings, promote: Any, trained: dict[Any, Path]
) -> None:
    """Files and digest were exchanged before the move was signed: the signature of the version is the second lock."""
    folder = changed_copy(trained["mortality", 2], settings.home / "artifacts" / "two")
    move = promote("mortality", 2, folder=folder)
    signed = bundle_of(settings, move).read_bytes()
    (folder / "predictor.json").write_text((folder / "predictor.json").read_text() + "\n")
    promote("mortality", 2, folder=folder)
    bundle_of(settings, move).write_bytes(signed)
    found = predictors(settings)
    found.refresh()
    assert "1 files of synthetic-mortality v2 are not as they were signed" in found.refused["mortality"]
