"""The verb that searches the settings of risk models."""

import argparse
from typing import TYPE_CHECKING

from mediscale.cli.verbs import Verb, add_tasks, count, settings, tasks_of
from mediscale.core.tree_libraries import DISPLAY_NAMES

if TYPE_CHECKING:
    from training.tabular.risk_tuning import Result


def _add_tune(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dataset", default="synthetic", help="the dataset whose training set is searched on (synthetic)"
    )
    add_tasks(parser)
    parser.add_argument(
        "--library",
        action="append",
        choices=tuple(DISPLAY_NAMES),
        default=[],
        help="a library that grows trees; repeat for several (default: xgboost and lightgbm)",
    )
    parser.add_argument("--trials", type=count, default=30, help="trials per task, at most (30)")
    parser.add_argument(
        "--minutes", type=float, default=5, help="minutes of CPU per task, after which no trial starts (5)"
    )


def _tune(options: argparse.Namespace) -> int:
    from mediscale.core import logs
    from mediscale.core.tables import TRAINING_SET
    from mediscale.pipeline import call
    from mediscale.storage import calls, lake
    from training.tabular.recipe import SEARCH, newest_search

    home, run_id = settings(), calls.new_run_id("tune")
    for task in tasks_of(options):
        params = {
            "dataset": options.dataset,
            "task": task,
            "training_set": lake.latest(home, options.dataset, f"{TRAINING_SET.name}_{task}"),
            "trials": options.trials,
            "minutes": options.minutes,
            **({"libraries": options.library} if options.library else {}),
        }
        with logs.handled_by(logs.to_standard_error()):
            finished = call.call(SEARCH, params, home, run_id)
        _show(task, finished.result, finished.cached)
        newest = newest_search(home, options.dataset, task, frozenset())
        if newest and newest.search != finished.result.search:
            print(f"{task}: a newer search chose other settings since; give other --trials to search anew.")
    print("The next `mediscale run` takes what the newest search chose; what is set there goes before it.")
    return 0


def _show(task: str, result: "Result", cached: bool) -> None:
    from training.tabular.risk_tuning import STAGE

    print(f"{task}: {STAGE.summary(result)}{' (cached)' if cached else ''}.")
    for choice in result.choices:
        recipe = " ".join(
            f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in choice.settings.items()
        )
        chosen = choice.settings == result.choices[0].settings
        worse = "" if chosen else f", above the chosen ones' by {choice.difference.text(digits=4)}"
        print(f"  {choice.name}: log loss {choice.log_loss.text(digits=4)}{worse}; {recipe}")


VERBS = (
    Verb(
        "tune",
        "search hyperparameters of risk models on the tuning split, within a budget of CPU",
        _tune,
        _add_tune,
    ),
)
