"""Growing the trees, under Ray Train: the same function is every worker, and one worker is a small cluster.

Each worker reads its own patients' rows from Delta at the frozen version, so no row passes through the driver. The
tuning split is small and read by all of them, which makes the log loss that stops the training the same everywhere
(XGBoost averages AUC over workers, which is no AUC).
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_pipeline import features
from mediscale.errors import BusyError, UsageError
from mediscale.predictor import Task
from mediscale.refs import Frozen, TableRef
from mediscale.settings import Settings

if TYPE_CHECKING:
    import xgboost

    from training.examples import Examples

_OBJECT_STORE = 80 * 2**20
"""Bytes: only a model of a few hundred kB passes through it, and Ray would reserve a third of the memory."""
_ENVIRONMENT = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_USAGE_STATS_ENABLED": "0",  # a hospital's machine reports to nobody
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",  # importing takes a minute on a crowded machine
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # an actor, that is a process, of its own
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # by default a fit ends up to 2 s after its last round
}
"""Read when Ray is imported, here and in its workers."""


class Recipe(Frozen):
    """How the trees are grown."""

    rounds: int
    patience: int
    """Rounds without a better log loss on the tuning split before stopping."""
    depth: int
    learning_rate: float
    threads: int
    """Threads per worker. Part of the recipe: sums of floats depend on it in their last bits."""
    seed: int


class Job(Frozen):
    """What each worker is told: where the rows are and the recipe."""

    home: str
    lake: str
    training_set: TableRef
    task: Task
    recipe: Recipe


_QUIET = {"log_to_driver": False, "logging_level": "ERROR"}
_STARTS = 3


def parameters(recipe: Recipe) -> dict[str, Any]:
    """XGBoost's parameters. No reweighting of the classes: it would spoil the calibration of the risks."""
    return {
        "objective": "binary:logistic",
        "eval_metric": "logloss",
        "tree_method": "hist",
        "max_bin": 64,
        "max_depth": recipe.depth,
        "learning_rate": recipe.learning_rate,
        "min_child_weight": 5.0,
        "subsample": 0.8,
        "colsample_bytree": 0.5,
        "lambda": 5.0,
        "nthread": recipe.threads,
        "seed": recipe.seed,
        "verbosity": 0,
    }


def grow(
    train: "Examples", tuning: "Examples", task: Task, recipe: Recipe
) -> "tuple[xgboost.Booster, dict[str, list[float]]]":
    """The booster with every round grown, and the log loss per round on both splits."""
    import numpy as np
    import xgboost

    from training import masking

    names = list(features.names(task))
    requests = masking.as_requests(train.inputs, task, np.random.default_rng(recipe.seed))
    weights = np.repeat([1 - masking.SHARE, masking.SHARE], len(train))
    rows = xgboost.QuantileDMatrix(
        np.vstack([train.inputs, requests]),
        np.tile(train.outcomes, 2),
        weight=weights,
        feature_names=names,
        max_bin=64,
        nthread=recipe.threads,
    )
    unseen = xgboost.DMatrix(tuning.inputs, tuning.outcomes, feature_names=names, nthread=recipe.threads)
    record: dict[str, dict[str, list[float]]] = {}
    booster = xgboost.train(
        parameters(recipe),
        rows,
        recipe.rounds,
        evals=[(rows, "train"), (unseen, "tuning")],
        evals_result=record,
        early_stopping_rounds=recipe.patience,
        verbose_eval=False,
    )
    return booster, {f"log_loss_{split}": losses["logloss"] for split, losses in record.items()}


def work(config: dict[str, Any]) -> dict[str, Any]:
    """One worker of Ray Train; the first one's answer is the run's: the trees as UBJ, and their curves."""
    from ray import train

    from training import examples

    job = Job.model_validate(config)
    settings = Settings(home=Path(job.home), lake=job.lake)
    context, names = train.get_context(), features.names(job.task)
    part = (context.get_world_rank(), context.get_world_size())
    booster, curves = grow(
        examples.load(settings, job.training_set, "train", names, part),
        examples.load(settings, job.training_set, "tuning", names),
        job.task,
        job.recipe,
    )
    return {"model": bytes(booster.save_raw("ubj")), "curves": curves}


def on_ray(
    settings: Settings, job: Job, workers: int, key: str
) -> "tuple[xgboost.Booster, dict[str, list[float]]]":
    """Grows the trees under Ray Train and returns them with their curves.

    One worker without a cluster is Ray Train's local mode: the same function in this process, which saves starting a
    cluster (a dozen processes, about a minute of CPU) for a fit of seconds. More workers, or a cluster's address in
    the settings, get a cluster.

    Raises:
        UsageError: the Ray cluster of the settings can't be reached.
    """
    import xgboost

    clustered = workers > 1 or bool(settings.ray_address)
    with _cluster(settings, workers) if clustered else _alone(), _storage(settings, key) as storage:
        from ray.train import RunConfig, ScalingConfig
        from ray.train.xgboost import XGBoostTrainer

        trainer = XGBoostTrainer(
            work,
            train_loop_config=job.model_dump(mode="json"),
            scaling_config=ScalingConfig(num_workers=workers if clustered else 0),
            run_config=RunConfig(name=key, storage_path=storage),
        )
        grown = trainer.fit().return_value
    booster = xgboost.Booster({"nthread": job.recipe.threads}, model_file=bytearray(grown["model"]))
    return booster, grown["curves"]


@contextmanager
def _storage(settings: Settings, key: str) -> Iterator[str]:
    """Ray Train's own notes of a run, gone afterwards: where driver and workers both reach them."""
    from pyarrow import fs

    root = settings.artifact_root if settings.ray_address else str(settings.home)
    uri = f"{root.rstrip('/')}/ray"
    filesystem, path = fs.FileSystem.from_uri(uri) if "://" in uri else (fs.LocalFileSystem(), uri)
    filesystem.create_dir(f"{path}/{key}", recursive=True)
    try:
        yield uri
    finally:
        filesystem.delete_dir(f"{path}/{key}")


@contextmanager
def _alone() -> Iterator[None]:
    os.environ.update(_ENVIRONMENT)
    logging.getLogger("ray.train.v2.api.config").setLevel(logging.WARNING)  # it announces its local mode
    yield


@contextmanager
def _cluster(settings: Settings, workers: int) -> Iterator[None]:
    """The cluster of the settings, or one already joined; else a local one on loopback, stopped afterwards."""
    os.environ.update(_ENVIRONMENT)
    import ray

    if ray.is_initialized():
        yield
        return
    _join(ray, settings) if settings.ray_address else _start(ray, workers)
    try:
        yield
    finally:
        ray.shutdown()


def _join(ray: Any, settings: Settings) -> None:
    try:
        ray.init(address=settings.ray_address, **_QUIET)
    except ConnectionError as error:
        raise UsageError(
            f"The Ray cluster at {settings.ray_address} does not answer; start it or unset MEDISCALE_RAY_ADDRESS."
        ) from error


def _start(ray: Any, workers: int) -> None:
    """Ray gives its own processes a fixed 30 seconds; on a crowded machine the second try finds them in memory."""
    for attempt in range(_STARTS):
        try:
            ray.init(
                num_cpus=workers + 1,  # one more for the trainer's controller, or the workers never start
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE,
                _node_ip_address="127.0.0.1",
                **_QUIET,
            )
        except Exception as error:  # Ray raises the bare class
            ray.shutdown()
            if "timed out during startup" not in str(error):
                raise
            if attempt + 1 == _STARTS:
                raise BusyError(
                    f"Ray could not start {_STARTS} times in a row: this machine is too busy; try again later, or "
                    "train with one worker, which needs no cluster."
                ) from error
        else:
            return
