"""Stage: a language model to staging when its evidence is complete, to production when it passes the policy too."""

from datetime import datetime

from mediscale.core.settings import Settings
from mediscale.core.stage import Stage
from mediscale.core.task_names import LANGUAGE
from mediscale.storage import registry
from training.language import language_gate
from training.language.language_evidence import LanguageEvidence
from training.promotion import decision
from training.promotion.decision import DecisionParams, Judgement, Result


class Params(DecisionParams):
    """Which version to decide about, and by whom and when it is moved."""


def repromotion_params(
    settings: Settings, dataset: str, task: str, version: int, actor: str, moved_at: datetime
) -> Params:
    """What to call this stage with when a person asks for production.

    Raises:
        NotFoundError: no decision about this version was ever made, so there is no evidence to go by.
    """
    model = registry.model_name(dataset, task), version
    return decision.newest_decision(settings, "promote_language", Params, model, actor, moved_at)


def run(params: Params, settings: Settings, key: str) -> Result:
    """Decides about one version and moves the aliases that it has earned.

    Raises:
        BusyError: another promotion was recorded first; nothing was moved.
    """
    return decision.decide(params, LANGUAGE, settings, key, judge)


def judge(params: Params, settings: Settings) -> Judgement:
    """What the policy of language models makes of the version's evidence.

    Raises:
        IncompleteError: it may not even be staged.
    """
    policy = language_gate.policy()
    evidence = decision.evidence_of(params, LanguageEvidence, settings)
    decision.check_complete(params, settings, language_gate.lacking(evidence, policy), evidence.incumbent)
    looked_at = language_gate.evidence_summary(evidence, policy)
    return Judgement(
        problems=list(language_gate.objections(evidence, policy)),
        summary=looked_at,
        promoted=f"Promoted: {looked_at}, and the policy's every floor was passed.",
    )


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="decide about the language model",
    summary=lambda r: str(r.reason),
    runtime_inputs=decision.decision_inputs,
)
