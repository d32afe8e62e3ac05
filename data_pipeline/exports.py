"""Exports: a new folder of patient data, which appears whole, after the signed history says who took it."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from mediscale.core import caller
from mediscale.core.errors import InputError, StorageError
from mediscale.core.settings import Settings
from mediscale.storage import calls, history
from mediscale.storage.history_entries import Draft, Export


class Counts(Protocol):
    """What an export holds."""

    @property
    def rows(self) -> int: ...


Written = TypeVar("Written", bound=Counts)


def write(
    settings: Settings,
    dataset: str,
    output: Path,
    what: str,
    fill: Callable[[Path], Written],
    *,
    by: str,
    purpose: str,
) -> Written:
    """Has ``fill`` make a folder, enters it into the dataset's history as an export of ``what``, and moves it to
    ``output``.

    Raises:
        InputError: the folder is there already.
        StorageError: it can't be written.
        UsageError: the key that signs here can't sign for ``by``; no folder is written.
    """
    if output.exists():
        raise InputError(f"{output} is there already; name a folder that is not.")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=".export-") as scratch:
            folder = Path(scratch) / "export"
            written = fill(folder)
            export = Export(what=what, purpose=purpose, rows=written.rows, digest=digest(folder))
            draft = Draft(export, by, caller.now(), calls.new_run_id("export"))
            history.append(settings, dataset, draft)
            shutil.move(folder, output)
    except OSError as error:
        raise StorageError(f"{output} can't be written: {error.strerror}.") from error
    return written


def digest(folder: Path) -> str:
    """SHA-256 over the files' names and contents."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    whole = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        whole.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return whole.hexdigest()
