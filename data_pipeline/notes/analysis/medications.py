"""Medications of a note with dose, route and frequency, as they are written, and whether they are taken."""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

from data_pipeline.clinical_text import phrases
from data_pipeline.clinical_text.context import Context
from data_pipeline.clinical_text.text import ClinicalText
from data_pipeline.drugs.mentions import DrugMention, packaged
from data_pipeline.notes.analysis import medication_status
from data_pipeline.notes.analysis.fields import Medication
from data_pipeline.notes.analysis.medication_status import MedicationStatus
from data_pipeline.notes.analysis.sections import Sections

_COUNT = r"(?:one-half|half|one|two|three|four|six|eight|twelve)"
_DOSE = re.compile(
    r"(?<![\w.])(?:\d+(?:[.,/]\d+)*|\.\d+)(?:\s*(?:-|to)\s*\d+(?:[.,]\d+)?)?\s*(?:mg|mcg|[uµμ]g|micrograms?|milligrams?"
    r"|grams?|g|units?|u|meq|ml"
    r"|cc|puffs?|sprays?|drops?|%|tablets?|tabs?|capsules?|caps?|teaspoons?|tablespoons?|iu)\b(?:/(?:kg|ml|hr?|hour|day))?"
    rf"|\b{_COUNT}(?:(?: (?:to|or) |-){_COUNT})? (?:puffs?|sprays?|drops?|tablets?|tabs?|capsules?|caps?|teaspoons?)\b"
)
_DOSE_BEHIND = re.compile(rf"[\s:]+(?:{_DOSE.pattern})")
_ROUTE = re.compile(
    r"\b(?:p\.?o\.?|per os|oral(?:ly)?|by mouth|iv (?:push|drip|piggyback)|ivpb|iv|i\.v\.|intravenous(?:ly)?"
    r"|im|i\.m\.|intramuscular(?:ly)?|subcutaneous(?:ly)?|subcut?|subq|sub-q|s\.c\.|sc|sq|topical(?:ly)?"
    r"|intrathecal(?:ly)?|otic|inhal(?:ed|ers?|ation)|(?:intra)?nasal(?:ly)?(?: spray)?|spray|sublingual(?:ly)?|s\.l\."
    r"|rectal(?:ly)?|per rectum|suppositor(?:y|ies)|enema|patch(?:es)?|transdermal(?:ly)?|nebuliz(?:ed|ers?)|nebs?"
    r"|mdi|cream|ointment|gel|lotion|drip|infusion|swish and (?:swallow|spit)|local"
    r"|ophthalmic|vaginal(?:ly)?|buccal|epidural|intra-?articular|(?:eye|ear) ?drops?"
    r"|(?:(?:(?:in|to|into) )?(?:each|both)|(?:in|to|into) the (?:right|left|affected)) (?:eyes?|ears?|nostrils?)"
    r"|o\.?[su]\.?"
    r"|(?:per|via) (?:g|ng|peg|j)[ -]?tube"
    r"|injections?)(?!\w)"
)
_FREQUENCY = re.compile(
    r"\b(?:(?:once|twice|three times|four times|\d+ times|two times)(?: (?:a|per|each)? ?(?:day|daily"
    r"|week|month)| daily| weekly)"
    r"|q\.?\s?\d+(?:-\d+)?\s?h(?:ours|rs?)?\.?"
    rf"|every (?:\d+|{_COUNT})(?: to (?:\d+|{_COUNT}))? hours|every (?:morning|evening"
    r"|night|other day|day)|q\.? (?:day|week|month|am|pm|hs)\b"
    r"|q\.?(?:a\.?m|h\.?s|p\.?m|d|o\.?d|i\.?d|day|week)\b\.?|b\.?i\.?d\b\.?|t\.?i\.?d\b\.?"
    r"|q\.?i\.?d\b\.?|daily|nightly|weekly|monthly"
    r"|at (?:bed ?time|night)|h\.?s\b\.?|(?:a|per|each) day|in the (?:morning|evening))(?:,? (?:as needed"
    r"|p\.?r\.?n\b\.?))?"
    r"|\bas needed\b|\bp\.?r\.?n\b\.?"
)
_ITEM = re.compile(
    r"(?:^|,|\band\b|(?<=[a-z.]\s)\d{1,2}\.|;)\s*(?:\d{1,2}\.\s*)?(?P<name>[A-Za-z][A-Za-z-]+"
    r"(?: [A-Za-z-]{3,}){0,2})(?=\s+\d)"
)
"""An item of a list of medications, which a number follows."""
_MEASURED = re.compile(r"\s+\d[\d.,/]*\s*(?:%|m(?:g|eq|mol)/d?l)")
"""The value of a measurement behind its name, as in "EF 55%" and "glucose 140 mg/dL"."""
_NO_DRUG = frozenset({"alcohol", "iron", "oxygen"})
"""Count as drugs in a list of medications alone."""
_FIRST_WORDS = re.compile(
    r"^(?:include|includes|including|the|patient|is|on|he|she|takes|taking|current|none|and|also|with|of"
    r"|for|then|to|in|at|day|x|days|per|every)\b",
    re.I,
)
_HEADING = re.compile(r"(?<![\w-])[a-z/' -]+:\s*$")
"""What a list is headed by, such as "Stopped:"."""
_NEAR = 16
"""Drugs before and behind a drug that may share a verb with it."""
_REACH = 90
"""Characters behind a name in which its dose, route and frequency stand."""
_BEFORE = re.compile(
    rf"(?:(?P<dose>{_DOSE.pattern})\s+(?:of\s+)?)?(?:(?P<route>{_ROUTE.pattern})\s+"
    r"(?:(?:antibiotics?|antibiotic therapy|steroids?|steroid therapy|therapy|treatment|bolus) (?:with|of)\s+)?)?$"
)
"""Dose and route right before a name, as in "40 mg of", "IV" and "oral antibiotics of"."""
_REACH_BEFORE = 45
_NEXT_ITEM = re.compile(
    rf",\s+(?![\d#]|(?:{_COUNT}|once|twice|then|to|for|as|at|with|one|a|which|he|she|take|taking|taken|all|dose|total|up)\b"
    rf"|(?:{_ROUTE.pattern})|(?:{_FREQUENCY.pattern}))"
)
"""A comma behind which nothing of a drug's use follows: another item, or another clause."""
_ALLERGY = re.compile(r"\b(?:allerg(?:ic|y|ies)|intoleran(?:t|ce)|hypersensitiv(?:e|ity)) (?:to|of)\b[^.;]*$")
"""Words before a drug that was not tolerated."""


_WITH_DOSE = frozenset({"insulin", "ms"})
"""Words that are a drug where a dose stands beside them, and else a part of another name or a disease: of MS, which is
morphine or magnesium sulfate or multiple sclerosis, nobody can say which drug."""


def is_given(text: ClinicalText, i: int) -> bool:
    """Whether a word that may be something else is a drug, by the dose right before or behind it."""
    if text.words[i] not in _WITH_DOSE:
        return False
    return bool(_before(text, text.starts[i])["dose"] or _DOSE_BEHIND.match(text.plain, text.ends[i]))


_Place = tuple[str, tuple[str, ...], int, int]
"""Name, drugs, and where the name begins and ends in ``plain``."""


def find(text: ClinicalText, context: Context, sections: Sections) -> list[Medication]:
    """The medications, each once: the mention that says most of its use."""
    places = list(_without_second_names(text, _places(text, context, sections)))
    before = [_before(text, start) for _, _, start, _ in places]
    begins = [*(match.start() for match in before[1:]), len(text.plain)]
    mentions = []
    for (name, drugs, start, end), match, following in zip(places, before, begins, strict=False):
        stop = min(following, end + _REACH, _end_of_sentence(text, start))
        mentions.append(_medication(text, name, drugs, (start, end), match, stop))
    kept: dict[str, Medication] = {}
    statuses: dict[str, MedicationStatus] = {}
    for medication, status in zip(_with_shared_routes(text, mentions), _statuses(text, places), strict=True):
        key = "+".join(medication.drugs) or medication.name
        if key not in kept or _said(medication) > _said(kept[key]):
            kept[key] = medication
        if status:
            statuses[key] = status
    return [one.model_copy(update={"status": statuses.get(key, "taken")}) for key, one in kept.items()]


def _statuses(text: ClinicalText, places: Sequence[_Place]) -> Iterator[MedicationStatus | None]:
    """What the sentence of each mention says of its status."""
    spans = [place[2:] for place in places]
    for i, (start, end) in enumerate(spans):
        first, _ = text.sentence(text.word_in_plain(start))
        begin, stop = text.starts[first], _end_of_sentence(text, start)
        heading = _HEADING.search(text.plain, max(0, begin - _REACH_BEFORE), begin)
        begin = max(heading.start() if heading else begin, start - medication_status.REACH)
        stop = min(stop, end + medication_status.REACH)
        near = spans[max(0, i - _NEAR) : i] + spans[i + 1 : i + 1 + _NEAR]
        others = [(at - begin, to - begin) for at, to in near if begin <= at and to <= stop]
        yield medication_status.find(text.plain[begin:stop], start - begin, end - begin, others)


def _without_second_names(text: ClinicalText, places: Iterable[_Place]) -> Iterator[_Place]:
    """The places; a drug's other name in brackets behind it, as in "clopidogrel (Plavix)", is no mention of its own."""
    last: _Place | None = None
    for place in places:
        if last and place[1] and place[1] == last[1] and text.plain[last[3] : place[2]].strip() == "(":
            last = (*last[:3], place[3] + text.plain.startswith(")", place[3]))
            continue
        if last:
            yield last
        last = place
    if last:
        yield last


def _with_shared_routes(text: ClinicalText, medications: Sequence[Medication]) -> Iterator[Medication]:
    """The medications; of two that "and" joins, as in "IV fentanyl and midazolam", one has the other's route."""
    shared = list(medications)
    for i, (one, other) in enumerate(pairwise(medications)):
        if text.original[one.end : other.start].strip() != "and" or bool(one.route) == bool(other.route):
            continue
        if other.route and not _said(one):
            shared[i] = one.model_copy(update={"route": other.route, "end": other.end})
        elif one.route and not _said(other) and _begins_with_route(text, one):
            shared[i + 1] = other.model_copy(update={"route": one.route, "start": one.start})
    yield from shared


def _begins_with_route(text: ClinicalText, medication: Medication) -> bool:
    start = medication.start
    return text.original[start : start + len(medication.route)].lower() == medication.route


def _places(text: ClinicalText, context: Context, sections: Sections) -> Iterator[_Place]:
    """Name, drugs and place in ``plain`` of each mention that is no allergy, no class and not denied, in order."""
    places = []
    mentions = packaged().find(text)
    unnamed = _without_names(text, mentions)
    for mention in mentions:
        start, end = text.starts[mention.first], text.ends[mention.last - 1]
        in_list = sections.kind(start) == "medications"
        if (
            sections.is_heading(start)
            or mention.drug_class
            or (mention.drugs[0] in _NO_DRUG and not in_list)
            or sections.kind(start) == "allergies"
        ):
            continue
        if not (
            _is_denied(text, unnamed, context, mention.first, mention.last) or _is_not_tolerated(text, start)
        ):
            places.append((text.plain[start:end], mention.drugs, start, end))
    for word, start, end in zip(text.words, text.starts, text.ends, strict=True):
        i = text.word_in_plain(start)
        if (
            (
                word in _more_drugs()
                or (is_given(text, i) and not any(begin <= start < stop for *_, begin, stop in places))
            )
            and not sections.is_heading(start)
            and sections.kind(start) != "allergies"
            and not (_is_denied(text, unnamed, context, i, i + 1) or _is_not_tolerated(text, start))
        ):
            places.append((text.plain[start:end], (), start, end))
    is_named = bytearray(len(text.plain))
    for _, _, start, end in places:
        is_named[start:end] = b"\1" * (end - start)
    for begin, stop in sections.of("medications", len(text.plain)):
        for match in _ITEM.finditer(text.plain, begin, stop):
            start, end = match.start("name"), match.start("name") + len(_name_alone(match["name"]))
            if (
                not _FIRST_WORDS.match(match["name"])
                and not any(is_named[start:end])
                and _is_taken(text.plain, end, stop)
            ):
                places.append((text.plain[start:end], (), start, end))
    yield from sorted(places, key=lambda place: place[2])


def _without_names(text: ClinicalText, mentions: Iterable[DrugMention]) -> str:
    """``plain`` with blanks for the drugs, behind whose list the words that speak of all of them stand."""
    plain = list(text.plain)
    for mention in mentions:
        start, end = text.starts[mention.first], text.ends[mention.last - 1]
        plain[start:end] = " " * (end - start)
    return "".join(plain)


def _is_denied(text: ClinicalText, unnamed: str, context: Context, first: int, last: int) -> bool:
    """Whether words before a drug deny it, and not that it was stopped."""
    start = text.starts[first]
    begin = max(text.starts[text.sentence(first)[0]], start - medication_status.REACH)
    return context.is_negated(first, last) and not medication_status.is_kept(unnamed[begin:start])


def _is_not_tolerated(text: ClinicalText, start: int) -> bool:
    """Whether the sentence says before a drug that the patient is allergic to it."""
    first, _ = text.sentence(text.word_in_plain(start))
    return _ALLERGY.search(text.plain, max(text.starts[first], start - _REACH), start) is not None


def _is_taken(text: str, end: int, stop: int) -> bool:
    """Whether the number behind a name is a drug's: a unit, a route or how often follows before the item ends, where a
    vital sign or a laboratory value, as in "HR 110", has none of them."""
    item = re.split(r"[,;]\s|\.\s|\n", text[end : min(stop, end + _REACH)], maxsplit=1)[0]
    return not _MEASURED.match(item) and any(pattern.search(item) for pattern in (_DOSE, _ROUTE, _FREQUENCY))


def _name_alone(name: str) -> str:
    """The name of an item without a route behind it, as in "Xopenex MDI"."""
    route = _ROUTE.search(name)
    return name[: route.start()].rstrip() if route and route.start() else name


@cache
def _more_drugs() -> frozenset[str]:
    """Names that no table of the safety checks has."""
    file = phrases.load(Path(__file__).with_name("terms.yaml"))
    return frozenset(file["drugs"].split()) - packaged().words


def _medication(
    text: ClinicalText,
    name: str,
    drugs: tuple[str, ...],
    place: tuple[int, int],
    before: re.Match[str],
    stop: int,
) -> Medication:
    following = _NEXT_ITEM.search(text.plain, place[1], stop)
    after = text.plain[place[1] : following.start() if following else stop]
    parts = {
        key: pattern.search(after)
        for key, pattern in (("dose", _DOSE), ("route", _ROUTE), ("frequency", _FREQUENCY))
    }
    end = max((place[1] + match.end() for match in parts.values() if match), default=place[1])
    fields = {key: match.group().rstrip(" .,") if match else "" for key, match in parts.items()}
    fields |= {key: part.rstrip(" .,") for key, part in before.groupdict().items() if part}
    start, end = text.original_span(min(before.start(), place[0]), end)
    return Medication(name=name, drugs=drugs, start=start, end=end, **fields)


def _before(text: ClinicalText, start: int) -> re.Match[str]:
    """Dose and route right before a name, in its sentence; where nothing is said there, an empty match."""
    first, _ = text.sentence(text.word_in_plain(start))
    match = _BEFORE.search(text.plain, max(start - _REACH_BEFORE, text.starts[first]), start)
    assert match is not None  # for the types: it may be empty
    return match


def _end_of_sentence(text: ClinicalText, start: int) -> int:
    """Where the sentence of a character ends."""
    _, last = text.sentence(text.word_in_plain(start))
    return text.starts[last] if last < len(text.words) else len(text.plain)


def _said(medication: Medication) -> int:
    return sum(map(bool, (medication.dose, medication.route, medication.frequency)))
