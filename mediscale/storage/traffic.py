"""Traffic: which other version answers beside the one in production, by the signed history, and what servers gave up.

Only a signed entry (``history.Traffic``) lets a version answer. A server by itself can only go back to the version in
production: it says so in a file of the lake that every server of the dataset looks at. Whoever could write such a
file by hand could stop a canary, and nothing else; they could have damaged its model's files as well.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from mediscale.core.errors import StorageError
from mediscale.core.refs import Frozen
from mediscale.core.settings import Settings
from mediscale.storage import approvals, lake, signing
from mediscale.storage.history import AliasMove, Entry, Traffic

FALLBACKS = "_fallbacks"
"""Folder of a dataset in the lake."""


class Fallback(Frozen):
    """That a server found a version broken, so that none answers with it until the next signed entry."""

    reason: str
    at: datetime


class Period(NamedTuple):
    """From when on, and until when, another version answered beside the one in production."""

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
    """By task the version that answers beside the one in production now."""
    return {
        period.traffic.task: (period.entry, period.traffic)
        for period in periods(entries)
        if period.until is None
    }


def attested(settings: Settings, entries: Sequence[Entry]) -> dict[str, tuple[Entry, Traffic]]:
    """The same without canaries that nobody approved of, where a second pair of eyes was required at the time."""
    keys = signing.accepted_keys(settings)
    return {
        task: (entry, traffic)
        for task, (entry, traffic) in splits(entries).items()
        if traffic.mode == "shadow"
        or approvals.is_covered(entries[: entry.sequence - 1], traffic.challenger, keys)
    }


def fall_back(settings: Settings, dataset: str, entry: Entry, fallback: Fallback) -> None:
    """Keeps where every server sees it that the version which an entry lets answer is broken.

    Raises:
        StorageError: the lake can't be written.
    """
    filesystem, path = lake.filesystem(_place(settings, dataset, entry))
    try:
        filesystem.create_dir(path.rpartition("/")[0])
        with filesystem.open_output_stream(f"{path}.part") as stream:
            stream.write(fallback.model_dump_json().encode())
        filesystem.move(f"{path}.part", path)
    except OSError as error:
        raise StorageError(
            f"That entry {entry.sequence} of {dataset}'s history is not followed can't be kept in the lake, so other "
            "servers may follow it still."
        ) from error


def fallback_from(settings: Settings, dataset: str, entry: Entry) -> Fallback | None:
    """Why servers do not follow an entry; None where they do. A file that can't be read counts.

    Raises:
        StorageError: the lake can't be read.
    """
    filesystem, path = lake.filesystem(_place(settings, dataset, entry))
    try:
        content = filesystem.open_input_stream(path).readall()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"Whether servers of {dataset} fell back can't be read from the lake.") from error
    try:
        return Fallback.model_validate(json.loads(content))
    except ValueError:
        return Fallback(reason="A server found it broken; its file can't be read.", at=entry.at)


def _place(settings: Settings, dataset: str, entry: Entry) -> str:
    """By the entry's digest, too: of another history the same number is another entry."""
    folder = f"{settings.lake.rstrip('/')}/{dataset}/{FALLBACKS}"
    return f"{folder}/{entry.sequence}-{entry.digest[:16]}.json"
