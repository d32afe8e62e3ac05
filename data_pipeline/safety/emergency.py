"""Emergencies: signs that somebody needs help now. They come before everything else.

A sign counts where the text says it of somebody and of now: not where it is denied, long past, or the subject of a
question about the disease in general.
"""

from functools import cache

from data_pipeline.clinical_text.phrases import PhraseMatch, Phrases
from data_pipeline.drugs.mentions import packaged
from data_pipeline.safety.frames import Frames
from data_pipeline.safety.layer import CheckedText, rules, without_repetition
from data_pipeline.safety.report import Finding, LayerFinding

NAME = "emergency"
CALL = (
    "This may be an emergency. Call your emergency number now (911 in the United States, 112 in Europe, 999 in the "
    "United Kingdom); in a hospital, call its emergency team. Do not wait for an answer here."
)


def check(checked: CheckedText) -> LayerFinding:
    """Signs of emergencies that are present now; the first decides what is said before any answer."""
    frames = Frames(checked)
    named = phrases().find(checked.text)
    signs = [match for match in named if frames.is_happening(match)]
    if not named and NAME in checked.flags and frames.may_be_happening():
        signs = [PhraseMatch("an unusual wording", 0, len(checked.text.words))]
    if not signs:
        return LayerFinding(layer=NAME)
    first = min(signs, key=lambda match: _ORDER.index(_instead(match.label)))
    say = rules(NAME)["instead"].get(_instead(first.label), CALL)
    findings = without_repetition(_finding(checked, match) for match in signs)
    return LayerFinding(layer=NAME, findings=findings, message=say, first=say)


def _finding(checked: CheckedText, match: PhraseMatch) -> Finding:
    message = f"There are signs of an emergency: {match.label}."
    return checked.finding(message, match.first, match.last, "emergency", match.label)


_ORDER = ("suicide", "", "poisoning")
"""What is said first where several signs are present."""


def _instead(label: str) -> str:
    return next((str(sign.get("instead", "")) for sign in rules(NAME)["signs"] if sign["name"] == label), "")


@cache
def phrases() -> Phrases:
    """The signs by name."""
    file = rules(NAME)
    lists = file["lists"] | {"drugs": "|".join(sorted(packaged().words))}
    return Phrases({sign["name"]: sign["any"] for sign in file["signs"]}, lists)
