"""Canary and shadow: another version answers beside the one in production, by a signed entry of the history."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from mediscale.core import task_names
from mediscale.core.errors import NotFoundError, QualityError
from mediscale.core.settings import Settings
from mediscale.inference import model_signature
from mediscale.storage import approvals, fallbacks, history, registry, signing, traffic
from mediscale.storage.history_entries import Draft, Entry, Traffic
from mediscale.storage.registry import Move


class Signatory(NamedTuple):
    """Who signs an entry of the history, when and why."""

    actor: str
    at: datetime
    reason: str


def begin(
    settings: Settings,
    version: str,
    percent: float,
    signed: Signatory,
    mode: Literal["canary", "shadow"] = "canary",
) -> Traffic:
    """Lets a staged version, named as ``MODEL/VERSION``, answer beside the one in production.

    A canary answers patients, so that the gate of production must let it pass, and where the dataset needs four eyes
    somebody else must have approved of it. What a shadow answers nobody sees: complete evidence suffices.

    Raises:
        UsageError: that is no version's name.
        NotFoundError: the version was never staged, or nothing else is in production.
        QualityError: a canary of it would be refused in production.
        StorageError: its files were changed or are gone.
    """
    dataset, task, number = registry.parse_version(version)
    recorded = history.entries(settings, dataset)
    staged = _staged(recorded, version, dataset, task, number)
    model_signature.check(settings, staged.version, staged.evidence_digest)
    if mode == "canary":
        _check_canary(settings, dataset, recorded, staged, signed)
    setting = Traffic(
        model=staged.model,
        task=task,
        mode=mode,
        percent=percent,
        version=number,
        evidence_digest=staged.evidence_digest,
        model_uri=staged.model_uri,
        model_digest=staged.model_digest,
        reason=signed.reason,
    )
    return _append(settings, dataset, recorded, setting, signed)


def stop(settings: Settings, version: str, signed: Signatory) -> Traffic:
    """Ends it, also where servers have given the version up: their reason is then part of the entry's.

    Raises:
        UsageError: that is no version's name.
        NotFoundError: the version does not answer beside production.
    """
    dataset, task, number = registry.parse_version(version)
    recorded = history.entries(settings, dataset)
    entry, setting = traffic.splits(recorded).get(task, (None, None))
    if entry is None or setting is None or setting.version != number:
        raise NotFoundError(f"{version} does not answer beside production; see `mediscale traffic`.")
    fallback = fallbacks.read(settings, dataset, entry)
    given_up = [f"Servers gave it up: {fallback.reason}"] if fallback else []
    reason = " ".join(filter(None, [signed.reason, *given_up]))
    ended = setting.model_copy(update={"mode": "ended", "reason": reason})
    return _append(settings, dataset, recorded, ended, signed)


def _staged(recorded: Sequence[Entry], version: str, dataset: str, task: str, number: int) -> Move:
    moves = [move for move in registry.moves_in(recorded) if move.task == task]
    production = [move for move in moves if move.alias == "production"]
    staged = [move for move in moves if move.to_version == number]
    if not staged:
        raise NotFoundError(
            f"{version} was never staged; `mediscale history --dataset {dataset}` lists what was."
        )
    if not production or production[-1].to_version == number:
        there = f"{version} itself is" if production else "nothing is"
        raise NotFoundError(f"{version} can't answer beside production: {there} in production.")
    return staged[-1]


def _check_canary(
    settings: Settings, dataset: str, recorded: Sequence[Entry], staged: Move, signed: Signatory
) -> None:
    from training.promotion import gate

    problems = _production_problems(settings, dataset, staged, signed)
    if not approvals.is_covered(recorded, staged.version, signing.accepted_keys(settings)):
        problems.append("nobody but its proposer approved of it")
    if problems:
        raise QualityError(
            f"{staged.version} may not answer patients: {gate.sentence(problems)}. As a shadow it may (--shadow)."
        )


def _production_problems(settings: Settings, dataset: str, staged: Move, signed: Signatory) -> list[str]:
    """What the gate of production says against a version, each as a part of a sentence."""
    from training.language import promote_language
    from training.promotion import decision, promotion

    stage = promote_language if staged.task == task_names.LANGUAGE else promotion
    params = stage.repromotion_params(
        settings, dataset, staged.task, staged.to_version, signed.actor, signed.at
    )
    return decision.production_problems(params, settings, stage.judge)


def _append(
    settings: Settings, dataset: str, recorded: Sequence[Entry], setting: Traffic, signed: Signatory
) -> Traffic:
    number = len(recorded) + 1
    draft = Draft(setting, signed.actor, signed.at, f"traffic-{number}")
    history.append(settings, dataset, draft, sequence=number)
    return setting
