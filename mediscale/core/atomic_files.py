"""Atomic writes to this machine's files: a reader sees the old content or the new, and never half of it."""

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mediscale.core.errors import UsageError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``, for one writer alone; what was written there takes its place in the end.

    Raises:
        OSError: the folder can't be made or written.
        UsageError: there is something in its place that is no file.
    """
    check_replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    part.unlink(missing_ok=True)  # of a process of the same number that was killed
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def check_replaceable(path: Path) -> None:
    """Refuses what is no file: a rename would take the place of a device such as /dev/null for everybody.

    Raises:
        UsageError: it is a folder, a device or a pipe.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # nothing is there, or whoever writes learns why it can't be
    if stat.S_ISDIR(mode):
        raise UsageError(f"{path} is a folder; name a file in it.")
    if not stat.S_ISREG(mode):
        raise UsageError(f"{path} is a device or a pipe, which no file may replace; name a file.")


def write_text(path: Path, content: str) -> None:
    """Writes a text file as a whole.

    Raises:
        OSError: the folder can't be made or written.
    """
    with replacing(path) as part:
        part.write_text(content, encoding="utf-8")
