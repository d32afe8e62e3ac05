"""Stage: hyperparameter search of the risk model, judged on the tuning split; the next fits take what it chose.

A trial grows trees as a fit does and is judged as its version would answer: rounds and calibration come from one half
of the tuning patients, the log loss from the other. The held-out split is never read. Of many trials the best looks
better than it is, so what a choice is worth is the evidence on the held-out patients.
"""

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from data_pipeline.features import kernel
from mediscale.core.annotations import Digest, RuntimeInput
from mediscale.core.errors import QualityError
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import TRAINING, Stage
from mediscale.core.tasks import TaskName
from mediscale.core.tree_libraries import TreeLibrary
from mediscale.storage import private_files
from training import hyperparameter_search, training_examples
from training.hyperparameter_search import CPU_SECONDS, FINISHED, LOSS, Plan, Search, Trial
from training.statistics import metrics
from training.statistics.bootstrap import Resamples
from training.statistics.estimate import Estimate
from training.tabular.recipe import Recipe
from training.tabular.tree_training import GrownTrees, Job

if TYPE_CHECKING:
    from training.training_examples import Examples

_ROUNDS_PER_REPORT = 20
_GRACE_ROUNDS = 60
"""Before which ASHA stops no trial."""
_RESAMPLES = 1000


class Params(Frozen):
    """What to search on, and the budget."""

    dataset: RuntimeInput[str]
    task: RuntimeInput[TaskName]
    training_set: RuntimeInput[TableRef]
    trials: int = Field(30, ge=1)
    """At most; the first one is of the default settings."""
    minutes: float = Field(5.0, gt=0)
    """Of CPU, after which no trial is begun and the one under way ends."""
    libraries: tuple[TreeLibrary, ...] = Field(("xgboost", "lightgbm"), min_length=1)
    """Which may grow the trees; ``spark`` takes a second a tree and starts Java in each process of a trial."""
    rounds: int = Field(600, ge=1, le=1000)
    """Most trees of a trial."""
    workers: int = Field(1, ge=1)
    """Trials at the same time."""
    seed: int = Field(0, ge=0, lt=2**31)


class Choice(Frozen):
    """Settings with what they came to on the tuning split, beside the chosen ones."""

    name: str
    settings: dict[str, int | float | str]
    log_loss: Estimate
    """Cross-fitted; with the 95 % interval from resampled patients."""
    difference: Estimate
    """Of the log loss from that of the chosen settings, on the same resamples: above 0 where they are worse."""


class Result(Frozen):
    """What the next fits of the task take."""

    search: Digest
    """The call's key."""
    settings: dict[str, int | float | str]
    """Of the recipe, by name."""
    choices: tuple[Choice, ...]
    """The chosen settings, the default ones, and the best ones of each other library."""
    trials: int
    stopped_early: int
    """Trials that ASHA, or the end of the budget, stopped."""
    cpu_minutes: float


def space(libraries: tuple[TreeLibrary, ...]) -> dict[str, Any]:
    """The search space: Optuna's distributions over the recipe's fields. Its bounds hold the default settings."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    return {
        "library": CategoricalDistribution(libraries),
        "depth": IntDistribution(2, 4),
        "learning_rate": FloatDistribution(0.02, 0.2, log=True),
        "min_child_weight": FloatDistribution(1, 50, log=True),
        "subsample": FloatDistribution(0.5, 1),
        "colsample": FloatDistribution(0.2, 1),
        "l2": FloatDistribution(0.5, 50, log=True),
    }


def run(params: Params, settings: Settings, key: str) -> Result:
    """Searches; a call that was killed goes on from the trials that ended.

    Raises:
        QualityError: the training or tuning split has no rows, or the training split one outcome only; or no trial came
            to its end within the budget.
        UsageError: the Ray cluster of the settings can't be reached.
    """
    names = kernel.names(params.task)
    train, tuning = (
        training_examples.load(settings, params.training_set, split, names) for split in ("train", "tuning")
    )
    training_examples.check_trainable(train, tuning, params.task)
    tried = _search(params, settings, key)
    finished = [trial for trial in tried if trial.finished]
    if not finished:
        failed = sum(trial.loss is None for trial in tried)
        raise QualityError(
            f"None of {len(tried)} trials came to its end within {params.minutes:g} minutes of CPU, and {failed} of "
            "them failed; give more minutes, or fewer rounds."
        )
    choices = _choices(train, tuning, params, _contenders(params, finished))
    return Result(
        search=key,
        settings=choices[0].settings,
        choices=choices,
        trials=len(tried),
        stopped_early=len(tried) - len(finished),
        cpu_minutes=round(sum(trial.cpu_seconds for trial in tried) / 60, 3),
    )


def _search(params: Params, settings: Settings, key: str) -> list[Trial]:
    recipe = Recipe(library=params.libraries[0], rounds=params.rounds, seed=params.seed)
    job = Job(
        home=str(settings.home.absolute()),
        lake=settings.lake if "://" in settings.lake else str(Path(settings.lake).absolute()),
        training_set=params.training_set,
        task=params.task,
        recipe=recipe,
    )
    this = Search(
        dataset=params.dataset,
        key=key,
        name=f"risk_tuning {key[:8]}",
        trials=params.trials,
        cpu_minutes=params.minutes,
        concurrent=params.workers,
        seed=params.seed,
    )
    return hyperparameter_search.search(settings, this, partial(_plan, job, params.libraries))


def _plan(job: Job, libraries: tuple[TreeLibrary, ...]) -> Plan:
    from ray.tune.schedulers import ASHAScheduler

    most = job.recipe.rounds
    asha = ASHAScheduler(
        time_attr="rounds",
        max_t=most,
        grace_period=min(_GRACE_ROUNDS, most),
        reduction_factor=3,
        stop_last_trials=False,
    )
    proposals = space(libraries)
    return Plan(_trainable(job), proposals, job.recipe.model_dump(include=set(proposals)), asha)


def _trainable(job: Job) -> Any:
    """Ray Tune's class of a trial; its process reads the rows once and goes on to the next trial's settings."""
    from ray import tune

    class Trees(tune.Trainable):  # type: ignore[misc]  # Ray is not read by mypy
        def setup(self, config: dict[str, Any]) -> None:
            private_files.only_owner()
            self.spent = time.process_time()
            settings = Settings(home=Path(job.home), lake=job.lake)
            names = kernel.names(job.task)
            self.train_rows, self.tuning_rows = (
                training_examples.load(settings, job.training_set, split, names)
                for split in ("train", "tuning")
            )
            self.begin(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.spent = time.process_time()
            self.begin(new_config)
            return True

        def begin(self, config: dict[str, Any]) -> None:
            recipe = job.recipe.model_copy(update=config)
            self.trees = GrownTrees(self.train_rows, self.tuning_rows, job.task, recipe)

        def step(self) -> dict[str, Any]:
            finished = self.trees.grow(_ROUNDS_PER_REPORT)
            before, self.spent = self.spent, time.process_time()
            return {
                LOSS: self.trees.loss(),
                FINISHED: finished,
                CPU_SECONDS: self.spent - before,
                "rounds": self.trees.rounds,
                "done": finished,
            }

    return Trees


def _contenders(params: Params, finished: list[Trial]) -> dict[str, dict[str, int | float | str]]:
    """Settings by name, the chosen ones first; ``finished`` has the best trial first."""
    best = {str(trial.settings["library"]): trial.settings for trial in reversed(finished)}
    chosen = finished[0].settings
    contenders = {"chosen settings": {"rounds": params.rounds, **chosen}}
    contenders["default settings"] = Recipe().model_dump(include={"rounds", *chosen})
    for library, settings in best.items():
        if library != chosen["library"]:
            contenders[f"best of {library}"] = {"rounds": params.rounds, **settings}
    return contenders


def _choices(
    train: "Examples", tuning: "Examples", params: Params, contenders: dict[str, dict[str, int | float | str]]
) -> tuple[Choice, ...]:
    """Each fitted anew and compared with the chosen settings."""
    risks = {}
    for name, recipe in contenders.items():
        judged = GrownTrees(
            train, tuning, params.task, Recipe.model_validate({"seed": params.seed, **recipe})
        )
        judged.grow(int(recipe["rounds"]))
        risks[name] = judged.risks()
    resamples, y = Resamples(tuning.subjects, _RESAMPLES, params.seed), tuning.outcomes

    def difference(risk: metrics.Floats, w: metrics.Floats) -> metrics.Floats:
        return metrics.log_loss(y, risk, w) - metrics.log_loss(y, risks["chosen settings"], w)

    return tuple(
        Choice(
            name=name,
            settings=recipe,
            log_loss=resamples.estimate(partial(metrics.log_loss, y, risks[name])),
            difference=resamples.estimate(partial(difference, risks[name])),
        )
        for name, recipe in contenders.items()
    )


def _summary(result: Result) -> str:
    default = next(choice for choice in result.choices if choice.name == "default settings").difference
    above = "what is not estimable" if default.value is None else default.text(digits=4)
    return (
        f"{result.trials} trials, {result.stopped_early} stopped early; {result.settings['library']} was chosen, and "
        f"the log loss of the default settings on the tuning split is higher by {above}"
    )


STAGE = Stage(
    Params, Result, run, display_name="search the trees' settings", summary=_summary, resources=TRAINING
)
