"""Identifiers of people in prompts and answers, by the rules that de-identify notes."""

from functools import cache

from data_pipeline.clinical_text import name_lexicon
from data_pipeline.notes.deidentification.indexed_text import IndexedText
from data_pipeline.notes.deidentification.name_detection import NameDetector
from data_pipeline.notes.deidentification.phi_patterns import PhiSpan, find_patterns
from data_pipeline.safety.layer import CheckedText
from data_pipeline.safety.report import Finding, LayerFinding

NAME = "identifier"
NAMES = "name"
_PUBLIC = frozenset({"url"})
"""What sources cite."""
_KINDS = {
    "record": "record number",
    "phone": "telephone number",
    "age": "age over 89",
    "email": "e-mail address",
}
_ADVICE = "Leave out what identifies a person; it is not needed for an answer."


def check(checked: CheckedText) -> LayerFinding:
    """Dates, numbers and addresses by which somebody may be recognised."""
    return _layer(NAME, checked, find_patterns(IndexedText(checked.text.folded.text)))


def check_names(checked: CheckedText) -> LayerFinding:
    """Names of people."""
    return _layer(NAMES, checked, _detector().find([IndexedText(checked.text.folded.text)], [[]])[0])


def _layer(name: str, checked: CheckedText, spans: list[PhiSpan]) -> LayerFinding:
    findings = tuple(_finding(checked, span) for span in spans if span.kind not in _PUBLIC)
    return LayerFinding(layer=name, findings=findings, message=_ADVICE if findings else "")


def _finding(checked: CheckedText, span: PhiSpan) -> Finding:
    start, end = checked.text.original_span(span.start, span.end)
    kind = _KINDS.get(span.kind, span.kind)
    return Finding(
        message=f"The text has what may identify a person: {kind}.",
        start=start,
        end=end,
        risk="low" if span.kind == "name" else "moderate",
        code=span.kind,
    )


@cache
def _detector() -> NameDetector:
    return NameDetector(name_lexicon.load())
