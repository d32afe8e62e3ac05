"""Last calls: how the last call of each stage, verification and backup ended, for a server that shows the nights.

One small file for each stage of a dataset and task, in ``<lake>/_last_calls/DATASET``; of a failure it has the sentence
that the console had, which names no patient.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from mediscale.core.errors import MediscaleError, failure_location
from mediscale.core.refs import Frozen
from mediscale.core.settings import Settings
from mediscale.storage import lake

_LOG = logging.getLogger(__name__)


class LastCall(Frozen):
    """How the last call of a stage ended."""

    stage: str
    task: str
    failed: bool
    succeeded_at: datetime | None
    """When a call of this stage last ended well."""
    warnings: tuple[str, ...] = ()
    """What a server repeats: why the call failed, and what a verification says of how the lake is kept."""


def folder(settings: Settings, dataset: str) -> str:
    """The folder of a dataset's last calls, as a path or a URI."""
    return f"{settings.lake.rstrip('/')}/_last_calls/{dataset}"


@contextmanager
def recording(settings: Settings, dataset: str, stage: str, task: str) -> Iterator[None]:
    """Writes down whether the block ended well."""
    try:
        yield
    except Exception as error:
        record(settings, dataset, stage, task, failed=True, warnings=(reason(stage, task, error),))
        raise
    record(settings, dataset, stage, task, failed=False)


def reason(stage: str, task: str, error: Exception) -> str:
    """Why a call failed, in one sentence. The message of an error that is not ours may hold a patient's values."""
    what = str(error) if isinstance(error, MediscaleError) else f"{failure_location(error)}."
    of_task = f" of {task}" if task else ""
    return f"The newest call of {stage}{of_task} failed ({datetime.now(UTC):%Y-%m-%d %H:%M} UTC): {what}"


def record(
    settings: Settings, dataset: str, stage: str, task: str, *, failed: bool, warnings: tuple[str, ...] = ()
) -> None:
    """Writes down how a call ended. That it can't be written down is a warning in the log and hides no failure: whoever
    may only read a lake may verify it, and where a note is missing the alert of a missed night follows."""
    uri = f"{folder(settings, dataset)}/{'-'.join(filter(None, (stage, task)))}.json"
    try:
        before = read(uri) if failed else None
        succeeded = (before.succeeded_at if before else None) if failed else datetime.now(UTC)
        call = LastCall(stage=stage, task=task, failed=failed, succeeded_at=succeeded, warnings=warnings)
        lake.write_whole(uri, call.model_dump_json().encode())
    except (OSError, MediscaleError) as error:
        _LOG.warning(
            "How %s of %s ended could not be noted in the lake (%s).", stage, dataset, type(error).__name__
        )


def read(uri: str) -> LastCall | None:
    """What such a file says; None where it is not there, or can't be read."""
    try:
        return LastCall.model_validate_json(lake.read_whole(uri))
    except (FileNotFoundError, ValueError):
        return None


def failures(settings: Settings, dataset: str | None) -> Iterator[str]:
    """Why the last calls of stages failed, of every dataset or of one."""
    listed = lake.list_files(folder(settings, dataset or "").rstrip("/"))
    for path in sorted(info.path for info in listed if info.extension == "json"):
        of_dataset, name = path.split("/")[-2:]
        call = read(f"{folder(settings, of_dataset)}/{name}")
        if call and call.failed:
            yield from (f"{of_dataset}: {reason}" for reason in call.warnings)
