"""Durable files: small files of this machine that are replaced as a whole and are on disk when that is said."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from mediscale.core import atomic_files


def replace(path: Path, content: str) -> None:
    """Writes a file of this account alone; a reader sees the old content or the new, also after a crash.

    Raises:
        OSError: the folder can't be made or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with atomic_files.replacing(path) as part:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())


def create(path: Path, content: str) -> None:
    """Makes a file of this account alone, as a whole; where two processes do at the same time, the first one stays.

    Raises:
        OSError: the folder can't be made or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(descriptor)
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        Path(temporary).unlink()
    folder = os.open(path.parent, os.O_RDONLY)  # what a power cut took could not be made again
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
