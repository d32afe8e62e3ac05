"""XGBoost's gradient-boosted trees, grown in one process or, each on its own patients' rows, by several workers.

The tuning split is small and read by all workers, which makes the log loss that stops the training the same everywhere
(XGBoost averages AUC over workers, which is no AUC).
"""

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipeline.features import kernel
from mediscale.core.tasks import TaskName
from training.step_log import StepLog
from training.tabular import request_dropout
from training.tabular.recipe import Recipe

if TYPE_CHECKING:
    import xgboost

    from training.statistics.metrics import Floats
    from training.training_examples import Examples

log = logging.getLogger(__name__)

MAX_BIN = 64


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
    training: "Examples",
    tuning: "Examples",
    task: TaskName,
    recipe: Recipe,
    begun: "xgboost.Booster | None" = None,
) -> "tuple[xgboost.Booster, dict[str, list[float]]]":
    """The booster with every round grown, and the log loss per round on both splits; ``begun`` is grown on."""
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
        xgb_model=begun,
        callbacks=[_progress(recipe.rounds)],
    )
    return booster, {f"log_loss_{split}": losses["logloss"] for split, losses in record.items()}


def _matrices(
    training: "Examples", tuning: "Examples", task: TaskName, recipe: Recipe
) -> "tuple[xgboost.QuantileDMatrix, xgboost.DMatrix]":
    """The rows to train on, each as it is and as a request would give it, and the tuning rows."""
    import xgboost

    names = list(kernel.names(task))
    inputs, outcomes, weights = request_dropout.with_requests(training, task, recipe.seed)
    rows = xgboost.QuantileDMatrix(
        inputs, outcomes, weight=weights, feature_names=names, max_bin=MAX_BIN, nthread=recipe.threads
    )
    unseen = xgboost.DMatrix(tuning.inputs, tuning.outcomes, feature_names=names, nthread=recipe.threads)
    return rows, unseen


class Growth:
    """Trees that are grown round by round, as ``train`` grows them."""

    missing_values = "A missing value goes the way that the split learnt."

    def __init__(self, training: "Examples", tuning: "Examples", task: TaskName, recipe: Recipe) -> None:
        import xgboost

        self._rows, self._unseen = _matrices(training, tuning, task, recipe)
        self._booster = xgboost.Booster(parameters(recipe), [self._rows, self._unseen])
        self._rounds = 0

    def grow(self) -> bool:
        """One round more; there always is one, if without a split."""
        self._booster.update(self._rows, self._rounds)
        self._rounds += 1
        return True

    def tuning_margins(self) -> "Floats":
        """Log-odds (n) of the tuning rows so far."""
        return np.asarray(self._booster.predict(self._unseen, output_margin=True), dtype=np.float64)

    def booster(self) -> "xgboost.Booster":
        """The trees so far."""
        return self._booster


def _progress(rounds: int) -> "xgboost.callback.TrainingCallback":
    from xgboost.callback import TrainingCallback

    progress = StepLog(log, "tree", rounds)

    class Progress(TrainingCallback):  # type: ignore[misc]  # XGBoost is not typed
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:  # noqa: ARG002 - XGBoost's signature
            progress.step(epoch + 1, evals_log["tuning"]["logloss"][-1])
            return False

    return Progress()
