"""A floor: one thing that the policy asks, what the evidence says of it, and why it is not reached."""

from collections.abc import Callable
from dataclasses import dataclass

from training.statistics.estimate import Estimate


@dataclass(frozen=True)
class Floor:
    """One thing that the policy asks."""

    label: str
    required: str
    observed: str
    objection: str = ""
    """Why it is not reached; empty where it is."""
    limit: str = ""
    """What could not be judged, where the policy lets a version pass without it."""


def at_least(label: str, estimate: Estimate | None, least: float) -> Floor:
    """A floor under the lower end of the interval, which is at least ``least``."""
    return on_interval(
        label,
        estimate,
        f"whole interval above {least:g}",
        lambda _value, low, _high: low >= least,
        f"may lie below {least:g}",
    )


def at_most(label: str, estimate: Estimate | None, most: float) -> Floor:
    """A floor on the upper end of the interval, which is at most ``most``."""
    return on_interval(
        label,
        estimate,
        f"whole interval below {most:g}",
        lambda _value, _low, high: high <= most,
        f"may lie above {most:g}",
    )


def within(label: str, estimate: Estimate | None, least: float, most: float) -> Floor:
    """A floor on the figure itself, which has an interval and lies in a range: the fewer the events, the easier an
    interval would reach it."""
    return on_interval(
        label,
        estimate,
        f"{least:g} to {most:g}",
        lambda value, _low, _high: least <= value <= most,
        f"lies outside {least:g} to {most:g}",
    )


def reaches(label: str, estimate: Estimate | None, least: float, most: float) -> Floor:
    """A floor on the whole interval, which has a value of the range: only what surely lies outside of it fails."""
    return on_interval(
        label,
        estimate,
        f"not surely outside {least:g} to {most:g}",
        lambda _value, low, high: low <= most and high >= least,
        f"lies outside {least:g} to {most:g}",
    )


def on_interval(
    label: str,
    estimate: Estimate | None,
    required: str,
    passes: Callable[[float, float, float], bool],
    objection: str,
) -> Floor:
    """A floor on a figure and both ends of its interval; without an interval it is not reached."""
    interval = estimate.interval if estimate else None
    if estimate is None or interval is None:
        problem = f"{label} is not estimable"
    else:
        problem = "" if passes(*interval) else f"{label} {estimate.text()} {objection}"
    return Floor(label, required, text_of(estimate), problem)


def text_of(estimate: Estimate | None) -> str:
    """An estimate with its interval, also where evidence has none."""
    return estimate.text() if estimate else "not estimable"
