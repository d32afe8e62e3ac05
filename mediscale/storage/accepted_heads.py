"""Accepted heads: of each dataset's history, the newest entry that this machine believed.

A history that lacks it lost entries or is another one. The file lies in ``Settings.trust``, so that whoever can write
the lake can't make it forget.
"""

import errno
import hashlib
import json
import re
from pathlib import Path

from mediscale.core.errors import StorageError, UsageError
from mediscale.core.refs import Frozen
from mediscale.core.settings import Settings
from mediscale.storage import durable_files, locks


class Head(Frozen):
    """An entry by its number and digest."""

    sequence: int
    digest: str


def accepted(settings: Settings, dataset: str) -> tuple[Head, ...]:
    """The entries that the dataset's history must contain: the one accepted last, and one that the settings name.

    Raises:
        UsageError: the setting is malformed.
        StorageError: the file is damaged.
    """
    remembered = _read_head(settings, dataset)
    return (*([remembered] if remembered else []), *_expected_heads(settings, dataset))


def remember(settings: Settings, dataset: str, head: Head) -> None:
    """Keeps a newer head; an older one than is kept changes nothing.

    Raises:
        StorageError: the folder can't be written.
    """
    file = file_of(settings, dataset)
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with locks.blocking_lock(file.with_suffix(".lock")):
            kept = _read_head(settings, dataset)
            if kept is None or kept.sequence < head.sequence:
                content = {"lake": settings.lake, "dataset": dataset, **head.model_dump()}
                durable_files.replace(file, json.dumps(content))
    except OSError as error:
        mend = (
            "Free space"
            if error.errno == errno.ENOSPC
            else "Let MEDISCALE_TRUST name a folder that this account can write"
        )
        raise StorageError(
            f"What was accepted of {dataset}'s history can't be kept in {file.parent}: {error.strerror}. {mend}."
        ) from error


def forget(settings: Settings, dataset: str) -> None:
    """Deletes the accepted head of a dataset that is deleted on purpose."""
    file_of(settings, dataset).unlink(missing_ok=True)


def datasets(settings: Settings) -> list[str]:
    """The datasets of this lake of which a head is kept."""
    ending = f"-{_lake_id(settings)}"
    return [f.stem.removesuffix(ending) for f in (settings.trust / "heads").glob(f"*{ending}.json")]


def _lake_id(settings: Settings) -> str:
    return hashlib.sha256(settings.lake.encode()).hexdigest()[:16]


def file_of(settings: Settings, dataset: str) -> Path:
    """Where the head is kept: by lake and dataset."""
    return settings.trust / "heads" / f"{dataset}-{_lake_id(settings)}.json"


def _read_head(settings: Settings, dataset: str) -> Head | None:
    file = file_of(settings, dataset)
    try:
        content = json.loads(file.read_text())
        return Head(sequence=content["sequence"], digest=content["digest"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"{file} is damaged; it names the newest entry of {dataset}'s history that was accepted. Restore it."
        ) from error


def _expected_heads(settings: Settings, dataset: str) -> list[Head]:
    heads = []
    for text in filter(None, (part.strip() for part in settings.history_heads.split(","))):
        match = re.fullmatch(r"([^:]+):(\d+):([0-9a-f]{64})", text)
        if match is None:
            raise UsageError(
                f"MEDISCALE_HISTORY_HEADS names {text!r}; it must be DATASET:SEQUENCE:DIGEST, as `mediscale verify` "
                "prints it."
            )
        if match[1] == dataset:
            heads.append(Head(sequence=int(match[2]), digest=match[3]))
    return heads
