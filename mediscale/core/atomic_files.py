"""Atomic writes to this machine's files: a reader sees the old content or the new, and never half of it."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``, for one writer alone; what was written there takes its place in the end.

    Raises:
        OSError: the folder can't be made or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    part.unlink(missing_ok=True)  # of a process of the same number that was killed
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, content: str) -> None:
    """Writes a text file as a whole.

    Raises:
        OSError: the folder can't be made or written.
    """
    with replacing(path) as part:
        part.write_text(content, encoding="utf-8")
