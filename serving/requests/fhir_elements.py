"""FHIR's elements, R4 and R5: codes, times and references, and what keeps a resource from being used."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2})")
_DATE = re.compile(r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2})(?:T.*)?)?)?")

Resource = Mapping[str, Any]
"""A resource, or an element of one, as it was parsed from JSON."""


class Unused(Exception):  # noqa: N818 -- no failure: the reason why a resource is counted and left out
    """Why a resource can't be used; it repeats no value."""


def check_modifiers(resource: Resource) -> None:
    """Modifiers: by FHIR's rule one that a reader does not know may turn what is said into its opposite."""
    if resource.get("modifierExtension") or resource.get("implicitRules"):
        kind = resource.get("resourceType", "component")
        raise Unused(f"{kind}s with a modifier, which may change what they say")


def check_choice(element: Resource, name: str, called: str) -> None:
    """Choices, such as FHIR's value[x]: an element in two types says two things, and nobody knows which counts."""
    if sum(key.startswith(name) and element[key] is not None for key in element) > 1:
        raise Unused(f"{called} more than once, in different types")


def codes(concept: object) -> Iterator[tuple[str, str]]:
    """(system, code) of a CodeableConcept."""
    codings = concept.get("coding") if isinstance(concept, dict) else None
    for coding in codings if isinstance(codings, list) else []:
        if isinstance(coding, dict) and isinstance(coding.get("code"), str):
            yield str(coding.get("system", "")), coding["code"]


def instant(text: object) -> datetime | None:
    """A FHIR instant in UTC without a zone; None for a day alone, which has no hour."""
    if not isinstance(text, str) or not _TIME.fullmatch(text):
        return None
    try:
        return utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return None


def utc(time: datetime) -> datetime:
    """A time with its offset as all times here are: UTC without a zone."""
    return time.astimezone(UTC).replace(tzinfo=None)


def last_day(text: object) -> datetime | None:
    """The last day that a date may mean, so that nobody is taken for an adult too early."""
    match = _DATE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    year, month, day = (int(part) if part else None for part in match.groups())
    assert year is not None  # the pattern's first group always matches
    try:
        if day is not None and month is not None:
            return datetime(year, month, day)
        following = date(year + (month in (None, 12)), (month or 12) % 12 + 1, 1)
        return datetime.combine(following, datetime.min.time()) - timedelta(days=1)
    except ValueError:
        return None
