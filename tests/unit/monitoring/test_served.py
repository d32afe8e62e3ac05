"""What a caller of the monitoring stages looks up."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from mediscale.core.errors import NotFoundError
from mediscale.core.refs import ModelRef
from mediscale.core.settings import Settings
from mediscale.core.tables import PREDICTIONS
from mediscale.pipeline import runtime_inputs
from mediscale.storage import calls, commits, lake, registry
from mediscale.storage.history_entries import Alias
from monitoring import monitoring_inputs, retrain_decision
from monitoring.drift import drift

DAY = datetime(2026, 11, 1)


def version(number: int) -> ModelRef:
    return ModelRef(name="a-mortality", version=number, uri=f"m{number}", digest="d")


SERVED = version(2)
TRAINING_SET = {"dataset": "a", "table": "training_set_mortality", "table_id": "t", "version": 4}
ABOUT = {"dataset": "a", "task": "mortality"}


def promote(settings: Settings, model: ModelRef, alias: Alias, sequence: int) -> None:
    move = registry.Move(
        sequence=sequence,
        model=model.name,
        task="mortality",
        alias=alias,
        from_version=None,
        to_version=model.version,
        actor="test",
        moved_at=DAY,
        reason="test",
        evidence_digest="",
        model_uri=model.uri,
        model_digest=model.digest,
        key=f"{sequence}",
    )
    registry.record(settings, "a", move)


def finished(
    settings: Settings, stage: str, params: dict[str, Any], result: dict[str, Any], when: int
) -> None:
    calls.write(
        settings,
        calls.Call(
            run_id="run",
            inputs=(),
            produced=(),
            stage=stage,
            key=f"{when}",
            params=params,
            code="",
            lock="",
            result=result,
            outputs=(),
            started_at=DAY + timedelta(minutes=when),
            seconds=1,
        ),
    )


def window(day: int, drifted: bool, model: ModelRef = SERVED) -> dict[str, Any]:
    start = DAY + timedelta(days=day)
    found = drift.Result(
        dataset="a",
        task="mortality",
        model=model,
        start=start,
        end=start + timedelta(days=1),
        n=9,
        judged=9,
        n_ad_hoc=0,
        drifted=drifted,
        summary="",
    )
    return found.model_dump(mode="json")


def test_the_served_version_is_judged_against_its_own_training_set(settings: Settings) -> None:
    promote(settings, SERVED, "staging", 1)
    promote(settings, version(1), "production", 2)
    promote(settings, SERVED, "production", 3)
    commits.append(settings, PREDICTIONS.name, PREDICTIONS.arrow_schema().empty_table(), "a", "worker", 1)
    for when, number in enumerate((1, 2, 3)):
        result = {"model": version(number).model_dump()}
        finished(settings, "risk_model", {"training_set": {**TRAINING_SET, "version": number}}, result, when)
    found = runtime_inputs.filled("drift", {**ABOUT, "start": DAY}, [], settings)
    assert (found["model"], found["training_set"]["version"]) == (SERVED, 2)
    assert found["predictions"] == lake.latest(settings, "a", "predictions")
    other = runtime_inputs.filled("drift", {**ABOUT, "model": version(3).model_dump()}, [], settings)
    assert other["training_set"]["version"] == 3


def test_staging_is_watched_while_nothing_is_in_production(settings: Settings) -> None:
    with pytest.raises(NotFoundError, match="No version of a-mortality"):
        monitoring_inputs.watched_version(settings, "a", "mortality")
    promote(settings, SERVED, "staging", 1)
    assert monitoring_inputs.watched_version(settings, "a", "mortality") == SERVED
    with pytest.raises(NotFoundError, match="no record of a-mortality v2's training"):
        monitoring_inputs.drift_inputs(settings, "a", "mortality")
    with pytest.raises(NotFoundError, match="No window of a-mortality v2"):
        retrain_decision.retrain_inputs(settings, "a", "mortality")


def test_the_windows_of_the_served_version_in_the_order_of_time(settings: Settings) -> None:
    promote(settings, SERVED, "production", 1)
    history = [window(2, True), window(0, False), window(1, False), window(1, True)]
    history.append(window(3, True, version(1)))
    for when, result in enumerate(history):
        finished(settings, "drift", {"predictions": {"dataset": "a"}}, result, when)
    rehearsed = {"predictions": {"dataset": "a-rehearsal-0"}}
    finished(settings, "drift", rehearsed, window(9, True), 9)
    found = runtime_inputs.filled("retrain_decision", ABOUT, [], settings)["windows"]
    assert [(w.start.day, w.drifted) for w in found] == [(1, False), (2, True), (3, True)]
    assert isinstance(found[0], drift.Result)


def test_the_verdict_knows_the_alarms_of_the_versions_own_series(settings: Settings) -> None:
    promote(settings, SERVED, "production", 1)
    finished(settings, "drift", {"predictions": {"dataset": "a"}}, window(0, False), 1)
    assert "performance_alarms" not in retrain_decision.retrain_inputs(settings, "a", "mortality")
    alarm = {"metric": "auroc", "attribute": "", "value": "", "sentence": "It fell"}
    for when, model in ((2, SERVED), (3, version(1))):  # the newest one is of a version that serves no more
        followed = {**ABOUT, "model": model.model_dump()}
        finished(settings, "performance_series", followed, {"performance_alarms": [alarm]}, when)
        found = retrain_decision.retrain_inputs(settings, "a", "mortality")
        assert found.get("performance_alarms") == ([alarm] if model == SERVED else None)
