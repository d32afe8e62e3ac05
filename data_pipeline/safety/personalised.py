"""Personalised requests: a diagnosis, a treatment or a dose for one person, which only a clinician may give.

General information on the same matter may follow; the sentence that says so comes first.
"""

from functools import cache

from data_pipeline.clinical_text.phrases import PhraseMatch, Phrases
from data_pipeline.drugs.mentions import packaged
from data_pipeline.safety.layer import CheckedText, rules, without_repetition
from data_pipeline.safety.report import LayerFinding

NAME = "personalised"
FIRST = (
    "I can't diagnose, or say which treatment or dose is right for one person; a clinician who knows the whole history "
    "can. What follows is general information."
)


def check(checked: CheckedText) -> LayerFinding:
    """Requests that ask for a decision on one person."""
    if _persons().isdisjoint(checked.text.vocabulary):
        return LayerFinding(layer=NAME)
    matches = [match for match in phrases().find(checked.text) if not _is_general(checked, match)]
    if not matches:
        return LayerFinding(layer=NAME)
    findings = without_repetition(
        checked.finding(
            f"This asks for a {match.label} for one person.", match.first, match.last, "moderate", match.label
        )
        for match in matches
    )
    return LayerFinding(layer=NAME, findings=findings, message=FIRST, first=FIRST)


def _is_general(checked: CheckedText, match: PhraseMatch) -> bool:
    return any(g.first <= match.first < g.last for g in _general().find(checked.text))


@cache
def _persons() -> frozenset[str]:
    """Words of which a personalised request has one."""
    return frozenset(rules(NAME)["persons"].split())


@cache
def _general() -> Phrases:
    return Phrases({"general": rules(NAME)["general"]})


@cache
def phrases() -> Phrases:
    """The phrases of requests, by what they ask for."""
    file = rules(NAME)
    return Phrases(file["phrases"], file["lists"] | {"drugs": "|".join(sorted(packaged().words))})
