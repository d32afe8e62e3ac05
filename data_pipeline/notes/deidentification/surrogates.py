"""Surrogates: realistic replacements for identifiers, of the same shape, and consistent for each patient.

Every surrogate is derived by HMAC from a secret and the patient's number: without the secret no name or date can be
traced back, and equal inputs give equal notes. All dates of a patient shift by the same number of whole weeks, so that
intervals and weekdays stay.
"""

import hashlib
import hmac
import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import cache
from itertools import cycle
from typing import Literal

from data_pipeline.clinical_text import name_lexicon
from data_pipeline.notes.deidentification import dates_abroad
from data_pipeline.notes.deidentification.dates_in_words import in_figures
from data_pipeline.notes.deidentification.phi_patterns import PhiKind

OVER_89 = "90+"
"""The one class of all ages above 89, as HIPAA demands."""

_WEEKS = range(4, 261)
_SEASONS = ("winter", "spring", "summer", "fall")
_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
           "november", "december")  # fmt: skip


class Surrogates:
    """The surrogates of one patient, derived from the secret and the patient's number."""

    def __init__(self, secret: bytes, subject_id: int) -> None:
        self._secret = secret
        self._subject = subject_id
        weeks = self._number("shift", "", len(_WEEKS) * 2)
        self._shift = timedelta(weeks=_WEEKS[weeks // 2] * (1 if weeks % 2 else -1))

    def text(self, kind: PhiKind, original: str, written: datetime) -> str:
        """The surrogate of ``original``, an identifier in a note that was written then."""
        replace: dict[PhiKind, Callable[[str], str]] = {
            "name": self._name,
            "date": lambda day: self._date(day, written.date()),
            "age": lambda _: OVER_89,
            "phone": lambda number: self._digits("phone", number),
            "record": lambda number: self._digits("record", number),
            "address": self._address,
            "email": lambda _: (
                f"{self._pick('email', original, _surrogate_names()[0]).lower()}@mailbox.invalid"
            ),
            "url": lambda _: f"https://site{self._number('url', original, 10_000)}.invalid",
        }
        return replace[kind](original)

    def _number(self, kind: str, original: str, below: int) -> int:
        message = f"{self._subject}|{kind}|{original.lower()}".encode()
        return int.from_bytes(hmac.digest(self._secret, message, hashlib.sha256)[:8]) % below

    def _pick(self, kind: str, original: str, choices: tuple[str, ...]) -> str:
        return choices[self._number(kind, original, len(choices))]

    def _name(self, original: str) -> str:
        """A given name replaces a given name, a surname a surname, and an initial an initial."""
        token = name_lexicon.plain(original)
        if len(token) == 1:
            return chr(ord("A") + self._number("initial", token, 26))
        given, family = _surrogate_names()
        names = given if token in name_lexicon.load().given else family
        new = self._pick("name", token, names)
        if name_lexicon.plain(new) == token:
            new = names[(names.index(new) + 1) % len(names)]
        return new.upper() if original.isupper() else new.lower() if original.islower() else new

    def _digits(self, kind: str, original: str) -> str:
        """Other digits and letters in the same shape; the punctuation of a number does not change its surrogate."""
        key = re.sub(r"\W", "", original)
        message = f"{self._subject}|{kind}|{key}".encode()
        stream = cycle(hmac.digest(self._secret, message, hashlib.sha512))

        def replace(letter: str) -> str:
            if letter.isdigit():
                return str(next(stream) % 10)
            return chr(ord("A") + next(stream) % 26) if letter.isalpha() else letter

        return "".join(map(replace, original))

    def _address(self, original: str) -> str:
        """A street replaces a street and a town a town; the state is left out, as it means nothing without the town."""
        family = _surrogate_names()[1]
        town = f"{self._pick('town', original, family)}ville"
        if not original[:1].isdigit():
            return town if not original.isdigit() else f"{self._number('zip', original, 100_000):05d}"
        return f"{1 + self._number('house', original, 998)} {self._pick('street', original, family)} Street, {town}"

    def _date(self, original: str, written: date) -> str:
        figures = in_figures(dates_abroad.in_figures(original))
        for pattern, day_of in _READERS:
            match = pattern.fullmatch(figures)
            day = day_of(match, written) if match else None
            if match and day:
                return _format_like(match, self._shifted(day))
        return str(self._shifted(written))

    def _shifted(self, day: date) -> date:
        try:
            return day + self._shift
        except OverflowError:
            return day - self._shift  # the other way, because the calendar ends there


def _format_like(match: re.Match[str], day: date) -> str:
    """The day in the format of the original: with the same parts, in the same width and spelling."""
    parts = {name: span for name in match.re.groupindex if (span := match.span(name)) != (-1, -1)}
    text, shift = match.string, 0
    numbers = [match[name] for name in parts if name in ("month", "day")]
    padded = all(len(n) == 2 for n in numbers) and ("month" in parts or numbers[:1] < ["1"])
    for name, (start, end) in sorted(parts.items(), key=lambda item: item[1]):
        new = _part(name, text[start + shift : end + shift], day, padded)
        text = text[: start + shift] + new + text[end + shift :]
        shift += len(new) - (end - start)
    return text


def _part(name: str, old: str, day: date, padded: bool) -> str:
    if name == "year":
        return f"{day.year:04d}"[-len(old) :]
    if name == "next":
        return f"{day.year + 1:04d}"[-len(old) :]
    if name == "suffix":
        return {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10 if day.day not in (11, 12, 13) else 0, "th")
    if name == "season":
        season = _SEASONS[day.month % 12 // 3]
        return season.upper() if old.isupper() else season if old.islower() else season.title()
    if name == "word":
        word = _MONTHS[day.month - 1]
        word = word if len(old) > 4 or old.lower() in _MONTHS else word[:3]
        return word.upper() if old.isupper() else word if old.islower() else word.title()
    number = day.month if name == "month" else day.day
    return f"{number:02d}" if padded else str(number)


def _day(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None


def _year(match: re.Match[str], month: int, day: int, written: date) -> int:
    """The year of the date; where it has none, the year that brings the day nearest to when the note was written."""
    digits = match.groupdict().get("year")
    if digits and len(digits) == 4:
        return int(digits)
    if digits:
        century = written.year // 100 * 100 + int(digits)
        return century if century <= written.year + 20 else century - 100
    near = [d for year in (written.year - 1, written.year, written.year + 1) if (d := _day(year, month, day))]
    return min(near, key=lambda d: abs((d - written).days)).year if near else written.year


def _month_first(match: re.Match[str], written: date) -> date | None:
    month, day = int(match["month"]), int(match.groupdict().get("day") or 15)
    return _day(_year(match, month, day, written), month, day)


def _named_month(match: re.Match[str], written: date) -> date | None:
    month = next(i for i, name in enumerate(_MONTHS, 1) if name.startswith(match["word"].lower()[:3]))
    day = int(match.groupdict().get("day") or 15)
    return _day(_year(match, month, day, written), month, day)


def _season(match: re.Match[str], written: date) -> date | None:
    """The middle of the season; the winter of a year is that in which it begins with January."""
    season = match["season"].lower().replace("autumn", "fall")
    month = 3 * _SEASONS.index(season) + 1
    return _day(_year(match, month, 15, written), month, 15)


_WORD = r"(?P<word>[A-Za-z]{3,9})\.?"
_SUFFIX = r"(?P<suffix>st|nd|rd|th)?"
_OR_YEAR = r"(?:[-,\s]+['’]?(?P<year>\d{4}|\d\d))?"
_READERS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], date], date | None]], ...] = (
    (re.compile(r"(?P<year>\d{4})[-/.](?P<month>\d{1,2})[-/.](?P<day>\d{1,2})"), _month_first),
    (re.compile(r"(?P<month>\d{1,2})[-/.](?P<day>\d{1,2})(?:[-/.](?P<year>\d{4}|\d\d))?"), _month_first),
    (re.compile(r"(?P<day>\d{1,2})[-/.](?P<month>\d{1,2})(?:[-/.](?P<year>\d{4}|\d\d))?"), _month_first),
    (re.compile(r"(?P<month>\d{1,2})[-/.](?P<year>\d{4})"), _month_first),
    (re.compile(r"(?P<year>\d{4})-(?P<month>\d\d)"), _month_first),
    (re.compile(rf"(?P<day>\d{{1,2}}){_SUFFIX}(?:\s+of\s+|[ -]?){_WORD}{_OR_YEAR}"), _named_month),
    (re.compile(rf"{_WORD}[-\s]+(?:the\s+)?(?P<day>\d{{1,2}}){_SUFFIX}{_OR_YEAR}"), _named_month),
    (
        re.compile(
            r"(?P<season>(?i:spring|summer|autumn|fall|winter))[ ,/]+(?:(?:of|in) )?['’]?(?P<year>\d{4}|\d\d)"
            r"(?:[/-](?P<next>\d\d))?"
        ),
        _season,
    ),
    (re.compile(rf"{_WORD},?\s+(?:of\s+)?(?P<year>\d{{4}})"), _named_month),
)


@cache
def _surrogate_names() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The given names and surnames to choose surrogates from: names that are no other word."""
    lexicon = name_lexicon.load()

    def unambiguous(part: Literal["first", "last"]) -> tuple[str, ...]:
        return tuple(
            name for name in name_lexicon.american(part) if name.isalpha() and lexicon.kind(name) == "name"
        )

    return unambiguous("first"), unambiguous("last")
