"""Numbered places that one living process at a time holds: what a killed holder left is the next one's to deal with."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TextIO


def claim(folder: Path) -> tuple[int, TextIO]:
    """The first slot of ``folder`` that no living process holds, and the lock that holds it until it is closed.

    The kernel frees a slot when its holder dies, however it dies.

    Raises:
        OSError: the folder can't be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for slot in count():
        lock = (folder / f"{slot}.lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
        else:
            return slot, lock
    raise AssertionError  # count() does not end


@contextmanager
def unless_held(file: Path) -> Iterator[bool]:
    """Whether no living process holds the lock in ``file``; then nobody takes it while the caller looks at its slot."""
    with file.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
