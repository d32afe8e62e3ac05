"""Hyperparameter search of a language model's fit: rank, learning rate and batch, by the loss on the tuning questions.

The held-out questions are never looked at. ``training/hyperparameter_search.py`` runs the trials.
"""

import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

from mediscale.core.settings import Settings
from training import hyperparameter_search
from training.hyperparameter_search import CPU_SECONDS, FINISHED, LOSS, Plan, Search, Trial
from training.language import language_model, language_training
from training.language.language_training import Job

RANKS = (4, 8, 16, 32)
"""Alpha is twice the rank."""
BATCH_TOKENS = (256, 384, 512, 768)
LEARNING_RATES = (1e-4, 2e-3)
"""Between these, by their logarithm."""


def search(
    settings: Settings, params: language_model.Params, key: str, trials: int, minutes: float
) -> list[Trial]:
    """Trials, the finished ones first and of these the best: no more than ``trials``, and none is begun after
    ``minutes`` of CPU.

    Raises:
        UsageError: the base can't be had, a target is none of its layers, or the Ray cluster can't be reached.
        InputError: the base is no language model.
    """
    job = language_model.job_of(params, settings, key)
    language_training.check(job, 1)
    this = Search(
        dataset=params.dataset,
        key=key,
        name=f"language tuning {key[:8]}",
        trials=trials,
        cpu_minutes=minutes,
        seed=params.seed,
    )
    return hyperparameter_search.search(settings, this, partial(_plan, job))


def _plan(job: Job) -> Plan:
    from optuna.distributions import CategoricalDistribution, FloatDistribution
    from ray import tune

    space = {
        "rank": CategoricalDistribution(RANKS),
        "batch_tokens": CategoricalDistribution(BATCH_TOKENS),
        "learning_rate": FloatDistribution(*LEARNING_RATES, log=True),
    }
    return Plan(tune.with_parameters(_trial, job=job.model_dump(mode="json")), space)


def _trial(config: dict[str, Any], job: dict[str, Any]) -> None:
    """One fit, in a process of Ray's."""
    from ray import tune

    begun = time.process_time()
    parsed, name = Job.model_validate(job), tune.get_context().get_trial_id()
    adapter = parsed.adapter.model_copy(update={"rank": config["rank"], "alpha": 2 * config["rank"]})
    rates = {name: config[name] for name in ("batch_tokens", "learning_rate")}
    checkpoints = Path(parsed.checkpoints) / name
    mine = parsed.model_copy(
        update={
            "adapter": adapter,
            "recipe": parsed.recipe.model_copy(update=rates),
            "checkpoints": str(checkpoints),
        }
    )
    fitted = language_training.train(mine)
    shutil.rmtree(checkpoints, ignore_errors=True)
    spent = time.process_time() - begun
    tune.report({LOSS: fitted["tuning_losses"][1], FINISHED: 1, CPU_SECONDS: spent})
