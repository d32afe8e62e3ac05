"""Served traffic: of each task the version in production, what answers beside it, and what became of the patients."""

from collections.abc import Iterator
from datetime import datetime

from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import PREDICTIONS
from mediscale.storage import calls, fallbacks, history, lake, registry, traffic
from mediscale.storage.history_entries import Entry
from mediscale.storage.logged_predictions import Question
from mediscale.storage.traffic import Period


def lines(settings: Settings, dataset: str) -> Iterator[str]:
    """Sentences about a dataset's tasks, as the signed history has them.

    Raises:
        StorageError: the history is not to be trusted, or the lake can't be read.
    """
    recorded = history.entries(settings, dataset)
    production = {
        move.task: move for move in registry.attested_in(settings, recorded) if move.alias == "production"
    }
    active = {period.traffic.task: period for period in traffic.periods(recorded) if period.until is None}
    for task, move in sorted(production.items()):
        yield f"{move.version} is in production since {move.moved_at:%Y-%m-%d %H:%M}, by {move.actor}: {move.reason}"
        followed = recorded[move.sequence - 1]
        if refused := fallbacks.read(settings, dataset, followed):
            yield f"  A server refused it at {refused.at:%Y-%m-%d %H:%M}: {refused.reason}"
        if task in active:
            yield from _beside(settings, dataset, recorded, active[task])


def _beside(settings: Settings, dataset: str, recorded: list[Entry], period: Period) -> Iterator[str]:
    entry, setting, _ = period
    yield f"  {setting} ({entry.at:%Y-%m-%d %H:%M}, by {entry.actor})"
    if setting.task not in traffic.attested(settings, recorded):
        yield "  Servers do not follow it: nobody but its proposer approved of the version."
    elif fallback := fallbacks.read(settings, dataset, entry):
        yield (
            f"  Servers gave it up at {fallback.at:%Y-%m-%d %H:%M}: {fallback.reason} Sign that with "
            f"`mediscale canary {setting.model}/{setting.version} --stop`."
        )


def outcomes(settings: Settings, dataset: str, as_of: datetime) -> Iterator[str]:
    """A sentence about the outcomes of each period in which another version answered beside production.

    Raises:
        StorageError: the history is not to be trusted, or the lake can't be read.
    """
    from monitoring import arm_outcomes

    for entry, setting, until in traffic.periods(history.entries(settings, dataset)):
        labelled = calls.newest_night(settings, "labels", dataset, setting.task)
        log = lake.find_latest(settings, dataset, PREDICTIONS.name)
        if labelled is None or log is None:
            continue
        if "arm" not in lake.column_names(settings, log):  # nothing was answered since an older release
            continue
        labels = TableRef.model_validate(labelled.result["labels"])
        answers = Question(setting.challenger, setting.task, entry.at, until or as_of)
        compared = arm_outcomes.compare(settings, log, labels, answers, setting.mode, as_of)
        ended = f"{until:%Y-%m-%d %H:%M:%S}" if until else "now"
        yield (
            f"{setting.challenger} as {setting.mode} for {setting.percent:g} % of the patients, "
            f"{entry.at:%Y-%m-%d %H:%M:%S} to {ended}: {compared.summary}."
        )
