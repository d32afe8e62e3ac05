"""Stage: a risk model to staging when its evidence is complete, to production when it passes its task's policy too."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from mediscale.core import tasks
from mediscale.core.annotations import ComparedWith, RuntimeInput
from mediscale.core.refs import ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import Context, Stage
from mediscale.core.tables import PREDICTIONS
from mediscale.core.tasks import TaskName
from mediscale.storage import calls as manifest
from mediscale.storage import lake, registry
from training.evaluation.evaluation_report import Evidence, SilentPeriod
from training.promotion import decision, gate, silent_period, staging
from training.promotion.decision import DecisionParams, Judgement, Result
from training.promotion.gate import DecisionContext


class Params(DecisionParams):
    """Which version of a risk model to decide about, with what its policy compares."""

    task: RuntimeInput[TaskName]
    oracle: RuntimeInput[str | None] = None
    """File of true probabilities, on synthetic data: the evidence must compare with them."""
    predictions: RuntimeInput[ComparedWith[TableRef | None]] = None
    """The prediction log, and with ``labels`` what its answers came to: where the policy asks for a silent period."""
    labels: RuntimeInput[ComparedWith[TableRef | None]] = None


def repromotion_params(
    settings: Settings, dataset: str, task: TaskName, version: int, actor: str, moved_at: datetime
) -> Params:
    """What to call this stage with when a person asks for production: the version's evidence, and today's context.

    Raises:
        NotFoundError: no decision about this version was ever made, so there is no evidence to go by.
    """
    model = registry.model_name(dataset, task), version
    newest = decision.newest_decision(settings, "promotion", Params, model, actor, moved_at)
    return newest.model_copy(update=shadow_inputs(settings, dataset, task))


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
    return decision.decide(params, params.task, settings, key, judge)


def judge(params: Params, settings: Settings) -> Judgement:
    """What the task's policy makes of the version's evidence.

    Raises:
        IncompleteError: it may not even be staged.
    """
    policy = tasks.load(params.task).policy
    evidence = decision.evidence_of(params, Evidence, settings)
    compared = evidence.comparison.incumbent if evidence.comparison else None
    decision.check_complete(params, settings, staging.lacking(evidence, policy), compared)
    silent = _silent(params, settings, evidence)
    context = DecisionContext(params.incumbent, silent, params.oracle is not None)
    return Judgement(
        problems=list(gate.objections(evidence, policy, context)),
        summary=staging.evidence_summary(evidence, policy),
        promoted=gate.promoted(evidence, policy),
        silent_period=silent,
    )


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


def _shadow_inputs_of(settings: Settings, key: str) -> dict[str, Any]:
    """The log and the labels from which a past call judged a silent period."""
    past = manifest.find(settings, "promotion", key)
    names = ("predictions", "labels")
    return {name: past.params[name] for name in names if past.params.get(name)} if past else {}


def runtime_inputs(params: Mapping[str, Any], settings: Settings) -> Iterator[Context]:
    """What ``decision_inputs`` gives, and what shadow predictions came to."""
    if {"dataset", "task", "model"} <= params.keys():
        for context in decision.decision_inputs(params, settings):
            key = context.key
            shadow = (
                _shadow_inputs_of(settings, key)
                if key
                else shadow_inputs(settings, params["dataset"], params["task"])
            )
            yield Context(context.params | shadow, key)


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="decide about promotion",
    summary=lambda r: str(r.reason),
    runtime_inputs=runtime_inputs,
)
