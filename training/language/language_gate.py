"""The gate of language models: evidence that is missing or not estimable keeps a version from production."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from mediscale.core.refs import Frozen
from training.language.language_evidence import LanguageEvidence, PairedFigure
from training.statistics.estimate import Estimate

POLICY_FILE = Path(__file__).with_name("policy.yaml")


class Gain(Frozen):
    """What must have become better."""

    metric: str
    low: float
    """The 95 % interval of the gain lies above it."""


class LanguagePolicy(Frozen):
    """What a language model has to show; ``policy.yaml`` says why."""

    min_questions: int
    min_general_questions: int
    gain: Gain
    staging_needs: tuple[str, ...]
    """Figures without which a version is not even staged."""
    no_loss: dict[str, float]
    grounding_low: float
    """The interval of the gain in supported sentences by retrieval lies above it."""
    forms: tuple[str, ...]
    """Forms of the version (as of ``mediscale export``) that answer as it does."""
    incumbent_low: float


@cache
def policy() -> LanguagePolicy:
    """The policy of every language model."""
    import yaml

    return LanguagePolicy.model_validate(yaml.safe_load(POLICY_FILE.read_text()))


def lacking(evidence: LanguageEvidence, policy: LanguagePolicy) -> Iterator[str]:
    """What incomplete evidence lacks altogether; a version with it is not even staged."""
    for name in policy.staging_needs:
        if _figure(evidence, name) is None:
            yield f"{_words(name)} was not measured"
    compared = {receipt.format for receipt in evidence.receipts if receipt.state != "not compared"}
    for form in policy.forms:
        if form not in compared:
            yield f"its form {form} was not compared with it"


def objections(evidence: LanguageEvidence, policy: LanguagePolicy) -> Iterator[str]:
    """Everything that the policy asks and the evidence does not show."""
    metric = policy.gain.metric
    yield from _size(evidence, metric, policy.min_questions)
    yield from _above(evidence, metric, policy.gain.low)
    for name, low in policy.no_loss.items():
        least = policy.min_general_questions if name == "general_accuracy" else policy.min_questions
        yield from _size(evidence, name, least)
        yield from _above(evidence, name, low)
    yield from _grounded(evidence, policy)
    for receipt in evidence.receipts:
        if receipt.format in policy.forms and receipt.problems:
            yield f"its form {receipt.format} is blocked: {'; '.join(receipt.problems)}"
    if evidence.incumbent is not None:
        version = f"v{evidence.incumbent.version} in production"
        yield from _interval(
            f"gain in {_words(metric)} over {version}",
            evidence.over_incumbent.get(metric),
            policy.incumbent_low,
        )


def evidence_summary(evidence: LanguageEvidence, policy: LanguagePolicy) -> str:
    """What complete evidence is about, as a sentence goes on after a colon."""
    gains = [f"{_words(name)} {figure.gain.text(sign='+')}" for name in (policy.gain.metric, *policy.no_loss)
            if (figure := _figure(evidence, name))]  # fmt: skip
    looked = f"gains over the base in {', '.join(gains)} were looked at on {evidence.n_questions} held-out questions"
    return f"{looked}; {own_words}" if (own_words := _own_words(evidence)) else looked


def _own_words(evidence: LanguageEvidence) -> str:
    """How many answers in its own words were right, which a gain in likelihood does not say."""
    figure = _figure(evidence, "exact_match")
    if figure is None or figure.tuned.value is None or figure.base.value is None:
        return ""
    right, right_of_base = round(figure.tuned.value * figure.n), round(figure.base.value * figure.n)
    written = f"written in its own words, {right} of {figure.n} answers were the reference's"
    return f"{written}, and {right_of_base} of its base's"


def _figure(evidence: LanguageEvidence, name: str) -> PairedFigure | None:
    measures = evidence.measures
    return measures.general if name == "general_accuracy" else measures.figures.get(name)


def _grounded(evidence: LanguageEvidence, policy: LanguagePolicy) -> Iterator[str]:
    grounding = evidence.measures.grounding
    n = grounding.families if grounding else 0
    if n < policy.min_questions:
        yield (
            f"the support of its answers by passages was measured on {n} families of questions where the policy needs "
            f"{policy.min_questions}"
        )
    gain = grounding.gain if grounding else None
    yield from _interval("gain in supported sentences by retrieval", gain, policy.grounding_low)


def _size(evidence: LanguageEvidence, name: str, least: int) -> Iterator[str]:
    figure = _figure(evidence, name)
    n = figure.families if figure else 0
    if n < least:
        yield f"{_words(name)} was measured on {n} families of questions where the policy needs {least}"


def _above(evidence: LanguageEvidence, name: str, low: float) -> Iterator[str]:
    figure = _figure(evidence, name)
    yield from _interval(f"gain in {_words(name)}", figure.gain if figure else None, low)


def _interval(what: str, estimate: Estimate | None, low: float) -> Iterator[str]:
    if estimate is None or estimate.interval is None:
        yield f"{what} is not estimable"
    elif not estimate.interval[1] > low:
        yield f"{what} {estimate.text(sign='+')} may lie below {low:g}"


def _words(name: str) -> str:
    return name.replace("_", " ")
