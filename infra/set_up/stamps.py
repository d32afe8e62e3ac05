"""Stamps of finished steps: the digest of what each was made from."""

import fcntl
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.set_up import places
from infra.set_up.commands import say


def digest_of(*files: Path) -> str:
    """Digest of what a step is made from: files, Python, and where the checkout is, for its environments can't move."""
    digest = hashlib.sha256(f"{places.ROOT} {places.BASE_PYTHON} {sys.version}".encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def is_current(stamp: Path, digest: str) -> bool:
    return stamp.is_file() and stamp.read_text() == digest


def finish(stamp: Path, digest: str) -> None:
    partial = stamp.with_name(f"{stamp.name}.partial")
    partial.write_text(digest)
    partial.replace(stamp)


@contextmanager
def alone() -> Iterator[None]:
    """Waits until no other set-up works in this checkout."""
    places.TOOLS.mkdir(exist_ok=True)
    with (places.TOOLS / "lock").open("w") as lock:
        os.set_inheritable(lock.fileno(), True)  # what this starts holds it too, should this be killed
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another set-up is at work in this folder; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
