"""What a stage may not look up by itself, resolved by its caller just before the call, the same for every caller.

The clock, today's production model, the next number of the promotion history, the digest of an extract: they become
parameters, so that the key of a call covers all that the stage saw.
"""

import getpass
import os
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from mediscale.core.datasets import DATASET_PATTERN
from mediscale.core.errors import NotFoundError, UsageError
from mediscale.core.settings import Settings
from mediscale.pipeline import call

if TYPE_CHECKING:
    from mediscale.core.refs import ModelRef


def extract(
    settings: Settings,
    size: str = "",
    source: str = "",
    path: str = "",
    dataset: str = "",
    config: call.RunConfig | None = None,
) -> BaseModel:
    """What a run begins with: a hospital's own files, or a synthetic hospital of that size.

    Raises:
        UsageError: a source without a path, both a source and a size, or a stage would refuse its configuration.
        InputError: unknown source, or a file of it is missing.
    """
    check_choice(size, source, path, dataset)
    call.check(config or {})
    if not source:
        made = {"size": size or "small", "dataset": dataset or "synthetic"}
        return call.call("synthetic", {**(config or {}).get("synthetic", {}), **made}, settings=settings)
    from data_pipeline.ingest import bronze
    from data_pipeline.ingest.source import digest_of

    where = str(Path(path).resolve())
    return bronze.Params(
        source=source, dataset=dataset or source, path=where, extract_digest=digest_of(where, source)
    )


def check_choice(size: str, source: str, path: str, dataset: str) -> None:
    """Refuses half a choice before anything is started.

    Raises:
        UsageError: a source without a path or the other way round, both a source and a size, or a dataset's name that
            can't be part of a path.
    """
    if dataset and not re.fullmatch(DATASET_PATTERN, dataset):
        raise UsageError(
            "A dataset's name is lower-case letters, digits and dashes; choose another --dataset."
        )
    if bool(source) != bool(path):
        raise UsageError("A source and a path belong together: what the extract is, and where it lies.")
    if source and size:
        raise UsageError("A size is for the synthetic hospital; leave it out with a source and a path.")


def staged_at(settings: Settings, dataset: str, task: str) -> datetime:
    """When the newest staged version of a task was moved there.

    Raises:
        NotFoundError: no version is staged.
    """
    from mediscale.storage import registry

    move = registry.current(settings, dataset, task, "staging")
    if move is None:
        raise NotFoundError(f"No {task} model of {dataset} is staged; run the loop first.")
    return move.moved_at


REFUSED = "refused"
"""The only field of a result where a source lacks what a task needs: that task's further steps pass it on, and the
other tasks go on."""


def refusal(upstream: Sequence[Mapping[str, Any]]) -> str:
    """Why a step can't have its work done, where one before it was refused; else empty."""
    return next((str(result[REFUSED]) for result in upstream if REFUSED in result), "")


def call_stage(
    stage: str, config: Mapping[str, Any], upstream: Sequence[Mapping[str, Any]], settings: Settings
) -> BaseModel:
    """``stages.call`` with upstream results as plain mappings and with what the caller has to resolve.

    Raises:
        UsageError: two upstream results disagree about a parameter; and what ``stages.call`` raises.
    """
    return call.call(stage, resolved(stage, config, upstream, settings), settings=settings)


def resolved(
    stage: str, config: Mapping[str, Any], upstream: Sequence[Mapping[str, Any]], settings: Settings
) -> dict[str, Any]:
    """The parameters of a call: those given, those of upstream results, and those that are looked up now."""
    known = wired(stage, config, upstream)
    look_up = _LOOK_UP.get(stage)
    return {**look_up(known, settings), **known} if look_up else known


def wired(stage: str, config: Mapping[str, Any], upstream: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The parameters given, and for those that are not, the upstream results' fields of the same name.

    Raises:
        UsageError: two upstream results disagree about a parameter.
    """
    values = dict(config)
    fields = call.load(stage).Params.model_fields.keys() - config.keys()
    for result in upstream:
        for name in fields & result.keys():
            if values.setdefault(name, result[name]) != result[name]:
                raise UsageError(
                    f"Stage {stage}: two upstream results disagree about {name!r}; set it explicitly."
                )
    return values


def _evaluation(known: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """As it was when the version was decided about, where that call is finished; else as it is."""
    if not _names_a_version(known):
        return {}
    from training.promotion import promotion

    about = _about(known)
    for then in promotion.decided(settings, *about):
        if call.finished("evaluate", {**then.evaluation, **known}, settings=settings):
            return then.evaluation
    return promotion.situation(settings, *about).evaluation


def _promotion(known: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """As it was when this very call moved an alias, so that it is found and never done twice; else as it is."""
    if not _names_a_version(known):
        return {}
    from training.promotion import promotion

    about = _about(known)
    for then in promotion.decided(settings, *about):
        if call.key("promotion", {**then.promotion, **known}) == then.key:
            return then.promotion
    now_ = promotion.situation(settings, *about).promotion
    return {**now_, "actor": known.get("actor") or actor(), "moved_at": now()}


def _drift(known: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    if not {"dataset", "task"} <= known.keys() or "predictions" in known:
        return {}
    from mediscale.core.refs import ModelRef
    from monitoring import monitoring_inputs

    model = ModelRef.model_validate(known["model"]) if "model" in known else None
    return monitoring_inputs.to_judge(settings, known["dataset"], known["task"], model)


def _retrain(known: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    from monitoring import monitoring_inputs

    asked = {"dataset", "task"} <= known.keys() and "windows" not in known
    return monitoring_inputs.judged(settings, known["dataset"], known["task"], now()) if asked else {}


def _about(known: Mapping[str, Any]) -> tuple[str, "ModelRef"]:
    from mediscale.core.refs import ModelRef

    return known["dataset"], ModelRef.model_validate(known["model"])


def _names_a_version(known: Mapping[str, Any]) -> bool:
    return {"dataset", "task", "model"} <= known.keys()


def now() -> datetime:
    """The caller's clock: UTC without a zone, as all times here."""
    return datetime.now(UTC).replace(tzinfo=None)


def actor() -> str:
    """Who moves an alias: MEDISCALE_ACTOR where a scheduler sets it, else the account, nameless in some pods."""
    if named := os.environ.get("MEDISCALE_ACTOR"):
        return named
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _surrogates(known: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    from data_pipeline.notes.deidentification import pseudonym_secret

    return {} if "surrogate_key" in known else {"surrogate_key": pseudonym_secret.resolve(settings)}


def _encoder(known: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    from data_pipeline.notes import encoders

    return {} if "encoder" in known else {"encoder": encoders.chosen(settings)}


def _recipe(known: Mapping[str, Any], _settings: Settings) -> dict[str, Any]:
    from training.notes import note_model

    return dict(note_model.RECIPES.get(known["encoder"]["name"], {})) if "encoder" in known else {}


_LOOK_UP: dict[str, Callable[[Mapping[str, Any], Settings], dict[str, Any]]] = {
    "deidentify": _surrogates,
    "note_tokens": _encoder,
    "note_model": _recipe,
    "evaluate": _evaluation,
    "promotion": _promotion,
    "drift": _drift,
    "retrain": _retrain,
}
