"""Decision about a version of any kind of model: to staging when its evidence is complete, to production when it passes
the policy too.

A kind of model brings its own judge, which reads the evidence and applies the policy. The move is an entry of the
append-only promotion history; MLflow's aliases are then made to follow. Killed in between, the next call finds the
entry and repairs the alias.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar

from pydantic import Field

from mediscale.core.annotations import ComparedWith, Digest, RuntimeInput
from mediscale.core.caller import now
from mediscale.core.errors import MediscaleError, NotFoundError, QualityError
from mediscale.core.refs import Frozen, ModelRef
from mediscale.core.settings import Settings
from mediscale.core.stage import Context
from mediscale.inference import model_files, model_signature
from mediscale.storage import approvals, history, record_list, registry, signing
from mediscale.storage import calls as manifest
from mediscale.storage.history_entries import Alias, Proposal
from training.evaluation.evaluation_report import SilentPeriod
from training.evidence_files import VersionEvidence, read_evidence
from training.promotion import gate
from training.promotion_context import incumbent_in, past_decisions, promotion_context


class DecisionParams(Frozen):
    """Which version of any kind of model to decide about, and by whom and when it is moved."""

    dataset: RuntimeInput[str]
    model: RuntimeInput[ModelRef]
    evidence: RuntimeInput[str]
    evidence_digest: RuntimeInput[Digest]
    incumbent: RuntimeInput[ComparedWith[ModelRef | None]] = None
    """Today's production version, resolved by the caller; the evidence must compare with this very one."""
    sequence: RuntimeInput[int] = Field(ge=1)
    """The next number of the promotion history, resolved by the caller."""
    actor: RuntimeInput[str] = Field(min_length=1)
    moved_at: RuntimeInput[datetime]
    target_alias: Literal["staging", "production"] = "staging"
    """``staging`` stops there even where production would be deserved, for a person to go on."""


class Result(Frozen):
    """What was decided."""

    staged: bool
    promoted: bool
    proposed: bool = False
    """It passed the gate, and waits for another person's approval."""
    reason: str
    """One sentence for the last alias that was reached or refused."""
    model: ModelRef
    evidence: str
    evidence_digest: Digest
    silent_period: SilentPeriod | None = None
    """What the version showed in shadow, where the policy asks for it."""


@dataclass(frozen=True)
class Judgement:
    """What a policy makes of complete evidence."""

    problems: list[str]
    """The floors of production that are missed, each as a part of a sentence."""
    summary: str
    """What the evidence is about, as a sentence goes on after a colon."""
    promoted: str
    """Why the version may serve, where nothing is missed."""
    silent_period: SilentPeriod | None = None


class IncompleteError(QualityError):
    """A version may not even be staged."""


D = TypeVar("D", bound=DecisionParams)
E = TypeVar("E", bound=VersionEvidence)
Judge = Callable[[D, Settings], Judgement]
"""Raises ``IncompleteError``."""


def decide(params: D, task: str, settings: Settings, key: str, judge: Judge[D]) -> Result:
    """Decides about one version and moves the aliases that it has earned.

    Raises:
        BusyError: another promotion was recorded first; nothing was moved.
    """
    try:
        judgement = judge(params, settings)
    except IncompleteError as error:
        registry.repair(settings, params.dataset)
        return _result(params, f"Not staged: {error}", staged=False, promoted=False)
    reasons, reason = _earned_aliases(params.target_alias, judgement)
    awaited = False
    if "production" in reasons:
        reason, awaited = _with_approval(reasons, _decided_by(params, settings))
    if moves := list(_moves(params, task, settings, key, reasons)):
        model_signature.sign(settings, params.model, params.evidence_digest)
        records = {"records_digest": record_list.write(settings, params.evidence_digest)}
        registry.record(settings, params.dataset, *(move.model_copy(update=records) for move in moves))
    if awaited:
        proposal = _proposal(params, task, reason)
        approvals.propose(settings, params.dataset, proposal, params.actor, params.moved_at, key)
    registry.repair(settings, params.dataset)
    outcome = {"staged": True, "promoted": "production" in reasons, "proposed": awaited}
    return _result(params, reason, **outcome, silent_period=judgement.silent_period)


def production_problems(params: D, settings: Settings, judge: Judge[D]) -> list[str]:
    """Why the version may not serve, each as a part of a sentence; none where production is deserved."""
    try:
        return judge(params, settings).problems
    except IncompleteError as error:
        return [str(error)]


def newest_decision(
    settings: Settings, stage: str, kind: type[D], model: tuple[str, int], actor: str, moved_at: datetime
) -> D:
    """The parameters of the newest decision about a model's version, with production asked for and today's context.

    Raises:
        NotFoundError: no decision about this version was ever made, so there is no evidence to go by.
    """
    decisions = (kind.model_validate(call.params) for call in manifest.of_stage(settings, stage))
    mine = [params for params in decisions if (params.model.name, params.model.version) == model]
    if not mine:
        raise NotFoundError(
            f"{model[0]} v{model[1]} was never evaluated for promotion: its run ended before, or it is a part "
            "of another version. `mediscale runs` lists what ran."
        )
    context = promotion_context(settings, mine[-1].dataset, mine[-1].model)
    changed = {"actor": actor, "moved_at": moved_at, "target_alias": "production"}
    return mine[-1].model_copy(update=dict(context) | changed)


def decision_inputs(params: Mapping[str, Any], settings: Settings) -> Iterator[Context]:
    """The incumbent, the next number of the history, the actor and the clock: as they were when this very call moved an
    alias, so that it is found and never done twice; else as they are."""
    if {"dataset", "model"} <= params.keys():
        about = params["dataset"], ModelRef.model_validate(params["model"])
        for past in past_decisions(settings, *about):
            yield Context({**dict(past.context), "actor": past.actor, "moved_at": past.moved_at}, past.key)
        today = dict(promotion_context(settings, *about))
        yield Context({**today, "actor": params.get("actor") or signing.actor(settings), "moved_at": now()})


def evidence_of(params: DecisionParams, kind: type[E], settings: Settings) -> E:
    """The evidence about the version, whose files are unchanged.

    Raises:
        IncompleteError: files or evidence are gone or changed, or they are of two versions.
    """
    try:
        model_files.read_verified(settings, params.model)
        evidence = read_evidence(kind, settings, params.evidence, params.evidence_digest)
    except MediscaleError as error:
        raise IncompleteError(str(error)) from error
    about = {"model", "dataset", "task"}
    if evidence.model_dump(include=about) != params.model_dump(include=about):
        raise IncompleteError(
            f"the evidence is of {evidence.model}, not of these files of {params.model}; evaluate it."
        )
    return evidence


def check_complete(
    params: DecisionParams, settings: Settings, lacking: Iterable[str], compared: ModelRef | None
) -> None:
    """Checks that evidence lacks nothing, and compares with what is in production.

    Raises:
        IncompleteError: it does not.
    """
    if lacks := list(lacking):
        raise IncompleteError(f"the evidence is not complete: {gate.sentence(lacks)}.")
    if problem := _outdated(params, settings, compared):
        raise IncompleteError(problem)


def _outdated(params: DecisionParams, settings: Settings, compared: ModelRef | None) -> str:
    """What has changed in production since the evidence compared a version with ``compared``; empty if nothing."""
    moves = [m for m in registry.history(settings, params.dataset) if m.sequence < params.sequence]
    incumbent = incumbent_in(moves, params.model)
    if incumbent != params.incumbent:
        return (
            f"{incumbent or 'no version'} is in production, not {params.incumbent or 'none'}; decide again."
        )
    if compared != incumbent:
        return (
            f"the evidence compares with {compared or 'no version'} while {incumbent or 'no version'} is in "
            "production now; evaluate it again."
        )
    return ""


def _earned_aliases(target: Alias, judgement: Judgement) -> tuple[dict[Alias, str], str]:
    """The aliases that complete evidence has earned, each with its reason; and the reason of the last one that was
    reached or refused."""
    staged, problems = f"Staged only, not approved for use: {judgement.summary}.", judgement.problems
    if target == "staging":
        allowed = f"would be refused: {gate.sentence(problems)}" if problems else "would be allowed"
        staged = f"{staged} Production was not asked for, and {allowed}."
    elif problems:
        staged = f"{staged} Production refused: {gate.sentence(problems)}."
    else:
        return {"staging": staged, "production": judgement.promoted}, judgement.promoted
    return {"staging": staged}, staged  # so that the history, too, says what stood against production


def _result(params: DecisionParams, reason: str, **outcome: Any) -> Result:
    about = {"model": params.model, "evidence": params.evidence, "evidence_digest": params.evidence_digest}
    return Result(reason=reason, **about, **outcome)


def _with_approval(reasons: dict[Alias, str], decided_by: str) -> tuple[str, bool]:
    """The last reason, and whether production still awaits a person's approval; it is no earned alias then."""
    earned = reasons.pop("production")
    if not decided_by:
        return f"Proposed, and waits for another person's approval. {earned}", True
    reasons["production"] = f"{earned} {decided_by}"
    return reasons["production"], False


def _decided_by(params: DecisionParams, settings: Settings) -> str:
    """A sentence on who let the version pass beside the gate; empty while an approval is required and missing."""
    recorded, model = history.entries(settings, params.dataset), params.model
    keys = signing.accepted_keys(settings)
    if not approvals.is_required(recorded, keys):
        return "The gate alone decided."
    who = approvals.approver(recorded, model.name, model.version, model.digest, keys)
    return f"{who} approved of it." if who else ""


def _proposal(params: DecisionParams, task: str, reason: str) -> Proposal:
    return Proposal(
        model=params.model.name,
        task=task,
        version=params.model.version,
        evidence_digest=params.evidence_digest,
        model_digest=params.model.digest,
        reason=reason,
    )


def _moves(
    params: DecisionParams, task: str, settings: Settings, key: str, reasons: dict[Alias, str]
) -> Iterator[registry.Move]:
    """The moves of the earned aliases that point elsewhere so far."""
    pointed_to = {alias: registry.current(settings, params.dataset, task, alias) for alias in reasons}
    aliases = [alias for alias, move in pointed_to.items() if move is None or move.version != params.model]
    for sequence, alias in enumerate(aliases, start=params.sequence):
        before = pointed_to[alias]
        yield registry.Move(
            sequence=sequence,
            model=params.model.name,
            task=task,
            alias=alias,
            from_version=before.to_version if before else None,
            to_version=params.model.version,
            actor=params.actor,
            moved_at=params.moved_at,
            reason=reasons[alias],
            evidence_digest=params.evidence_digest,
            model_uri=params.model.uri,
            model_digest=params.model.digest,
            key=key,
        )
