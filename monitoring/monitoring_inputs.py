"""What a caller looks up for the stages of monitoring: the served version, its training set, its judged windows."""

from datetime import datetime
from typing import Any

from mediscale.core.errors import NotFoundError
from mediscale.core.refs import ModelRef
from mediscale.core.settings import Settings
from mediscale.core.tables import PREDICTIONS
from mediscale.core.tasks import TaskName
from mediscale.storage import calls, lake, registry
from monitoring.drift import drift


def version(settings: Settings, dataset: str, task: TaskName) -> ModelRef:
    """Production's version, or staging's as long as nothing is in production.

    Raises:
        NotFoundError: neither alias points to a version.
    """
    moves = (registry.current(settings, dataset, task, alias) for alias in ("production", "staging"))
    move = next((move for move in moves if move is not None), None)
    if move is None:
        name = registry.model_name(dataset, task)
        raise NotFoundError(f"No version of {name} is in production or staging; train and promote one first.")
    return move.version


def to_judge(
    settings: Settings, dataset: str, task: TaskName, model: ModelRef | None = None
) -> dict[str, Any]:
    """Parameters of ``drift`` for a version, by default the served one: its training set, the log as it is.

    Raises:
        NotFoundError: no version is served, nothing says what it was trained on, or nothing was logged yet.
    """
    model = model or version(settings, dataset, task)
    made = [*calls.of_stage(settings, "risk_model"), *calls.of_stage(settings, "late_fusion")]
    trained = [m for m in made if _about(m.result) == model]
    if not trained:
        raise NotFoundError(f"The lake has no record of {model}'s training; name its training set yourself.")
    return {
        "model": model,
        "training_set": trained[-1].params["training_set"],
        "predictions": lake.latest(settings, dataset, PREDICTIONS.name),
    }


def judged(settings: Settings, dataset: str, task: TaskName, now: datetime) -> dict[str, Any]:
    """Parameters of ``retrain``: every window of the served version that was judged, oldest first; of a window that was
    judged twice the later judgement. With them the outcomes that are certain ``now``, where there are labels.

    Windows of a rehearsal are none: their log is not the hospital's.

    Raises:
        NotFoundError: no version is served, or no window of it was judged.
    """
    model = version(settings, dataset, task)
    judgements = calls.of_stage(settings, "drift")
    results = [
        drift.Result.model_validate(m.result)
        for m in judgements
        if m.params["predictions"]["dataset"] == dataset
    ]
    windows = {(w.start, w.end): w for w in results if (w.dataset, w.task, w.model) == (dataset, task, model)}
    if not windows:
        raise NotFoundError(
            f"No window of {model}'s predictions was judged yet; run `mediscale drift` first."
        )
    looked_at = {"windows": tuple(windows[when] for when in sorted(windows))}
    return looked_at | _outcomes(settings, dataset, task, model, now)


def _outcomes(
    settings: Settings, dataset: str, task: TaskName, model: ModelRef, now: datetime
) -> dict[str, Any]:
    labelled = calls.newest_night(settings, "labels", dataset, task)
    promised = [
        m.result["metrics"].get("auroc_low")
        for m in calls.of_stage(settings, "evaluate")
        if ModelRef.model_validate(m.params["model"]) == model
    ]
    if labelled is None or not promised or promised[-1] is None:
        return {}
    return {
        "predictions": lake.latest(settings, dataset, PREDICTIONS.name),
        "labels": labelled.result["labels"],
        "as_of": now,
        "held_out_auroc_low": promised[-1],
    }


def _about(result: dict[str, Any]) -> ModelRef:
    return ModelRef.model_validate(result["model"])
