"""Growing the trees, under Ray Train: the same function is every worker, and one worker is a small cluster.

Each worker reads its own patients' rows from Delta at the frozen version, so no row passes through the driver. The
tuning split is small and read by all of them, which makes the log loss that stops the training the same everywhere
(XGBoost averages AUC over workers, which is no AUC).
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipeline.features import kernel
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.core.tasks import TaskName
from mediscale.storage import private_files
from training import ray_session
from training.step_log import StepLog
from training.tabular.recipe import Recipe

if TYPE_CHECKING:
    import xgboost

    from training.evaluation.metrics import Floats
    from training.training_examples import Examples

log = logging.getLogger(__name__)

MAX_BIN = 64


class Job(Frozen):
    """What each worker is told: where the rows are and the recipe."""

    home: str
    lake: str
    training_set: TableRef
    task: TaskName
    recipe: Recipe


def parameters(recipe: Recipe) -> dict[str, Any]:
    """XGBoost's parameters. No reweighting of the classes: it would spoil the calibration of the risks."""
    return {
        "objective": "binary:logistic",
        "eval_metric": "logloss",
        "tree_method": "hist",
        "max_bin": MAX_BIN,
        "max_depth": recipe.depth,
        "learning_rate": recipe.learning_rate,
        "min_child_weight": recipe.min_child_weight,
        "subsample": recipe.subsample,
        "colsample_bytree": recipe.colsample,
        "lambda": recipe.l2,
        "nthread": recipe.threads,
        "seed": recipe.seed,
        "verbosity": 0,
    }


def train(
    training: "Examples", tuning: "Examples", task: TaskName, recipe: Recipe
) -> "tuple[xgboost.Booster, dict[str, list[float]]]":
    """The booster with every round grown, and the log loss per round on both splits."""
    import xgboost

    rows, unseen = _matrices(training, tuning, task, recipe)
    record: dict[str, dict[str, list[float]]] = {}
    booster = xgboost.train(
        parameters(recipe),
        rows,
        recipe.rounds,
        evals=[(rows, "train"), (unseen, "tuning")],
        evals_result=record,
        early_stopping_rounds=recipe.patience,
        verbose_eval=False,
        callbacks=[_progress(recipe.rounds)],
    )
    return booster, {f"log_loss_{split}": losses["logloss"] for split, losses in record.items()}


def _matrices(
    training: "Examples", tuning: "Examples", task: TaskName, recipe: Recipe
) -> "tuple[xgboost.QuantileDMatrix, xgboost.DMatrix]":
    """The rows to train on, each as it is and as a request would give it, and the tuning rows."""
    import xgboost

    from training.tabular import request_dropout

    names = list(kernel.names(task))
    requests = request_dropout.as_requests(training.inputs, task, np.random.default_rng(recipe.seed))
    rows = xgboost.QuantileDMatrix(
        np.vstack([training.inputs, requests]),
        np.tile(training.outcomes, 2),
        weight=np.repeat([1 - request_dropout.SHARE, request_dropout.SHARE], len(training)),
        feature_names=names,
        max_bin=MAX_BIN,
        nthread=recipe.threads,
    )
    unseen = xgboost.DMatrix(tuning.inputs, tuning.outcomes, feature_names=names, nthread=recipe.threads)
    return rows, unseen


class Growth:
    """Trees that are grown round by round, as ``train`` grows them."""

    def __init__(self, training: "Examples", tuning: "Examples", task: TaskName, recipe: Recipe) -> None:
        import xgboost

        self._rows, self._unseen = _matrices(training, tuning, task, recipe)
        self.booster = xgboost.Booster(parameters(recipe), [self._rows, self._unseen])
        self._rounds = 0

    def grow(self) -> None:
        """One round more."""
        self.booster.update(self._rows, self._rounds)
        self._rounds += 1

    def tuning_margins(self) -> "Floats":
        """Log-odds (n) of the tuning rows so far."""
        return np.asarray(self.booster.predict(self._unseen, output_margin=True), dtype=np.float64)


def _progress(rounds: int) -> "xgboost.callback.TrainingCallback":
    from xgboost.callback import TrainingCallback

    progress = StepLog(log, "tree", rounds)

    class Progress(TrainingCallback):  # type: ignore[misc]  # XGBoost is not typed
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:  # noqa: ARG002 - XGBoost's signature
            progress.step(epoch + 1, evals_log["tuning"]["logloss"][-1])
            return False

    return Progress()


def train_loop_per_worker(config: dict[str, Any]) -> dict[str, Any]:
    """One worker of Ray Train; the first one's answer is the run's: the trees as UBJ, and their curves."""
    private_files.only_owner()  # a worker of a cluster is started by the cluster
    from ray.train import get_context

    from training import training_examples

    job = Job.model_validate(config)
    settings = Settings(home=Path(job.home), lake=job.lake)
    context, names = get_context(), kernel.names(job.task)
    part = (context.get_world_rank(), context.get_world_size())
    booster, curves = train(
        training_examples.load(settings, job.training_set, "train", names, part),
        training_examples.load(settings, job.training_set, "tuning", names),
        job.task,
        job.recipe,
    )
    return {"model": bytes(booster.save_raw("ubj")), "curves": curves}


def on_ray(
    settings: Settings, job: Job, workers: int, key: str
) -> "tuple[xgboost.Booster, dict[str, list[float]]]":
    """Grows the trees under Ray Train and returns them with their curves.

    Raises:
        UsageError: the Ray cluster of the settings can't be reached.
    """
    import xgboost

    with ray_session.session(settings, workers, key) as session:
        from ray.train.xgboost import XGBoostTrainer

        trainer = XGBoostTrainer(
            train_loop_per_worker, train_loop_config=job.model_dump(mode="json"), **session.configuration()
        )
        grown = trainer.fit().return_value
    booster = xgboost.Booster({"nthread": job.recipe.threads}, model_file=bytearray(grown["model"]))
    return booster, grown["curves"]
