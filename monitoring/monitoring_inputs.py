"""Monitoring inputs: what a caller looks up about the served version, its training set and the prediction log."""

from typing import Any

from mediscale.core.errors import NotFoundError
from mediscale.core.refs import ModelRef
from mediscale.core.settings import Settings
from mediscale.core.tables import PREDICTIONS
from mediscale.core.tasks import TaskName
from mediscale.storage import calls, lake, registry
from mediscale.storage.registry import Move


def watched_version(settings: Settings, dataset: str, task: TaskName) -> ModelRef:
    """The version that is watched.

    Raises:
        NotFoundError: neither alias points to a version.
    """
    return watched_move(settings, dataset, task).version


def watched_move(settings: Settings, dataset: str, task: TaskName) -> Move:
    """The move of production's alias, or of staging's as long as nothing is in production.

    Raises:
        NotFoundError: neither alias points to a version.
    """
    moves = (registry.current(settings, dataset, task, alias) for alias in ("production", "staging"))
    move = next((move for move in moves if move is not None), None)
    if move is None:
        name = registry.model_name(dataset, task)
        raise NotFoundError(f"No version of {name} is in production or staging; train and promote one first.")
    return move


def drift_inputs(
    settings: Settings, dataset: str, task: TaskName, model: ModelRef | None = None
) -> dict[str, Any]:
    """Parameters of ``drift`` for a version, by default the served one: its training set, the log as it is.

    Raises:
        NotFoundError: no version is served, nothing says what it was trained on, or nothing was logged yet.
    """
    model = model or watched_version(settings, dataset, task)
    training_set = training_set_of(settings, model)
    predictions = lake.latest(settings, dataset, PREDICTIONS.name)
    return {"model": model, "training_set": training_set, "predictions": predictions}


def training_set_of(settings: Settings, model: ModelRef) -> dict[str, Any]:
    """The reference to what a version was trained on.

    Raises:
        NotFoundError: nothing says what that was.
    """
    registering = [*calls.of_stage(settings, "risk_model"), *calls.of_stage(settings, "late_fusion")]
    trained = [m for m in registering if _about(m.result) == model]
    if not trained:
        raise NotFoundError(f"The lake has no record of {model}'s training; name its training set yourself.")
    training_set: dict[str, Any] = trained[-1].params["training_set"]
    return training_set


def evidence_of(settings: Settings, model: ModelRef) -> dict[str, str]:
    """Path and digest of a version's newest evidence, by their names; empty where it was not evaluated."""
    evaluated = [
        m.result
        for m in calls.of_stage(settings, "evaluate")
        if ModelRef.model_validate(m.params["model"]) == model
    ]
    return {name: evaluated[-1][name] for name in ("evidence", "evidence_digest")} if evaluated else {}


def _about(result: dict[str, Any]) -> ModelRef:
    return ModelRef.model_validate(result["model"])
