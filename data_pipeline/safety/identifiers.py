"""Identifiers of people in prompts and answers, by the rules that de-identify notes."""

from functools import cache

from data_pipeline.notes.deidentification import name_lexicon
from data_pipeline.notes.deidentification.name_detection import NameDetector
from data_pipeline.notes.deidentification.phi_patterns import PhiSpan, find_patterns
from data_pipeline.safety.layer import Checked
from data_pipeline.safety.report import Finding, LayerFinding

NAME = "identifier"
_PUBLIC = frozenset({"url"})
"""What sources cite."""
_KINDS = {
    "record": "record number",
    "phone": "telephone number",
    "age": "age over 89",
    "email": "e-mail address",
}


def check(checked: Checked) -> LayerFinding:
    """Names, dates, numbers and addresses by which somebody may be recognised."""
    spans = [span for span in _spans(checked.text.folded.text) if span.kind not in _PUBLIC]
    findings = tuple(_finding(checked, span) for span in spans)
    message = "Leave out what identifies a person; it is not needed for an answer." if findings else ""
    return LayerFinding(layer=NAME, findings=findings, message=message)


def _spans(text: str) -> list[PhiSpan]:
    patterns = find_patterns(text)
    return _names().find([text], [patterns])[0]


def _finding(checked: Checked, span: PhiSpan) -> Finding:
    start, end = checked.text.original_span(span.start, span.end)
    kind = _KINDS.get(span.kind, span.kind)
    return Finding(
        message=f"The text has what may identify a person: {kind}.",
        start=start,
        end=end,
        risk="moderate",
        code=span.kind,
    )


@cache
def _names() -> NameDetector:
    return NameDetector(name_lexicon.load())
