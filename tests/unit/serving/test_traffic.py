"""Canaries and shadows: who gets which version, when one is given up, and that no patient gets an error by it."""

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from fixtures.promoted_models import split

from mediscale.core.settings import Settings
from mediscale.inference import tabular
from mediscale.inference.tabular import Predictor, Scored
from mediscale.storage import approvals, commits, fallbacks, history, lake, registry, traffic
from mediscale.storage.history_entries import ApprovalRule
from serving.app import create_app
from serving.log.prediction_log import PredictionLog
from serving.requests.request import Patient, Values
from serving.risk import challengers
from serving.risk.models import Predictors
from serving.traffic import arms, canary_analysis
from serving.traffic.sequential_test import HYPOTHESES, SequentialTest, Signal

Fault = Callable[[Scored], Scored]


# --- the sequential test -----------------------------------------------------------------------------------------


def given_up(seed: int, requests: int, shares: Mapping[Signal, float]) -> Signal | None:
    """By which signal a version with these shares of bad requests is given up within so many requests."""
    test, chance = SequentialTest(), np.random.default_rng(seed)
    for bad in zip(*(chance.random(requests) < share for share in shares.values()), strict=True):
        if signal := test.observe(dict(zip(shares, bad, strict=True))):
            return signal
    return None


def test_of_healthy_canaries_few_are_given_up_and_of_those_with_ten_per_cent_errors_nearly_all() -> None:
    """Healthy is worst at the very edge of what the hypotheses call healthy."""
    edge = {signal: hypotheses.healthy for signal, hypotheses in HYPOTHESES.items()}
    healthy = [given_up(seed, 2000, edge) for seed in range(200)]
    assert sum(signal is not None for signal in healthy) <= 0.05 * 200
    broken = [given_up(seed, 500, {"failed": 0.1, "slow": 0.02}) for seed in range(200)]
    assert broken.count("failed") >= 0.95 * 200


@pytest.mark.parametrize("signal", ["slow", "shifted"])
def test_a_version_that_is_slow_or_says_something_else_is_given_up_by_that_signal(signal: Signal) -> None:
    assert given_up(0, 200, {"failed": 0.0, signal: 0.9}) == signal


def test_a_version_that_breaks_after_a_long_time_is_given_up_as_quickly() -> None:
    test = SequentialTest()
    assert not any(test.observe({"failed": False}) for _ in range(100_000))
    assert [test.observe({"failed": True}) for _ in range(8)].count("failed")


# --- the arms ----------------------------------------------------------------------------------------------------


def test_a_patient_stays_in_the_arm_and_a_larger_share_takes_nobody_out() -> None:
    keys = [f"patient {i}" for i in range(20_000)]
    five = {key for key in keys if arms.is_drawn("salt", key, 5)}
    assert five == {key for key in reversed(keys) if arms.is_drawn("salt", key, 5)}
    assert 0.04 < len(five) / len(keys) < 0.06
    assert five < {key for key in keys if arms.is_drawn("salt", key, 20)}
    others = {key for key in keys if arms.is_drawn("other salt", key, 5)}
    assert len(five & others) < 0.2 * len(five)
    assert not any(arms.is_drawn("salt", key, 0) for key in keys)
    assert all(arms.is_drawn("salt", key, 100) for key in keys)


def test_a_request_is_drawn_by_the_patient_or_by_the_values_where_it_names_nobody() -> None:
    assert arms.subject_key(Patient("7", None)) == arms.subject_key(Patient("Patient/7", None))
    values = [Values({"age": 67, "lactate": 2}, ()), Values({"lactate": 2, "age": 67}, (), note="Walks.")]
    assert arms.subject_key(values[0]) == arms.subject_key(values[1]) != arms.subject_key(Values({}, ()))
    notes = {arms.subject_key(Values({}, (), note=note)) for note in ("Walks.", "Mottled.")}
    assert len(notes) == 2, "of notes alone, all had been drawn or none"


# --- the server --------------------------------------------------------------------------------------------------


@pytest.fixture
def served(settings: Settings, promote: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """Version 1 is in production and version 2 staged; the history is looked at when a test says so."""
    monkeypatch.setattr("serving.app.POLL_SECONDS", 3600)
    monkeypatch.setattr(challengers, "SHIFT_ODDS", 100)  # these two versions have little in common
    monkeypatch.setattr(canary_analysis, "SLOW_TIMES", 1000)  # this machine has other work
    promote("mortality", 1)
    promote("mortality", 2, alias="staging")
    with TestClient(application(settings)) as client:
        yield client


def application(settings: Settings) -> Any:
    predictors = Predictors(settings, "synthetic", "production")
    return create_app(settings, predictors, PredictionLog(settings, "synthetic"))


def staged(settings: Settings) -> Any:
    return next(move for move in registry.history(settings, "synthetic") if move.alias == "staging")


def follow(client: TestClient) -> dict[str, Any]:
    client.app.state.service.follow()  # type: ignore[attr-defined]
    return client.get("/health").json()


def ask(client: TestClient, n: int = 40) -> list[int]:
    """The version that answers each of n patients; every one is answered."""
    answers = [client.post("/predict", json={"age": 18 + i}) for i in range(n)]
    assert {answer.status_code for answer in answers} == {200}
    return [answer.json()["predictions"][0]["version"] for answer in answers]


def logged(client: TestClient, settings: Settings) -> list[dict[str, Any]]:
    client.app.state.service.flush()  # type: ignore[attr-defined]
    return lake.read(settings, lake.latest(settings, "synthetic", "predictions")).to_pylist()


def breaks(monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    """Version 2 answers with a fault from now on."""
    score = Predictor.score

    def faulty(self: Predictor, *arguments: Any) -> Scored:
        scored = score(self, *arguments)
        return fault(scored) if self.model.version == 2 else scored

    monkeypatch.setattr(tabular.Predictor, "score", faulty)


def test_a_canary_answers_its_share_of_the_patients_always_the_same_ones(
    served: TestClient, settings: Settings
) -> None:
    assert set(ask(served)) == {1}
    split(settings, staged(settings), 50)
    assert follow(served)["beside"] == [
        {"task": "mortality", "model": "synthetic-mortality", "version": 2, "mode": "canary", "percent": 50}
    ]
    first = ask(served)
    assert 8 < first.count(2) < 32
    assert ask(served) == first
    rows = logged(served, settings)
    assert [row["arm"] for row in rows[:40]] == [None] * 40
    assert [(row["arm"], row["model_version"]) for row in rows[40:80]] == [
        ("canary", 2) if version == 2 else ("control", 1) for version in first
    ]
    split(settings, staged(settings), 50, "ended")
    follow(served)
    assert set(ask(served)) == {1}


def test_a_shadow_is_logged_and_answers_nobody(served: TestClient, settings: Settings) -> None:
    split(settings, staged(settings), 100, "shadow")
    follow(served)
    assert set(ask(served)) == {1}
    rows = logged(served, settings)
    assert [(row["arm"], row["model_version"]) for row in rows] == [("control", 1), ("shadow", 2)] * 40
    assert [row["prediction_id"] for row in rows[::2]] == [row["prediction_id"] for row in rows[1::2]]


def test_the_card_of_a_version_says_as_what_it_is_served_now(served: TestClient, settings: Settings) -> None:
    split(settings, staged(settings), 100, "shadow")
    follow(served)
    name = "synthetic-mortality"
    for version, said in ((1, "as production since"), (2, "beside the version in production")):
        lake.write_whole(registry.card_page(settings, name, version), b"<header></header>")
        assert said in served.get(f"/models/{name}/{version}/card").text


def test_no_challenger_is_asked_where_others_took_the_room_while_a_record_was_read(
    served: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    split(settings, staged(settings), 100)
    follow(served)
    service: Any = served.app.state.service  # type: ignore[attr-defined]
    risks, begun = service._risks, []

    def record(*_: object) -> str:
        monkeypatch.setattr(canary_analysis, "IN_FLIGHT", 0)
        return "record"

    monkeypatch.setattr(risks, "_record", record)
    monkeypatch.setattr(risks, "_of_record", lambda *_: ("answer", []))
    monkeypatch.setattr(risks._challengers, "start", lambda *_: begun.append("asked"))
    request = risks.compute(Patient("7", None), service.predictors.current, datetime(2026, 1, 1))
    assert asyncio.run(request) == ("answer", [])
    assert not begun


def test_a_move_of_production_ends_what_answers_beside_it(
    served: TestClient, settings: Settings, promote: Any, caplog: pytest.LogCaptureFixture
) -> None:
    split(settings, staged(settings), 100)
    follow(served)
    assert set(ask(served)) == {2}
    promote("mortality", 1)
    with caplog.at_level("INFO", "mediscale.serving"):
        follow(served)
    assert set(ask(served)) == {1}
    assert "synthetic-mortality v2 beside production ended" in caplog.messages


def test_a_version_that_draws_nobody_stands_by_and_answers_by_its_own_path(
    served: TestClient, settings: Settings, promote: Any
) -> None:
    """Blue-green: the new version is loaded beside the old one, tried by its path, and then takes its place."""
    path = "/models/synthetic-mortality/{}/predict"
    assert served.post(path.format(2), json={"age": 67}).status_code == 404
    split(settings, staged(settings), 0)
    follow(served)
    assert set(ask(served)) == {1}
    by_path = [served.post(path.format(version), json={"age": 67}).json() for version in (1, 2)]
    assert [answer["predictions"][0]["version"] for answer in by_path] == [1, 2]
    assert {row["arm"] for row in logged(served, settings)[-2:]} == {"direct"}
    promote("mortality", 2)
    follow(served)
    assert served.post(path.format(1), json={"age": 67}).status_code == 404
    assert set(ask(served)) == {2}


def test_metrics_have_seconds_bad_answers_and_risks_of_each_version_and_arm(
    served: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    split(settings, staged(settings), 50)
    follow(served)
    answered = ask(served)
    breaks(monkeypatch, raises)
    while served.app.state.service.predictors.splits.current:  # type: ignore[attr-defined]
        ask(served, 5)
    follow(served)
    text = served.get("/metrics").text
    of_canary = 'arm="canary",model_version="2",task="mortality"'
    counts = dict(re.findall(r"^(mediscale_\w+\{.*\}) ([\d.]+)$", text, re.MULTILINE))
    assert float(counts[f"mediscale_risk_count{{{of_canary}}}"]) == answered.count(2)
    assert float(counts[f"mediscale_version_seconds_count{{{of_canary}}}"]) == answered.count(2)
    failed = of_canary.replace(",task", ',signal="failed",task')
    assert float(counts[f"mediscale_bad_answers_total{{{failed}}}"]) >= 4
    assert "mediscale_versions_given_up 1.0" in text


def raises(_: Scored) -> Scored:
    raise RuntimeError


def is_no_number(scored: Scored) -> Scored:
    return Scored(np.nan, np.nan, scored.contributions, scored.baseline)


@pytest.mark.parametrize(
    ("fault", "cause"), [(raises, "RuntimeError at "), (is_no_number, "NoProbabilityError at ")]
)
def test_who_gets_a_canary_that_fails_is_answered_by_production_until_it_is_given_up(
    served: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch, fault: Fault, cause: str
) -> None:
    split(settings, staged(settings), 100)
    follow(served)
    breaks(monkeypatch, fault)
    assert set(ask(served)) == {1}
    assert not served.app.state.service.predictors.splits.current  # type: ignore[attr-defined]
    health = follow(served)
    assert health["status"] == "degraded"
    assert (
        f"answers failed, were no probability or did not come in time (the last one: {cause}"
        in health["problems"][0]
    )
    rows = logged(served, settings)
    assert {(row["arm"], row["model_version"]) for row in rows} == {("canary", 1), (None, 1)}
    monkeypatch.undo()
    assert set(ask(served)) == {1}  # nothing but a signed entry lets it answer again
    with TestClient(application(settings)) as another:
        assert another.get("/health").json()["problems"] == health["problems"]
        assert set(ask(another)) == {1}
        split(settings, staged(settings), 100)
        assert follow(another)["problems"] == []
        assert set(ask(another)) == {2}


def test_a_canary_that_hangs_keeps_nobody_waiting_for_long(
    served: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canary_analysis, "LIMIT_SECONDS", 0.05)
    monkeypatch.setattr(canary_analysis, "SLOW_TIMES", 3)
    split(settings, staged(settings), 100)
    follow(served)
    breaks(monkeypatch, lambda scored: time.sleep(3600) or scored)  # type: ignore[func-returns-value]
    assert set(ask(served)) == {1}
    assert not served.app.state.service.predictors.splits.current  # type: ignore[attr-defined]
    (problem,) = follow(served)["problems"]
    assert "(the last one: none within 0." in problem


def test_a_canary_that_takes_ten_times_as_long_is_given_up(
    served: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canary_analysis, "LIMIT_SECONDS", 60)
    monkeypatch.setattr(canary_analysis, "SLOW_TIMES", 3)
    split(settings, staged(settings), 100)
    follow(served)
    breaks(monkeypatch, lambda scored: time.sleep(0.1) or scored)  # type: ignore[func-returns-value]
    ask(served)
    (problem,) = follow(served)["problems"]
    assert "answers took more than 3 times as long" in problem


def test_a_canary_that_says_something_else_is_given_up(
    served: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(challengers, "SHIFT_ODDS", np.log(4))
    split(settings, staged(settings), 100)
    follow(served)
    breaks(monkeypatch, lambda scored: Scored(0.99, 4.6, scored.contributions, scored.baseline))
    ask(served)
    (problem,) = follow(served)["problems"]
    assert "were risks with odds more than 4 times above or below" in problem


def test_a_version_that_nobody_signed_for_never_answers(served: TestClient, settings: Settings) -> None:
    """A row that somebody with the lake adds is no entry: the history is refused, and what was served is served."""
    setting = split(settings, staged(settings), 0)
    entry = history.entries(settings, "synthetic")[-1]
    rows = lake.read(settings, lake.latest(settings, "synthetic", "history")).slice(0, 0)
    forged = entry.model_copy(
        update={"sequence": entry.sequence + 1, "body": json.dumps(setting.model_dump() | {"percent": 100})}
    )
    commits.append(
        settings,
        "history",
        type(rows).from_pylist([forged.model_dump()], schema=rows.schema),
        "synthetic",
        "x",
        1,
    )
    assert "not to be trusted" in follow(served)["problems"][0]
    assert set(ask(served)) == {1}


def test_who_can_write_the_lake_can_stop_a_canary_and_nothing_else(
    served: TestClient, settings: Settings
) -> None:
    split(settings, staged(settings), 100)
    follow(served)
    assert set(ask(served)) == {2}
    entry = history.entries(settings, "synthetic")[-1]
    place = Path(settings.lake) / "synthetic" / fallbacks.FALLBACKS
    place.mkdir()
    (place / f"{entry.sequence}-{entry.digest[:16]}.json").write_text('{"version": 2}')
    assert "its file can't be read" in follow(served)["problems"][0]
    assert set(ask(served)) == {1}


def test_a_canary_that_nobody_approved_of_does_not_answer_where_that_is_required(
    settings: Settings, promote: Any
) -> None:
    promote("mortality", 1)
    promote("mortality", 2, alias="staging")
    split(settings, staged(settings), 100)
    assert traffic.attested(settings, history.entries(settings, "synthetic"))
    approvals.set_rule(
        settings,
        "synthetic",
        ApprovalRule(required=True, reason="x"),
        actor="tests",
        at=datetime(2026, 11, 22, 8),
    )
    assert traffic.attested(settings, history.entries(settings, "synthetic")), (
        "it began before that was required"
    )
    split(settings, staged(settings), 100)
    assert not traffic.attested(settings, history.entries(settings, "synthetic"))
    split(settings, staged(settings), 100, "shadow")
    assert traffic.attested(settings, history.entries(settings, "synthetic"))
