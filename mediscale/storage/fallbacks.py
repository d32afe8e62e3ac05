"""Fallbacks: why a server does not answer with the version that a signed entry names, kept where every server sees it.

Only a signed entry lets a version answer. A server by itself can only go back to a version that the history attested
before, and says so in a file of the lake. Whoever could write such a file by hand could stop a canary, and make servers
say that another one refuses a version, and nothing else; they could have damaged the model's files as well.
"""

import json
from datetime import datetime

from mediscale.core.errors import StorageError
from mediscale.core.refs import Frozen
from mediscale.core.settings import Settings
from mediscale.storage import lake
from mediscale.storage.history_entries import Entry

FALLBACKS = "_fallbacks"
"""Folder of a dataset in the lake."""


class Fallback(Frozen):
    """A fallback: a server noticed that a version is broken."""

    reason: str
    at: datetime


def keep(settings: Settings, dataset: str, entry: Entry, fallback: Fallback) -> None:
    """Writes why the version that an entry lets answer does not.

    Raises:
        StorageError: the lake can't be written.
    """
    try:
        lake.write_whole(_place(settings, dataset, entry), fallback.model_dump_json().encode())
    except OSError as error:
        raise StorageError(
            f"That entry {entry.sequence} of {dataset}'s history is not followed can't be kept in the lake, so other "
            "servers may follow it still."
        ) from error


def read(settings: Settings, dataset: str, entry: Entry) -> Fallback | None:
    """Why a server does not follow an entry; None where every one does. A file that can't be read counts.

    Raises:
        StorageError: the lake can't be read.
    """
    try:
        content = lake.read_whole(_place(settings, dataset, entry))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"Whether servers of {dataset} fell back can't be read from the lake.") from error
    try:
        return Fallback.model_validate(json.loads(content))
    except ValueError:
        return Fallback(reason="A server found it broken; its file can't be read.", at=entry.at)


def withdraw(settings: Settings, dataset: str, entry: Entry) -> None:
    """Removes what was kept of an entry that is followed again; nothing where nothing was kept.

    Raises:
        StorageError: the lake can't be written.
    """
    filesystem, path = lake.filesystem(_place(settings, dataset, entry))
    try:
        filesystem.delete_file(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StorageError(
            f"That entry {entry.sequence} of {dataset}'s history is followed again can't be kept in the lake."
        ) from error


def _place(settings: Settings, dataset: str, entry: Entry) -> str:
    """The file of an entry's fallback. Its name has the entry's digest, because in another history the same number is
    another entry."""
    folder = f"{settings.lake.rstrip('/')}/{dataset}/{FALLBACKS}"
    return f"{folder}/{entry.sequence}-{entry.digest[:16]}.json"
