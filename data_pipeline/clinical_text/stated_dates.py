"""Stated dates: the day on which a document says that it was published or reviewed, or that it came into force."""

import calendar
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_STATED = re.compile(
    r"(?:^|[.,;|(]\s)\W{0,40}"  # more would take the square of a long line of signs
    r"(?P<what>(?:(?:last )?(?:date|published|updated|reviewed|revised|issued|approved)(?: on| in)?"
    r"|(?:valid|effective|in force)(?: from| since)?)\W{1,4}"
    r"(?:(?P<iso>\d{4}(?:-\d\d(?:-\d\d)?)?)|(?:(?P<day>\d{1,2})(?:st|nd|rd|th)?\.?\s)?"
    rf"(?P<month>{'|'.join(_MONTHS)})[a-z]{{0,6}}\.?\s(?:(?P<day_behind>\d{{1,2}}),\s)?(?P<year>\d{{4}})))\b",
    re.I | re.M,
)
_GOES_ON = re.compile(r"(?:,|\b(?:a|an|and|as|at|by|for|from|in|is|of|on|or|the|to|was|with))$", re.I)
_DATE = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?")


class StatedDate(NamedTuple):
    """A date as ``YYYY``, ``YYYY-MM`` or ``YYYY-MM-DD``, and the words that state it."""

    date: str
    start: int
    end: int
    """Of the words, from "Reviewed" on to the end of the date."""


def stated_dates(text: str) -> Iterator[StatedDate]:
    """The dates that a text states of a document, in their order.

    >>> [each.date for each in stated_dates("Stroke unit. Reviewed 2025-05-02, valid from 1 June 2025.")]
    ['2025-05-02', '2025-06-01']
    """
    for match in _STATED.finditer(text):
        date = match["iso"] or f"{match['year']}-{_MONTHS.index(match['month'].lower()) + 1:02}"
        day = match["day"] or match["day_behind"]
        yield StatedDate(f"{date}-{int(day):02}" if day else date, match.start("what"), match.end())


def statement(text: str, stated: StatedDate) -> str:
    """The sentence that states a date, from its words on: to its full stop, or to the end of a line that ends it."""
    said = ""
    for line in text[stated.start :].splitlines():
        goes_on = bool(_GOES_ON.search(said)) or line.lstrip()[:1].islower()
        if said and not (line.strip() and goes_on):
            break
        said = f"{said} {line.strip()}".lstrip()
        if end := re.search(r"[.;](?:\s|$)", said[stated.end - stated.start :]):
            return said[: stated.end - stated.start + end.start()]
    return said


def why_impossible(date: str) -> str:
    """Why nothing that exists can be of a date; empty where it can.

    >>> why_impossible("2026-02-31"), why_impossible("2024-02-29")
    ('is no day of the calendar', '')
    """
    year, month, day = (int(part or 1) for part in _DATE.fullmatch(date).groups())  # type: ignore[union-attr]
    if not (year and 1 <= month <= 12 and 1 <= day <= calendar.monthrange(year, month)[1]):
        return "is no day of the calendar"
    tomorrow = (
        (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
    )  # it may be that already, east of here
    return "lies in the future" if date > tomorrow[: len(date)] else ""
