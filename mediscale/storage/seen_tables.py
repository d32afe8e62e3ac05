"""Seen tables: the identities of the lake's tables that this home has read or written.

A lake that is not mounted looks like an empty one. A table that was seen once is therefore never taken for a new one:
when it is absent, or another table lies in its place, that is an error until it is back.
"""

import errno
import json
from pathlib import Path

from mediscale.core.errors import NotFoundError, StorageError
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.storage import durable_files, lake


def current(settings: Settings, dataset: str, table: str) -> TableRef | None:
    """The newest version of a table, which is remembered; None if there is none and none was ever seen.

    Raises:
        StorageError: the table that was seen is absent, or another one lies in its place.
    """
    identities = _read_versions(settings, dataset)
    first_id = identities.get(table)
    try:
        ref = lake.latest(settings, dataset, table)
    except NotFoundError:
        if first_id is None:
            return None
        raise StorageError(
            f"The lake {settings.lake} lacks the table {dataset}/{table}, which was in it before (is it mounted?); "
            f"nothing is written in its place. Mount or restore it; {_on_purpose(settings, dataset, 'deleted')}"
        ) from None
    if first_id is None:
        _write(settings, dataset, identities | {table: ref.table_id})
    elif first_id != ref.table_id:
        raise StorageError(
            f"The table {dataset}/{table} in the lake {settings.lake} is another than the one that was there before "
            f"(is another lake mounted?). Restore it; {_on_purpose(settings, dataset, 'replaced')}"
        )
    return ref


def forget(settings: Settings, dataset: str) -> None:
    """Deletes the identities of a dataset that is deleted on purpose (``datasets.delete``)."""
    _file(settings, dataset).unlink(missing_ok=True)


def _on_purpose(settings: Settings, dataset: str, what: str) -> str:
    return f"if it was {what} on purpose, delete {_file(settings, dataset)} as well."


def _file(settings: Settings, dataset: str) -> Path:
    return settings.home / "seen" / f"{dataset}.json"


def _read_versions(settings: Settings, dataset: str) -> dict[str, str]:
    file = _file(settings, dataset)
    try:
        return dict(json.loads(file.read_text()))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError as error:
        raise StorageError(
            f"{file} is damaged; it names the tables of the lake that were seen. Restore or delete it."
        ) from error


def _write(settings: Settings, dataset: str, identities: dict[str, str]) -> None:
    """Where the home can only be read, it is an auditor's copy, and nothing will be written in a table's place."""
    try:
        durable_files.replace(_file(settings, dataset), json.dumps(identities))
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
