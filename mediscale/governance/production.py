"""Production asked for by a person: the stage that decided about a version judges it again, and moves the alias."""

from typing import Any

from mediscale.core import caller
from mediscale.core.settings import Settings
from mediscale.core.task_names import LANGUAGE
from mediscale.pipeline import call
from mediscale.storage import signing


def ask(settings: Settings, dataset: str, task: str, version: int, run_id: str) -> Any:
    """Decides again about a version of a task's model, or of a language model, as whoever signs here.

    Raises:
        NotFoundError: no decision about this version was ever made, so there is no evidence to go by.
    """
    from training.language import promote_language
    from training.promotion import promotion

    name, stage = ("promote_language", promote_language) if task == LANGUAGE else ("promotion", promotion)
    params = stage.repromotion_params(settings, dataset, task, version, signing.actor(settings), caller.now())
    return call.call(name, params.model_dump(), settings, run_id).result
