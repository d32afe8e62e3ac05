"""Sentences of a note: recommendations and a summary by extraction."""

import re
from functools import cache

from data_pipeline.clinical_text.phrases import Phrases
from data_pipeline.clinical_text.text import ClinicalText
from data_pipeline.notes.analysis.fields import Finding, Statement
from data_pipeline.notes.analysis.sections import Sections
from data_pipeline.safety.drugs import DrugMention, packaged

_MOST = 3
_NO_ADVICE = frozenset({"family", "allergies", "review", "vitals", "medications"})
_NUMBERING = re.compile(r"^[\s,.;:]*(?:\d{1,2}[.)]\s*)?")


def recommendations(text: ClinicalText, sections: Sections) -> list[Statement]:
    """What the note says is to be done: sentences of the plan, and elsewhere those that recommend."""
    advising = {match.first for match in _advice().find(text)}
    drugs = packaged().find(text)
    kept = []
    for first, last in text.sentences():
        section = sections.kind(text.starts[last - 1])
        advises = section not in _NO_ADVICE and any(first <= at < last for at in advising)
        if last - first > 1 and (section == "plan" or advises) and not _is_drug_item(text, drugs, first):
            kept.append(_statement(text, first, last))
    return kept


def _is_drug_item(text: ClinicalText, drugs: list[DrugMention], first: int) -> bool:
    """Whether a sentence is an item of a list of drugs: it begins with one and a number follows."""
    begins = next((mention for mention in drugs if mention.first == first), None)
    return (
        begins is not None
        and text.words[begins.last : begins.last + 1] != ()
        and text.words[begins.last][0].isdigit()
    )


def summary(text: ClinicalText, sections: Sections, findings: list[Finding]) -> list[Statement]:
    """Up to three sentences that name most of the findings; those of complaint and assessment count twice."""
    ranked = []
    for first, last in text.sentences():
        start, end = text.span(first, last)
        named = sum(start <= f.start < end and f.status == "present" for f in findings)
        weight = 2 if sections.kind(text.starts[last - 1]) in ("complaint", "assessment", "history") else 1
        if named and last - first > 2:
            ranked.append((-named * weight, first, last))
    chosen = sorted((first, last) for _, first, last in sorted(ranked)[:_MOST])
    return [_statement(text, first, last) for first, last in chosen]


def _statement(text: ClinicalText, first: int, last: int) -> Statement:
    start, end = text.span(first, last)
    start += len(_NUMBERING.match(text.original[start:end]).group())  # type: ignore[union-attr]
    return Statement(text=text.original[start:end], start=start, end=end)


@cache
def _advice() -> Phrases:
    return Phrases(
        {
            "advice": [
                "(recommend|recommended|recommends|recommendation|recommendations|advised|advise"
                "|suggest|suggested|encouraged)",
                "(follow up|followup|return to|return in|see (me|him|her|us|dr)|come back|recheck|refer|referred to)",
                "(patient|he|she|we|i) (will|should|needs to|is to) (be|have|get|continue|start|obtain"
                "|schedule|undergo|see|return"
                "|stop|monitor|check|follow|repeat)",
                "(was|were|is) (instructed|told|advised|asked) to",
            ]
        }
    )
