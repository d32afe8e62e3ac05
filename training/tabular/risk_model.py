"""Stage: gradient-boosted trees on Ray, calibrated, explained, logged to MLflow and registered once."""

from typing import TYPE_CHECKING

from pydantic import Field

from data_pipeline.features import kernel
from mediscale.core import tasks
from mediscale.core.annotations import RuntimeInput
from mediscale.core.errors import QualityError
from mediscale.core.privacy import count
from mediscale.core.refs import Frozen, ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import TRAINING, Stage
from mediscale.core.tasks import TaskName
from mediscale.inference.model_spec import Calibration
from mediscale.storage import registry
from training import tracking, training_examples
from training.evaluation import calibration, metrics
from training.tabular import export, importance, mlflow_model, xgboost_training

if TYPE_CHECKING:
    from training.training_examples import Examples


class Params(Frozen):
    """What to train on and how."""

    dataset: RuntimeInput[str]
    task: RuntimeInput[TaskName]
    training_set: RuntimeInput[TableRef]
    rounds: int = Field(300, ge=1, le=1000)
    """Most trees; the log loss on the tuning split ends it earlier."""
    patience: int = Field(30, ge=1)
    depth: int = Field(3, ge=1, le=4)
    """At most 4: the server looks exact SHAP values up in tables of 4^depth entries per leaf. Of 2, 3 and 4, 3 had the
    best AUROC in cross-validation over patients of the synthetic train and tuning splits."""
    learning_rate: float = Field(0.06, gt=0, le=1)
    workers: int = Field(1, ge=1)
    threads: int = Field(1, ge=1)
    """Per worker. More only pays for large data on idle cores: XGBoost's threads wait for each other by spinning."""
    seed: int = 0


class Result(Frozen):
    """The registered version."""

    model: ModelRef


def run(params: Params, settings: Settings, key: str) -> Result:
    """Trains and registers one version; a call whose key already registered one returns it.

    Raises:
        QualityError: the training or tuning split has no rows, or the training split one outcome only.
    """
    name = registry.model_name(params.dataset, params.task)
    model = tracking.find(settings, params.dataset, name, key)
    if model is None:
        model = tracking.log(settings, fit(params, settings, key))
    return Result(model=model)


def fit(params: Params, settings: Settings, key: str) -> tracking.Training:
    """Trains one version and registers nothing.

    Raises:
        QualityError: the training or tuning split has no rows, or the training split one outcome only.
    """
    trained = _train(params, settings, key)
    return mlflow_model.training(trained, params.training_set, params.model_dump(mode="json"), key)


def _train(params: Params, settings: Settings, key: str) -> mlflow_model.Trained:
    names = kernel.names(params.task)
    train = training_examples.load(settings, params.training_set, "train", names)
    tuning = training_examples.load(settings, params.training_set, "tuning", names)
    _check(train, tuning, params.task)
    booster, curves = xgboost_training.on_ray(settings, _job(params, settings), params.workers, key)
    fitted = calibration.cross_fit(booster, tuning)
    booster = booster[: fitted.rounds]
    platt = calibration.platt(fitted.margins, tuning.outcomes)
    risk = calibration.risks(fitted.margins, platt)
    explanation = importance.explain(booster, train, params.seed)
    spec = export.spec(
        booster,
        train,
        importance.ranking(explanation),
        platt,
        {
            "clinical": tasks.load(params.task).policy.clinical_threshold,
            **calibration.operating_points(risk, tuning.outcomes),
        },
        params.dataset,
        params.task,
    )
    return mlflow_model.Trained(
        booster=booster,
        spec=spec,
        curves=curves,
        metrics=_measured(tuning, risk, fitted.rounds, platt),
        counts=training_examples.counts(train, tuning),
        importance=importance.plot(explanation),
        rows_digests={"train": train.digest(), "tuning": tuning.digest()},
    )


def _check(train: "Examples", tuning: "Examples", task: TaskName) -> None:
    if not len(tuning) or train.events in (0, len(train)):
        raise QualityError(
            f"Too few patients to train {task}: {count(len(train))} stays with {count(train.events)} events to train "
            f"on and {count(len(tuning))} to tune on; both outcomes are needed in the first and at least one stay in "
            "the second."
        )


def _job(params: Params, settings: Settings) -> xgboost_training.Job:
    recipe = xgboost_training.Recipe(
        **{name: getattr(params, name) for name in xgboost_training.Recipe.model_fields}
    )
    return xgboost_training.Job(
        home=str(settings.home),
        lake=settings.lake,
        training_set=params.training_set,
        task=params.task,
        recipe=recipe,
    )


def _measured(tuning: "Examples", risk: metrics.Floats, rounds: int, platt: Calibration) -> dict[str, float]:
    """What is known before anyone looks at the held-out patients."""
    return {
        "rounds": rounds,
        "calibration_slope_applied": platt.slope,
        "calibration_intercept_applied": platt.intercept,
        "tuning_log_loss": float(
            metrics.log_loss(tuning.outcomes, risk, metrics.unweighted(tuning.outcomes))[0]
        ),
        "tuning_brier": float(metrics.brier(tuning.outcomes, risk, metrics.unweighted(tuning.outcomes))[0]),
    }


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="train the table model",
    summary=lambda r: f"{r.model} registered",
    resources=TRAINING,
    fit=fit,
)
