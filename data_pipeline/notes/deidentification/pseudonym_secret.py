"""The secret that surrogates follow from: made once per home, never in the lake, a manifest or a log.

Callers resolve it to a fingerprint, which goes into a stage's parameters; the stage finds the secret again by it.
"""

import hashlib
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

from mediscale.core.errors import StorageError
from mediscale.core.settings import Settings

FILE = "surrogates.key"
PUBLISHED = "published"
"""Fingerprint of the secret of made-up patients, who need none: equal extracts give equal notes in every home."""
_PUBLISHED_SECRET = b"nobody: these patients were made up"


def resolve(settings: Settings) -> str:
    """The fingerprint of the home's secret, which is made on first use.

    Raises:
        StorageError: the home's file holds no secret.
    """
    settings.home.mkdir(parents=True, exist_ok=True)
    file = settings.home / FILE
    if not file.exists():
        _make(file)
    return _fingerprint(_held(file))


def _make(file: Path) -> None:
    """A new secret under its name, whole or not at all; where two make one at once, the first stays."""
    descriptor, draft = tempfile.mkstemp(dir=file.parent, prefix=f".{FILE}.")  # readable by its owner only
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(os.urandom(32).hex().encode())
            stream.flush()
            os.fsync(descriptor)
        with suppress(FileExistsError):
            os.link(draft, file)
    finally:
        Path(draft).unlink()
    _sync(file.parent)


def _sync(folder: Path) -> None:
    """The name outlives a power cut as well: notes written under a secret that was lost could not be added to."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def secret(settings: Settings, fingerprint: str) -> bytes:
    """The secret of a fingerprint.

    Raises:
        StorageError: the home does not hold it, or its file holds no secret.
    """
    if fingerprint == PUBLISHED:
        return _PUBLISHED_SECRET
    with suppress(FileNotFoundError):
        held = _held(settings.home / FILE)
        if _fingerprint(held) == fingerprint:
            return held
    raise StorageError(
        f"The secret {fingerprint} that this dataset's surrogates follow from is not in {FILE} of the home folder; "
        "restore the file from a backup, or de-identify the notes anew."
    )


def _held(file: Path) -> bytes:
    held = file.read_bytes()
    if not re.fullmatch(rb"[0-9a-f]{64}", held):
        raise StorageError(
            f"{FILE} of the home folder holds {len(held)} bytes that are not the 64 hex digits of a secret; restore "
            "the file from a backup, or delete it to make a new secret and de-identify the notes anew."
        )
    return held


def _fingerprint(key: bytes) -> str:
    return hashlib.sha256(b"surrogates" + key).hexdigest()[:12]
