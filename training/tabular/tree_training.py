"""Growing the trees of a recipe, by whichever library, under Ray Train: the same function is every worker.

Each worker reads its own patients' rows from Delta at the frozen version, so no row passes through the driver. One
worker is a small cluster.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from data_pipeline.features import kernel
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.core.tasks import TaskName
from mediscale.core.tree_libraries import TreeLibrary
from mediscale.storage import private_files
from training import ray_session
from training.statistics import calibration, metrics
from training.tabular import continuation, lightgbm_training, spark_training, xgboost_training
from training.tabular.continuation import Parent
from training.tabular.recipe import Recipe

if TYPE_CHECKING:
    import xgboost

    from training.training_examples import Examples


class Growth(Protocol):
    """Trees of a library, grown round by round on the training rows."""

    missing_values: str
    """What the trees do with a missing value, in a sentence."""

    def __init__(self, training: "Examples", tuning: "Examples", task: TaskName, recipe: Recipe) -> None: ...

    def grow(self) -> bool:
        """One round more; whether there was a tree to add."""

    def tuning_margins(self) -> metrics.Floats:
        """Log-odds (n) of the tuning rows so far."""

    def booster(self) -> "xgboost.Booster":
        """The trees so far, in the one format that is stored."""


LIBRARIES: dict[TreeLibrary, type[Growth]] = {
    "xgboost": xgboost_training.Growth,
    "lightgbm": lightgbm_training.Growth,
    "spark": spark_training.Growth,
}


class GrownTrees:
    """Trees while they are grown, with what they come to on the tuning split."""

    def __init__(self, train: "Examples", tuning: "Examples", task: TaskName, recipe: Recipe) -> None:
        self._tuning, self._recipe = tuning, recipe
        self.growth = LIBRARIES[recipe.library](train, tuning, task, recipe)
        self.losses: list[float] = []
        """Log loss on the tuning split after each round."""
        self._stages: list[metrics.Floats] = []

    @property
    def rounds(self) -> int:
        return len(self.losses)

    def grow(self, rounds: int) -> bool:
        """More rounds, as many as a fit of the recipe would grow; whether it would stop here."""
        for _ in range(rounds):
            if not self.growth.grow():
                self._stages.append(self.growth.tuning_margins())
                return True
            margins = self.growth.tuning_margins()
            risks = metrics.sigmoid(margins)
            self.losses.append(metrics.point_estimate(metrics.log_loss, self._tuning.outcomes, risks))
            finished = self._is_finished()
            if finished or self.rounds % calibration.STEP == 0:
                self._stages.append(margins)
            if finished:
                return True
        return False

    def _is_finished(self) -> bool:
        best = self.losses.index(min(self.losses)) + 1
        return self.rounds >= self._recipe.rounds or self.rounds - best >= self._recipe.patience

    def risks(self) -> metrics.Floats:
        """Risks (n) of the tuning rows so far; each comes from rounds and a calibration that others' rows chose."""
        stages = np.array(self._stages or [self.growth.tuning_margins()])
        margins = calibration.cross_chosen(stages, self._tuning)[1]
        return calibration.cross_calibrated(margins, self._tuning)

    def loss(self) -> float:
        """Log loss of these risks."""
        return metrics.point_estimate(metrics.log_loss, self._tuning.outcomes, self.risks())


def fit(
    training: "Examples",
    tuning: "Examples",
    task: TaskName,
    recipe: Recipe,
    begun: "xgboost.Booster | None" = None,
) -> "tuple[xgboost.Booster, dict[str, list[float]]]":
    """The trees with every round grown, and the log loss per round on the splits; ``begun`` are grown on (XGBoost)."""
    if recipe.library == "xgboost":  # whose own loop works over several workers
        return xgboost_training.train(training, tuning, task, recipe, begun)
    judged = GrownTrees(training, tuning, task, recipe)
    judged.grow(recipe.rounds)
    return judged.growth.booster(), {"log_loss_tuning": judged.losses}


class Job(Frozen):
    """What each worker is told: where the rows are and the recipe."""

    home: str
    lake: str
    training_set: TableRef
    task: TaskName
    recipe: Recipe
    artifact_root: str = ""
    """Where the files of a parent lie; default: where the home has them."""
    parent: Parent | None = None
    """The version whose trees are grown on, if any."""


def train_loop_per_worker(config: dict[str, Any]) -> dict[str, Any]:
    """One worker of Ray Train; the first one's answer is the run's: the trees as UBJ, and their curves."""
    private_files.only_owner()  # a worker of a cluster is started by the cluster
    from ray.train import get_context

    from training import training_examples

    job = Job.model_validate(config)
    settings = Settings(home=Path(job.home), lake=job.lake, artifact_root=job.artifact_root)
    context, names = get_context(), kernel.names(job.task)
    part = (context.get_world_rank(), context.get_world_size())
    training, begun = training_examples.load(settings, job.training_set, "train", names, part), None
    if job.parent is not None:
        training = continuation.new_training_rows(settings, job.parent, training)
        begun = continuation.trees(settings, job.parent, job.task)
    tuning = training_examples.load(settings, job.training_set, "tuning", names)
    booster, curves = fit(training, tuning, job.task, job.recipe, begun)
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
