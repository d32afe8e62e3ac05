"""Date patterns in notes, in figures and in words, and the numbers that look like dates. A year alone may stay."""

import re
from collections.abc import Iterator

from data_pipeline.notes.deidentification.indexed_text import IndexedPattern, IndexedText

Span = tuple[int, int]

MONTH = (
    r"(?:(?i:jan(?:uary)?|feb(?:ruary)?|apr(?:il)?|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?"
    r"|dec(?:ember)?)|Mar(?:ch)?|MAR(?:CH)?|May|MAY)\.?"
)
"""Names of months; lower-case ``may`` and ``march`` are left out, because they are words too."""
WORD_MONTH = r"(?:mar(?:ch)?|may)\.?"
"""Months that are words too, which count beside a year, an ordinal number or a preposition."""
DAY = r"(?:3[01]|[12]\d|0?[1-9])"
YEAR = r"(?:(?:19|20|21|22)\d\d)"
_SHORT_YEAR = rf"(?:{YEAR}|['’]?\d\d)"
_NUMERIC = r"(?:1[0-2]|0?[1-9])"
_PADDED_MONTH, _PADDED_DAY = r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
_SINCE = (
    r"(?i:(?<=\bon )|(?<=\bby )|(?<=\btill )|(?<=\bsince )|(?<=\buntil )|(?<=\bfrom )|(?<=\bafter )"
    r"|(?<=\bbefore )|(?<=\bthrough )|(?<=\bdated ))"
)
AMOUNT = (
    r"[ \t]*+(?:[%°]|(?i:percent|m[cgl]|mcg|[µu]g|gm?|kg|dl|l|cc|units?|iu|meq|mmol|mm|cm|mmhg|fr(?:ench)?|bpm|lbs?|oz"
    r"|k?cal|sec(?:onds?)?|min(?:utes?)?|hours?|hrs?|days?|weeks?|months?|years?|yrs?|times|degrees|beats)\b)"
)
"""The unit that follows a number of a measurement."""

_FROM_A_NUMBER = (
    rf"(?<![\d/.-]){YEAR}(?P<a>[-/.]){_NUMERIC}(?P=a){DAY}(?![\d/]|[-.]\d)",
    rf"(?<![\d/.-])(?:{_NUMERIC}(?P<b>[-/.]){DAY}|{DAY}(?P<c>[-/.]){_NUMERIC})(?:(?P=b)"
    rf"|(?P=c)){YEAR}(?![\d/]|[-.]\d)",
    rf"(?<![\d/.-])(?:{_NUMERIC}(?P<d>[-/]){DAY}|{DAY}(?P<e>[-/]){_NUMERIC})(?:(?P=d)|(?P=e))\d\d(?![\d/%]"
    rf"|[-.]\d)",
    rf"(?<![\d.])(?:{DAY}(?:st|nd|rd|th)?(?:\s+of\s+|[ -]?){MONTH}(?:(?:,?\s*"
    rf"|-){_SHORT_YEAR}(?!\d))?)(?![\w'’])",
    rf"(?<![\d.]){DAY}(?:st|nd|rd|th)?(?:\s+of\s+|[ -]?){WORD_MONTH}(?:,?\s*|-)(?:{YEAR}|['’]\d\d)(?!\d)",
    rf"(?<![\d.])(?:{DAY}(?:st|nd|rd|th)?\s+of|{_SINCE}{DAY})\s+{WORD_MONTH}(?![\w'’])",
    rf"(?<![\d/.-])(?:{_PADDED_MONTH}\.{_PADDED_DAY}|{_PADDED_DAY}\.{_PADDED_MONTH})\.\d\d(?![\d/%]|[-.]\d)",
    rf"(?<![\d/.-])(?:{_NUMERIC}/{YEAR}(?![\d/])|{_PADDED_MONTH}-{YEAR}(?![\d/]|[-.]\d|{AMOUNT}))",
    rf"(?<![\d/.-])(?:0[1-9]\.{YEAR}(?![\d/%]|[-.]\d)|{YEAR}-0[1-9](?![\d/-]|\.\d))",
)
_FROM_A_MONTH = (
    rf"(?<!\w){MONTH}(?:\s+|-)(?:the\s+)?{DAY}(?:st|nd|rd|th)?(?![\d%/]|[.:]\d|\s*(?:mg|mcg|ml|g|kg|units?"
    rf"|%))(?:(?:,\s*|\s+|-){YEAR}(?!\d)|,\s*['’]\d\d(?!\d)|-\d\d(?!\d))?",
    rf"(?<!\w){MONTH},?\s+(?:of\s+)?(?:{YEAR}|['’]\d\d)(?!\d)",
    rf"(?<!\w){WORD_MONTH}(?:\s+|-)(?:the\s+)?{DAY}"
    rf"(?:(?:st|nd|rd|th)?(?:,\s*|\s+|-)(?:{YEAR}|['’]\d\d)(?!\d)|(?:st|nd|rd|th)(?!\w))",
    rf"(?<!\w){WORD_MONTH},?\s+(?:of\s+)?{YEAR}(?!\d|{AMOUNT})",
    rf"{_SINCE}{WORD_MONTH}\s+{DAY}(?![\w%/]|[.:]\d|{AMOUNT})",
)
_DATE = IndexedPattern(rf"(?:{'|'.join(_FROM_A_NUMBER)})|(?<!\w)(?:{'|'.join(_FROM_A_MONTH)})")

_PARTIAL = IndexedPattern(
    rf"(?:(?<![\w/.,<>=+-])|(?<=\d/\d-)|(?<=\d/\d\d-))(?P<month>{_NUMERIC})/(?P<day>{DAY})(?![\w/%]|\.\d"
    rf"|[+]|-\d?/)"
)
_DAY_FIRST = IndexedPattern(
    rf"(?<=\s)(?P<day>1[3-9]|2\d|3[01])/(?P<month>{_NUMERIC})(?![\w/%]|\.\d|[+]|-\d?/)"
)
_ADMITTED = re.compile(
    r"\b(?:admit(?:ted)?|admission|discharged?|transferred|seen|surgery|born|dated?|dob|died|fell)(?: on)?[:\s]+$",
    re.IGNORECASE,
)
"""Words behind which even a number that is no month begins a date."""
_TERSE = IndexedPattern(
    rf"(?<![\w/.,-])(?:(?:{_NUMERIC}\.{DAY}|{DAY}\.{_NUMERIC})\.\d\d|1[0-2]\.{YEAR}|{YEAR}-1[0-2])"
    r"(?![\w/%-]|\.\d)"
)
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
_PARTS_AFTER = re.compile(
    r"\s*(?:quadrants|limbs|leads|vessels|segments|ports|attempts|sessions|questions)\b", re.IGNORECASE
)
"""What of several some are: ``3/4 quadrants``. Unlike a score it may follow a date: ``on 3/14 leads were drawn``."""
_HEADING = re.compile(r"(?:^|[.;\n])\s*$")
_DATED = re.compile(
    r"\b(?:on|dated?|since|note|birth|dob|date|seen|comparison|through|until)\s*:?\s*$", re.IGNORECASE
)
_DAY_WORDS = (
    r"on|since|from|until|till|through|thru|between|by|dated?|seen|admit(?:ted)?|admission"
    r"|discharged?|d/c(?:'?d)?|dob|born|"
    r"comparison|compared (?:to|with)|note|ending|starting|started|due|last|lmp|labs?|ct|mri|cxr|x-?ray|echo"
    r"|tte|ekg|ecg|adm|dos|"
    r"performed|obtained|drawn|follow-?up|appointment|visit|surgery|procedure|signed|dictated|as of|week of"
    r"|prior|(?:mon|tues?|wed(?:nes)?|thu(?:rs?)?|fri|sat(?:ur)?|sun)(?:day)?\.?,?"
)
_DAY_WORD_BEFORE = re.compile(rf"\b(?:{_DAY_WORDS})\s*$", re.IGNORECASE)
_DAY_BEFORE = re.compile(rf"(?:\b(?:{_DAY_WORDS}|and|to)|[(\[:;-])\s*$", re.IGNORECASE)
_DAY_AFTER = re.compile(
    rf"\s*;|\s*(?:to|through|thru|until|till|-|–)\s*(?:{_NUMERIC}/{DAY}|{YEAR}-|{DAY} {MONTH}"
    rf"|{MONTH} \d)(?!\d)",
    re.IGNORECASE,
)


def full_dates(note: IndexedText) -> Iterator[Span]:
    """Dates with a year or with a named month."""
    yield from (match.span() for match in note.matches(_DATE))


def begins(text: str, start: int) -> bool:
    """Whether a date with a year or a named month begins at ``start``."""
    return _DATE.regex.match(text, start) is not None


def without_year(note: IndexedText) -> Iterator[Span]:
    """Dates of a month and a day, which the words around them distinguish from fractions, grades and scores."""
    text = note.text
    for match in note.matches(_PARTIAL):
        before, after = text[max(0, match.start() - 24) : match.start()], text[match.end() : match.end() + 24]
        if _is_day(match, before, after):
            yield match.span()
    for match in note.matches(_DAY_FIRST):
        if _ADMITTED.search(text, max(0, match.start() - 24), match.start()):
            yield match.span()


def expected(note: IndexedText) -> Iterator[Span]:
    """Dates that count only after a word such as ``on``; elsewhere they are a section, a decimal or a span of years."""
    for match in note.matches(_TERSE):
        cue = _DATED if match.group().count(".") < 2 else _DAY_WORD_BEFORE
        if cue.search(note.text, max(0, match.start() - 24), match.start()):
            yield match.span()


def _is_day(match: re.Match[str], before: str, after: str) -> bool:
    month, day = int(match["month"]), int(match["day"])
    padded = "0" in (match["month"][0], match["day"][0])
    if _SCORE_AFTER.match(after) or (month == day < 6 and not padded and not _DATED.search(before)):
        return False
    if padded and len(match["month"]) == len(match["day"]):
        return True
    if _HEADING.search(before) and after[:1] == ":":
        return True
    if _PARTS_AFTER.match(after) and not _DAY_WORD_BEFORE.search(before):
        return day > 12
    if _DAY_BEFORE.search(before) or _DAY_AFTER.match(after):
        return True
    if _SCORE_BEFORE.search(before):
        return False
    return day > 12 or (month != day and day > 10 and month < day)
