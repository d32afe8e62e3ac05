"""Stage: to staging when the evidence is complete, to production when it passes the policy too.

The move is an entry of the append-only promotion history; MLflow's aliases are then made to follow. Killed in between,
the next call finds the entry and repairs the alias.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Literal, TypeVar

from pydantic import Field

from mediscale.core import tasks
from mediscale.core.annotations import ComparedWith, Digest, RuntimeInput
from mediscale.core.caller import now
from mediscale.core.errors import MediscaleError, NotFoundError
from mediscale.core.refs import Frozen, ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import Context, Stage
from mediscale.core.tables import PREDICTIONS
from mediscale.core.tasks import TaskName
from mediscale.inference import model_files, model_signature
from mediscale.storage import approvals, history, lake, record_list, registry, signing
from mediscale.storage import calls as manifest
from mediscale.storage.history_entries import Alias, Proposal
from training.evaluation.evaluation_report import Evidence, SilentPeriod, read
from training.promotion import gate, silent_period, staging
from training.promotion.gate import DecisionContext
from training.promotion_context import incumbent_in, past_decisions, promotion_context


class Decision(Frozen):
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


Decided = TypeVar("Decided", bound=Decision)


class Params(Decision):
    """Which version of a risk model to decide about, with what its policy compares."""

    task: RuntimeInput[TaskName]
    oracle: RuntimeInput[str | None] = None
    """File of true probabilities, on synthetic data: the evidence must compare with them."""
    predictions: RuntimeInput[ComparedWith[TableRef | None]] = None
    """The prediction log, and with ``labels`` what its answers came to: where the policy asks for a silent period."""
    labels: RuntimeInput[ComparedWith[TableRef | None]] = None


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


def repromotion_params(
    settings: Settings, dataset: str, task: TaskName, version: int, actor: str, moved_at: datetime
) -> Params:
    """What to call this stage with when a person asks for production: the version's evidence, and today's context.

    Raises:
        NotFoundError: no decision about this version was ever made, so there is no evidence to go by.
    """
    model = registry.model_name(dataset, task), version
    decided = newest_decision(settings, "promotion", Params, model, actor, moved_at)
    return decided.model_copy(update=shadow_inputs(settings, dataset, task))


def newest_decision(
    settings: Settings,
    stage: str,
    kind: type[Decided],
    model: tuple[str, int],
    actor: str,
    moved_at: datetime,
) -> Decided:
    """The parameters of the newest decision about a model's version, with production asked for and today's context.

    Raises:
        NotFoundError: no decision about this version was ever made, so there is no evidence to go by.
    """
    decisions = (kind.model_validate(call.params) for call in manifest.of_stage(settings, stage))
    mine = [params for params in decisions if (params.model.name, params.model.version) == model]
    if not mine:
        raise NotFoundError(
            f"{model[0]} v{model[1]} was never evaluated for promotion; run the loop; `mediscale runs` lists what ran."
        )
    context = promotion_context(settings, mine[-1].dataset, mine[-1].model)
    changed = {"actor": actor, "moved_at": moved_at, "target_alias": "production"}
    return mine[-1].model_copy(update=dict(context) | changed)


def shadow_inputs(settings: Settings, dataset: str, task: TaskName) -> dict[str, TableRef | None]:
    """Where a silent period is judged from, as it is now: nothing where the policy does not ask for one."""
    labelled = manifest.newest_night(settings, "labels", dataset, task)
    has_silent_period = tasks.load(task).policy.silent_period is not None
    if not has_silent_period or labelled is None or not lake.exists(settings, dataset, PREDICTIONS.name):
        return {}
    return {
        "predictions": lake.latest(settings, dataset, PREDICTIONS.name),
        "labels": TableRef.model_validate(labelled.result["labels"]),
    }


def prior_evaluations(settings: Settings, dataset: str, task: TaskName, model: ModelRef) -> int:
    """How many other versions were evaluated on these held-out patients before this one was, by the recorded calls."""
    evaluations = [
        m
        for m in manifest.of_stage(settings, "evaluate")
        if (m.params["dataset"], m.params["task"]) == (dataset, task)
    ]
    versions = [int(m.params["model"]["version"]) for m in evaluations]
    first = versions.index(model.version) if model.version in versions else len(versions)
    return len(set(versions[:first]))


def run(params: Params, settings: Settings, key: str) -> Result:
    """Decides about one version and moves the aliases that it has earned.

    Raises:
        BusyError: another promotion was recorded first; nothing was moved.
    """
    problem, evidence = _incomplete(params, settings)
    if evidence is None:
        registry.repair(settings, params.dataset)
        return result_of(params, f"Not staged: {problem}", reached=0)
    policy = tasks.load(params.task).policy
    silent = _silent(params, settings, evidence)
    problems = _objections(params, evidence, silent)
    reasons, reason = earned_aliases(
        params.target_alias,
        staging.evidence_summary(evidence, policy),
        problems,
        lambda: gate.promoted(evidence, policy),
    )
    return conclude(params, params.task, settings, key, reasons, reason, silent)


def production_problems(params: Params, settings: Settings) -> list[str]:
    """Why the version may not answer patients, each as a part of a sentence; none where production is deserved."""
    problem, evidence = _incomplete(params, settings)
    return (
        [problem] if evidence is None else _objections(params, evidence, _silent(params, settings, evidence))
    )


def _objections(params: Params, evidence: Evidence, silent: SilentPeriod | None) -> list[str]:
    context = DecisionContext(params.incumbent, silent, params.oracle is not None)
    return list(gate.objections(evidence, tasks.load(params.task).policy, context))


def earned_aliases(
    target: Alias, looked_at: str, problems: list[str], earned: Callable[[], str]
) -> tuple[dict[Alias, str], str]:
    """The aliases that complete evidence has earned, each with its reason; and the reason of the last one that was
    reached or refused.

    ``looked_at`` says what the evidence is about, ``problems`` which floors it misses, ``earned`` why it may serve.
    """
    staged = f"Staged, which approves of nothing: {looked_at}."
    if target == "staging":
        allowed = f"would be refused: {gate.sentence(problems)}" if problems else "would be allowed"
        staged = f"{staged} Production was not asked for, and {allowed}."
    elif problems:
        staged = f"{staged} Production refused: {gate.sentence(problems)}."
    else:
        reason = earned()
        return {"staging": staged, "production": reason}, reason
    return {"staging": staged}, staged  # so that the history, too, says what stood against production


def _silent(params: Params, settings: Settings, evidence: Evidence) -> SilentPeriod | None:
    """The version's silent period; None where the policy asks for none, or there is no log or there are no labels."""
    if tasks.load(params.task).policy.silent_period is None or not (params.predictions and params.labels):
        return None
    return silent_period.measure(
        settings,
        params.predictions,
        params.labels,
        evidence.training_set,
        params.model,
        params.task,
        params.moved_at,
    )


def result_of(
    params: Decision,
    reason: str,
    reached: int,
    silent: SilentPeriod | None = None,
    *,
    proposed: bool = False,
) -> Result:
    """The stage's result; ``reached`` is how many of staging and production the version has earned, in that order."""
    return Result(
        staged=reached > 0,
        promoted=reached > 1,
        proposed=proposed,
        reason=reason,
        model=params.model,
        evidence=params.evidence,
        evidence_digest=params.evidence_digest,
        silent_period=silent,
    )


def _with_approval(reasons: dict[Alias, str], decided_by: str) -> tuple[str, bool]:
    """The last reason, and whether production still awaits a person's approval; it is no earned alias then."""
    earned = reasons.pop("production")
    if not decided_by:
        return f"Proposed, and waits for another person's approval. {earned}", True
    reasons["production"] = f"{earned} {decided_by}"
    return reasons["production"], False


def _decided_by(params: Decision, settings: Settings) -> str:
    """A sentence on who let the version pass beside the gate; empty while an approval is required and missing."""
    recorded, model = history.entries(settings, params.dataset), params.model
    keys = signing.accepted_keys(settings)
    if not approvals.is_required(recorded, keys):
        return "The gate alone decided."
    who = approvals.approver(recorded, model.name, model.version, model.digest, keys)
    return f"{who} approved of it." if who else ""


def _proposal(params: Decision, task: str, reason: str) -> Proposal:
    return Proposal(
        model=params.model.name,
        task=task,
        version=params.model.version,
        evidence_digest=params.evidence_digest,
        model_digest=params.model.digest,
        reason=reason,
    )


def _incomplete(params: Params, settings: Settings) -> tuple[str, Evidence | None]:
    """Why the version may not even be staged, or its evidence."""
    try:
        model_files.read_verified(settings, params.model)
        evidence = read(settings, params.evidence, params.evidence_digest)
    except MediscaleError as error:
        return str(error), None
    if (evidence.model, evidence.dataset, evidence.task) != (params.model, params.dataset, params.task):
        return (
            f"the evidence is of {evidence.model}, not of these files of {params.model}; evaluate it.",
            None,
        )
    if lacks := list(staging.lacking(evidence, tasks.load(params.task).policy)):
        return f"the evidence is not complete: {gate.sentence(lacks)}.", None
    compared = evidence.comparison.incumbent if evidence.comparison else None
    if problem := outdated(params, settings, compared):
        return problem, None
    return "", evidence


def outdated(params: Decision, settings: Settings, compared: ModelRef | None) -> str:
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


def conclude(
    params: Decision,
    task: str,
    settings: Settings,
    key: str,
    reasons: dict[Alias, str],
    reason: str,
    silent: SilentPeriod | None = None,
) -> Result:
    """Signs a version and the records behind it; moves the aliases that it has earned, or proposes it to a person."""
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
    return result_of(params, reason, len(reasons), silent, proposed=awaited)


def _moves(
    params: Decision, task: str, settings: Settings, key: str, reasons: dict[Alias, str]
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


def _shadow_inputs_of(settings: Settings, key: str) -> dict[str, Any]:
    """The log and the labels from which a past call judged a silent period."""
    past = manifest.find(settings, "promotion", key)
    names = ("predictions", "labels")
    return {name: past.params[name] for name in names if past.params.get(name)} if past else {}


def runtime_inputs(params: Mapping[str, Any], settings: Settings) -> Iterator[Context]:
    """What ``decision_inputs`` gives, and what shadow predictions came to."""
    if {"dataset", "task", "model"} <= params.keys():
        for context in decision_inputs(params, settings):
            key = context.key
            shadow = (
                _shadow_inputs_of(settings, key)
                if key
                else shadow_inputs(settings, params["dataset"], params["task"])
            )
            yield Context(context.params | shadow, key)


def decision_inputs(params: Mapping[str, Any], settings: Settings) -> Iterator[Context]:
    """The incumbent, the next number of the history, the actor and the clock: as they were when this very call moved an
    alias, so that it is found and never done twice; else as they are."""
    if {"dataset", "model"} <= params.keys():
        about = params["dataset"], ModelRef.model_validate(params["model"])
        for past in past_decisions(settings, *about):
            yield Context({**dict(past.context), "actor": past.actor, "moved_at": past.moved_at}, past.key)
        today = dict(promotion_context(settings, *about))
        yield Context({**today, "actor": params.get("actor") or signing.actor(settings), "moved_at": now()})


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="decide",
    summary=lambda r: str(r.reason),
    runtime_inputs=runtime_inputs,
)
