"""Stage: a language model to staging when its evidence is complete, to production when it passes the policy too.

The move is an entry of the same history as a risk model's, and MLflow's aliases follow it.
"""

from datetime import datetime

from mediscale.core.errors import MediscaleError
from mediscale.core.settings import Settings
from mediscale.core.stage import Stage
from mediscale.inference import model_files
from mediscale.inference.language_spec import TASK
from mediscale.storage import registry
from training import evidence_files
from training.language import language_gate
from training.language.language_evidence import LanguageEvidence
from training.promotion import gate, promotion


class Params(promotion.Decision):
    """Which version to decide about, and by whom and when it is moved."""


def repromotion_params(
    settings: Settings, dataset: str, version: int, actor: str, moved_at: datetime
) -> Params:
    """What to call this stage with when a person asks for production.

    Raises:
        NotFoundError: no decision about this version was ever made, so there is no evidence to go by.
    """
    model = registry.model_name(dataset, TASK), version
    return promotion.newest_decision(settings, "promote_language", Params, model, actor, moved_at)


def run(params: Params, settings: Settings, key: str) -> promotion.Result:
    """Decides about one version and moves the aliases that it has earned.

    Raises:
        BusyError: another promotion was recorded first; nothing was moved.
    """
    policy = language_gate.policy()
    problem, evidence = _incomplete(params, settings, policy)
    if evidence is None:
        registry.repair(settings, params.dataset)
        return promotion.result_of(params, f"Not staged: {problem}", reached=0)
    looked_at = language_gate.evidence_summary(evidence, policy)
    reasons, reason = promotion.earned_aliases(
        params.target_alias,
        looked_at,
        list(language_gate.objections(evidence, policy)),
        lambda: f"Promoted: {looked_at}, and the policy's every floor was passed.",
    )
    return promotion.conclude(params, TASK, settings, key, reasons, reason)


def production_problems(params: Params, settings: Settings) -> list[str]:
    """Why the version may not answer questions, each as a part of a sentence; none where production is deserved."""
    policy = language_gate.policy()
    problem, evidence = _incomplete(params, settings, policy)
    return [problem] if evidence is None else list(language_gate.objections(evidence, policy))


def _incomplete(
    params: Params, settings: Settings, policy: language_gate.LanguagePolicy
) -> tuple[str, LanguageEvidence | None]:
    """Why the version may not even be staged, or its evidence."""
    try:
        model_files.read_verified(settings, params.model)
        evidence = evidence_files.read_evidence(
            LanguageEvidence, settings, params.evidence, params.evidence_digest
        )
    except MediscaleError as error:
        return str(error), None
    if (evidence.model, evidence.dataset) != (params.model, params.dataset):
        return (
            f"the evidence is of {evidence.model}, not of these files of {params.model}; evaluate it.",
            None,
        )
    if lacks := list(language_gate.lacking(evidence, policy)):
        return f"the evidence is not complete: {gate.sentence(lacks)}.", None
    if problem := promotion.outdated(params, settings, evidence.incumbent):
        return problem, None
    return "", evidence


STAGE = Stage(
    Params,
    promotion.Result,
    run,
    display_name="decide about the language model",
    summary=lambda r: str(r.reason),
    runtime_inputs=promotion.decision_inputs,
)
