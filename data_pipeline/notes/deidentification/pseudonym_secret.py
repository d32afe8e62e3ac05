"""The pseudonym secret: an HMAC key that surrogates are derived from, made once per home.

It never appears in the lake, in a record of a call or in a log. Callers pass its fingerprint as a stage's parameter,
and the stage finds the secret by the fingerprint.
"""

import hashlib
import os
import re
from contextlib import suppress
from pathlib import Path

from mediscale.core.errors import StorageError
from mediscale.core.settings import Settings
from mediscale.storage import durable_files

FILE = "surrogates.key"
PUBLISHED = "published"
"""The fingerprint of the published secret of synthetic patients: equal extracts give equal notes in every home."""
PUBLISHED_SECRET = b"nobody: these patients were made up"
"""It must never change: the surrogates in all notes of synthetic patients are derived from it."""


def home_fingerprint(settings: Settings) -> str:
    """The fingerprint of the home's secret, which is made on first use.

    Raises:
        StorageError: the file of the home holds no valid secret.
    """
    settings.home.mkdir(parents=True, exist_ok=True)
    file = settings.home / FILE
    if not file.exists():
        durable_files.create(file, os.urandom(32).hex())
    return _fingerprint(_read_secret(file))


def load(settings: Settings, fingerprint: str) -> bytes:
    """The secret with a fingerprint.

    Raises:
        StorageError: the home does not hold the secret, or its file holds no valid secret.
    """
    if fingerprint == PUBLISHED:
        return PUBLISHED_SECRET
    with suppress(FileNotFoundError):
        secret = _read_secret(settings.home / FILE)
        if _fingerprint(secret) == fingerprint:
            return secret
    raise StorageError(
        f"The secret {fingerprint} that this dataset's surrogates follow from is not in {FILE} of the home folder; "
        "restore the file from a backup, or de-identify the notes anew."
    )


def _read_secret(file: Path) -> bytes:
    secret = file.read_bytes()
    if not re.fullmatch(rb"[0-9a-f]{64}", secret):
        raise StorageError(
            f"{FILE} of the home folder holds {len(secret)} bytes that are not the 64 hex digits of a secret; restore "
            "the file from a backup, or delete it to make a new secret and de-identify the notes anew."
        )
    return secret


def _fingerprint(secret: bytes) -> str:
    return hashlib.sha256(b"surrogates" + secret).hexdigest()[:12]
