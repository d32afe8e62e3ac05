"""How the last call of each stage ended, whoever ran it: what a server of answers shows of the nights.

One small file for each stage of a dataset and task, in ``<lake>/_last_calls/DATASET``; it names no cause, no patient.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from mediscale.core.errors import MediscaleError
from mediscale.core.refs import Frozen
from mediscale.core.settings import Settings
from mediscale.storage import lake


class LastCall(Frozen):
    stage: str
    task: str
    failed: bool
    succeeded_at: datetime | None
    """When a call of this stage last ended well."""


def folder(settings: Settings, dataset: str) -> str:
    return f"{settings.lake.rstrip('/')}/_last_calls/{dataset}"


@contextmanager
def noted(settings: Settings, dataset: str, stage: str, task: str) -> Iterator[None]:
    """Writes down whether the block ended well. That a failure can't be written down does not hide it."""
    uri = f"{folder(settings, dataset)}/{'-'.join(filter(None, (stage, task)))}.json"
    try:
        yield
    except Exception:
        with suppress(OSError, MediscaleError):
            before = read(uri)
            succeeded = before.succeeded_at if before else None
            _write(uri, LastCall(stage=stage, task=task, failed=True, succeeded_at=succeeded))
        raise
    _write(uri, LastCall(stage=stage, task=task, failed=False, succeeded_at=datetime.now(UTC)))


def read(uri: str) -> LastCall | None:
    """What such a file says; None where it is not there, or can't be read."""
    files, path = lake.filesystem(uri)
    try:
        with files.open_input_stream(path) as stream:
            return LastCall.model_validate_json(stream.read())
    except (FileNotFoundError, ValueError):
        return None


def _write(uri: str, call: LastCall) -> None:
    lake.write_whole(uri, call.model_dump_json().encode())
