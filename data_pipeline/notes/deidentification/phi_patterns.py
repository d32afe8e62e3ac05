"""PHI patterns: dates, ages over 89, telephone and record numbers, addresses, e-mail and URLs.

The classes are those of the HIPAA Safe Harbor rule (45 CFR 164.514(b)(2)). A year alone, a time of day and a weekday
may stay. No pattern describes names; they are in ``name_detection``.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

from data_pipeline.clinical_text.name_lexicon import listed_words
from data_pipeline.notes.deidentification import dates
from data_pipeline.notes.deidentification.dates import AMOUNT, YEAR
from data_pipeline.notes.deidentification.regex import caseless

PhiKind = Literal["name", "date", "age", "phone", "record", "address", "email", "url"]


class PhiSpan(NamedTuple):
    """An identifier in a text, at ``text[start:end]``."""

    kind: PhiKind
    start: int
    end: int


_OVER_89 = (
    r"(?:(?:9\d|1[01]\d)|(?i:ninety)(?:[ -](?i:one|two|three|four|five|six|seven|eight|nine))?"
    r"|(?i:(?:one|a) hundred(?: and (?:one|two|three|four|five|six|seven|eight|nine|ten))?))"
)
SAID_AGE = rf"(?P<said>{_OVER_89})(?=[ \t]*(?:$|\n|[.;!?)](?!\d)|,[ \t]|(?:and|but|who)[ \t][a-z]))"
"""A number that ends a statement after ``is`` is an age; before an amount or a fraction it is not."""
_AGE = re.compile(
    rf"(?=[\dnNoOaA])(?<![\d.,/-])(?P<age>{_OVER_89}\+?)"
    r"(?=[\s-]*(?:(?i:y/?\.?o\b|y\.\s?o\.|yrs?\b|years?[ -](?:old|of age)|years?,? (?:male|female|man"
    r"|woman|gentleman|lady)|yo[MF]\b)"
    r"|[MF]\b(?![a-z])|(?i:(?:male|female|man|woman|gentleman|lady)\b)))"
    r"|(?=[aAtTdDpPlL])(?i:\b(?:age[ds]?|turned|turning|age(?:d)? of|age is|(?:died|deceased|passed away|lived)"
    r" (?:at|to|until))[:\s]+)"
    rf"(?P<after>(?:9\d|1[01]\d)\+?+)(?!\.?\d|[%/]|{AMOUNT})"
    r"|(?=[iI])(?i:\bin (?:his|her|their) (?:early |mid |late |mid-)?)(?P<decade>(?i:nineties|90['’]?s))"
    r"|[A-Z][a-z'’-]+,\s(?P<apposed>9\d|1[01]\d)(?=,)"
    r"|(?=[sShHpPmMwWgGlLfFdDbBaAuUcCnN])\b(?i:s?he|patient|pt|man|woman|gentleman|lady|wife|husband|spouse|partner|mother|father|mom|dad|sister"
    r"|brother|aunt|uncle|cousin|friend|neighbou?r|grand(?:mother|father))"
    rf"(?:['’]s|[ \t](?i:is|was))[ \t](?i:(?:now|already|almost|nearly|just)[ \t])?{SAID_AGE}"
    r"|(?=[mMfFdDsSbBwWhH])\b(?i:mother|father|mom|dad|sister|brother|wife|husband)"
    rf"[ \t]+(?i:at|aged?)[ \t]+(?P<relative>(?:9\d|1[01]\d)\+?+)(?!\.?\d|[%/]|{AMOUNT})"
    r"|(?=[nNcC])\b(?i:nonagenarian|centenarian)\b"
)

_GAP = r"(?:[\s./-]|[ \t]{2,3}|[ \t]{1,2}[./-][ \t]{0,2})"
"""What stands between the parts of a telephone number."""
_EXTENSION = r"(?:\s*(?:x|ext\.?|extension)\s*#?\d{1,6})?"
_WITH_AREA = (
    rf"(?:\+\d{{1,3}}[\s.-]?|001[\s.-]|1[\s.-])?(?:\(\d{{3}}\){_GAP}?|\d{{3}}{_GAP})"
    rf"\d{{3}}{_GAP}\d{{4}}{_EXTENSION}"
)
_PHONE = re.compile(
    rf"(?=[\d(+])(?<![\d.-]){_WITH_AREA}(?![\d-])"
    r"|\+\d{1,3}[\s.(-]{0,2}\d(?:[\s.()-]{0,2}\d){6,13}(?!\d)"
    r"|(?=[:#. \t])(?i:(?<=tel)|(?<=phone)|(?<=call)|(?<=fax)|(?<=cell)|(?<=mobile)|(?<=home)|(?<=work)|(?<=contact)"
    r"|(?<=number)|(?<=dial))"
    r"(?:[ \t]*(?i:is|at|no\.?|number|phone"
    rf"|#)){{0,2}}[:#. \t]{{1,3}}(?P<labelled>\(?\d(?:[\s.()-]{{0,2}}\d){{6,12}}{_EXTENSION})(?![\d-])"
    r"|(?=[pPbBeE])(?i:\b(?:pager|beeper|pgr|pgy|ext(?:ension)?)\b\.?(?:\s*(?:is|at|no\.?"
    rf"|number))?)[:#\s]*(?P<pager>{_WITH_AREA}|\d{{3,7}}(?:[- ]\d{{2,4}}){{0,2}})(?!\d|{AMOUNT})"
    r"|(?<![\w-])[2-9]\d{2}-\d{4}(?![\d-])|(?<!\w)[pP]\d{5}(?!\d)"
)

_LABELLED = re.compile(
    r"\b(?P<label>"
    + caseless(
        r"mrn?(?!\d)|m\.r\.n\.|med(?:ical)?\.? rec(?:ord)?s?|unit|records?|acc(?:oun)?t|chart|case"
        r"|encounter"
        r"|visit|accession|csn|fin|har|"
        r"(?:patient|pt|hosp(?:ital)?|clinic|member|subscriber|group|insurance|health plan|medicare|medicaid"
        r"|employee|device|national|job|"
        r"document|dictation|specimen|order|study) ?(?:id(?:entifier)?|no\b|number|#)|id|ssn?|social security"
        r"|policy|license|licence|"
        r"dea|npi|serial|vin|nhs|passport|plate|certificate|implant"
    )
    + r")(?P<mark>(?:\s*+(?i:no\b\.?|num(?:ber)?\b|id\b|is\b|[#/:=])){0,4}+)\s*+"
    r"(?P<number>(?:[A-Za-z]{0,4}-?)?\d[\dA-Za-z]*+(?:[- ]\d[\dA-Za-z]*+){0,5})(?!\w)"
)
_BARE = re.compile(
    r"unit|records?|chart|case|encounter|visit|fin|har|policy|licen[sc]e|plate|certificate|implant|serial",
    re.IGNORECASE,
)
"""Words that stand before numbers of any kind, which count only where a mark such as ``no.`` follows."""
_NUMBERED = re.compile(r"no\b|num|id\b|#", re.IGNORECASE)
_IS_YEAR, _IS_AMOUNT = re.compile(YEAR), re.compile(AMOUNT)
_RECORD = re.compile(
    r"(?=\d)(?:(?<![\w.,/-])\d{3}-\d{2}-\d{4}(?![\w-])"
    r"|(?<![\w.,/-])\d{2,4}-\d{2}-\d{2}(?![\w-])"
    r"|(?<![\w.,/$-])\d{7,14}(?![\w.]?\d|[\w%]))"
    r"|(?=[A-Z])(?<![\w-])[A-Z]{1,4}-?\d{6,}+(?!\w)"
)

_EMAIL = re.compile(r"(?<![\w.+'-])[\w.+'-]++@[\w-]++(?:\.[\w-]++)++")
_URL = re.compile(
    r"(?i:\b(?:https?|ftp)://[^\s<>\"]+|\bwww\.[^\s<>\"]+"
    r"|(?<![@\w.-])(?:[a-z0-9-]++\.)+(?:com|org|net|edu|gov|info|io|health|example"
    r"|co\.uk)(?![a-z0-9-])(?:/[^\s<>\"]*)?)"
    r"|(?<![\d.])\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?![\d.])"
)

_STREETS = sorted(listed_words("streets"))
_STREET = (
    rf"(?:Dr(?!\.?[ \t]+[A-Z])|{'|'.join(_STREETS)}|STREET|ST|AVENUE|AVE|ROAD|RD|LANE|LN|DRIVE|DR|COURT|CT"
    r"|BOULEVARD|BLVD|WAY|PLACE|PL)"
)
_STATES = (
    "AL|AK|AZ|AR|CA|CO|CT|DE|FL|GA|HI|ID|IL|IN|IA|KS|KY|LA|ME|MD|MA|MI|MN|MS|MO|MT|NE|NV|NH|NJ|NM|NY|NC|ND"
    "|OH|OK|OR|PA|RI|SC|SD|TN|TX|UT|"
    "VT|VA|WA|WV|WI|WY|DC|PR|VI|GU|AS|MP|PW|FM|MH|Alabama|Alaska|Arizona|Arkansas|California|Colorado"
    "|Connecticut|Delaware|Florida|Georgia|"
    "Hawaii|Idaho|Illinois|Indiana|Iowa|Kansas|Kentucky|Louisiana|Maine|Maryland|Massachusetts|Mass\\.?"
    "|Michigan|Minnesota|Mississippi|"
    "Missouri|Montana|Nebraska|Nevada|New Hampshire|New Jersey|New Mexico|New York|North Carolina"
    "|North Dakota|Ohio|Oklahoma|Oregon|"
    "Pennsylvania|Rhode Island|South Carolina|South Dakota|Tennessee|Texas|Utah|Vermont|Virginia|Washington"
    "|West Virginia|Wisconsin|Wyoming"
)
_CAPITAL = r"(?:[A-ZÀ-Þ][\w'’.-]{0,40}+|\d{1,3}(?:st|nd|rd|th))"
_TOWN = rf"{_CAPITAL}(?:[ -](?:{_CAPITAL}|on|upon|of|the|by)){{0,3}}"
_ZIP = r"\d{5}(?:-\d{4})?"
_UNIT = (
    r"(?:,?\s*(?:(?i:apt|apartment|suite|ste|unit|floor|fl|room|rm|bldg|flat)\.?\s*+(?:#\s*+)?[\w-]{0,9}\d[\w-]{0,9}+(?![\w-])"
    r"|(?i:apt|apartment|suite|ste)\.?\s*[A-Z]\b|#\s*[\w-]+))"
)
_REST = rf"(?:,?\s+{_TOWN},?\s+(?:{_STATES})(?!\w)(?:,?\s+{_ZIP})?)?"
_FROM_A_HOUSE = (
    rf"(?<![\w.,/-])\d{{1,6}}[A-Za-z]?\s+(?:{_CAPITAL}\s+){{0,4}}{_CAPITAL}{_UNIT}?,?\s+{_TOWN}"
    rf",?\s+(?:{_STATES}),?\s+{_ZIP}(?!\d)",
    rf"(?<![\w.,/-])\d{{1,6}}[A-Za-z]?(?:-\d+)?[ \t]+(?:[NSEW]{{1,2}}\.?[ \t]+)?"
    rf"(?:{_CAPITAL}[ \t]+){{1,4}}{_STREET}\b\.?(?:\s+[NSEW]{{1,2}}\b\.?)?{_UNIT}?{_REST}",
    rf"(?<![\w.,/-])\d{{1,6}}[A-Za-z]?[ \t]+(?:{_CAPITAL}[ \t]+){{0,3}}{_CAPITAL}{_UNIT}{_REST}",
    rf"(?i:(?<=at )|(?<=to )|(?<=from )|(?<=of )|(?<=on )|(?<=address: ))(?!(?:19|20|21|22)\d\d )\d{{2,6}}\s+"
    rf"[A-Z][a-z]+\s+[A-Z][a-z]+(?:\s+[A-Z][a-z]+)?(?!\w){_REST}",
)
_FROM_A_TOWN = (
    rf"(?<!\w)(?:(?:PSC|CMR|Unit)\s+\d+,?\s+Box\s+\d+|[A-Z]{{2,5}}\s+{_CAPITAL}),?\s+(?:APO|FPO|DPO)"
    rf",?\s+A[AEP]\s+{_ZIP}(?!\d)",
    rf"(?<!\w){_TOWN},\s+(?:{_STATES}),?\s+{_ZIP}(?!\d)",
    rf"(?<!\w)[A-ZÀ-Þ][a-zà-ÿ]\w*(?:[ -][A-Z][a-z]\w*){{0,3}},[ ]+(?!MD|PA|MS|ND|DO)(?:{_STATES})(?!\w)",
    r"(?i:(?<=in )|(?<=of )|(?<=from )|(?<=to )|(?<=near )|(?<=, ))"
    r"[A-ZÀ-Þ][a-zà-ÿ]\w*(?:[ -][A-Z][a-z]\w*){0,3},[ ]+(?:MD|PA|MS|ND)(?!\w)",
    rf"(?<!\w)(?:{_STATES}),?\s+{_ZIP}(?!\d)",
)
_ADDRESS = re.compile(
    rf"(?=\d)(?:{'|'.join(_FROM_A_HOUSE)})"
    rf"|(?<!\w)[pP](?i:\.?\s?o\.? box)\s+\d+{_REST}"
    rf"|(?=[A-ZÀ-Þ])(?:{'|'.join(_FROM_A_TOWN)})"
    r"|(?<!\w)[zZ](?i:ip(?: ?code)?[:\s]+)(?P<zip>\d{5}(?:-\d{4})?)"
)
_LIVES = re.compile(
    r"\b(?i:lives?|living|resid(?:es?|ing)|residen(?:ce|t)|born|raised|grew up|moved|relocated"
    r"|home)\s+(?:(?i:in|to|from|of|at|near|outside)\s+)"
    r"(?P<town>[A-ZÀ-Þ][a-zà-ÿ'’]{2,}(?:[ -][A-ZÀ-Þ][a-zà-ÿ'’]+){0,2})"
)


def find_patterns(text: str) -> list[PhiSpan]:
    """The identifiers that a pattern describes, in order and without overlaps; earlier patterns win."""
    spans: list[PhiSpan] = []
    for of_kind in (
        _matches(_EMAIL, "email", text),
        _matches(_URL, "url", text),
        _matches(_ADDRESS, "address", text),
        _labelled_records(text),
        _matches(_PHONE, "phone", text),
        _matches(_LIVES, "address", text),
        _spans("date", dates.full_dates(text)),
        _spans("date", dates.without_year(text)),
        _spans("date", dates.expected(text)),
        _matches(_RECORD, "record", text),
        _matches(_AGE, "age", text),
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
    starts = [span.start for span in kept]

    def is_free(span: PhiSpan) -> bool:
        i = bisect_left(starts, span.end)
        return i == 0 or kept[i - 1].end <= span.start

    return sorted([*kept, *filter(is_free, more)], key=lambda span: span.start)


def _spans(kind: PhiKind, spans: Iterable[tuple[int, int]]) -> Iterator[PhiSpan]:
    return (PhiSpan(kind, start, end) for start, end in spans)


def _matches(pattern: re.Pattern[str], kind: PhiKind, text: str) -> Iterator[PhiSpan]:
    """The matches of a pattern; where a group of ``_INNER`` matched, it is the identifier and the rest its label."""
    for match in pattern.finditer(text):
        group = match.lastgroup if match.lastgroup in _INNER else None
        start, end = match.span(group) if group else match.span()
        yield PhiSpan(kind, start, end)


_INNER = frozenset(
    {"labelled", "pager", "age", "after", "apposed", "relative", "decade", "said", "zip", "town"}
)


def _labelled_records(text: str) -> Iterator[PhiSpan]:
    """Record numbers after a label; they are searched before telephone numbers and dates, because the label decides."""
    for match in _LABELLED.finditer(text):
        if _is_identifier(match) and not dates.begins(text, match.start("number")):
            yield PhiSpan("record", *match.span("number"))


def _is_identifier(label: re.Match[str]) -> bool:
    """Whether the number identifies somebody or something, and is not a year, an amount or a count."""
    number, bare = label["number"], _BARE.fullmatch(label["label"])
    digits = [sum(map(str.isdigit, group)) for group in number.split()]
    if sum(digits) < 5 and _IS_AMOUNT.match(label.string, label.end()):
        return False
    if bare and not _NUMBERED.search(label["mark"]):
        return max(digits) > 3 and not _IS_YEAR.fullmatch(number)
    return max(digits) >= 3 or (sum(digits) >= 5 and not bare)
