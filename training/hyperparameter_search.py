"""Hyperparameter search: Ray Tune runs trials that Optuna proposes, within a budget, and each is a run in MLflow.

Optuna's sampler is the tree-structured Parzen estimator (Bergstra et al. 2011); trials that report while they go on may
be stopped early by ASHA (Li et al. 2020, arXiv:1810.05934). MLflow's runs are also what a search that was killed goes
on from: a trial that ended is not run again, and Optuna is told what it came to.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mediscale.core.refs import Frozen
from mediscale.core.settings import Settings
from mediscale.storage import registry
from training import ray_session

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

LOSS, FINISHED, CPU_SECONDS = "tuning_loss", "finished", "cpu_seconds"
"""What a trial reports: its loss on the tuning split so far, whether it came to its end (1) or may go on (0), and the
CPU seconds that it took since its last report."""
PARENT_TAG = "mlflow.parentRunId"


class Search(Frozen):
    """A search and its budget."""

    dataset: str
    key: str
    """Of the search. Of two searches of one key the second goes on from the first."""
    name: str
    """Of its run in MLflow."""
    trials: int
    """At most."""
    cpu_minutes: float
    """After which no trial is begun, and one that reports in between ends."""
    concurrent: int = 1
    seed: int = 0


class Trial(Frozen):
    """Settings that were tried, and what came of them."""

    settings: dict[str, Any]
    loss: float | None
    """On the tuning split, at the last report; None where the trial failed."""
    finished: bool
    """False where it failed or was stopped early."""
    cpu_seconds: float


class Plan(NamedTuple):
    """What is tried. It is made once Ray may be imported."""

    trainable: Any
    """Ray Tune's, a function or a class. The process of a class goes on to the next trial."""
    space: Mapping[str, Any]
    """Optuna's distributions, by name."""
    first: Mapping[str, Any] | None = None
    """Settings that are tried before what Optuna proposes."""
    scheduler: Any = None
    """Ray Tune's, which may stop a trial early."""


def search(settings: Settings, this: Search, plan: Callable[[], Plan]) -> list[Trial]:
    """Trials, the finished ones first and of these the best.

    Raises:
        UsageError: the Ray cluster of the settings can't be reached.
    """
    runs = _Runs(settings, this)
    done = runs.resume()
    if len(done) < this.trials and _seconds(done) < 60 * this.cpu_minutes:
        with ray_session.cluster(settings, this.concurrent), ray_session.storage(settings, this.key) as uri:
            _run(this, plan(), done, runs, uri)
    runs.end()
    tried = runs.trials()
    return sorted(
        tried, key=lambda trial: (not trial.finished, math.inf if trial.loss is None else trial.loss)
    )


def _seconds(trials: Sequence[Trial]) -> float:
    return sum(trial.cpu_seconds for trial in trials)


def _run(this: Search, plan: Plan, done: Sequence[Trial], runs: "_Runs", storage: str) -> None:
    import optuna
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rated = [trial for trial in done if trial.loss is not None]
    points = [trial.settings for trial in rated] or ([dict(plan.first)] if plan.first else [])
    proposals = OptunaSearch(
        dict(plan.space),
        metric=LOSS,
        mode="min",
        points_to_evaluate=points or None,
        evaluated_rewards=[trial.loss for trial in rated] or None,
        seed=this.seed + len(done),  # or a search that goes on would propose what it tried
    )
    tune.Tuner(
        plan.trainable,
        tune_config=tune.TuneConfig(
            search_alg=proposals,
            scheduler=plan.scheduler,
            metric=LOSS,
            mode="min",
            num_samples=this.trials - len(done),
            max_concurrent_trials=this.concurrent,
            reuse_actors=isinstance(plan.trainable, type),
        ),
        run_config=tune.RunConfig(
            name=this.key,
            storage_path=storage,
            stop=_budget(60 * this.cpu_minutes - _seconds(done)),
            callbacks=[runs.callback()],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    ).fit()


def _budget(seconds: float) -> Any:
    """Ends a search that used up its CPU seconds."""
    from ray.tune import Stopper

    class Budget(Stopper):  # type: ignore[misc]  # Ray is not read by mypy
        def __init__(self) -> None:
            self.left = seconds

        def __call__(self, _trial_id: str, result: Mapping[str, Any]) -> bool:
            self.left -= result.get(CPU_SECONDS, 0.0)
            return False

        def stop_all(self) -> bool:
            return self.left <= 0

    return Budget()


class _Runs:
    """The runs of a search in MLflow: one for the search, below it one for each trial."""

    def __init__(self, settings: Settings, this: Search) -> None:
        self._settings, self._this = settings, this
        self._mlflow: MlflowClient = registry.client(settings)
        self._experiment = registry.experiment(settings, self._mlflow, this.dataset)
        self._parent = ""

    def resume(self) -> list[Trial]:
        """The trials that an earlier attempt ended; marks those that it was killed in."""
        own = self._mlflow.search_runs([self._experiment], f"tags.`{registry.KEY_TAG}` = '{self._this.key}'")
        if own:
            self._parent = own[0].info.run_id
            self._mlflow.update_run(self._parent, "RUNNING")
        else:
            tags = {registry.KEY_TAG: self._this.key}
            parent = self._mlflow.create_run(self._experiment, run_name=self._this.name, tags=tags)
            self._parent = parent.info.run_id
        self._end_running()
        return self.trials()

    def trials(self) -> list[Trial]:
        """The trials that ended, were stopped by the scheduler, or failed; oldest first."""
        ended = [run for run in self._children() if run.info.status in ("FINISHED", "FAILED")]
        return [_of(run) for run in sorted(ended, key=lambda run: int(run.info.start_time))]

    def end(self) -> None:
        self._end_running()
        self._mlflow.set_terminated(self._parent, "FINISHED")

    def _end_running(self) -> None:
        """Ends what Ray Tune did not: when the budget is used up, it tells of no trial's end, not even of the one whose
        report was the last."""
        for run in self._children():
            if run.info.status == "RUNNING":
                came_to_end = run.data.metrics.get(FINISHED) == 1.0
                self._mlflow.set_terminated(run.info.run_id, "FINISHED" if came_to_end else "KILLED")

    def _children(self) -> Sequence[Any]:
        below = f"tags.`{PARENT_TAG}` = '{self._parent}'"
        runs: Sequence[Any] = self._mlflow.search_runs([self._experiment], below, max_results=10_000)
        return runs

    def callback(self) -> Any:
        """Writes down each trial from Ray Tune's driver, as it goes on."""
        from ray.tune import Callback

        runs = self

        class Log(Callback):  # type: ignore[misc]  # Ray is not read by mypy
            def __init__(self) -> None:
                self.run_of: dict[str, str] = {}

            def on_trial_start(self, **event: Any) -> None:
                self.run_of[event["trial"].trial_id] = runs.begin_trial(event["trial"].config)

            def on_trial_result(self, **event: Any) -> None:
                runs.log_result(self.run_of[event["trial"].trial_id], event["result"])

            def on_trial_complete(self, **event: Any) -> None:
                runs.end_trial(self.run_of[event["trial"].trial_id], "FINISHED")

            def on_trial_error(self, **event: Any) -> None:
                runs.end_trial(self.run_of[event["trial"].trial_id], "FAILED")

        return Log()

    def begin_trial(self, config: Mapping[str, Any]) -> str:
        """Run id of a new trial."""
        number = len(self._children()) + 1
        run = self._mlflow.create_run(
            self._experiment, run_name=f"trial {number}", tags={PARENT_TAG: self._parent}
        )
        for name, value in config.items():
            self._mlflow.log_param(run.info.run_id, name, json.dumps(value))
        return str(run.info.run_id)

    def log_result(self, run_id: str, result: Mapping[str, Any]) -> None:
        step = int(result["training_iteration"])
        spent = self._mlflow.get_run(run_id).data.metrics.get(CPU_SECONDS, 0.0)
        figures = {
            LOSS: result[LOSS],
            FINISHED: float(result[FINISHED]),
            CPU_SECONDS: spent + result[CPU_SECONDS],
        }
        for name, value in figures.items():
            self._mlflow.log_metric(run_id, name, value, step=step)

    def end_trial(self, run_id: str, status: str) -> None:
        self._mlflow.set_terminated(run_id, status)


def _of(run: Any) -> Trial:
    metrics = run.data.metrics
    loss = metrics.get(LOSS)
    return Trial(
        settings={name: json.loads(value) for name, value in run.data.params.items()},
        loss=None if loss is None or math.isnan(loss) else loss,
        finished=run.info.status == "FINISHED" and metrics.get(FINISHED) == 1.0,
        cpu_seconds=metrics.get(CPU_SECONDS, 0.0),
    )
