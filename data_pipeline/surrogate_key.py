"""The secret that surrogates follow from: made once per home, never in the lake, a manifest or a log.

Callers resolve it to a fingerprint, which goes into a stage's parameters; the stage finds the secret again by it.
"""

import hashlib
import os
from contextlib import suppress

from mediscale.errors import StorageError
from mediscale.settings import Settings

FILE = "surrogates.key"
PUBLISHED = "published"
"""Fingerprint of the secret of made-up patients, who need none: equal extracts give equal notes in every home."""
_PUBLISHED_SECRET = b"nobody: these patients were made up"


def resolve(settings: Settings) -> str:
    """The fingerprint of the home's secret, which is made on first use."""
    settings.home.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        file = os.open(settings.home / FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "wb") as stream:
            stream.write(os.urandom(32).hex().encode())
    return _fingerprint((settings.home / FILE).read_bytes())


def secret(settings: Settings, fingerprint: str) -> bytes:
    """The secret of a fingerprint.

    Raises:
        StorageError: the home does not hold it.
    """
    if fingerprint == PUBLISHED:
        return _PUBLISHED_SECRET
    with suppress(FileNotFoundError):
        held = (settings.home / FILE).read_bytes()
        if _fingerprint(held) == fingerprint:
            return held
    raise StorageError(
        f"The secret {fingerprint} that this dataset's surrogates follow from is not in {FILE} of the home folder; "
        "restore the file from a backup, or de-identify the notes anew."
    )


def _fingerprint(key: bytes) -> str:
    return hashlib.sha256(b"surrogates" + key).hexdigest()[:12]
