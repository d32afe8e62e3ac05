"""Analysis of clinical notes: typed fields with the spans that support them, by rules."""

from data_pipeline.clinical_text.context import Context
from data_pipeline.clinical_text.languages import ENGLISH, language
from data_pipeline.clinical_text.spelling import american
from data_pipeline.clinical_text.text import read
from data_pipeline.notes.analysis import findings, medications, sections, statements, urgency, vitals
from data_pipeline.notes.analysis.fields import NoteAnalysis
from mediscale.core.errors import InputError

__all__ = ["RULES_VERSION", "NoteAnalysis", "analyze"]

RULES_VERSION = 13
"""Rises when the rules change what is read from a note."""


def analyze(text: str) -> NoteAnalysis:
    """The fields of one note; a field of which the note says nothing is empty.

    Raises:
        InputError: the note is in another language than English, of which the rules would find nothing: no urgency of
            it could be told from a routine one.
    """
    written_in = language(text)
    if written_in != ENGLISH:
        raise InputError(
            f"The note seems to be in {written_in}; notes are analysed by rules for English alone, so nothing is said "
            "of this one, nor how urgent it is."
        )
    clinical = read(text, american)
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
