"""Numbered places that one living process at a time holds: what a killed holder left is the next one's to deal with."""

import fcntl
from collections.abc import Iterator
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


def left(folder: Path) -> Iterator[int]:
    """Every slot that no living process holds; each is held while the caller looks at it."""
    for file in sorted(folder.glob("*.lock")):
        with file.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield int(file.stem)
