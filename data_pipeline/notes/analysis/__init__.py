"""Analysis of clinical notes: typed fields with the spans that support them, by rules."""

from data_pipeline.clinical_text.context import Context
from data_pipeline.clinical_text.text import read
from data_pipeline.notes.analysis import findings, medications, sections, statements, urgency, vitals
from data_pipeline.notes.analysis.fields import NoteAnalysis

__all__ = ["RULES_VERSION", "NoteAnalysis", "analyze"]

RULES_VERSION = 8
"""Rises when the rules change what is read from a note."""


def analyze(text: str) -> NoteAnalysis:
    """The fields of one note; a field of which the note says nothing is empty."""
    clinical = read(text)
    context = Context(clinical)
    parts = sections.find(clinical.folded.text)
    symptoms, conditions = findings.find(clinical, context, parts)
    drugs = medications.find(clinical, context, parts)
    signs = vitals.find(clinical)
    level, factors = urgency.urgency(clinical, context, parts, signs)
    return NoteAnalysis(
        summary=tuple(statements.summary(clinical, parts, [*symptoms, *conditions])),
        symptoms=tuple(symptoms),
        conditions=tuple(conditions),
        medications=tuple(drugs),
        vitals=tuple(signs),
        recommendations=tuple(statements.recommendations(clinical, parts)),
        urgency=level,
        urgency_factors=tuple(factors),
        risk=urgency.risk(clinical, conditions, drugs, factors if level == "emergency" else []),
    )
