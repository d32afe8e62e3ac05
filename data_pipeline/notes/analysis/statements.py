"""Sentences of a note: recommendations and a summary by extraction."""

import re
from bisect import bisect_left
from functools import cache
from itertools import pairwise
from pathlib import Path

from data_pipeline.clinical_text import phrases
from data_pipeline.clinical_text.phrases import Phrases
from data_pipeline.clinical_text.text import ClinicalText
from data_pipeline.drugs.mentions import packaged
from data_pipeline.notes.analysis.fields import ClinicalFinding, Statement
from data_pipeline.notes.analysis.sections import Sections

_MOST = 3
_NO_ADVICE = frozenset({
    "family", "allergies", "review", "vitals", "medications", "exam", "past", "social", "complaint",
})  # fmt: skip
_NUMBERING = re.compile(r"^[\s,.;:]*(?:\d{1,2}[.)]\s*)?")


def recommendations(text: ClinicalText, sections: Sections) -> list[Statement]:
    """Recommendations: what is to be done, step by step, by the plan and by sentences elsewhere that recommend.

    A history or hospital course tells of what was done; there only what the patient was told to do counts, and what
    somebody will do.

    Prescriptions are medications, and what was done already is no step.
    """
    cues = _cues().find(text)
    cue_firsts = [cue.first for cue in cues]
    drugs = {mention.first for mention in packaged().find(text)}
    kept = []
    for first, last in text.sentences():
        section = sections.kind(text.starts[last - 1])
        label = {"plan": "step", "history": "order"}.get(section, "advice")
        while first < last and sections.is_heading(text.starts[first]):
            first += 1
        if section in _NO_ADVICE or first == last:
            continue
        for begin, end in _clauses(text, first, last):
            within = slice(bisect_left(cue_firsts, begin), bisect_left(cue_firsts, end))
            labels = {cue.label for cue in cues[within]}
            is_step = label in labels or (
                label == "step" and ("advice" in labels or _begins_a_step(text, begin))
            )
            if (
                end > begin
                and is_step
                and not (_is_report(labels) or _is_use(text, labels, drugs, begin, end))
            ):
                kept.append(_statement(text, begin, end))
    return kept


def _begins_a_step(text: ClinicalText, begin: int) -> bool:
    """Whether a clause begins with a verb of a step, behind words such as "please" and a number of the list."""
    i = begin
    while text.words[i] in _BEFORE_VERBS or text.words[i][0].isdigit():
        i += 1
        if i == len(text.words):
            return False
    return text.words[i] in _STEP_VERBS or text.words[i - 1 : i] == ("to",)


def _is_report(words: set[str]) -> bool:
    """Whether something was done already, or is only thought."""
    return "thought" in words or ("report" in words and "advice" not in words)


def _is_use(text: ClinicalText, sentence: set[str], drugs: set[int], begin: int, end: int) -> bool:
    """Whether a clause is the use of a drug alone, which a number follows: no visit, test or caution besides."""
    words = text.words[begin:end]
    numbered = any(
        word[0].isdigit()
        for at in drugs.intersection(range(begin, end))
        for word in text.words[at + 1 : at + 3]
    )
    amount = any(word[0].isdigit() and unit in _UNITS for word, unit in pairwise(words))
    return "beside drugs" not in sentence and (numbered or amount)


def _clauses(text: ClinicalText, first: int, last: int) -> list[tuple[int, int]]:
    """A sentence parted where another step begins: at a verb behind "and", "then" or a comma. Two verbs of one object,
    as in "monitor and reassess her", are one step."""
    begins, ends = [first], []
    for i in range(first + 2, last):
        is_joined = text.words[i - 1] in _JOINS
        word = text.words[i]
        is_step = word in _STEP_VERBS or (word in _WHO and text.words[i : i + 2] in _WHO_WILL)
        has_object = not (is_joined and (text.words[i - 2] in _STEP_VERBS or text.words[i - 2] == "ahead"))
        if is_step and has_object and (is_joined or text.comma_before(i)) and i - begins[-1] > 1:
            begins.append(i)
            ends.append(i - is_joined)
    ends = [end - (text.words[end - 1] in _JOINS) for end in ends]
    return list(zip(begins, [*ends, last], strict=True))


def summary(text: ClinicalText, sections: Sections, findings: list[ClinicalFinding]) -> list[Statement]:
    """Up to three sentences that name most of the findings; those of complaint and assessment count twice."""
    ranked = []
    present = sorted(finding.start for finding in findings if finding.status == "present")
    for first, last in text.sentences():
        start, end = text.span(first, last)
        named = bisect_left(present, end) - bisect_left(present, start)
        weight = 2 if sections.kind(text.starts[last - 1]) in ("complaint", "assessment", "history") else 1
        if named and last - first > 2:
            ranked.append((-named * weight, first, last))
    chosen = sorted((first, last) for _, first, last in sorted(ranked)[:_MOST])
    return [_statement(text, first, last) for first, last in chosen]


def _statement(text: ClinicalText, first: int, last: int) -> Statement:
    start, end = text.span(first, last)
    start += len(_NUMBERING.match(text.original[start:end]).group())  # type: ignore[union-attr]
    return Statement(text=text.original[start:end], start=start, end=end)


_STEP_VERBS = frozenset({
    "follow", "return", "see", "recheck", "repeat", "continue", "start", "begin", "stop",
    "discontinue", "hold", "resume", "obtain", "order", "check", "get", "schedule", "arrange",
    "refer", "consult", "monitor", "observe", "watch", "keep", "avoid", "use", "apply", "wear",
    "ice", "elevate", "rest", "exercise", "increase", "decrease", "taper", "wean", "consider",
    "proceed", "admit", "transfer", "discharge", "call", "contact", "report", "evaluate",
    "reevaluate", "reassess", "review", "remove", "change", "perform", "undergo", "encourage",
    "advise", "counsel", "provide", "await", "drink", "eat", "limit", "maintain", "finish",
    "complete", "take", "send", "treat", "weigh", "restrict", "advance", "ensure", "refrain", "try",
    "switch", "add", "bring", "initiate", "titrate", "optimize", "screen", "test", "notify", "seek",
    "request", "ambulate", "shower", "clean", "wash", "rule",
})  # fmt: skip
"""With which a step of a plan begins."""
_JOINS = ("and", "then", "but")
_WHO = ("we", "i", "he", "she", "patient")
_WHO_WILL = frozenset(
    (who, does) for who in _WHO for does in ("will", "should", "need", "needs", "may", "can", "must")
)
_BEFORE_VERBS = frozenset(["please", "also", "otherwise", "then", "again", "and", "to", "will", "next"])
_UNITS = frozenset(["mg", "mcg", "units", "tablet", "tablets", "puffs", "ml", "cc", "drops", "capsule"])


@cache
def _cues() -> Phrases:
    return Phrases(phrases.load(Path(__file__).with_name("statements.yaml")))
