"""Harmful requests: violence, self-harm, diversion of drugs, deception, breach of privacy, discrimination, neglect.

Phrases name intents. What a phrase misses, a linear model of words may find (``harm_model``).
"""

from functools import cache

from data_pipeline.clinical_text.phrases import PhraseMatch, Phrases
from data_pipeline.drugs.mentions import packaged
from data_pipeline.safety import harm_model
from data_pipeline.safety.layer import CheckedText, rules, without_repetition
from data_pipeline.safety.report import LayerFinding

NAME = "harmful"
REFUSAL = "I can't help with this, because somebody could be harmed by it."
REFUSAL_SELF_HARM = (
    "I can't help with this. If you may hurt yourself, call or text 988 (United States), 116 123 (United Kingdom) "
    "or your emergency number now. You are not alone with this, and help is there at this moment."
)


def check(checked: CheckedText) -> LayerFinding:
    """Intents to harm, by phrase; the request is refused."""
    protective = _protective().find(checked.text)
    matches = [
        match
        for match in phrases().find(checked.text)
        if not any(
            checked.text.sentence(match.first)[0] <= p.first <= match.first and match.first - p.last < 6
            for p in protective
        )
    ]
    if not matches and _is_flagged(checked):
        matches = [PhraseMatch("harm", 0, len(checked.text.words))]
    if not matches:
        return LayerFinding(layer=NAME)
    findings = without_repetition(
        checked.finding(f"The request aims at {match.label}.", match.first, match.last, "high", match.label)
        for match in matches
    )
    refusal = REFUSAL_SELF_HARM if any(match.label == "self harm" for match in matches) else REFUSAL
    return LayerFinding(layer=NAME, findings=findings, message=refusal, blocks=True, first=refusal)


def _is_flagged(checked: CheckedText) -> bool:
    """Whether words and meaning together speak of harm, or the words where no embedding was computed."""
    if checked.embedding is None:
        return harm_model.load().is_harmful(checked.text)
    return NAME in checked.flags


@cache
def _protective() -> Phrases:
    return Phrases({"protective": rules(NAME)["protective"]})


@cache
def phrases() -> Phrases:
    """The phrases of harmful intents, by kind."""
    file = rules(NAME)
    return Phrases(file["phrases"], file["lists"] | {"drugs": "|".join(sorted(packaged().words))})
