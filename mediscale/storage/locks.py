"""Lock files: advisory locks of this machine, which the kernel frees when their holder dies, however it dies. Where
the lake is in an object store, other machines may share it: there a lease in the lake stands behind the file.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TextIO

from mediscale.core.errors import BusyError
from mediscale.core.settings import Settings


@contextmanager
def exclusive(settings: Settings, scope: str, what: str) -> Iterator[None]:
    """One holder of ``scope`` at a time.

    Raises:
        BusyError: another process holds it; ``what`` begins the sentence.
    """
    folder = settings.home / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{scope}.lock").open("a+") as file:
        if not _locked(file):
            file.seek(0)
            raise BusyError(
                f"{what} is already running here (process {file.read().strip() or 'unknown'}); "
                "wait for it to end, or stop that process, and run again."
            )
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        if settings.lake_folder is not None:
            yield
            return
        from mediscale.storage import object_store

        with object_store.lease(settings.lake, f"stages/{scope}", busy=what):
            yield


def claim(folder: Path) -> tuple[int, TextIO]:
    """The first numbered lock file of ``folder`` that no living process holds; closing it gives it back.

    Raises:
        OSError: the folder can't be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number in count():
        lock = (folder / f"{number}.lock").open("a")
        if _locked(lock):
            return number, lock
        lock.close()
    raise AssertionError  # count() does not end


@contextmanager
def try_lock(file: Path) -> Iterator[bool]:
    """Whether no living process holds a lock file; then nobody takes it within the block."""
    with file.open("a") as lock:
        yield _locked(lock)


def _locked(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def blocking_lock(file: Path) -> Iterator[None]:
    """One process at a time holds a lock file; others wait."""
    with file.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def commit_lease(settings: Settings, dataset: str, table: str) -> Iterator[None]:
    """The right to commit to one Delta table, held by one writer at a time; others wait.

    A Delta commit is a file that must not exist yet. delta-rs, which makes every commit of ours, makes it in one step,
    so that none is lost; with the lease a writer waits for the one before it, where it would fail after its work. A
    Spark of the hospital's own, which looks for the file and then writes it in two steps, must not write these tables.
    """
    if settings.lake_folder is None:
        from mediscale.storage import object_store

        with object_store.lease(settings.lake, f"{dataset}/{table}"):
            yield
        return
    folder = settings.lake_folder / "_locks" / dataset
    folder.mkdir(parents=True, exist_ok=True)
    with blocking_lock(folder / f"{table}.lock"):
        yield
