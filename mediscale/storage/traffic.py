"""Traffic: which other version answers beside the one in production, by the signed history.

Only a signed entry (``Traffic``) lets a version answer. What servers gave up by themselves is in ``fallbacks``.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from mediscale.core.settings import Settings
from mediscale.storage import approvals, signing
from mediscale.storage.history_entries import AliasMove, Entry, Traffic


class Period(NamedTuple):
    """A period in which another version answered beside the one in production."""

    entry: Entry
    traffic: Traffic
    until: datetime | None
    """None while it does."""


def periods(entries: Sequence[Entry]) -> list[Period]:
    """Every one, the oldest first. A later setting of the task ends one, and a move of production, too."""
    all_of_them: list[Period] = []
    for entry in entries:
        if entry.kind not in (AliasMove.kind, Traffic.kind):
            continue
        content = entry.content
        if isinstance(content, Traffic) or (isinstance(content, AliasMove) and content.alias == "production"):
            all_of_them = [
                period._replace(until=entry.at)
                if period.traffic.task == content.task and period.until is None
                else period
                for period in all_of_them
            ]
        if isinstance(content, Traffic) and content.mode != "ended":
            all_of_them.append(Period(entry, content, None))
    return all_of_them


def splits(entries: Sequence[Entry]) -> dict[str, tuple[Entry, Traffic]]:
    """The version that answers beside the one in production now, by task."""
    return {
        period.traffic.task: (period.entry, period.traffic)
        for period in periods(entries)
        if period.until is None
    }


def attested(settings: Settings, entries: Sequence[Entry]) -> dict[str, tuple[Entry, Traffic]]:
    """The splits that may be followed: a canary counts only if it was approved, where approval was required then."""
    keys = signing.accepted_keys(settings)
    return {
        task: (entry, traffic)
        for task, (entry, traffic) in splits(entries).items()
        if traffic.mode == "shadow"
        or approvals.is_covered(entries[: entry.sequence - 1], traffic.challenger, keys)
    }
