"""Errors that a person can act on: one sentence, an exit code per class, counts and references only.

No message holds a patient's identifier, value or note text: it may end in a log that many can read.
"""

import traceback


class MediscaleError(Exception):
    """Base of every error that the CLI prints as one sentence instead of a traceback."""

    exit_code = 1


class UsageError(MediscaleError):
    """The command, a parameter or a setting is wrong; nothing was started."""

    exit_code = 2


class InputError(MediscaleError):
    """An extract, table, column, file or request does not have the promised shape."""

    exit_code = 3


class QualityError(MediscaleError):
    """Too many rows break a rule, or a source lacks what a task needs."""

    exit_code = 4


class BusyError(MediscaleError):
    """Someone else holds what is needed: a run's lock, the registry, a port."""

    exit_code = 5


class StorageError(MediscaleError):
    """The lake or the disk cannot take or give the data: full, unreadable, or digests differ."""

    exit_code = 6


class NotFoundError(MediscaleError):
    """A model, run, version or table that was asked for by name does not exist."""

    exit_code = 7


class LeakError(MediscaleError):
    """A feature changed when what was not yet known was taken away: the pipeline saw the future, nothing is written."""

    exit_code = 8


class RemoteError(Exception):
    """A failure in another process of ours; its text is ``failure_location`` there."""


def failure_location(error: BaseException) -> str:
    """Kind and place of a failure, without its message, which may hold a patient's values."""
    if isinstance(error, RemoteError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "unknown place"
    return f"{type(error).__name__} at {where}"
