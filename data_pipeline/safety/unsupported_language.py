"""Questions in another language than English: none of the other layers can read them, and that is said first."""

from data_pipeline.clinical_text.languages import ENGLISH
from data_pipeline.safety.layer import CheckedText
from data_pipeline.safety.report import Finding, LayerFinding

NAME = "unsupported_language"
FIRST = (
    "Only questions in English are understood here, and no safety check could read this one. If somebody may be in "
    "danger, call the emergency number now."
)


def check(checked: CheckedText) -> LayerFinding:
    """The language of a question, where it is not English."""
    if checked.language == ENGLISH:
        return LayerFinding(layer=NAME)
    message = f"The question seems to be in {checked.language}, which no safety check can read."
    finding = Finding(
        message=message,
        start=0,
        end=len(checked.text.original),
        risk="moderate",
        code=checked.language.lower(),
    )
    return LayerFinding(layer=NAME, findings=(finding,), message=message, first=FIRST)
