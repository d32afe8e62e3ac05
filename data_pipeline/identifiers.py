"""Identifiers that have a shape: dates, ages over 89, telephone and record numbers, addresses, e-mail and URLs.

The classes are those of the HIPAA Safe Harbor rule (45 CFR 164.514(b)(2)). A year alone, a time of day and a weekday
may stay. Names have no shape; they are in ``people``.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from data_pipeline.alternatives import caseless
from data_pipeline.names import listed_words

Kind = Literal["name", "date", "age", "phone", "record", "address", "email", "url"]


class Found(NamedTuple):
    """``text[start:end]`` tells who somebody is."""

    kind: Kind
    start: int
    end: int


MONTH = (
    r"(?:(?i:jan(?:uary)?|feb(?:ruary)?|apr(?:il)?|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?"
    r"|dec(?:ember)?)|Mar(?:ch)?|MAR(?:CH)?|May|MAY)\.?"
)
"""``may`` and ``march`` are words."""
_DAY = r"(?:3[01]|[12]\d|0?[1-9])"
_YEAR = r"(?:(?:19|20|21|22)\d\d)"
_SHORT_YEAR = rf"(?:{_YEAR}|['’]?\d\d)"
_NUMERIC = r"(?:1[0-2]|0?[1-9])"

_FROM_A_NUMBER = (
    rf"(?<![\d/.-]){_YEAR}(?P<a>[-/.]){_NUMERIC}(?P=a){_DAY}(?![\d/]|[-.]\d)",
    rf"(?<![\d/.-])(?:{_NUMERIC}(?P<b>[-/.]){_DAY}|{_DAY}(?P<c>[-/.]){_NUMERIC})(?:(?P=b)"
    rf"|(?P=c)){_YEAR}(?![\d/]|[-.]\d)",
    rf"(?<![\d/.-])(?:{_NUMERIC}(?P<d>[-/]){_DAY}|{_DAY}(?P<e>[-/]){_NUMERIC})(?:(?P=d)|(?P=e))\d\d(?![\d/%]"
    rf"|[-.]\d)",
    rf"(?<![\d.])(?:{_DAY}(?:st|nd|rd|th)?(?:\s+of\s+|[ -]?){MONTH}(?:(?:,?\s*"
    rf"|-){_SHORT_YEAR}(?!\d))?)(?![\w'’])",
    rf"(?<![\d/.-]){_NUMERIC}/{_YEAR}(?![\d/])",
)
_FROM_A_MONTH = (
    rf"(?<!\w){MONTH}(?:\s+|-)(?:the\s+)?{_DAY}(?:st|nd|rd|th)?(?![\d%/]|[.:]\d|\s*(?:mg|mcg|ml|g|kg|units?"
    rf"|%))(?:(?:,\s*|\s+|-){_YEAR}(?!\d)|,\s*['’]\d\d(?!\d)|-\d\d(?!\d))?",
    rf"(?<!\w){MONTH},?\s+(?:of\s+)?{_YEAR}(?!\d)",
)
_DATE = re.compile(
    rf"(?=\d)(?:{'|'.join(_FROM_A_NUMBER)})|(?=[JFMASONDjfasond])(?:{'|'.join(_FROM_A_MONTH)})"
)

_PARTIAL = re.compile(
    rf"(?:(?<![\w/.,<>=+-])|(?<=\d/\d-)|(?<=\d/\d\d-))(?P<month>{_NUMERIC})/(?P<day>{_DAY})(?![\w/%]|\.\d"
    rf"|[+]|-\d?/)"
)
"""Month and day, which looks like a fraction, a grade or a score."""
_SCORE_BEFORE = re.compile(
    r"\b(?:pain|strength|pulses?|reflexes|grade[ds]?|rat(?:ed|ing|io)|scor(?:ed?|ing)|scale|power|motor|dtrs?"
    r"|murmurs?|gcs|apgars?|"
    r"bp|pressure|vision|acuity|sem|is|was|are|an?|about|only|over|x|times|up|down|oriented|o|level"
    r"|severity|intensity|"
    r"bilaterally|extremit(?:y|ies)|throughout|flexion|extension|biceps|grip|toes|intact|took|take|ate"
    r"|drank)\s*[:=]?\s*$",
    re.IGNORECASE,
)
_SCORE_AFTER = re.compile(
    r"\s*(?:systolic|diastolic|holosystolic|ejection|murmur|strength|pain|scale|in (?:severity|intensity"
    r"|strength|all|the|bilateral|upper|lower)|"
    r"tab|cup|ns\b|bottles?|sets?|blood|cultures?|sirs|criteria|pulses?|reflexes|weeks?|days?|hours?|h\b|mg"
    r"|ml|inch|cm|mm|of\b|points?|"
    r"throughout|bilat|power|motor|minutes|sem\b|sm\b|dose|strips?|nodes|lymph|cores?|positive|negative"
    r"|patients|stud|with (?:rest|activity))",
    re.IGNORECASE,
)
_HEADING = re.compile(r"(?:^|[.;\n])\s*$")
_DATED = re.compile(
    r"\b(?:on|dated?|since|note|birth|dob|date|seen|comparison|through|until)\s*:?\s*$", re.IGNORECASE
)
_DAY_BEFORE = re.compile(
    r"(?:\b(?:on|since|from|until|till|through|thru|between|by|dated?|seen|admit(?:ted)?|admission"
    r"|discharged?|d/c(?:'?d)?|dob|born|"
    r"comparison|compared (?:to|with)|note|ending|starting|started|due|last|lmp|labs?|ct|mri|cxr|x-?ray|echo"
    r"|tte|ekg|ecg|and|to|adm|dos|"
    r"performed|obtained|drawn|follow-?up|appointment|visit|surgery|procedure|signed|dictated|as of|week of"
    r"|prior)|[(\[:;-])\s*$",
    re.IGNORECASE,
)
_DAY_AFTER = re.compile(
    rf"\s*;|\s*(?:to|through|thru|until|till|-|–)\s*(?:{_NUMERIC}/{_DAY}|{_YEAR}-|{_DAY} {MONTH}"
    rf"|{MONTH} \d)(?!\d)",
    re.IGNORECASE,
)
_AGE = re.compile(
    r"(?<![\d.,/-])(?P<age>(?:9\d|1[01]\d)|(?i:ninety)(?:[ -](?i:one|two|three|four|five|six|seven|eight"
    r"|nine))?"
    r"|(?i:(?:one|a) hundred(?: and (?:one|two|three|four|five|six|seven|eight|nine|ten))?))"
    r"(?=\+?[\s-]*(?:(?i:y/?\.?o\b|y\.\s?o\.|yrs?\b|years?[ -](?:old|of age)|years?,? (?:male|female|man"
    r"|woman|gentleman|lady)|yo[MF]\b)"
    r"|[MF]\b(?![a-z])|(?i:(?:male|female|man|woman|gentleman|lady)\b)))"
    r"|(?i:\b(?:age[ds]?|turned|turning|age(?:d)? of|age is)[:\s]+)(?P<after>9\d|1[01]\d)(?![\d.%/])"
    r"|(?i:\bin (?:his|her|their) (?:early |mid |late |mid-)?)(?P<decade>(?i:nineties|90['’]?s))"
    r"|[A-Z][a-z'’-]+,\s(?P<apposed>9\d|1[01]\d)(?=,)"
)

_PHONE = re.compile(
    r"(?=[\d(+])(?<![\d.-])(?:\+\d{1,3}[\s.-]?|001[\s.-]|1[\s.-])?(?:\(\d{3}\)[\s.-]?|\d{3}[\s.-])\d{3}[\s.-]\d{4}"
    r"(?:\s*(?:x|ext\.?|extension)\s*#?\d{1,6})?(?![\d-])"
    r"|\+\d{1,3}[\s.(-]{0,2}\d(?:[\s.()-]{0,2}\d){6,13}(?!\d)"
    r"|(?=[:#. \t])(?i:(?<=tel)|(?<=phone)|(?<=call)|(?<=fax)|(?<=cell)|(?<=mobile)|(?<=home)|(?<=work)|(?<=contact)"
    r"|(?<=number)|(?<=dial))"
    r"(?:[ \t]*(?i:is|at|no\.?|number|phone"
    r"|#)){0,2}[:#. \t]{1,3}(?P<labelled>\(?\d(?:[\s.()-]{0,2}\d){6,12}(?:\s*(?:x"
    r"|ext\.?)\s*\d{1,6})?)(?![\d-])"
    r"|(?=[pPbBeE])(?i:\b(?:pager|beeper|pgr|pgy|ext(?:ension)?)\b\.?(?:\s*(?:is|at|no\.?"
    r"|number))?)[:#\s]*(?P<pager>\d{3,7}(?:[- ]\d{2,4}){0,2})(?!\d)"
    r"|(?<![\w-])[2-9]\d{2}-\d{4}(?![\d-])|(?<!\w)[pP]\d{5}(?!\d)"
)

_RECORD = re.compile(
    r"\b"
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
    + r"(?i:(?:\s*(?:no\b\.?|num(?:ber)?\b|id\b|#|/))*\s*(?:is\s+)?[:#=]*\s*)"
    r"(?P<labelled>(?=[\w-]*\d[\w-]*\d[\w-]*\d)(?:[A-Za-z]{0,4}-?)?\d[\dA-Za-z]*(?:[- ]?\d[\dA-Za-z]*){0,5})(?![\w])"
    r"|(?<![\w.,/-])\d{3}-\d{2}-\d{4}(?![\w-])"
    r"|(?<![\w.,/-])\d{2,4}-\d{2}-\d{2}(?![\w-])"
    r"|(?<![\w.,/$-])\d{7,14}(?![\w.]?\d|[\w%])"
    r"|(?<![\w-])[A-Z]{1,4}-?\d{6,}(?!\w)"
)

_EMAIL = re.compile(r"[\w.+'-]+@[\w-]+(?:\.[\w-]+)+")
_URL = re.compile(
    r"(?i:\b(?:https?|ftp)://[^\s<>\"]+|\bwww\.[^\s<>\"]+"
    r"|(?<![@\w.])(?:[a-z0-9-]+\.)+(?:com|org|net|edu|gov|info|io|health|example"
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
_CAPITAL = r"(?:[A-ZÀ-Þ][\w'’.-]*|\d{1,3}(?:st|nd|rd|th))"
_TOWN = rf"{_CAPITAL}(?:[ -](?:{_CAPITAL}|on|upon|of|the|by)){{0,3}}"
_ZIP = r"\d{5}(?:-\d{4})?"
_UNIT = (
    r"(?:,?\s*(?:(?i:apt|apartment|suite|ste|unit|floor|fl|room|rm|bldg|flat)\.?\s*#?\s*[\w-]*\d[\w-]*"
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


def shaped(text: str) -> list[Found]:
    """Every identifier that has a shape, in order, none overlapping another."""
    taken: list[Found] = []
    for finds in (
        _whole(_EMAIL, "email", text),
        _whole(_URL, "url", text),
        _whole(_ADDRESS, "address", text),
        _labelled_records(text),
        _whole(_PHONE, "phone", text),
        _whole(_LIVES, "address", text),
        _whole(_DATE, "date", text),
        _partial_dates(text),
        _whole(_RECORD, "record", text),
        _whole(_AGE, "age", text),
    ):
        taken = without_overlaps(taken, finds)
    return taken


def without_overlaps(kept: list[Found], more: Iterable[Found]) -> list[Found]:
    """``kept`` with those of ``more`` that touch none of it. Both are in order, and so is what is returned."""
    starts = [found.start for found in kept]

    def free(found: Found) -> bool:
        i = bisect_left(starts, found.end)
        return i == 0 or kept[i - 1].end <= found.start

    return sorted([*kept, *filter(free, more)], key=lambda found: found.start)


def _whole(pattern: re.Pattern[str], kind: Kind, text: str) -> Iterator[Found]:
    """Matches; where a group took part, it is the identifier and the rest its label."""
    for match in pattern.finditer(text):
        group = match.lastgroup if match.lastgroup in _INNER else None
        start, end = match.span(group) if group else match.span()
        yield Found(kind, start, end)


_INNER = frozenset({"labelled", "pager", "age", "after", "apposed", "decade", "zip", "town"})


def _labelled_records(text: str) -> Iterator[Found]:
    """Before telephone numbers and dates are looked for: what a label calls a record number is one."""
    for match in _RECORD.finditer(text):
        if match.lastgroup != "labelled" or _DATE.match(text, match.start("labelled")):
            continue
        if sum(letter.isdigit() for letter in match["labelled"]) >= 3:
            yield Found("record", *match.span("labelled"))


def _partial_dates(text: str) -> Iterator[Found]:
    for match in _PARTIAL.finditer(text):
        before, after = text[max(0, match.start() - 24) : match.start()], text[match.end() : match.end() + 24]
        if _is_day(match, before, after):
            yield Found("date", *match.span())


def _is_day(match: re.Match[str], before: str, after: str) -> bool:
    month, day = int(match["month"]), int(match["day"])
    padded = "0" in (match["month"][0], match["day"][0])
    if _SCORE_AFTER.match(after) or (month == day < 6 and not padded and not _DATED.search(before)):
        return False
    if padded and len(match["month"]) == len(match["day"]):
        return True
    if _HEADING.search(before) and after[:1] == ":":
        return True
    if _DAY_BEFORE.search(before) or _DAY_AFTER.match(after):
        return True
    if _SCORE_BEFORE.search(before):
        return False
    return day > 12 or (month != day and day > 10 and month < day)
