"""Stage: gradient-boosted trees on Ray, calibrated, explained, logged to MLflow and registered once."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from data_pipeline.features import kernel
from mediscale.core import tasks
from mediscale.core.annotations import RuntimeInput
from mediscale.core.errors import UsageError
from mediscale.core.refs import Frozen, ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import TRAINING, Context, Stage
from mediscale.core.tasks import TaskName
from mediscale.inference.model_spec import Calibration
from mediscale.storage import registry
from training import tracking, training_examples
from training.statistics import calibration, metrics
from training.tabular import (
    continuation,
    export,
    importance,
    mlflow_model,
    points_score,
    recipe,
    tree_training,
)
from training.tabular.continuation import Parent
from training.tabular.recipe import Recipe, TunedSettings

if TYPE_CHECKING:
    from training.training_examples import Examples


class Params(Recipe):
    """What to train on and how."""

    dataset: RuntimeInput[str]
    task: RuntimeInput[TaskName]
    training_set: RuntimeInput[TableRef]
    tuned: RuntimeInput[TunedSettings | None] = None
    """What the newest `mediscale tune` chose for the task; a setting that is configured goes before it."""
    continue_from: int | None = Field(None, ge=1)
    """Version whose trees are grown on with the stays that were labelled since; otherwise they are grown anew."""
    parent: RuntimeInput[Parent | None] = None
    """That version, and what it was trained on."""
    workers: int = Field(1, ge=1)

    @property
    def recipe(self) -> Recipe:
        """The recipe that is followed."""
        own = self.model_dump(include=set(Recipe.model_fields))
        return Recipe.model_validate(own | (self.tuned.settings if self.tuned else {}))


class Result(Frozen):
    """The registered version."""

    model: ModelRef


def run(params: Params, settings: Settings, key: str) -> Result:
    """Trains and registers one version; a call whose key already registered one returns it.

    Raises:
        QualityError: the training or tuning split has no rows, or the training split one outcome only.
        UsageError: the library does not grow trees with several workers or from a version, as is asked for.
    """
    name = registry.model_name(params.dataset, params.task)
    model = tracking.find(settings, params.dataset, name, key)
    if model is None:
        model = tracking.log(settings, fit(params, settings, key))
    return Result(model=model)


def runtime_inputs(params: Mapping[str, Any], settings: Settings) -> Iterator[Context]:
    """What a search chose for the task since, and the version that is continued."""
    if {"dataset", "task"} <= params.keys():
        about = params["dataset"], params["task"]
        tuned = recipe.newest_search(settings, *about, frozenset(params))
        version = params.get("continue_from")
        parent = None if version is None else continuation.find(settings, *about, int(version))
        yield Context({"tuned": tuned and tuned.model_dump(), "parent": parent and parent.model_dump()})


def fit(params: Params, settings: Settings, key: str) -> tracking.Training:
    """Trains one version and registers nothing.

    Raises:
        QualityError: the training or tuning split has no rows, or the training split one outcome only.
        UsageError: the library does not grow trees with several workers or from a version, as is asked for.
    """
    trained = _train(params, settings, key)
    followed = params.model_dump(mode="json") | params.recipe.model_dump(mode="json")
    return mlflow_model.training(trained, params.training_set, followed, key)


def _train(params: Params, settings: Settings, key: str) -> mlflow_model.TrainedRun:
    names = kernel.names(params.task)
    train = training_examples.load(settings, params.training_set, "train", names)
    tuning = training_examples.load(settings, params.training_set, "tuning", names)
    training_examples.check_trainable(train, tuning, params.task)
    new = _labelled_since(params, settings, train)
    booster, curves = tree_training.on_ray(settings, _job(params, settings), params.workers, key)
    fitted = calibration.cross_fit(booster, tuning)
    booster = booster[: fitted.rounds]
    platt = calibration.platt(fitted.margins, tuning.outcomes)
    risk = calibration.risks(fitted.margins, platt)
    ranking = importance.ranking(booster, train, params.seed)
    spec = export.spec(
        booster,
        train,
        ranking,
        platt,
        {
            "clinical": tasks.load(params.task).policy.clinical_threshold,
            **calibration.operating_points(risk, tuning.outcomes),
        },
        params.dataset,
        params.task,
        params.recipe.library,
        points_score.fit(train, tuning, params.task),
    )
    return mlflow_model.TrainedRun(
        booster=booster,
        spec=spec,
        curves=curves,
        metrics=_measured(tuning, risk, fitted.rounds, platt),
        counts={**training_examples.counts(train, tuning), "grown_on_rows": len(new)},
        importance=importance.plot(ranking),
        rows_digests={"train": train.digest(), "tuning": tuning.digest()},
    )


def _labelled_since(params: Params, settings: Settings, train: "Examples") -> "Examples":
    """The rows that the trees are grown on: all, or those that the parent did not learn from."""
    if params.recipe.library != "xgboost" and (params.workers > 1 or params.parent):
        raise UsageError("Only XGBoost grows trees with several workers, or grows those of a version on.")
    if params.parent is None:
        return train
    new = continuation.new_training_rows(settings, params.parent, train)
    held_out = training_examples.load(settings, params.training_set, "held_out", ())
    continuation.check(settings, params.parent, new, held_out)
    return new


def _job(params: Params, settings: Settings) -> tree_training.Job:
    return tree_training.Job(
        home=str(settings.home),
        lake=settings.lake,
        artifact_root=settings.artifact_root,
        parent=params.parent,
        training_set=params.training_set,
        task=params.task,
        recipe=params.recipe,
    )


def _measured(tuning: "Examples", risk: metrics.Floats, rounds: int, platt: Calibration) -> dict[str, float]:
    """What is known before anyone looks at the held-out patients."""
    return {
        "rounds": rounds,
        "calibration_slope_applied": platt.slope,
        "calibration_intercept_applied": platt.intercept,
        "tuning_log_loss": metrics.point_estimate(metrics.log_loss, tuning.outcomes, risk),
        "tuning_brier": metrics.point_estimate(metrics.brier, tuning.outcomes, risk),
    }


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="train the table model",
    summary=lambda r: f"{r.model} registered",
    resources=TRAINING,
    runtime_inputs=runtime_inputs,
    fit=fit,
)
