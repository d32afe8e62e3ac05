"""Served datasets: whose risk models and whose language model a server answers with."""

from collections.abc import Sequence
from typing import NamedTuple

from mediscale.core.errors import NotFoundError, UsageError
from mediscale.core.settings import Settings
from mediscale.core.task_names import LANGUAGE
from mediscale.storage import lake, registry
from mediscale.storage.history_entries import Alias


class Datasets(NamedTuple):
    """Whose models a server answers with; the same where a dataset has both kinds, or only one kind is served."""

    risk: str
    language: str


def choose(settings: Settings, names: Sequence[str], alias: Alias) -> Datasets:
    """The datasets with models under the alias, of those that are named, else of all in the lake.

    Raises:
        NotFoundError: there is none.
        UsageError: several datasets have models of one kind.
    """
    for name in names:
        if not _models(settings, name, alias):
            others = [name] if _models(settings, name, _other_alias(alias)) else []
            raise NotFoundError(_nothing(f"Dataset {name}", alias, others))
    models = {name: _models(settings, name, alias) for name in names or lake.datasets(settings)}
    risk = [name for name, tasks in models.items() if tasks - {LANGUAGE}]
    language = [name for name, tasks in models.items() if LANGUAGE in tasks]
    if not risk and not language:
        raise NotFoundError(
            _nothing(f"The lake {settings.lake}", alias, _other_alias_datasets(settings, alias))
        )
    for of_one_kind in (risk, language):
        if len(of_one_kind) > 1:
            raise UsageError(
                f"Several datasets have a model as {alias}: {', '.join(of_one_kind)}; name one with --dataset."
            )
    return Datasets(*(risk or language), *(language or risk))


def _models(settings: Settings, dataset: str, alias: Alias) -> set[str]:
    """The tasks that have a version under the alias."""
    return {move.task for move in registry.attested(settings, dataset) if move.alias == alias}


def _other_alias_datasets(settings: Settings, alias: Alias) -> list[str]:
    return [name for name in lake.datasets(settings) if _models(settings, name, _other_alias(alias))]


def _other_alias(alias: Alias) -> Alias:
    return "staging" if alias == "production" else "production"


def _nothing(where: str, alias: Alias, others: list[str]) -> str:
    remedy = (
        f"{', '.join(others)} has one as {_other_alias(alias)}: `mediscale serve --alias {_other_alias(alias)}`"
        if others
        else "train one with `mediscale run`"
    )
    return f"{where} has no model as {alias}; {remedy}."
