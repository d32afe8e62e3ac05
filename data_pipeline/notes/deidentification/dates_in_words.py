"""Dates in words, with a Roman month, after a birth's label, holidays and seasons; and the first of them in figures."""

import re
from collections.abc import Iterator

from data_pipeline.notes.deidentification.dates import DAY, MONTH, WORD_MONTH, YEAR, Span
from data_pipeline.notes.deidentification.indexed_text import IndexedPattern, IndexedText
from data_pipeline.notes.deidentification.regex import caseless

ORDINALS = (
    *(
        "first",
        "second",
        "third",
        "fourth",
        "fifth",
        "sixth",
        "seventh",
        "eighth",
        "ninth",
        "tenth",
        "eleventh",
    ),
    *(
        "twelfth",
        "thirteenth",
        "fourteenth",
        "fifteenth",
        "sixteenth",
        "seventeenth",
        "eighteenth",
        "nineteenth",
    ),
    *("twentieth", "twenty-first", "twenty-second", "twenty-third", "twenty-fourth", "twenty-fifth"),
    *("twenty-sixth", "twenty-seventh", "twenty-eighth", "twenty-ninth", "thirtieth", "thirty-first"),
)
_ONES = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TO_NINETEEN = (
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    "nineteen",
)
_TENS = tuple(enumerate(("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"), 2))
_NUMBERS = {word: i for i, word in enumerate((*_ONES, *_TO_NINETEEN), start=1)}
_NUMBERS |= {ten: 10 * i for i, ten in _TENS}
_NUMBERS |= {f"{ten}-{one}": 10 * i + _NUMBERS[one] for i, ten in _TENS for one in _ONES}


def _any_of(words: tuple[str, ...]) -> str:
    return "(?:" + "|".join(sorted(words, key=len, reverse=True)).replace("-", "[ -]") + ")"


_DAY_WORDS = rf"{caseless(_any_of(ORDINALS)[3:-1])}(?:\s+day)?"
_YEAR_WORDS = (
    rf"(?i:(?:nineteen|twenty)[ -](?:hundred|(?:oh[ -])?{_any_of(tuple(_NUMBERS))})"
    rf"|two thousand(?:(?: and)?[ -]{_any_of(tuple(_NUMBERS))})?)"
)
_YEAR_NEXT = rf"(?:(?:,\s*|\s+)(?:{YEAR}(?!\d)|{_YEAR_WORDS}(?!\w)))"
_ROMAN = ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x", "xi", "xii")
_ROMAN_MONTH = _any_of(tuple(number.upper() for number in _ROMAN))
_LEAD = re.compile(r"\b(?i:on|since|over|before|after|until|last|this|by|for|at|around)[ \t]$")
_HOLIDAY = IndexedPattern(
    r"(?<!\w)"
    + caseless(
        r"christmas(?: eve| day)?|new year['’]?s?(?: eve| day)|easter(?: sunday| monday)?|good friday"
        r"|thanksgiving(?: day)?|hallowe['’]?en|independence day|labou?r day|memorial day|veterans day|columbus day"
        r"|valentine['’]?s day|st\.? patrick['’]?s day|mother['’]?s day|father['’]?s day|boxing day|eid(?: al-\w+)?"
        r"|juneteenth|patriots['’]? day|presidents['’]?s? day|(?:martin luther king|mlk)(?: jr\.?)? day|cinco de mayo"
        r"|bastille day|lunar new year|chinese new year|nowruz|ramadan|diwali|passover|hanukkah"
        r"|yom kippur|rosh hashanah?"
    )
    + rf"(?!\w)(?P<year>(?:,?\s+(?:of\s+)?|,\s*){YEAR}(?!\d))?"
)
_SEASON = IndexedPattern(
    rf"(?<!\w)(?:{caseless('spring|summer|autumn|winter')}(?:,? (?:of |in )?| ?/ ?)"
    r"|(?i:(?<=\bthe )|(?<=\bin )|(?<=\bsince )|(?<=\buntil )|(?<=\bearly )|(?<=\blate )|(?<=\bmid )"
    rf"|(?<=\bseen ))[fF](?i:all )(?:of )?)(?:{YEAR}(?:[/-]\d\d)?|['’]\d\d)(?!\w)"
)
"""A season with its year, which tells more than the year; ``fall 2019`` without a word of time may be an accident."""
_WITH_ROMAN = re.compile(rf"(?P<day>{DAY})(?P<r>[-./])(?P<month>{_ROMAN_MONTH})(?P=r)(?P<year>{YEAR})")
_DAY_FIRST = IndexedPattern(
    rf"(?<!\w){_DAY_WORDS}\s+(?:(?:of\s+)?{MONTH}|of\s+{WORD_MONTH}|{WORD_MONTH}(?={_YEAR_NEXT}))(?![\w'’])"
    rf"{_YEAR_NEXT}?"
)
_MONTH_FIRST = IndexedPattern(
    rf"(?<!\w)(?:{MONTH}|mar(?:ch)?)\s+(?:the\s+)?(?:{_DAY_WORDS}(?![\w-]){_YEAR_NEXT}?"
    rf"|{DAY}(?:st|nd|rd|th)?(?:,\s*|\s+){_YEAR_WORDS}(?!\w))"
)
_ROMAN_DATE = IndexedPattern(rf"(?<![\d/.-]){_WITH_ROMAN.pattern}(?!\d)")
_OF_A_BIRTH = IndexedPattern(
    r"(?i:\b(?:dob|d\.o\.b\b\.?|born(?: on)?|(?:date of )?birth(?:date| date|day)?))[ \t]*[:=]?[ \t]*"
    rf"(?P<day>\d{{1,2}} \d{{1,2}} (?:{YEAR}|\d\d)|\d{{1,2}}[/.-](?:{YEAR}|\d\d)|\d{{8}}|\d{{6}})(?![\d/.-])"
)
"""After its label whatever stands between the numbers of a date, or nothing."""


def find(note: IndexedText) -> Iterator[Span]:
    """Where such dates stand."""
    for pattern in (_DAY_FIRST, _MONTH_FIRST, _ROMAN_DATE, _SEASON):
        yield from (match.span() for match in note.matches(pattern))
    for match in note.matches(_HOLIDAY):
        if match["year"] or _LEAD.search(note.text, max(0, match.start() - 8), match.start()):
            yield match.span()
    yield from (match.span("day") for match in note.matches(_OF_A_BIRTH))


def in_figures(text: str) -> str:
    """A date whose day or year is in words, or whose month is a Roman number, in figures.

    >>> in_figures("third of March two thousand twenty-three"), in_figures("4.III.1957"), in_figures("03 04 1957")
    ('3rd of March 2023', '1957-03-04', '03/04/1957')
    """
    if roman := _WITH_ROMAN.fullmatch(text):
        return f"{roman['year']}-{_ROMAN.index(roman['month'].lower()) + 1:02}-{int(roman['day']):02}"
    if bare := _BARE.fullmatch(text):
        return "/".join(bare.groups())
    return _YEAR.sub(_year, _DAY.sub(_day, text, count=1))


_BARE = re.compile(r"(\d\d?) ?(\d\d?) ?(\d{4}|\d\d)")
_DAY, _YEAR = re.compile(rf"(?<!\w){_DAY_WORDS}(?!\w)"), re.compile(rf"(?<!\w){_YEAR_WORDS}(?!\w)")


def _day(words: re.Match[str]) -> str:
    number = (
        ORDINALS.index("-".join(words.group().lower().replace("-", " ").split()[:2]).removesuffix("-day")) + 1
    )
    suffix = {1: "st", 2: "nd", 3: "rd"}.get(number % 10 if number not in (11, 12, 13) else 0, "th")
    return f"{number}{suffix}"


def _year(match: re.Match[str]) -> str:
    words = [
        word
        for word in match.group().lower().replace("-", " ").split()
        if word not in ("and", "oh", "hundred")
    ]
    if words[:2] == ["two", "thousand"]:
        return str(2000 + _NUMBERS.get("-".join(words[2:]), 0))
    return str(100 * _NUMBERS[words[0]] + _NUMBERS.get("-".join(words[1:]), 0))
