"""Symptoms and conditions of a note, with negation, experiencer and time."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from data_pipeline.clinical_text import phrases
from data_pipeline.clinical_text.context import Context
from data_pipeline.clinical_text.text import END, ClinicalText
from data_pipeline.drugs.mentions import packaged
from data_pipeline.notes.analysis.fields import ClinicalFinding, Status
from data_pipeline.notes.analysis.medications import is_given
from data_pipeline.notes.analysis.sections import Sections

_ENDINGS = (
    "itis", "osis", "oma", "aemia", "emia", "opathy", "penia", "megaly", "plegia", "paresis", "ectasis", "lithiasis"
)  # fmt: skip
_BEFORE_ENDING = 3

_REACH, _NEAR, _FAR = 12, 3, 40
"""Words before a mention in which a cue says that it is only possible, in which one says what a drug is for, and in
which the patient is told when to call, or something is looked for."""
_BEHIND = 6
"""Words behind a mention in which it is said that it was not ruled out."""
_GRADES = frozenset({"trace", "positive", "1", "2", "3", "4"})
"""What behind a comma grades a finding that is there, as in "no cyanosis, 2+ edema"."""


class _Term(NamedTuple):
    words: tuple[str, ...]
    name: str
    kind: str


class _Mention(NamedTuple):
    kind: str
    name: str
    first: int
    last: int


def find(
    text: ClinicalText, context: Context, sections: Sections
) -> tuple[list[ClinicalFinding], list[ClinicalFinding]]:
    """Symptoms and conditions; of several mentions of one the first of the patient's own, or else the first.

    A symptom of the past medical history is a condition. What no relative has is not what the patient denies.
    """
    symptoms: dict[tuple[str, bool], ClinicalFinding] = {}
    conditions: dict[tuple[str, bool], ClinicalFinding] = {}
    tellers, shows = (
        [i for i, word in enumerate(text.words) if word in _words(part)] for part in ("tells", "shows")
    )
    for mention in _mentions(text):
        kind = sections.kind(text.starts[mention.first])
        if kind in ("allergies", "medications") or sections.is_heading(text.starts[mention.first]):
            continue
        start, end = text.span(mention.first, mention.last)
        status = _status(text, mention, context, kind)
        if (
            mention.kind == "symptom"
            and status == "present"
            and (kind == "exam" or _follows(text, mention, shows))
            and not _follows(text, mention, tellers)
        ):
            continue  # what an examiner or a study finds is a sign, and no complaint
        if status == "absent" and (kind == "family" or context.is_family(mention.first)):
            continue
        if _is_only_possible(text, mention, status):
            continue
        finding = ClinicalFinding(
            name=mention.name,
            status=status,
            is_history=context.is_past(mention.first) or kind == "past",
            start=start,
            end=end,
        )
        is_condition = status == "family" or (kind == "past" and status == "present")
        kept = conditions if mention.kind == "condition" or is_condition else symptoms
        kept.setdefault((mention.name, status == "family"), finding)
        if kept[mention.name, status == "family"].status == "absent" and status == "present":
            kept[mention.name, False] = finding
    return _without_general_names(list(symptoms.values())), list(conditions.values())


def _without_general_names(symptoms: list[ClinicalFinding]) -> list[ClinicalFinding]:
    """The symptoms without a bare "pain" where another one says where it is: the note goes on about that."""
    parts = {name for one in symptoms if one.status == "present" for name in one.name.split()[1:]}
    general = parts & _words("aches")
    return [one for one in symptoms if one.status != "present" or one.name not in general]


def _status(text: ClinicalText, mention: _Mention, context: Context, section: str) -> Status:
    is_graded = text.words[mention.first - 1] in _GRADES and text.comma_before(mention.first - 1)
    if not (mention.first and is_graded) and context.is_negated(mention.first, mention.last, reach=30):
        return "absent"
    return "family" if section == "family" or context.is_family(mention.first) else "present"


def _follows(text: ClinicalText, mention: _Mention, places: list[int]) -> bool:
    """Whether the sentence has one of some words before it: those that say that the patient tells of it, or that an
    examination or a study found it."""
    start, _ = text.sentence(mention.first)
    return bisect_left(places, start) < bisect_left(places, mention.first)


def _is_only_possible(text: ClinicalText, mention: _Mention, status: Status) -> bool:
    """Whether it is looked for, is what a drug is taken for, or what may come of a step or a procedure."""
    start, _ = text.sentence(mention.first)
    before = text.words[max(start, mention.first - _REACH) : mention.first]
    far = text.words[max(start, mention.first - _FAR) : mention.first]
    if any(pair in (("rule", "out"), ("r", "o")) for pair in pairwise(far)):
        return True
    if status != "present":
        return False
    is_risk = not _words("possible").isdisjoint(before) or "risks" in far
    if (is_risk and "factors" not in before) or _is_looked_for(far) or _is_doubted(text, mention, before):
        return True
    return mention.kind == "symptom" and (
        "if" in far
        or text.words[start] == "should"
        or not {"prn", "needed"}.isdisjoint(before[-_NEAR:])
        or _is_treated(before)
        or _is_warned_of(far)
    )


def _is_doubted(text: ClinicalText, mention: _Mention, before: Sequence[str]) -> bool:
    """Whether words right before or behind say that it may be something else, or was not excluded."""
    behind = text.words[mention.last : mention.last + _BEHIND]
    is_open = any(pair in _NOT_EXCLUDED for pair in pairwise(behind))
    is_sure = _words("doubts").isdisjoint(before[-_NEAR:]) and _VERSUS.isdisjoint(behind[:1])
    return is_open or not is_sure or ("concern", "for") in pairwise(before[-_NEAR - 1 :])


_VERSUS = frozenset({"versus", "vs"})
_NOT_EXCLUDED = (("be", "excluded"), ("be", "ruled"))


def _is_looked_for(before: Sequence[str]) -> bool:
    """Whether something is done so as to see it if it comes, as in "check the groin for bleeding"."""
    return any(
        word in _words("looks") and "for" in before[i + 1 : i + 1 + _NEAR] for i, word in enumerate(before)
    )


def _is_treated(before: Sequence[str]) -> bool:
    """Whether a drug right before it is for it, as in "Percocet for pain"."""
    return "for" in before[-_NEAR:] and not _drug_words().isdisjoint(before[-2 * _NEAR :])


def _is_warned_of(before: Sequence[str]) -> bool:
    """Whether the sentence tells the patient when to call or come back."""
    return any(
        word in _words("calls") and not {"for", "if", "any"}.isdisjoint(before[i + 1 :])
        for i, word in enumerate(before)
    )


@cache
def _drug_words() -> frozenset[str]:
    """Words of drugs' names."""
    return packaged().words | frozenset(_file()["drugs"].split())


def _mentions(text: ClinicalText) -> Iterator[_Mention]:
    i, words = 0, text.words
    while i < len(words):
        others = _look_alike(words, i)
        if others or is_given(text, i) or _is_form_of_address(text, i):
            i += max(others, 1)
            continue
        by_list, by_form = _listed(words, i), _complaint(text, i) or _formed(text, i)
        both = [each for each in (by_list, by_form) if each]
        mention = max(both, key=lambda each: each.last, default=None)
        if mention:
            yield mention
            i = mention.last
        else:
            i += 1


def _listed(words: tuple[str, ...], i: int) -> _Mention | None:
    for term in _terms().get(words[i], ()):
        if words[i : i + len(term.words)] == term.words:
            return _Mention(term.kind, term.name, i, i + len(term.words))
    return None


def _look_alike(words: tuple[str, ...], i: int) -> int:
    """How many words stand for something else than the finding that one of them names."""
    others = _look_alikes().get(words[i])
    if not others:
        return 0
    return max((len(each) for each in others if words[i : i + len(each)] == each), default=0)


def _is_form_of_address(text: ClinicalText, i: int) -> bool:
    """Whether "Ms" or "Doe" is written as before or in a name, and not as an abbreviation in capitals."""
    return text.words[i] in ("ms", "doe") and text.original[slice(*text.span(i, i + 1))].istitle()


def _complaint(text: ClinicalText, i: int) -> _Mention | None:
    """A symptom by its form: a part of the body that hurts, or something that the patient has difficulty with."""
    words, part, ache = text.words, _words("body_parts"), _words("aches")
    if words[i] in part:
        for last in range(i + 1, min(i + 3, len(words))):
            if words[last] in ache:
                return _Mention("symptom", " ".join(words[i : last + 1]), i, last + 1)
            if words[last] not in part:
                break
    hurts = words[i] in ache and words[i + 1 : i + 2] in (("in",), ("of",), ("over",), ("at",))
    for last in range(i + 2, min(i + 6, len(words))) if hurts else ():
        if words[last] in part:
            return _Mention("symptom", f"{words[last]} {words[i]}", i, last + 1)
        if words[last] not in _words("before_parts"):
            break
    if words[i] in ("difficulty", "difficulties", "trouble", "problems"):
        at = i + 1 + (words[i + 1 : i + 2] in (("in",), ("with",)))
        does = words[at] if at < len(words) else ""
        if (
            does.endswith("ing")
            and len(does) > 5
            and does not in _words("no_doings")
            and not text.comma_before(at)
        ):
            return _Mention("symptom", f"{words[i]} {does}", i, at + 1)
    return None


def _formed(text: ClinicalText, i: int) -> _Mention | None:
    """A condition by its form: a clinical ending, or a head such as "disease" with its adjectives."""
    words = text.words
    word = words[i]
    if word.endswith(_ENDINGS) and _is_long_enough(word) and word not in _words("not_conditions"):
        return _Mention("condition", word, i, i + 1)
    if _words("heads").isdisjoint(words[i + 1 : i + 4]):
        return None
    for last in range(i + 1, min(i + 4, len(words))):
        if (
            words[last - 1] in _words("no_adjectives")
            or words[last - 1] == END
            or words[last - 1][0].isdigit()
            or text.comma_before(last)
        ):
            return None
        if words[last] in _words("heads"):
            return _Mention("condition", " ".join(words[i : last + 1]), i, last + 1)
    return None


def _is_long_enough(word: str) -> bool:
    """Whether enough letters stand before a clinical ending."""
    return any(word.endswith(ending) and len(word) >= len(ending) + _BEFORE_ENDING for ending in _ENDINGS)


@cache
def _file() -> dict[str, str]:
    parts: dict[str, str] = phrases.load(Path(__file__).with_name("terms.yaml"))
    return parts


@cache
def _words(part: str) -> frozenset[str]:
    return frozenset(_file()[part].split())


@cache
def _look_alikes() -> dict[str, list[tuple[str, ...]]]:
    """What looks like a finding and is none, by its first word."""
    by_first: defaultdict[str, list[tuple[str, ...]]] = defaultdict(list)
    for line in _file()["look_alikes"].splitlines():
        words = tuple(line.split())
        by_first[words[0]].append(words)
    return dict(by_first)


@cache
def _terms() -> dict[str, list[_Term]]:
    """The terms by their first word, the longest first."""
    by_first: defaultdict[str, list[_Term]] = defaultdict(list)
    for part, kind in (("symptoms", "symptom"), ("conditions", "condition")):
        for line in _file()[part].splitlines():
            name, _, others = line.partition(":")
            for written in (name, *filter(None, others.split(","))):
                words = tuple(written.split())
                by_first[words[0]].append(_Term(words, name.strip(), kind))
    for terms in by_first.values():
        terms.sort(key=lambda term: -len(term.words))
    return dict(by_first)
