"""What a stage may not look up by itself, resolved by its caller just before the call, the same for every caller.

The clock, today's production model, the next number of the promotion history, the digest of an extract: they become
parameters, so that the key of a call covers all that the stage saw.
"""

import getpass
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mediscale import stages
from mediscale.errors import NotFoundError, UsageError
from mediscale.settings import Settings


def extract(
    settings: Settings,
    size: str = "",
    source: str = "",
    path: str = "",
    dataset: str = "",
    config: stages.RunConfig | None = None,
) -> BaseModel:
    """What a run begins with: a hospital's own files, or a synthetic hospital of that size.

    Raises:
        UsageError: a source without a path, both a source and a size, or a stage would refuse its configuration.
        InputError: unknown source, or a file of it is missing.
    """
    check_choice(size, source, path)
    stages.check(config or {})
    if not source:
        made = {"size": size or "small", "dataset": dataset or "synthetic"}
        return stages.call("synthetic", {**(config or {}).get("synthetic", {}), **made}, settings=settings)
    from data_pipeline import bronze
    from data_pipeline.source import digest_of

    where = str(Path(path).resolve())
    return bronze.Params(
        source=source, dataset=dataset or source, path=where, extract_digest=digest_of(where, source)
    )


def check_choice(size: str, source: str, path: str) -> None:
    """Refuses half a choice before anything is started.

    Raises:
        UsageError: a source without a path or the other way round, or both a source and a size.
    """
    if bool(source) != bool(path):
        raise UsageError("A source and a path belong together: what the extract is, and where it lies.")
    if source and size:
        raise UsageError("A size is for the synthetic hospital; leave it out with a source and a path.")


def staged_at(settings: Settings, dataset: str, task: str) -> datetime:
    """When the newest staged version of a task was moved there.

    Raises:
        NotFoundError: no version is staged.
    """
    from mediscale import registry

    move = registry.current(settings, dataset, task, "staging")
    if move is None:
        raise NotFoundError(f"No {task} model of {dataset} is staged; run the loop first.")
    return move.moved_at


def call(
    stage: str, config: Mapping[str, Any], upstream: Sequence[Mapping[str, Any]], settings: Settings
) -> BaseModel:
    """``stages.call`` with upstream results as plain mappings and with what the caller has to resolve.

    Raises:
        UsageError: two upstream results disagree about a parameter; and what ``stages.call`` raises.
    """
    return stages.call(stage, resolved(stage, config, upstream, settings), settings=settings)


def resolved(
    stage: str, config: Mapping[str, Any], upstream: Sequence[Mapping[str, Any]], settings: Settings
) -> dict[str, Any]:
    """The parameters of a call: those given, those of upstream results, and those that are looked up now."""
    known = wired(stage, config, upstream)
    look_up = _LOOK_UP.get(stage)
    return {**look_up(known, settings), **known} if look_up else known


def wired(stage: str, config: Mapping[str, Any], upstream: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Fills parameters from upstream results by field name, as ``stages.fill`` does for results that have a type."""
    values = dict(config)
    fields = stages.load(stage).Params.model_fields.keys() - config.keys()
    for result in upstream:
        for name in fields & result.keys():
            if values.setdefault(name, result[name]) != result[name]:
                raise UsageError(
                    f"Stage {stage}: two upstream results disagree about {name!r}; set it explicitly."
                )
    return values


def _evaluation(known: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    return _situation(known, settings).evaluation if _names_a_version(known) else {}


def _promotion(known: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    if not _names_a_version(known):
        return {}
    today = _situation(known, settings)
    if today.moved_at is not None and known.get("aim") == "production":
        return _asked_later(known, settings)
    return {**today.promotion, "actor": today.actor or actor(), "moved_at": today.moved_at or now()}


def _asked_later(known: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """A person asks for production of a version that reached staging before, now or (a repeated call) already."""
    from mediscale import registry
    from mediscale.refs import ModelRef

    model = ModelRef.model_validate(known["model"])
    served = registry.current(settings, known["dataset"], known["task"], "production")
    if served is not None and served.version == model:
        left = served.from_version
        incumbent = ModelRef(name=model.name, version=left) if left is not None else None
        done = {"sequence": served.sequence, "actor": served.actor, "moved_at": served.moved_at}
        return {**done, "incumbent": incumbent}
    sequence = registry.next_sequence(settings, known["dataset"])
    today = {"sequence": sequence, "actor": actor(), "moved_at": now()}
    return {**today, "incumbent": served.version if served else None}


def _drift(known: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    if not {"dataset", "task"} <= known.keys() or "predictions" in known:
        return {}
    from mediscale.refs import ModelRef
    from monitoring import served

    model = ModelRef.model_validate(known["model"]) if "model" in known else None
    return served.to_judge(settings, known["dataset"], known["task"], model)


def _retrain(known: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    from monitoring import served

    asked = {"dataset", "task"} <= known.keys() and "windows" not in known
    return served.judged(settings, known["dataset"], known["task"]) if asked else {}


def _situation(known: Mapping[str, Any], settings: Settings) -> Any:
    from mediscale.refs import ModelRef
    from training import promote

    model = ModelRef.model_validate(known["model"])
    return promote.situation(settings, known["dataset"], known["task"], model)


def _names_a_version(known: Mapping[str, Any]) -> bool:
    return {"dataset", "task", "model"} <= known.keys()


def now() -> datetime:
    """The caller's clock: UTC without a zone, as all times here."""
    return datetime.now(UTC).replace(tzinfo=None)


def actor() -> str:
    """Who moves an alias: MEDISCALE_ACTOR where a scheduler sets it, else the account's name."""
    return os.environ.get("MEDISCALE_ACTOR") or getpass.getuser()


def _surrogates(known: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    from data_pipeline import surrogate_key

    return {} if "surrogate_key" in known else {"surrogate_key": surrogate_key.resolve(settings)}


def _encoder(known: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    from data_pipeline import encoders

    return {} if "encoder" in known else {"encoder": encoders.chosen(settings)}


def _recipe(known: Mapping[str, Any], _settings: Settings) -> dict[str, Any]:
    from training import note_model

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
