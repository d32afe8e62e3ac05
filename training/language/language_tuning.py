"""Hyperparameter search of a language model's fit: Ray Tune runs trials that Optuna proposes, within a budget.

A trial is judged by its loss on the tuning questions; the held-out ones are never looked at. Each is a run in MLflow
below that of its search. Optuna's sampler is the tree-structured Parzen estimator (Bergstra et al. 2011).
"""

import math
import shutil
from pathlib import Path
from typing import Any

from mediscale.core.refs import Frozen
from mediscale.core.settings import Settings
from mediscale.storage import registry
from training import ray_session
from training.language import language_model, language_training
from training.language.language_training import Job

RANKS = (4, 8, 16, 32)
"""Alpha is twice the rank."""
BATCH_TOKENS = (256, 384, 512, 768)
LEARNING_RATES = (1e-4, 2e-3)
"""Between these, by their logarithm."""
_PARENT_TAG = "mlflow.parentRunId"


class Trial(Frozen):
    """A fit with some settings, and what came of it."""

    rank: int
    learning_rate: float
    batch_tokens: int
    tuning_loss: float | None
    """Per token of the tuning questions' answers; None where the fit failed."""


def search(
    settings: Settings, params: language_model.Params, key: str, trials: int, minutes: float
) -> list[Trial]:
    """Trials, the best first: no more than ``trials``, and none is begun after ``minutes``.

    Raises:
        UsageError: the base can't be had, a target is none of its layers, or the Ray cluster can't be reached.
        InputError: the base is no language model.
    """
    job = language_model.job_of(params, settings, key)
    language_training.check(job, 1)
    with ray_session.cluster(settings, 1):
        import optuna
        from ray import tune
        from ray.tune.search.optuna import OptunaSearch

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        results = tune.Tuner(
            tune.with_parameters(_trial, job=job.model_dump(mode="json")),
            param_space={
                "rank": tune.choice(RANKS),
                "batch_tokens": tune.choice(BATCH_TOKENS),
                "learning_rate": tune.loguniform(*LEARNING_RATES),
            },
            tune_config=tune.TuneConfig(
                search_alg=OptunaSearch(seed=params.seed),
                metric="tuning_loss",
                mode="min",
                num_samples=trials,
                time_budget_s=60 * minutes,
                max_concurrent_trials=1,
            ),
            run_config=tune.RunConfig(
                name=key, storage_path=str(settings.home.absolute() / "ray_tune"), verbose=0
            ),
        ).fit()
        tried = [_of(result) for result in results]
    shutil.rmtree(settings.home / "ray_tune" / key, ignore_errors=True)
    tried.sort(key=lambda trial: math.inf if trial.tuning_loss is None else trial.tuning_loss)
    _log(settings, params.dataset, key, tried)
    return tried


def _trial(config: dict[str, Any], job: dict[str, Any]) -> None:
    """One fit, in a process of Ray's."""
    from ray import tune

    given, name = Job.model_validate(job), tune.get_context().get_trial_id()
    adapter = given.adapter.model_copy(update={"rank": config["rank"], "alpha": 2 * config["rank"]})
    rates = {name: config[name] for name in ("batch_tokens", "learning_rate")}
    checkpoints = Path(given.checkpoints) / name
    mine = given.model_copy(
        update={
            "adapter": adapter,
            "recipe": given.recipe.model_copy(update=rates),
            "checkpoints": str(checkpoints),
        }
    )
    fitted = language_training.train(mine)
    shutil.rmtree(checkpoints, ignore_errors=True)
    tune.report({"tuning_loss": fitted["tuning_losses"][1]})


def _of(result: Any) -> Trial:
    loss = (result.metrics or {}).get("tuning_loss")
    return Trial(**result.config, tuning_loss=None if loss is None or math.isnan(loss) else loss)


def _log(settings: Settings, dataset: str, key: str, tried: list[Trial]) -> None:
    mlflow = registry.client(settings)
    experiment = registry.experiment(settings, mlflow, dataset)
    parent = mlflow.create_run(experiment, run_name=f"language tuning {key[:8]}").info.run_id
    for number, trial in enumerate(tried, start=1):
        child = mlflow.create_run(
            experiment, run_name=f"trial {number}", tags={_PARENT_TAG: parent}
        ).info.run_id
        for name in ("rank", "learning_rate", "batch_tokens"):
            mlflow.log_param(child, name, getattr(trial, name))
        if trial.tuning_loss is not None:
            mlflow.log_metric(child, "tuning_loss", trial.tuning_loss)
        mlflow.set_terminated(child, "FINISHED" if trial.tuning_loss is not None else "FAILED")
    mlflow.set_terminated(parent)
