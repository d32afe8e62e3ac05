"""Harmful requests: violence, self-harm, diversion of drugs, deception, breach of privacy, discrimination, neglect.

Phrases name intents. What a phrase misses, a linear model of words may find (``harm_model``).
"""

from functools import cache

from data_pipeline.clinical_text.phrases import PhraseMatch, Phrases
from data_pipeline.clinical_text.text import END
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
    if not matches and _is_flagged(checked) and not _asks_for_dose(checked):
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


def _asks_for_dose(checked: CheckedText) -> bool:
    """Whether the request has nothing but the words of a question for a dose, and a drug. The models take some of those
    on a child and a sedative for harm."""
    drugs = {word for each in checked.drugs for word in checked.text.words[each.first : each.last]}
    others = {word for word in checked.text.words if word != END and not word[0].isdigit()} - drugs
    return bool(drugs) and others <= _words_of_dose_questions() and not others.isdisjoint(_DOSE)


_DOSE = frozenset({"dose", "doses", "dosage", "dosing", "much", "many"})


@cache
def _words_of_dose_questions() -> frozenset[str]:
    return frozenset(rules(NAME)["dose_question"].split())


@cache
def _protective() -> Phrases:
    return Phrases({"protective": rules(NAME)["protective"]})


@cache
def phrases() -> Phrases:
    """The phrases of harmful intents, by kind."""
    file = rules(NAME)
    return Phrases(file["phrases"], file["lists"] | {"drugs": "|".join(sorted(packaged().words))})
