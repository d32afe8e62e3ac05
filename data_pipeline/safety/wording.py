"""Non-diagnostic wording: an answer says what is so in general, and gives one person no diagnosis, order or promise."""

from functools import cache

from data_pipeline.clinical_text.phrases import PhraseMatch, Phrases
from data_pipeline.drugs.mentions import packaged
from data_pipeline.safety.layer import CheckedText, rules, without_repetition
from data_pipeline.safety.report import LayerFinding

NAME = "wording"


def check(checked: CheckedText) -> LayerFinding:
    """Sentences that speak to one person as a clinician would; the answer must be worded anew."""
    conditions = _conditional().find(checked.text)
    matches = [
        match for match in phrases().find(checked.text) if not _speaks_to_nobody(checked, match, conditions)
    ]
    if not matches:
        return LayerFinding(layer=NAME)
    findings = without_repetition(
        checked.finding(
            f"The answer words a {match.label} to one person.", match.first, match.last, "high", match.label
        )
        for match in matches
    )
    message = "The answer must say what is so in general, and leave the decision to a clinician."
    return LayerFinding(layer=NAME, findings=findings, message=message, blocks=True)


def _speaks_to_nobody(checked: CheckedText, match: PhraseMatch, conditions: list[PhraseMatch]) -> bool:
    start, _ = checked.text.sentence(match.first)
    if match.label == "command" and match.first > start:
        return True
    return any(start <= condition.first < match.first for condition in conditions)


@cache
def _conditional() -> Phrases:
    return Phrases({"conditional": rules(NAME)["conditional"]})


@cache
def phrases() -> Phrases:
    """The phrases, by what they say."""
    return Phrases(rules(NAME)["phrases"], {"drugs": "|".join(sorted(packaged().words))})
