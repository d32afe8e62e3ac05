"""A floor: one thing that the policy asks, what the evidence says of it, and why it is not reached."""

import math
from dataclasses import dataclass

from training.evaluation.evaluation_report import Estimate


@dataclass(frozen=True)
class Floor:
    """One thing that the policy asks."""

    what: str
    asked: str
    found: str
    objection: str = ""
    """Why it is not reached; empty where it is."""
    limit: str = ""
    """What could not be judged, where the policy lets a version pass without it."""


def at_least(label: str, found: Estimate | None, least: float) -> Floor:
    """The lower end of the interval is not below ``least``."""
    problem = ""
    if not complete(found):
        problem = f"{label} is not estimable"
    elif found.low < least:  # type: ignore[union-attr, operator]  # complete saw numbers
        problem = f"{label} {shown(found)} may lie below {least:g}"
    return Floor(label, f"interval above {least:g}", told(found), problem)


def at_most(label: str, found: Estimate | None, most: float) -> Floor:
    """The upper end of the interval is not above ``most``."""
    problem = ""
    if not complete(found):
        problem = f"{label} is not estimable"
    elif found.high > most:  # type: ignore[union-attr, operator]
        problem = f"{label} {shown(found)} may lie above {most:g}"
    return Floor(label, f"interval below {most:g}", told(found), problem)


def within(label: str, found: Estimate | None, low: float, high: float) -> Floor:
    """The figure itself lies in a range, for an interval reaches it the easier the fewer events there are; and there is
    an interval."""
    problem = ""
    if not complete(found):
        problem = f"{label} is not estimable"
    elif not low <= found.value <= high:  # type: ignore[union-attr, operator]  # complete saw numbers
        problem = f"{label} {shown(found)} lies outside {low:g} to {high:g}"
    return Floor(label, f"{low:g} to {high:g}", told(found), problem)


def reaches(label: str, found: Estimate | None, low: float, high: float) -> Floor:
    """The interval has a value of a range: only what surely lies outside of it fails."""
    problem = ""
    if not complete(found):
        problem = f"{label} is not estimable"
    elif found.high < low or found.low > high:  # type: ignore[union-attr, operator]
        problem = f"{label} {shown(found)} lies outside {low:g} to {high:g}"
    return Floor(label, f"interval reaches {low:g} to {high:g}", told(found), problem)


def complete(estimate: Estimate | None) -> bool:
    """Whether the figure and both ends of its interval are there and are numbers."""
    if estimate is None:
        return False
    return all(x is not None and math.isfinite(x) for x in (estimate.value, estimate.low, estimate.high))


def told(estimate: Estimate | None) -> str:
    """What was found, also where it is not complete."""
    if estimate is None or estimate.value is None:
        return "not estimable"
    return shown(estimate) if complete(estimate) else f"{estimate.value:z.3f} (no interval)"


def shown(estimate: Estimate | None) -> str:
    """A complete estimate with its interval."""
    return f"{estimate.value:z.3f} ({estimate.low:z.3f} to {estimate.high:z.3f})" if estimate else "none"
