"""PHI patterns: dates, ages over 89, telephone and record numbers, addresses, e-mail and URLs.

The classes are those of the HIPAA Safe Harbor rule (45 CFR 164.514(b)(2)). A year alone, a time of day and a weekday
may stay. No pattern describes names; they are in ``name_detection``.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

from data_pipeline.notes.deidentification import (
    addresses,
    dates,
    dates_abroad,
    dates_in_words,
    online,
    phones,
)
from data_pipeline.notes.deidentification.dates import AMOUNT, YEAR
from data_pipeline.notes.deidentification.indexed_text import IndexedPattern, IndexedText
from data_pipeline.notes.deidentification.regex import caseless

PhiKind = Literal["name", "date", "age", "phone", "record", "address", "email", "url"]


class PhiSpan(NamedTuple):
    """An identifier in a text, at ``text[start:end]``."""

    kind: PhiKind
    start: int
    end: int


_ONES = r"(?:[ -](?i:one|two|three|four|five|six|seven|eight|nine))?"
_HUNDRED = r"(?i:(?:one|a) hundred(?: and (?:one|two|three|four|five|six|seven|eight|nine|ten))?)"
_BEGINS = r"(?<![^\W\d_])"
"""Behind no letter."""
_OVER_89 = rf"(?:(?:9\d|1[01]\d)|{_BEGINS}(?:(?i:ninety){_ONES}|{_HUNDRED}))"
SAID_AGE = rf"(?P<said>{_OVER_89})(?=[ \t]*(?:$|\n|[.;!?)](?!\d)|,[ \t]|(?:and|but|who)[ \t][a-z]))"
"""A number that ends a statement after ``is`` is an age; before an amount or a fraction it is not."""
_AGE = IndexedPattern(
    rf"(?<![\d.,/-])(?P<age>{_OVER_89}\+?)"
    r"(?=[\s-]*(?:(?i:y/?\.?o\b|y\.\s?o\.|yrs?\b|years?[ -](?:old|of age|(?:and[ -])?\d{1,2}[ -]months?)"
    r"|years?,? (?:male|female|man"
    r"|woman|gentleman|lady)|yo[MF]\b)"
    r"|y?[ /]?[MF]\b(?![a-z])|(?i:(?:male|female|man|woman|gentleman|lady)\b)))"
    r"|(?i:\b(?:age[ds]?|turned|turning|age(?:d)? of|age is|(?:died|deceased|passed away|lived)"
    r" (?:at|to|until))[:=\s]+)"
    rf"(?P<after>(?:9\d|1[01]\d)\+?+|(?i:ninety){_ONES}|{_HUNDRED})(?!\.?\d|[%/]|{AMOUNT})"
    rf"|(?<!\d)(?P<birthday>(?:9\d|1[01]\d)(?:st|nd|rd|th)|{_BEGINS}(?i:ninetieth|ninety[ -](?:first|second|third"
    r"|fourth|fifth|sixth|seventh|eighth|ninth)|(?:one )?hundredth"
    r"|(?:one )?hundred (?:and )?(?:first|second|third|fourth|fifth)))"
    r"(?=[ \t](?i:birthday|year of (?:life|age))\b)"
    r"|(?i:\bin (?:his|her|their) )(?P<ordinal>(?:9\d|1[01]\d)(?:st|nd|rd|th))(?=[ \t]year\b)"
    r"|(?i:\bborn )(?P<ago>9\d|1[01]\d)(?=[ \t]years ago\b)"
    r"|(?<![\d.,])(?P<months>1(?:0[89]|[1-3]\d|4[0-3])\d)(?=[ -]?(?:mo\b|months?\b))"
    r"|(?<![\w/])[MF][ ]?/[ ]?(?P<by_sex>9\d|1[01]\d)(?![\w./%])"
    r"|(?i:\bin (?:his|her|their) (?:early |mid |late |mid-)?)(?P<decade>(?i:nineties|90['’]?s))"
    rf"|{_BEGINS}[A-Z][\w'’-]*+(?<=[a-z'’-]),\s(?P<apposed>9\d|1[01]\d)(?=,)"
    r"|\b(?i:s?he|patient|pt|man|woman|gentleman|lady|wife|husband|spouse|partner|mother|father|mom|dad|sister"
    r"|brother|aunt|uncle|cousin|friend|neighbou?r|grand(?:mother|father))"
    rf"(?:['’]s|[ \t](?i:is|was))[ \t](?i:(?:now|already|almost|nearly|just)[ \t])?{SAID_AGE}"
    r"|\b(?i:mother|father|mom|dad|sister|brother|wife|husband)"
    rf"[ \t]+(?i:at|aged?)[ \t]+(?P<relative>(?:9\d|1[01]\d)\+?+)(?!\.?\d|[%/]|{AMOUNT})"
    r"|\b(?i:nonagenarian|centenarian)\b(?:\s*\(\d{2,3}\))?"
)

_LABELLED = IndexedPattern(
    r"\b(?P<label>"
    + caseless(
        r"room|rm|mrn?(?!\d)|m\.r\.n\.|med(?:ical)?\.? rec(?:ord)?s?|unit|records?|acc(?:oun)?t|chart|case"
        r"|encounter|badge|inmate|prisoner|booking|aadhaar|pesel|personnummer|itin|dl(?=\s*(?:#|no\b))"
        r"|visit|accession|csn|fin|har|"
        r"(?:patient|pt|hosp(?:ital)?|clinic|member|subscriber|group|insurance|health plan|medicare|medicaid"
        r"|employee|device|national|job|"
        r"document|dictation|specimen|order|study|health|tax|registration) ?(?:id(?:entifier)?|no\b\.?|number|#)"
        r"|id|ssn?"
        r"|social security|curp|mbi|hicn?|sn"
        r"|policy|license|licence|"
        r"dea|npi|serial|vin|nhs|passport|plate|certificate|implant"
    )
    + r")(?P<mark>(?:\s*+(?i:no\b\.?|num(?:ber)?\b|id\b|is\b|[#/:=])){0,4}+)\s*+"
    r"(?P<number>(?:[A-Za-z]{0,4}-?)?\d[\dA-Za-z]*+(?:[- ]\d[\dA-Za-z]*+|-[A-Za-z]{1,4}-?\d[\dA-Za-z]*+){0,5}"
    r"(?:-[A-Za-z]{1,3})?)(?!\w)"
)
_BARE = re.compile(
    r"room|rm|unit|records?|chart|case|encounter|visit|fin|har|policy|licen[sc]e|plate|certificate|implant|serial",
    re.IGNORECASE,
)
"""Words that stand before numbers of any kind, which count only where a mark such as ``no.`` follows."""
_MIXED = frozenset({"plate", "license", "licence", "room", "rm"})
"""Of these, whose numbers have letters or hyphens, such as "7ABC 123" and "412B", three digits are enough."""
_LETTER = re.compile(r"[A-Za-z-]")
_NUMBERED = re.compile(r"no\b|num|id\b|#", re.IGNORECASE)
_IS_YEAR, _IS_AMOUNT = re.compile(YEAR), re.compile(AMOUNT)
_MONTH_AND_DAY, _DAY_AND_MONTH = (
    r"(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])",
    r"(?:0[1-9]|[12]\d|3[01])(?:0[1-9]|1[0-2])",
)
_RECORD = IndexedPattern(
    r"(?:(?<![\w.,/-])\d{3}-\d{2}-\d{4}(?![\w-])"
    r"|(?<![\w.,/-])\d{2,4}-\d{2}-\d{2}(?![\w-])"
    r"|(?<![\w.,/$-])\d{7,24}(?![\w.]?\d|[\w%])"
    r"|(?<![\w.,/$-])[3-6]\d{3}(?:[ -]\d{4}){3}(?![\w-]|[.,]\d)"  # a card for payments; "0800 1200 1600 2000" are hours
    rf"|(?<![\w.,/$-])(?:\d\d{_MONTH_AND_DAY}|{_DAY_AND_MONTH}\d\d)[-+]\d{{4}}(?![\w-])"  # Sweden, Denmark: born then
    r"|(?<![\w.,/$-])756\.\d{4}\.\d{4}\.\d\d(?![\w-])"  # AHV, of Switzerland
    r"|(?<![\w.,/$-])[12] \d\d (?:0[1-9]|1[0-2]) \d[\dAB] \d{3} \d{3}(?: \d\d)?(?![\w-])"  # NIR, of France
    r"|(?<![\w.,/$-])(?:\d{17}[Xx]|\d{8}-?[A-HJ-NP-TV-Z])(?![\w-]))"  # of China; DNI, of Spain
    r"|(?<![\w-])[A-Z]{1,4}-?\d{6,}+(?!\w)"
    r"|(?<![\w-])[A-Z]{1,3}\d\d-\d{4,6}(?![\w-])"  # as a laboratory numbers specimens
    r"|(?<![\w.])\d{3}\.\d{3}\.\d{3}-\d{2}(?![\w-])"  # CPF, of Brazil
    r"|(?<![\w-])[XYZ]-?\d{7}-?[A-Z](?![\w-])"  # NIE, of Spain
    r"|(?<![\w-])[A-Z]{6}\d\d[A-EHLMPRST]\d\d[A-Z]\d{3}[A-Z](?!\w)"  # codice fiscale, of Italy
    r"|(?<![\w-])[A-Z]{2}(?=(?:[A-Z ]{0,7}\d){10})\d\d(?: ?[A-Z0-9]{4}){3,7}"
    r"(?: ?[A-Z0-9]{1,3})?(?![\w-])"  # IBAN, of ten digits at least
    rf"|(?<![\w/])[A-Z]{{1,4}}/(?:{YEAR}/\d{{3,8}}|\d\d/\d{{4,8}})(?![\w/])"  # a reference, by its year
    r"|(?:\(\d\d\)[A-Z0-9]{2,20}){2,6}(?!\w)"  # a device's identifier (UDI), with its serial number
    r"|(?<!\w)[A-CEGHJ-PR-TW-Z]{2}(?: \d\d){3} [A-D](?!\w)"  # national insurance, of the United Kingdom
)


_LAST_DIGITS = IndexedPattern(
    r"(?i:\b(?:last (?:four|4)|ending (?:in|with))(?: digits)?(?: (?:of|is|are|in))?(?: (?:the|her|his))?"
    r"(?: (?:ssn|ss#|social(?: security)?(?: number)?|card|account|phone))?(?: (?:is|are))?[ \t:#]+)"
    rf"(?P<digits>\d{{4}})(?!\w|{AMOUNT})"
)
"""The end of a number that is left out: ``SSN last four 7730``."""


def find_patterns(note: IndexedText) -> list[PhiSpan]:
    """The identifiers that a pattern describes, in order and without overlaps; earlier patterns win."""
    spans: list[PhiSpan] = []
    for of_kind in (
        _spans("email", online.emails(note.text)),
        _spans("url", online.find(note)),
        _matches(addresses.ADDRESS, "address", note),
        _spans("address", addresses.abroad(note.text)),
        _labelled_records(note),
        _matches(_LAST_DIGITS, "record", note),
        _spans("phone", phones.labelled(note)),
        _matches(phones.PHONE, "phone", note),
        _spans("phone", phones.national(note)),
        _matches(addresses.LIVES, "address", note),
        _spans("date", dates_in_words.find(note)),
        _spans("date", dates_abroad.find(note)),
        _spans("date", dates.full_dates(note)),
        _spans("date", dates.without_year(note)),
        _spans("date", dates.expected(note)),
        _matches(_RECORD, "record", note),
        _matches(_AGE, "age", note),
    ):
        spans = add_non_overlapping(spans, of_kind)
    return spans


def replace_spans(text: str, spans: Iterable[PhiSpan], replacement: Callable[[PhiSpan], str]) -> str:
    """The text with ``replacement`` of each span in its place; the spans are in order and do not overlap."""
    pieces, end = [], 0
    for span in spans:
        pieces += [text[end : span.start], replacement(span)]
        end = span.end
    return "".join([*pieces, text[end:]])


def add_non_overlapping(kept: list[PhiSpan], more: Iterable[PhiSpan]) -> list[PhiSpan]:
    """``kept`` and those of ``more`` that overlap none of it, in order. ``kept`` is in order."""
    more = list(more)
    if not more:
        return kept
    starts = [span.start for span in kept]

    def is_free(span: PhiSpan) -> bool:
        i = bisect_left(starts, span.end)
        return i == 0 or kept[i - 1].end <= span.start

    return sorted([*kept, *filter(is_free, more)], key=lambda span: span.start)


def _spans(kind: PhiKind, spans: Iterable[tuple[int, int]]) -> Iterator[PhiSpan]:
    return (PhiSpan(kind, start, end) for start, end in spans)


def _matches(pattern: IndexedPattern, kind: PhiKind, note: IndexedText) -> Iterator[PhiSpan]:
    """The matches of a pattern; where a group of ``_INNER`` matched, it is the identifier and the rest its label."""
    for match in note.matches(pattern):
        group = match.lastgroup if match.lastgroup in _INNER else None
        start, end = match.span(group) if group else match.span()
        yield PhiSpan(kind, start, end)


_INNER = frozenset(
    (
        "pager",
        "digits",
        "age",
        "ago",
        "ordinal",
        "months",
        "by_sex",
        "after",
        "apposed",
        "relative",
        "decade",
        "said",
        "birthday",
        "zip",
        "town",
    )
)


def _labelled_records(note: IndexedText) -> Iterator[PhiSpan]:
    """Record numbers after a label; they are searched before telephone numbers and dates, because the label decides."""
    for match in note.matches(_LABELLED):
        if _is_identifier(match) and not dates.begins(note.text, match.start("number")):
            yield PhiSpan("record", *match.span("number"))


def _is_identifier(label: re.Match[str]) -> bool:
    """Whether the number identifies somebody or something, and is not a year, an amount or a count."""
    number, bare = label["number"], _BARE.fullmatch(label["label"])
    digits = [sum(map(str.isdigit, group)) for group in number.split()]
    if sum(digits) < 5 and _IS_AMOUNT.match(label.string, label.end()):
        return False
    if bare and label["label"].lower() in _MIXED and _LETTER.search(number) and sum(digits) >= 3:
        return True
    if bare and not _NUMBERED.search(label["mark"]):
        return max(digits) > 3 and not _IS_YEAR.fullmatch(number)
    return max(digits) >= 3 or (sum(digits) >= 5 and not bare)
